//! What does not fit, over an underlay of 1400 bytes that the pods know nothing of: real TCP, pings of every size around the
//! boundary, and a traceroute by TTL. They need root.

mod common;

use std::fs;

use common::traffic::{Place, blob, tcp_transfer};
use common::{Options, TestLab};
use margay_testbed::ip::{Batch, in_netns};
use margay_testbed::lab::Lab;
use margay_testbed::netns;
use margay_testbed::topology::Dataplane;

const UNDERLAY: usize = 1400;
/// Of IP-in-IP and VXLAN; IP and ICMP header of a ping.
const IPIP: usize = 20;
const VXLAN: usize = 50;
const PING: usize = 28;

/// Makes every link between nodes narrower. Linux nodes are told what fits into their VXLAN; pods keep 1450.
fn narrow(lab: &Lab) -> anyhow::Result<()> {
    let topology = &lab.topology;
    let mut router = Batch::new();
    for node in topology.nodes.values() {
        router.line(format!("link set {} mtu {UNDERLAY}", node.router_port));
        let mut own = Batch::new();
        own.line(format!("link set uplink0 mtu {UNDERLAY}"));
        if node.dataplane == Dataplane::Kernel && node.vtep4.is_some() {
            own.line(format!("link set vxlan.calico mtu {}", UNDERLAY - VXLAN));
        }
        own.run(Some(&node.netns))?;
    }
    router.run(Some(&topology.router()))
}

/// What one ping of so many bytes of payload says.
fn ping(from: &Place, to: &Place, arguments: &[&str]) -> String {
    let mut ping = in_netns(&from.netns, "ping");
    ping.args(["-n", "-c", "1", "-W", "1"]).args(arguments).arg(to.address.to_string());
    let output = ping.output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// Echo requests that the namespace has received whole.
fn echo_requests(place: &Place) -> u64 {
    let text =
        netns::within(&place.netns, || fs::read_to_string("/proc/thread-self/net/snmp").unwrap()).unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("Icmp:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.split(' ').position(|name| name == "InEchos").unwrap();
    values.split(' ').nth(at).unwrap().parse().unwrap()
}

#[test]
fn what_does_not_fit_is_told_split_or_sent_in_smaller_pieces() {
    let lab = TestLab::two_zones_after(Options::default(), narrow);
    let place = |name| lab.place(name);
    let (cache, audit) = (place("shop/cache"), place("far/audit"));
    let (bench, client) = (place("shop/bench"), place("far/client"));

    // By IP-in-IP between two Margays, and by VXLAN between one and a Linux node: TCP finds out by itself.
    let stream = blob(2 << 20, 3);
    for (from, to) in [(&cache, &audit), (&audit, &cache), (&bench, &client), (&client, &bench)] {
        let arrived = tcp_transfer(from, to, &stream).unwrap();
        assert!(arrived == stream, "{from:?} to {to:?}: {} of {} bytes", arrived.len(), stream.len());
    }

    for (from, to, overhead) in [(&cache, &audit, IPIP), (&bench, &client, VXLAN)] {
        let mtu = UNDERLAY - overhead;
        // What TCP has found out is forgotten.
        let flushed = in_netns(&from.netns, "ip").args(["route", "flush", "cache"]).status().unwrap();
        assert!(flushed.success());
        for payload in mtu - PING - 2..=mtu - PING + 3 {
            let said = ping(from, to, &["-M", "do", "-s", &payload.to_string()]);
            if payload + PING <= mtu {
                assert!(said.contains(" 1 received"), "{payload} with DF: {said}");
            } else {
                let is_told =
                    [format!("mtu = {mtu}"), format!("mtu={mtu}")].iter().any(|mtu| said.contains(mtu));
                assert!(is_told, "{payload} with DF: {said}");
            }
        }
    }

    // To a Linux node, which puts together what Margay has split.
    for payload in UNDERLAY - VXLAN - PING - 2..=UNDERLAY - VXLAN - PING + 3 {
        let before = echo_requests(&client);
        ping(&bench, &client, &["-M", "dont", "-s", &payload.to_string()]);
        assert_eq!(echo_requests(&client), before + 1, "{payload} without DF");
    }
}

/// Who says that a ping with this TTL did not get further; `None`: it arrived.
fn hop(from: &Place, to: &Place, ttl: usize) -> Option<String> {
    let said = ping(from, to, &["-t", &ttl.to_string()]);
    if said.contains(" 1 received") {
        return None;
    }
    let line = said.lines().find(|line| line.contains("Time to live exceeded"));
    let line = line.unwrap_or_else(|| panic!("TTL {ttl}: {said}"));
    Some(line.split_whitespace().nth(1).unwrap().to_owned())
}

#[test]
fn every_gateway_on_the_way_names_itself_both_ways() {
    let lab = TestLab::two_zones(Options::default());
    let (cache, audit) = (lab.place("shop/cache"), lab.place("far/audit"));
    let (bench, client) = (lab.place("shop/bench"), lab.place("far/client"));
    let hops =
        |from: &Place, to: &Place| -> Vec<String> { (1..8).map_while(|ttl| hop(from, to, ttl)).collect() };
    // A pod hears its own gateway by the node's address, and one behind a tunnel by its address in there.
    // (Those before and after them are Linux nodes.)
    assert_eq!(hops(&bench, &client), ["172.20.1.11", "172.20.1.10", "10.65.21.1"]);
    let back = hops(&client, &bench);
    assert!(back.len() == 3 && back[1] == "10.65.10.1", "{back:?}");
    // Inside IP-in-IP the second hop is the underlay's router, whose say is for the gateway: the outer TTL is the inner one, as
    // Linux' `tunl0` has it.
    assert_eq!(hop(&cache, &audit, 1).as_deref(), Some("172.20.1.10"));
    assert_eq!(hop(&audit, &cache, 1).as_deref(), Some("172.20.2.10"));
    assert_eq!(hop(&cache, &audit, 3), None);
}
