//! What a policed pod and its node exchange: the programs of traffic control note who began, the XDP program goes by it.

use super::*;
use crate::steer::Exchange;

const NODE: &str = "192.0.2.1";
const POD: &str = "10.244.3.2";
const NODE6: &str = "2001:db8::1";
const POD6: &str = "fd00:10::2";
const POLICED: SteerPort = PORTS[2];

const TCP: u8 = 6;
const UDP: u8 = 17;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Node,
    Pod,
}

/// What the sender's IP packet carries.
#[derive(Clone, Debug)]
enum Carries {
    Tcp(u8),
    Udp,
    /// The request is the sender's.
    Echo,
    EchoReply,
    /// Quotes what the other side sent.
    Unreachable(Box<Self>),
    /// Of a protocol without ports.
    Esp,
}

const NODE_PORT: u16 = 40_000;
const POD_PORT: u16 = 53;

impl Carries {
    fn protocol(&self, is_ipv6: bool) -> u8 {
        match self {
            Self::Tcp(_) => TCP,
            Self::Udp => UDP,
            Self::Esp => 50,
            Self::Echo | Self::EchoReply | Self::Unreachable(_) => {
                if is_ipv6 {
                    58
                } else {
                    1
                }
            }
        }
    }

    fn bytes(&self, by: By, is_ipv6: bool) -> Vec<u8> {
        let ports = match by {
            By::Node => [NODE_PORT, POD_PORT],
            By::Pod => [POD_PORT, NODE_PORT],
        };
        let ports = ports.map(u16::to_be_bytes).concat();
        let icmp = |of_4, of_6| vec![if is_ipv6 { of_6 } else { of_4 }, 0, 0, 0, 0, 7, 0, 1];
        match self {
            Self::Tcp(flags) => [&ports[..], &[0; 8], &[0x50, *flags], &[0; 6]].concat(),
            Self::Udp => [&ports[..], &[0, 8, 0, 0]].concat(),
            Self::Esp => vec![0; 8],
            Self::Echo => icmp(8, 128),
            Self::EchoReply => icmp(0, 129),
            Self::Unreachable(quoted) => {
                let other = if by == By::Node { By::Pod } else { By::Node };
                [icmp(3, 1), packet(quoted, other, is_ipv6)].concat()
            }
        }
    }
}

fn packet(carries: &Carries, by: By, is_ipv6: bool) -> Vec<u8> {
    let ends = if is_ipv6 { [NODE6, POD6] } else { [NODE, POD] }.map(|end| end.parse().expect("an address"));
    let [src, dst]: [IpAddr; 2] = if by == By::Node { ends } else { [ends[1], ends[0]] };
    let payload = carries.bytes(by, is_ipv6);
    let mut header = if is_ipv6 { vec![0; 8] } else { vec![0; 12] };
    if is_ipv6 {
        header[0] = 0x60;
        header[6] = carries.protocol(true);
    } else {
        header[0] = 0x45;
        header[9] = carries.protocol(false);
    }
    for address in [src, dst] {
        match address {
            IpAddr::V4(address) => header.extend(address.octets()),
            IpAddr::V6(address) => header.extend(address.octets()),
        }
    }
    [header, payload].concat()
}

fn frame(carries: &Carries, by: By, is_ipv6: bool) -> Vec<u8> {
    ethernet(if is_ipv6 { 0x86dd } else { 0x0800 }, &packet(carries, by, is_ipv6))
}

/// Runs a program of traffic control on a packet.
fn watch(program: &Program, name: &str, frame: &[u8]) {
    let mut out = vec![0; frame.len()];
    let input = ProgramInput { data_in: Some(frame), data_out: Some(&mut out), ..Default::default() };
    let found = program.object.progs_mut().find(|program| program.name() == name).expect("a program");
    let result = found.test_run(input).expect("a test run");
    assert_eq!(result.return_value.cast_signed(), -1, "other filters have their say");
    assert_eq!(out, frame, "the packet is as it was");
}

/// What the node sends to the pod.
fn sent(program: &Program, carries: &Carries, is_ipv6: bool) {
    watch(program, TO_POD, &frame(carries, By::Node, is_ipv6));
}

/// What policy has let in.
fn entered(program: &Program, carries: &Carries, is_ipv6: bool) {
    watch(program, ENTERED, &frame(carries, By::Pod, is_ipv6));
}

fn from_pod(program: &Program, carries: &Carries, is_ipv6: bool) -> Steer {
    run(program, &frame(carries, By::Pod, is_ipv6))
}

