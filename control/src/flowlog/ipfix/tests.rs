//! What is sent, as a collector has it: nfdump's nfcapd, which stores it, and nfdump, which tells what it stored.

use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use margay_flowtable::Traffic;
use serde_json::Value;

use super::super::flow::{End, Party};
use super::super::tests::{flow, seconds};
use super::*;

/// A collector's socket, and what an exporter has sent there.
struct Collector(UdpSocket);

impl Collector {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        Self(socket)
    }

    fn messages(&self) -> Vec<Vec<u8>> {
        let mut buffer = [0; 2048];
        std::iter::from_fn(|| self.0.recv(&mut buffer).ok().map(|len| buffer[..len].to_vec())).collect()
    }
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

#[test]
fn messages_keep_to_their_size_and_are_numbered_by_records() {
    let collector = Collector::new();
    let mut exporter = Exporter::new(collector.0.local_addr().unwrap(), 1280).unwrap();
    let flows: Vec<Flow> = (0..100).map(|dport| flow(What::End(Reason::Idle), 5, dport)).collect();
    exporter.send(&flows, seconds(77)).unwrap();
    exporter.send(&flows[..1], seconds(78)).unwrap();
    let messages = collector.messages();
    assert!(messages.len() > 3);
    let mut records = 0;
    for message in &messages {
        assert!(message.len() <= 1232 && number(&message[2..4]) as usize == message.len());
        assert_eq!((number(&message[..2]), number(&message[8..12])), (10, records));
        let mut rest = &message[HEADER..];
        while !rest.is_empty() {
            let (id, len) = (number(&rest[..2]), number(&rest[2..4]) as usize);
            // Addresses, what is common, and what is of an end: 71 bytes.
            let is_data = id != u32::from(TEMPLATE_SET);
            assert!(!is_data || (len - 4) % 71 == 0, "{len}");
            records += if is_data { (len as u32 - 4) / 71 } else { 0 };
            rest = &rest[len..];
        }
    }
    assert_eq!(records, 101);
    let times: Vec<u32> = messages.iter().map(|message| number(&message[4..8])).collect();
    assert_eq!((times[0], *times.last().unwrap()), (77, 78));
}

#[test]
fn a_collector_that_refuses_is_reported_and_asked_again() {
    let collector = Collector::new();
    let address = collector.0.local_addr().unwrap();
    drop(collector);
    let mut exporter = Exporter::new(address, 1280).unwrap();
    let flows = [flow(What::Start, 1, 2)];
    // The first one goes, and its answer comes back as the next one's error.
    let outcomes: Vec<bool> = (0..4).map(|_| exporter.send(&flows, seconds(1)).is_ok()).collect();
    assert!(outcomes.contains(&false));
    assert_eq!(exporter.sequence, 4, "what was lost is missing from the sequence");
}

/// Ended when the test ends.
struct Nfcapd(Child);

impl Nfcapd {
    fn start(directory: &Path, port: u16) -> Self {
        let mut command = Command::new("nfcapd");
        command.args(["-b", "127.0.0.1", "-p", &port.to_string(), "-t", "3600", "-w"]).arg(directory);
        Self(
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("nfcapd: .ci/deps test installs it"),
        )
    }

    /// Has it write its file and end.
    fn end(mut self) {
        let id = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Nfcapd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_bound(port: u16) -> bool {
    UdpSocket::bind(("127.0.0.1", port)).is_err()
}

/// What nfdump finds in the directory.
fn stored(directory: &Path) -> Vec<Value> {
    let output = Command::new("nfdump").args(["-q", "-o", "json", "-R"]).arg(directory).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // Records with commas between them, and nothing around.
    serde_json::from_str(&format!("[{text}]")).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_collector_reads_what_was_sent() {
    let directory = tempfile::tempdir().unwrap();
    // Free a moment ago, and asked for by nobody else in between but by bad luck.
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nfcapd = Nfcapd::start(directory.path(), port);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_bound(port) {
        assert!(Instant::now() < deadline, "nfcapd does not listen");
        sleep(Duration::from_millis(20));
    }
    let mut end = flow(What::End(Reason::Idle), 40_000, 443);
    end.sum.original = Traffic { packets: 12, bytes: 3456 };
    end.sum.reply = Traffic { packets: 7, bytes: 65_432 };
    let denial = flow(What::Denial, 40_001, 22);
    let mut start6 = flow(What::Start, 40_002, 8080);
    let of = |n: u16| End {
        address: IpAddr::from(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n)),
        party: Party::Other,
    };
    (start6.key.src, start6.key.dst) = (of(1), of(2));
    let mut exporter = Exporter::new(([127, 0, 0, 1], port).into(), 1280).unwrap();
    exporter.send(&[end, denial, start6], seconds(1_700_000_000)).unwrap();
    // It is told to end once it has read what waits.
    sleep(Duration::from_millis(500));
    nfcapd.end();
    let records = stored(directory.path());
    assert_eq!(records.len(), 3, "{records:#?}");
    let by =
        |dport: u64| records.iter().find(|record| record["dst_port"] == dport).expect("a record of the port");
    let end = by(443);
    for (field, value) in [("in_packets", 12), ("in_bytes", 3456), ("out_packets", 7), ("out_bytes", 65_432)]
    {
        assert_eq!(end[field], value, "{field}: {end:#}");
    }
    assert_eq!((&end["src4_addr"], &end["dst4_addr"]), (&"10.65.10.5".into(), &"192.0.2.7".into()));
    assert_eq!((&end["proto"], &end["src_port"]), (&6.into(), &40_000.into()));
    assert_eq!(by(22)["in_packets"], 1);
    assert_eq!(by(8080)["src6_addr"], "fd00::1");
}
