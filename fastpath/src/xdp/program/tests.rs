//! The XDP program in the kernel's own test run (`BPF_PROG_TEST_RUN`) against its mirror in `steer`, frame by frame.

mod exchanges;

use std::net::{Ipv4Addr, Ipv6Addr};

use libbpf_rs::ProgramInput;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::steer::{Routes, Steer, SteerPort, SteerTables, steer};

/// A test run without a context comes in by queue 0 of the loopback device.
const LOOPBACK: u32 = 1;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
const VXLAN_PORT: u16 = 4789;

fn is_root() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        eprintln!("skipped: loading a program takes root");
    }
    is_root
}

fn routes() -> Routes {
    [
        ("10.244.0.0", 16, Destination::Owned),
        ("10.244.3.1", 32, Destination::Local),
        ("192.0.2.1", 32, Destination::TunnelEnd),
        ("192.0.2.2", 32, Destination::Local),
        ("fd00:10::", 64, Destination::Owned),
        ("fd00:10::1", 128, Destination::Local),
        ("2001:db8::1", 128, Destination::TunnelEnd),
        ("fe80::42", 128, Destination::Local),
    ]
    .map(|(address, length, destination)| ((address.parse().expect("an address"), length), destination))
    .into()
}

fn all(routes: Routes) -> RouteChanges {
    routes.into_iter().map(|(prefix, destination)| (prefix, Some(destination))).collect()
}

/// Ports of each kind, one of a pod that is policed, and one on a VLAN.
const PORTS: [SteerPort; 5] = [
    SteerPort { kind: Kind::Uplink, mac: Some(MAC), is_policed: false, vlan: None },
    SteerPort { kind: Kind::Pod, mac: Some(MAC), is_policed: false, vlan: None },
    SteerPort { kind: Kind::Pod, mac: Some(MAC), is_policed: true, vlan: None },
    SteerPort { kind: Kind::Uplink, mac: Some(MAC), is_policed: false, vlan: Some(100) },
    SteerPort { kind: Kind::Host, mac: Some(MAC), is_policed: false, vlan: None },
];

fn program(kind: Kind) -> Program {
    program_of(&SteerPort { kind, mac: Some(MAC), is_policed: false, vlan: None })
}

fn program_of(port: &SteerPort) -> Program {
    let mut program = Program::load().expect("the program loads");
    program.set_vxlan_port(VXLAN_PORT).expect("a port");
    program.change_routes(all(routes())).expect("routes");
    // Without a socket a redirect ends as the port's failure action, which here is unlike a pass.
    program.set_port(LOOPBACK, &entry(port)).expect("a port");
    program
}

fn entry(port: &SteerPort) -> PortEntry {
    PortEntry {
        kind: port.kind,
        on_failure: OnFailure::Drop,
        first: 0,
        queues: 1,
        mac: MAC,
        is_policed: port.is_policed,
        tells_gso: false,
        vlan: port.vlan,
    }
}

fn run(program: &Program, frame: &[u8]) -> Steer {
    let input = ProgramInput { data_in: Some(frame), ..Default::default() };
    let found = program.object.progs_mut().find(|program| program.name() == PROGRAM).expect("a program");
    match found.test_run(input).expect("a test run").return_value {
        libbpf_rs::libbpf_sys::XDP_DROP => Steer::Redirect,
        libbpf_rs::libbpf_sys::XDP_PASS => Steer::Pass,
        other => panic!("the program returned {other}"),
    }
}

fn ethernet(ethertype: u16, packet: &[u8]) -> Vec<u8> {
    [&MAC[..], &[2, 0, 0, 0, 0, 9], &ethertype.to_be_bytes(), packet].concat()
}

/// An IPv4 packet with `options` words of options, and the ports of a UDP header behind.
fn ipv4(to: Ipv4Addr, protocol: u8, options: u8, fragment: u16, port: u16) -> Vec<u8> {
    let mut packet = vec![0; 20 + usize::from(options) * 4];
    packet[0] = 0x45 + options;
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    packet[9] = protocol;
    packet[16..20].copy_from_slice(&to.octets());
    packet.extend([&[0x12, 0x34][..], &port.to_be_bytes(), &[0, 8, 0, 0]].concat());
    ethernet(0x0800, &packet)
}

fn ipv6(to: Ipv6Addr, next_header: u8, port: u16) -> Vec<u8> {
    let mut packet = vec![0; 40];
    packet[0] = 0x60;
    packet[6] = next_header;
    packet[24..40].copy_from_slice(&to.octets());
    packet.extend([&[0x12, 0x34][..], &port.to_be_bytes(), &[0, 8, 0, 0]].concat());
    ethernet(0x86dd, &packet)
}