fn kinds() -> [Carries; 4] {
    [Carries::Tcp(ACK), Carries::Udp, Carries::EchoReply, Carries::Esp]
}

#[test]
fn what_the_node_began_goes_straight_to_the_kernel() {
    if !is_root() {
        return;
    }
    for is_ipv6 in [false, true] {
        let cases = [
            (Carries::Tcp(SYN), Carries::Tcp(SYN | ACK)),
            // Older than the program.
            (Carries::Tcp(ACK), Carries::Tcp(ACK)),
            (Carries::Tcp(SYN), Carries::Tcp(RST | ACK)),
            (Carries::Udp, Carries::Udp),
            (Carries::Esp, Carries::Esp),
            (Carries::Echo, Carries::EchoReply),
            (Carries::Udp, Carries::Unreachable(Box::new(Carries::Udp))),
            (Carries::Tcp(SYN), Carries::Unreachable(Box::new(Carries::Tcp(SYN)))),
        ];
        for (begins, answers) in cases {
            let program = program_of(&POLICED);
            assert_eq!(from_pod(&program, &answers, is_ipv6), Steer::Redirect, "{answers:?} before");
            sent(&program, &begins, is_ipv6);
            assert_eq!(from_pod(&program, &answers, is_ipv6), Steer::Pass, "{answers:?} to {begins:?}");
            for other in kinds().iter().filter(|other| other.protocol(false) != begins.protocol(false)) {
                assert_eq!(from_pod(&program, other, is_ipv6), Steer::Redirect, "{other:?}");
            }
            assert_eq!(from_pod(&program, &answers, !is_ipv6), Steer::Redirect, "{answers:?} of another IP");
        }
    }
}

#[test]
fn what_the_pod_began_goes_by_a_worker_though_the_node_answers() {
    if !is_root() {
        return;
    }
    for is_ipv6 in [false, true] {
        let cases = [
            (Carries::Tcp(SYN), Carries::Tcp(SYN | ACK), Carries::Tcp(ACK)),
            (Carries::Tcp(SYN), Carries::Tcp(ACK), Carries::Tcp(ACK)),
            (Carries::Udp, Carries::Udp, Carries::Udp),
            (Carries::Esp, Carries::Esp, Carries::Esp),
            (Carries::Echo, Carries::EchoReply, Carries::Echo),
        ];
        for (begins, answers, goes_on) in cases {
            let program = program_of(&POLICED);
            for _ in 0..2 {
                entered(&program, &begins, is_ipv6);
                sent(&program, &answers, is_ipv6);
                assert_eq!(from_pod(&program, &goes_on, is_ipv6), Steer::Redirect, "{goes_on:?}");
            }
        }
        // What was denied has not entered: the node may begin the same.
        let program = program_of(&POLICED);
        assert_eq!(from_pod(&program, &Carries::Udp, is_ipv6), Steer::Redirect);
        sent(&program, &Carries::Udp, is_ipv6);
        assert_eq!(from_pod(&program, &Carries::Udp, is_ipv6), Steer::Pass);
    }
}

#[test]
fn who_opens_anew_has_begun() {
    if !is_root() {
        return;
    }
    let program = program_of(&POLICED);
    let (syn, ack) = (Carries::Tcp(SYN), Carries::Tcp(ACK));
    sent(&program, &syn, false);
    assert_eq!(from_pod(&program, &syn, false), Steer::Redirect, "a SYN is no answer");
    entered(&program, &syn, false);
    assert_eq!(from_pod(&program, &ack, false), Steer::Redirect);
    sent(&program, &syn, false);
    assert_eq!(from_pod(&program, &ack, false), Steer::Pass);
    sent(&program, &Carries::Echo, false);
    assert_eq!(from_pod(&program, &Carries::Echo, false), Steer::Redirect, "a request is no reply");
}

#[test]
fn an_answer_of_a_listener_is_of_what_the_pod_began() {
    if !is_root() {
        return;
    }
    // In a namespace of its own, where the node's port is free.
    let test = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a namespace");
        let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.expect("iproute2 is installed").success());
        let program = program_of(&POLICED);
        let listener = std::net::TcpListener::bind(("0.0.0.0", NODE_PORT)).expect("a free port");
        sent(&program, &Carries::Tcp(ACK), false);
        assert_eq!(from_pod(&program, &Carries::Tcp(ACK), false), Steer::Redirect);
        drop(listener);
        sent(&program, &Carries::Tcp(ACK), false);
        assert_eq!(from_pod(&program, &Carries::Tcp(ACK), false), Steer::Pass);
    };
    std::thread::spawn(test).join().expect("the test");
}

