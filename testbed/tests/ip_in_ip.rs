//! IP-in-IP between two Margays as it stands on the wire: captured at the router, decoded by tshark. They need root.

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use common::traffic::{blob, tcp_transfer, udp_echoes};
use common::{Options, TestLab};
use margay_testbed::ip::{command, in_netns};
use margay_testbed::measure::Running;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Underlay addresses of gw-a and gw-b, and their pods with addresses of the IP-in-IP pool.
const GATEWAYS: [&str; 2] = ["172.20.1.10", "172.20.2.10"];
const PODS: [&str; 2] = ["10.67.10.5", "10.67.20.6"];

/// Captures IP protocol 4 on the device while `work` runs.
fn capture(netns: &str, device: &str, file: &Path, work: impl FnOnce()) {
    let mut tcpdump = in_netns(netns, "tcpdump");
    tcpdump
        .args(["-i", device, "-B", "16384", "--immediate-mode", "-U", "-w"])
        .arg(file)
        .args(["ip", "proto", "4"]);
    let mut tcpdump = Running::start(tcpdump.stderr(Stdio::piped())).unwrap();
    let mut said = BufReader::new(tcpdump.child().stderr.take().unwrap()).lines();
    let listens = said.by_ref().any(|line| line.is_ok_and(|line| line.contains("listening on")));
    assert!(listens, "tcpdump does not listen on {device}");
    work();
    // What it has not read when the signal comes is lost.
    let length = || std::fs::metadata(file).unwrap().len();
    let grows = || {
        let before = length();
        thread::sleep(Duration::from_millis(500));
        length() > before
    };
    while grows() {}
    kill(Pid::from_raw(tcpdump.child().id().try_into().unwrap()), Signal::SIGINT).unwrap();
    // It writes what it has and says so; only then is its end of the pipe closed.
    said.for_each(drop);
    tcpdump.child().wait().unwrap();
}

/// For each packet the named fields, each with all its occurrences from the outermost header in.
fn fields(file: &Path, names: &[&str]) -> Vec<Vec<String>> {
    let mut tshark = command("tshark");
    for check in ["ip", "udp", "tcp"] {
        tshark.args(["-o", &format!("{check}.check_checksum:TRUE")]);
    }
    tshark.args(["-n", "-T", "fields", "-E", "occurrence=a", "-r"]).arg(file);
    for name in names {
        tshark.args(["-e", name]);
    }
    let output = tshark.output().expect("tshark is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

#[test]
fn ip_in_ip_on_the_wire_decodes() {
    let lab = TestLab::two_zones(Options::default());
    let (cache, audit) = (lab.place("shop/cache"), lab.place("far/audit"));
    let topology = &lab.lab.topology;
    let bridge = &topology.segments[topology.nodes["gw-a"].segment].bridge;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ipip.pcap");
    let stream = blob(200_000, 7);
    capture(&topology.router(), bridge, &file, || {
        assert!(tcp_transfer(&cache, &audit, &stream).unwrap() == stream);
        assert_eq!(udp_echoes(&cache, &audit, &[blob(1000, 8), blob(1422, 9)]), 2);
    });

    let names = [
        "frame.protocols",
        "ip.src",
        "ip.dst",
        "ip.proto",
        "ip.checksum.status",
        "ip.len",
        "tcp.checksum.status",
        "udp.checksum.status",
        "tcp.len",
    ];
    let packets = fields(&file, &names);
    let mut seen = [false; 2];
    let mut payload = 0;
    for packet in &packets {
        let [protocols, src, dst, proto, ip_sums, lengths, tcp_sum, udp_sum, tcp_len] = &packet[..] else {
            panic!("{packet:?}")
        };
        assert!(protocols.starts_with("eth:ethertype:ip:ip:"), "{packet:?}");
        let way = usize::from(src.starts_with(GATEWAYS[1]));
        let back = 1 - way;
        seen[way] = true;
        assert_eq!(*src, format!("{},{}", GATEWAYS[way], PODS[way]), "{packet:?}");
        assert_eq!(*dst, format!("{},{}", GATEWAYS[back], PODS[back]), "{packet:?}");
        assert!(proto == "4,6" || proto == "4,17", "{packet:?}");
        // 1: good. Neither of IP's, nor the one of what it carries, may be left to an offload.
        assert_eq!(ip_sums, "1,1", "{packet:?}");
        assert_eq!(format!("{tcp_sum}{udp_sum}"), "1", "{packet:?}");
        let lengths: Vec<u32> = lengths.split(',').map(|length| length.parse().unwrap()).collect();
        assert_eq!(lengths[0], lengths[1] + 20, "{packet:?}");
        if way == 0 {
            payload += tcp_len.parse::<usize>().unwrap_or(0);
        }
    }
    assert_eq!(seen, [true; 2], "{} packets", packets.len());
    assert!(payload >= stream.len(), "{payload} bytes of TCP in {} packets", packets.len());
}