const EXTENSIONS: [&[(u8, &[u8])]; 7] = [
    &[(60, &[0; 7])],
    &[(0, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), (43, &[0; 7])],
    // The first fragment, a later one, and one that is the whole packet.
    &[(44, &[0, 0, 1, 0, 0, 0, 9])],
    &[(44, &[0, 0, 9, 0, 0, 0, 9])],
    &[(60, &[0; 7]), (44, &[0; 7])],
    &[(51, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])],
    // Longer than the frame.
    &[(60, &[9, 0, 0, 0, 0, 0, 0])],
];

/// The same with extension headers before the ports: their numbers and their bytes.
fn behind(to: Ipv6Addr, headers: &[(u8, &[u8])], port: u16) -> Vec<u8> {
    let first = headers.first().map_or(17, |(number, _)| *number);
    let frame = ipv6(to, first, port);
    let nexts = headers.iter().skip(1).map(|(number, _)| *number).chain([17]);
    let chain = headers.iter().zip(nexts).flat_map(|((_, bytes), next)| [&[next], *bytes].concat());
    [&frame[..54], &chain.collect::<Vec<_>>(), &frame[54..]].concat()
}

/// Tags that an uplink may see: of the VLAN of [`PORTS`], with priorities too, of others, and two at once.
const TAGS: [&[u8]; 9] = [
    &[0x81, 0, 0, 100],
    &[0x81, 0, 0xf0, 100],
    &[0x81, 0, 0, 0],
    &[0x81, 0, 0x01, 100],
    &[0x81, 0, 0, 101],
    &[0x88, 0xa8, 0, 100],
    &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 100],
    &[0x81, 0, 0, 100, 0x81, 0, 0, 5],
    &[0x81, 0, 0, 100, 0x81, 0, 0, 100],
];

/// All of them untagged and with the first tag, and some with each of the others.
fn frames() -> Vec<Vec<u8>> {
    let mut frames = untagged();
    let tagged = |frame: &Vec<u8>, tag| [&frame[..12], tag, &frame[12..]].concat();
    let of_the_port = frames.iter().map(|frame| tagged(frame, TAGS[0]));
    let others = frames.iter().step_by(40).flat_map(|frame| TAGS[1..].iter().map(|tag| tagged(frame, tag)));
    let with_tags: Vec<_> = of_the_port.chain(others).collect();
    frames.extend(with_tags);
    frames
}

fn untagged() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let to4 = [
        "10.244.3.1",
        "10.244.3.2",
        "10.245.0.1",
        "192.0.2.1",
        "192.0.2.2",
        "192.0.2.3",
        "255.255.255.255",
        "224.0.0.1",
        "0.0.0.0",
    ];
    for to in to4.map(|to| to.parse().expect("an address")) {
        for protocol in [1, 4, 6, 17, 41] {
            for port in [VXLAN_PORT, VXLAN_PORT.swap_bytes(), 53] {
                for (options, fragment) in [(0, 0), (0, 0x4000), (1, 0), (10, 0), (0, 0x2000), (0, 0x2001)] {
                    frames.push(ipv4(to, protocol, options, fragment, port));
                }
            }
        }
    }
    let to6 = [
        "fd00:10::1",
        "fd00:10::2",
        "2001:db8::1",
        "2001:db8::2",
        "fe80::42",
        "fe80::43",
        "febf::1",
        "fec0::1",
        "ff02::1",
        "::",
    ];
    for to in to6.map(|to| to.parse().expect("an address")) {
        for (next_header, port) in [(17, VXLAN_PORT), (17, 53), (4, VXLAN_PORT), (58, 0), (44, VXLAN_PORT)] {
            frames.push(ipv6(to, next_header, port));
        }
        for headers in EXTENSIONS {
            frames.extend([VXLAN_PORT, 53].map(|port| behind(to, headers, port)));
        }
        for count in [8, 9] {
            frames.push(behind(to, &vec![(60, &[0; 7][..]); count], VXLAN_PORT));
        }
    }
    for ethertype in [0x0806, 0x8100, 0x88a8, 0x88cc, 0x0801] {
        frames.push(ethernet(ethertype, &frames[0][14..]));
    }
    for mac in [[0xff; 6], [1, 0, 0x5e, 0, 0, 1], [2, 0, 0, 0, 0, 8]] {
        let mut frame = ipv4(Ipv4Addr::new(10, 244, 3, 2), 6, 0, 0, 80);
        frame[..6].copy_from_slice(&mac);
        frames.push(frame);
    }
    // A header that says that it is shorter than it can be.
    let mut short = ipv4(Ipv4Addr::new(192, 0, 2, 1), 17, 0, 0, VXLAN_PORT);
    short[14] = 0x44;
    frames.push(short);
    frames
}