#[test]
fn what_the_kernel_forwards_to_the_pod_is_nothing_that_the_node_began() {
    if !is_root() {
        return;
    }
    let program = program_of(&POLICED);
    let mut forwarded = frame(&Carries::Tcp(SYN), By::Node, false);
    forwarded[26..30].copy_from_slice(&[198, 51, 100, 1]);
    watch(&program, TO_POD, &forwarded);
    let mut answer = frame(&Carries::Tcp(SYN | ACK), By::Pod, false);
    answer[30..34].copy_from_slice(&[198, 51, 100, 1]);
    assert_eq!(run(&program, &answer), Steer::Redirect);
}

#[test]
fn only_neighbour_discovery_and_remnants_pass_a_policed_port_unasked() {
    if !is_root() {
        return;
    }
    let program = program_of(&POLICED);
    let node: Ipv4Addr = NODE.parse().expect("an address");
    let icmp6 = |to: &str, kind: u8| {
        let mut frame = ipv6(to.parse().expect("an address"), 58, 0);
        frame[54] = kind;
        frame
    };
    let cases = [
        (ipv4(node, UDP, 0, 0x2001, 53), Steer::Pass, "a fragment without ports"),
        (ipv4(node, UDP, 0, 0x2000, 53), Steer::Redirect, "a first fragment"),
        (ipv4(Ipv4Addr::BROADCAST, UDP, 0, 0, 67), Steer::Redirect, "DHCP, which a server on the node hears"),
        (icmp6("ff02::1", 135), Steer::Pass, "a neighbour solicitation"),
        (icmp6("fe80::42", 136), Steer::Pass, "a neighbour advertisement"),
        (icmp6("fe80::42", 128), Steer::Redirect, "an echo request to a link-local address"),
        (ipv6("ff02::1".parse().expect("an address"), UDP, 5353), Steer::Redirect, "multicast"),
        (ethernet(0x0806, &[0; 28]), Steer::Pass, "ARP"),
    ];
    for (frame, expected, what) in cases {
        assert_eq!(run(&program, &frame), expected, "{what}");
    }
}

/// Every frame of these exchanges, whole, cut and damaged, against the mirror.
#[test]
fn agrees_with_its_mirror_on_what_the_node_began() {
    if !is_root() {
        return;
    }
    let program = program_of(&POLICED);
    let mut tables = SteerTables::new(&routes(), VXLAN_PORT);
    let quoting = kinds().map(|carries| Carries::Unreachable(Box::new(carries)));
    let frames: Vec<Vec<u8>> = [false, true]
        .into_iter()
        .flat_map(|is_ipv6| {
            for carries in kinds() {
                let begins = if matches!(carries, Carries::EchoReply) { Carries::Echo } else { carries };
                sent(&program, &begins, is_ipv6);
            }
            kinds().into_iter().chain(quoting.clone()).map(move |carries| frame(&carries, By::Pod, is_ipv6))
        })
        .collect();
    for (node, pod) in [(NODE, POD), (NODE6, POD6)] {
        let [node, pod] = [node, pod].map(|end| end.parse::<IpAddr>().expect("an address"));
        let icmp = if node.is_ipv6() { 58 } else { 1 };
        for (protocol, node_port, pod_port) in
            [(TCP, NODE_PORT, POD_PORT), (UDP, NODE_PORT, POD_PORT), (50, 0, 0), (icmp, 7, 0)]
        {
            tables.begun_by_node.insert(Exchange { node, pod, node_port, pod_port, protocol });
        }
    }
    for frame in &frames {
        assert_eq!(run(&program, frame), steer(&tables, &POLICED, frame), "{frame:02x?}");
    }
    let passed = frames.iter().filter(|frame| run(&program, frame) == Steer::Pass).count();
    assert!(passed >= 14, "{passed} of {}", frames.len());
    let damaged = (any::<prop::sample::Index>(), 14usize..160, prop::option::of((12usize..100, any::<u8>())));
    TestRunner::new(Config { cases: 4000, failure_persistence: None, ..Config::default() })
        .run(&damaged, |(which, len, damage)| {
            let mut frame = which.get(&frames).clone();
            frame.truncate(len);
            if let Some((at, value)) = damage
                && let Some(byte) = frame.get_mut(at)
            {
                *byte = value;
            }
            prop_assert_eq!(run(&program, &frame), steer(&tables, &POLICED, &frame));
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}
