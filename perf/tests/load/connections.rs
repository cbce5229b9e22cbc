//! TCP connections by BPF: complete, and what a connection tracker takes for whole ones.

use std::fs;
use std::time::Duration;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use margay_perf::lab::case::{Case, Dataplane, Job};
use margay_perf::lab::dataplane::{self, Cores};
use margay_perf::lab::load::Connections;
use margay_perf::lab::site::{self, Site};
use margay_perf::lab::world::Side;
use margay_testbed::{ip, netns};

use crate::wire::{self, Tap};

const TIME: Duration = Duration::from_millis(300);
const FLOWS: u32 = 5000;
/// A machine that others use may lose packets of its own.
const ATTEMPTS: usize = 5;

fn connections(site: &Site) -> Connections {
    Connections::open(site, FLOWS, Cores::allowed().unwrap()).unwrap()
}

#[test]
fn connections_complete_through_a_wire() {
    let site = wire::site(Job::Cps, &[]);
    let mut connections = connections(&site);
    let failed = (0..ATTEMPTS).map(|_| {
        let outcome = connections.run(TIME).unwrap();
        assert!(outcome.completed > 0 && outcome.time >= TIME, "{outcome:?}");
        assert_eq!(outcome.packets, 6 * outcome.completed);
        outcome.failed
    });
    assert!(failed.into_iter().any(|failed| failed == 0), "each attempt lost connections");
}

#[test]
fn packets_of_connections_have_right_checksums_and_numbers() {
    let site = wire::site(Job::Cps, &[]);
    let source = site.end(Side::Source);
    let tap = Tap::open(&source.netns, source.device);
    connections(&site).run(Duration::from_millis(5)).unwrap();
    let frames = tap.received();
    let mut replies = 0;
    for frame in &frames {
        let packet = SlicedPacket::from_ethernet(frame).unwrap();
        let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Tcp(tcp))) = (&packet.net, &packet.transport)
        else {
            continue;
        };
        assert_eq!(ip.header().to_header().calc_header_checksum(), ip.header().header_checksum());
        assert_eq!(
            tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination()).unwrap(),
            tcp.checksum(),
            "{tcp:?}"
        );
        replies += usize::from(tcp.source_port() == margay_perf::lab::world::PORT);
    }
    assert!(replies > 0, "{} frames, none of them an answer", frames.len());
}

#[test]
fn lost_packets_fail_their_connections() {
    let site = wire::site(Job::Cps, &["numgen inc mod 100 0 drop"]);
    let outcome = connections(&site).run(TIME).unwrap();
    assert!(outcome.failed > 0 && outcome.completed > outcome.failed, "{outcome:?}");
}

#[test]
fn connection_tracking_sees_whole_connections() {
    let cores = Cores::allowed().unwrap();
    let site = Site::new(Job::Cps, site::mtu(64)).unwrap();
    let case = Case { job: Job::Cps, dataplane: Dataplane::Kernel, size: 64, flows: FLOWS, policies: 1 };
    let _gateway = dataplane::start(&site, &case, cores).unwrap();
    wire::nft(
        &site,
        "table ip seen {
            counter invalid {}
            counter established {}
            chain forward {
                type filter hook forward priority -10
                ct state invalid counter name invalid
                ct state established counter name established
            }
        }",
    );
    let mut connections = connections(&site);
    let clean = (0..ATTEMPTS).any(|_| connections.run(TIME).unwrap().failed == 0);
    assert!(clean, "each attempt lost connections");
    assert_eq!(counter(&site, "invalid"), 0);
    assert!(counter(&site, "established") > 0);
    drop(connections);

    let table = netns::within(&site.gateway, || fs::read_to_string("/proc/thread-self/net/nf_conntrack"));
    let table = table.unwrap().unwrap();
    let of_lab = || table.lines().filter(|line| line.contains("dport=8080"));
    assert!(of_lab().count() > FLOWS as usize / 10, "{} connections are known", of_lab().count());
    for line in of_lab() {
        assert!(line.contains(" TIME_WAIT "), "closed by both ends: {line}");
    }
}

/// Packets that a named counter has counted.
fn counter(site: &Site, name: &str) -> u64 {
    let mut nft = ip::in_netns(&site.gateway, "nft");
    let output = nft.args(["list", "counter", "ip", "seen", name]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let packets = text.split_once("packets ").expect("a count").1.split_whitespace().next();
    packets.expect("a count").parse().unwrap()
}
