//! Packets in, packets out: every case of `testbed/cases/wire` through `margay replay`, as its README says.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};
use serde_json::Value;

const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testbed/cases/wire");
/// The node whose gateway the cases are of: only tunnels and ICMP errors of ours come from there.
const GATEWAY: [u8; 4] = [172, 20, 1, 10];

#[test]
fn wire_cases_hold() {
    let mut cases: Vec<PathBuf> = fs::read_dir(CASES).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.join("fates.json").exists());
    assert!(cases.len() >= 200, "cases are missing: there are {}", cases.len());
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for cases in cases.chunks(cases.len().div_ceil(threads)) {
            scope.spawn(|| cases.iter().for_each(|case| assert_holds(case)));
        }
    });
}

fn assert_holds(case: &Path) {
    let out = tempfile::tempdir().unwrap();
    let fates = replay(case, out.path());
    let expected: Value = serde_json::from_reader(File::open(case.join("fates.json")).unwrap()).unwrap();
    assert_eq!(fates, expected, "{}", case.display());
    let mut sent = captures(out.path());
    for (port, frames) in expected_captures(case) {
        let got = sent.remove(&port).unwrap_or_else(|| panic!("{}: no capture of {port}", case.display()));
        let got: Vec<_> = got.iter().map(|frame| comparable(frame)).collect();
        let frames: Vec<_> = frames.iter().map(|frame| comparable(frame)).collect();
        assert_eq!(got, frames, "{}: {port}", case.display());
    }
    sent.retain(|_, frames| !frames.is_empty());
    assert_eq!(sent, BTreeMap::new(), "{}: nobody expects this", case.display());
}

/// Runs the command that the case's README gives, and returns the fates.
fn replay(case: &Path, out: &Path) -> Value {
    let readme = fs::read_to_string(case.join("README")).unwrap();
    let sentence = readme.lines().next().expect("a sentence");
    assert!(sentence.ends_with('.'), "{}: what the case holds, in a sentence", case.display());
    let line =
        readme.lines().find(|line| line.starts_with("margay replay")).expect("a command in the README");
    let words =
        line.split_whitespace().skip(1).map(|word| if word == "OUT" { out.to_str().unwrap() } else { word });
    let run = Command::new(env!("CARGO_BIN_EXE_margay")).args(words).current_dir(case).output().unwrap();
    assert!(run.status.success(), "{}: {}", case.display(), String::from_utf8_lossy(&run.stderr));
    serde_json::from_slice(&run.stdout).expect("JSON alone on stdout")
}

#[test]
fn inputs_that_cannot_be_used_leave_the_output_alone() {
    let case = Path::new(CASES).join("decap_tcp_ipip_b1");
    let given = "uplink0=in-uplink0.pcap";
    let out = tempfile::tempdir().unwrap();
    let (kept, pcapng) = (out.path().join("uplink0.pcap"), out.path().join("in.pcapng"));
    fs::write(&kept, "kept").unwrap();
    fs::write(&pcapng, [0x0a, 0x0d, 0x0d, 0x0a, 0x1c, 0, 0, 0]).unwrap();
    let pcapng = format!("uplink0={}", pcapng.display());
    for (inputs, expected) in [
        (vec![given, "nowhere=in-uplink0.pcap"], "nowhere: no such port"),
        (vec![given, given], "uplink0 is given twice"),
        (vec![&pcapng], "editcap -F pcap"),
        (vec!["uplink0=README"], "README: is no pcap file"),
    ] {
        let inputs = inputs.iter().flat_map(|input| ["--in", input]);
        let mut command = Command::new(env!("CARGO_BIN_EXE_margay"));
        command.current_dir(&case).args(["replay", "--manifests", "../manifests", "--node", "gw-a", "--out"]);
        let run = command.arg(out.path()).args(inputs).output().unwrap();
        let stderr = String::from_utf8(run.stderr).unwrap();
        assert!(run.status.code() == Some(2) && stderr.contains(expected), "{stderr}");
        assert_eq!(fs::read(&kept).unwrap(), b"kept");
    }
}

/// Frames of UDP from a pod to its node, to these ports.
fn to_node(pod: [u8; 4], node: [u8; 4], ports: &[u16]) -> Vec<Vec<u8>> {
    let frame = |port: &u16| {
        let mut ip = [&[0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0][..], &pod, &node].concat();
        let sum: u32 = ip.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
        ip[10..12].copy_from_slice(&(!((sum >> 16) + (sum & 0xffff)) as u16).to_be_bytes());
        let udp = [&40_000u16.to_be_bytes()[..], &port.to_be_bytes(), &[0, 8, 0, 0]].concat();
        [&[2; 12][..], &[8, 0], &ip, &udp].concat()
    };
    ports.iter().map(frame).collect()
}