#[test]
fn agrees_with_its_mirror_where_packets_are_told_of_and_where_not() {
    if !is_root() {
        return;
    }
    let tables = SteerTables::new(&routes(), VXLAN_PORT);
    let (port, program) = (&PORTS[1], program_of(&PORTS[1]));
    program.set_port(LOOPBACK, &PortEntry { tells_gso: true, ..entry(port) }).expect("a port");
    let agrees = || untagged().iter().all(|frame| run(&program, frame) == steer(&tables, port, frame));
    assert_eq!(program.untold_gso(), None);
    assert!(agrees());
    // What it goes on to is gone.
    program.gso.as_ref().expect("the map").delete(&0u32.to_ne_bytes()).expect("it was there");
    assert!(agrees());
}

#[test]
fn agrees_with_its_mirror() {
    if !is_root() {
        return;
    }
    let tables = SteerTables::new(&routes(), VXLAN_PORT);
    for port in &PORTS[..4] {
        let program = program_of(port);
        let mut redirected = 0;
        let frames = frames();
        for frame in &frames {
            let expected = steer(&tables, port, frame);
            assert_eq!(run(&program, frame), expected, "{port:?}, frame {frame:02x?}");
            redirected += usize::from(expected == Steer::Redirect);
        }
        assert!(redirected > 100 && redirected < frames.len() - 50, "{port:?}: {redirected} redirected");
    }
}

#[test]
fn agrees_with_its_mirror_on_cut_and_damaged_frames() {
    if !is_root() {
        return;
    }
    let tables = SteerTables::new(&routes(), VXLAN_PORT);
    let frames = frames();
    for port in &PORTS[..4] {
        let program = program_of(port);
        let damaged =
            (any::<prop::sample::Index>(), 14usize..120, prop::option::of((0usize..70, any::<u8>())));
        TestRunner::new(Config { cases: 4000, failure_persistence: None, ..Config::default() })
            .run(&damaged, |(which, len, damage)| {
                let mut frame = which.get(&frames).clone();
                frame.truncate(len);
                if let Some((at, value)) = damage
                    && let Some(byte) = frame.get_mut(at)
                {
                    *byte = value;
                }
                prop_assert_eq!(run(&program, &frame), steer(&tables, port, &frame));
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{port:?}: {error}"));
    }
}

#[test]
fn a_change_of_routes_holds_for_the_next_packet() {
    if !is_root() {
        return;
    }
    let mut program = program(Kind::Uplink);
    let to = Ipv4Addr::new(10, 244, 3, 2);
    let frame = ipv4(to, 6, 0, 0, 80);
    assert_eq!(run(&program, &frame), Steer::Redirect);
    let host = (IpAddr::from(to), 32);
    let block = (IpAddr::from([10, 244, 0, 0]), 16);
    program.change_routes([(host, Some(Destination::Local))].into()).expect("routes");
    assert_eq!(run(&program, &frame), Steer::Pass);
    program.change_routes([(host, Some(Destination::Owned)), (block, None)].into()).expect("routes");
    assert_eq!(run(&program, &frame), Steer::Redirect);
    assert_eq!(run(&program, &ipv4(Ipv4Addr::new(10, 244, 3, 3), 6, 0, 0, 80)), Steer::Pass);
    program.change_routes([(host, None), (block, None)].into()).expect("what is not there may go");
    assert_eq!(run(&program, &frame), Steer::Pass);
}

#[test]
fn a_queue_without_a_slot_fails_as_configured() {
    if !is_root() {
        return;
    }
    let program = program(Kind::Uplink);
    let frame = ipv4(Ipv4Addr::new(10, 244, 3, 2), 6, 0, 0, 80);
    let entry = PortEntry { queues: 0, ..entry(&PORTS[0]) };
    program.set_port(LOOPBACK, &entry).expect("a port");
    assert_eq!(run(&program, &frame), Steer::Redirect, "dropped");
    program.set_port(LOOPBACK, &PortEntry { on_failure: OnFailure::Pass, ..entry }).expect("a port");
    assert_eq!(run(&program, &frame), Steer::Pass);
    program
        .set_port(LOOPBACK, &PortEntry { queues: 1, on_failure: OnFailure::Pass, ..entry })
        .expect("a port");
    assert_eq!(run(&program, &frame), Steer::Pass, "no socket stands at the slot");
    program.remove_port(LOOPBACK).expect("it is there");
    assert_eq!(run(&program, &frame), Steer::Pass);
}