#[test]
fn a_pod_s_packets_to_its_node_are_judged_where_calico_s_kinds_select_it() {
    let home = tempfile::tempdir().unwrap();
    let manifests = home.path().join("manifests");
    fs::create_dir(&manifests).unwrap();
    let objects = "apiVersion: v1\nkind: Node\nmetadata: {name: gw, annotations: \
        {projectcalico.org/IPv4Address: 192.0.2.1/24}}\nspec: {podCIDRs: [10.0.0.0/24]}\n---\n\
        apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: default}\nspec: {nodeName: gw}\n\
        status: {phase: Running, podIP: 10.0.0.5}\n---\n\
        apiVersion: v1\nkind: Namespace\nmetadata: {name: default}\n---\n\
        apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: out, namespace: default}\n\
        spec: {podSelector: {}, policyTypes: [Egress]}\n";
    let policy = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: dns}\n\
        spec: {types: [Egress], egress: [{action: Allow, protocol: UDP, destination: {ports: [53]}}]}\n";
    fs::write(manifests.join("objects.yaml"), objects).unwrap();
    let capture = home.path().join("in.pcap");
    let mut writer = PcapWriter::new(File::create(&capture).unwrap()).unwrap();
    for frame in to_node([10, 0, 0, 5], [192, 0, 2, 1], &[53, 54]) {
        writer.write_packet(&PcapPacket::new(Duration::ZERO, frame.len() as u32, &frame)).unwrap();
    }
    let fates = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_margay"));
        command.args(["replay", "-o", "json", "--node", "gw", "--manifests"]).arg(&manifests);
        command.arg("--in").arg(format!("default/web={}", capture.display()));
        let run = command.arg("--out").arg(home.path().join("out")).output().unwrap();
        let fates: Value = serde_json::from_slice(&run.stdout).unwrap_or_else(|_| panic!("{run:?}"));
        fates
            .as_array()
            .unwrap()
            .iter()
            .map(|fate| fate["fate"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(fates(), ["pass", "pass"], "Kubernetes' kind has no say");
    fs::write(manifests.join("policy.yaml"), policy).unwrap();
    assert_eq!(fates(), ["pass", "drop policy-deny"]);
}

/// What was sent, by port name without its namespace.
fn captures(out: &Path) -> BTreeMap<String, Vec<Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(out).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(captures(&entry));
        } else {
            found.insert(entry.file_stem().unwrap().to_str().unwrap().to_owned(), frames(&entry));
        }
    }
    found
}

fn expected_captures(case: &Path) -> Vec<(String, Vec<Vec<u8>>)> {
    let files = fs::read_dir(case).unwrap().map(|entry| entry.unwrap().path());
    let port = |path: &Path| Some(path.file_stem()?.to_str()?.strip_prefix("out-")?.to_owned());
    let found: Vec<_> = files.filter_map(|path| Some((port(&path)?, frames(&path)))).collect();
    assert!(!found.is_empty(), "{}: nothing expected", case.display());
    found
}

fn frames(path: &Path) -> Vec<Vec<u8>> {
    let mut reader = PcapReader::new(File::open(path).unwrap()).unwrap();
    std::iter::from_fn(|| reader.next_packet().map(|packet| packet.unwrap().data.into_owned())).collect()
}

/// The frame without what may differ: source MAC; of a tunnel packet the outer identification, and the VXLAN source port,
/// which has to be a port that no service uses; and the identification of an ICMP error of ours.
fn comparable(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    assert_eq!(frame[6] & 1, 0, "a source MAC is unicast");
    frame[6..12].fill(0);
    if frame[12..14] == [0x86, 0xdd] && frame[20] == 17 && frame[56..58] == 4789u16.to_be_bytes() {
        return comparable_over_ipv6(frame);
    }
    if frame[12..14] != [8, 0] {
        return frame;
    }
    let is_ours = frame[26..30] == GATEWAY;
    let is_vxlan = is_ours && frame[23] == 17;
    if is_vxlan {
        assert!(u16::from_be_bytes([frame[34], frame[35]]) >= 1024);
        frame[34..36].fill(0);
    }
    let mut packet = 14;
    if is_vxlan || is_ours && frame[23] == 4 {
        packet = if is_vxlan { 64 } else { 34 };
        clear_identification(&mut frame[14..34]);
    }
    // Precedence 6 and ICMP.
    if frame[packet + 1] == 0xc0 && frame[packet + 9] == 1 {
        clear_identification(&mut frame[packet..packet + 20]);
    }
    frame
}

/// The same of VXLAN over IPv6: the UDP checksum, if there is one, is over the source port too.
fn comparable_over_ipv6(mut frame: Vec<u8>) -> Vec<u8> {
    assert!(u16::from_be_bytes([frame[54], frame[55]]) >= 1024);
    if frame[60..62] != [0, 0] {
        let words = [&frame[18..20], &[0, 17], &frame[22..]].concat();
        let words = words.chunks(2).map(|word| [word[0], *word.get(1).unwrap_or(&0)]);
        let sum: u32 = words.map(|word| u32::from(u16::from_be_bytes(word))).sum();
        let sum = (sum >> 16) + (sum & 0xffff);
        assert_eq!((sum >> 16) + (sum & 0xffff), 0xffff, "outer UDP checksum");
        frame[60..62].fill(0xff);
    }
    frame[54..56].fill(0);
    frame
}

/// And the checksum over it, which has to be right.
fn clear_identification(header: &mut [u8]) {
    let sum: u32 = header.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    assert_eq!((sum >> 16) + (sum & 0xffff), 0xffff, "header checksum");
    header[4..6].fill(0);
    header[10..12].fill(0);
}
