//! Programs beside libpcap's own interpreter, and whatever instructions and bytes.

use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;
use crate::tap::tests::{compile, instructions};

fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code, jt, jf, k }
}

const RETURN: Instruction = Instruction { code: 0x06, jt: 0, jf: 0, k: 1 };

#[test]
fn what_could_go_wrong_is_refused() {
    let cases: [(&[Instruction], Invalid); 12] = [
        (&[], Invalid::Empty),
        (&[instruction(0x28, 0, 0, 12)], Invalid::NoReturn),
        (&[instruction(0x05, 0, 0, 0)], Invalid::Beyond { at: 0 }),
        (&[instruction(0x05, 0, 0, u32::MAX), RETURN], Invalid::Beyond { at: 0 }),
        (&[instruction(0x15, 1, 0, 0), RETURN], Invalid::Beyond { at: 0 }),
        (&[instruction(0x15, 0, 9, 0), RETURN], Invalid::Beyond { at: 0 }),
        (&[instruction(0x60, 0, 0, 16), RETURN], Invalid::NoSuchWord { at: 0, word: 16 }),
        (&[RETURN, instruction(0x02, 0, 0, 99), RETURN], Invalid::NoSuchWord { at: 1, word: 99 }),
        (&[instruction(0x34, 0, 0, 0), RETURN], Invalid::DivisionByZero { at: 0 }),
        (&[instruction(0x94, 0, 0, 0), RETURN], Invalid::DivisionByZero { at: 0 }),
        (&[instruction(0x64, 0, 0, 32), RETURN], Invalid::Shift { at: 0, by: 32 }),
        (&[instruction(0xffff, 0, 0, 0), RETURN], Invalid::Unknown { at: 0, code: 0xffff }),
    ];
    for (program, expected) in cases {
        assert_eq!(Program::new(program).map(drop), Err(expected), "{program:?}");
    }
    assert_eq!(Program::new(&vec![RETURN; LONGEST + 1]).map(drop), Err(Invalid::TooLong(LONGEST + 1)));
    assert!(Program::new(&vec![RETURN; LONGEST]).is_ok());
}

#[test]
fn reads_beyond_the_packet_and_division_by_zero_do_not_match() {
    let load = |code, k| [instruction(0x01, 0, 0, u32::MAX), instruction(code, 0, 0, k), RETURN];
    for (code, k) in
        [(0x20, 1), (0x28, 3), (0x30, 4), (0x30, u32::MAX), (0x40, 0), (0x50, u32::MAX), (0xb1, 4)]
    {
        let program = Program::new(&load(code, k)).expect("it is sound");
        assert!(!program.matches(&[1u8, 2, 3, 4][..].into()), "{code:#x} {k}");
    }
    // X is 0.
    let divide = Program::new(&[instruction(0x3c, 0, 0, 0), RETURN]).expect("it is sound");
    assert!(!divide.matches(&[][..].into()));
}

/// `protochain` has a loop, whose end hangs on the packet.
#[test]
fn loops_are_refused() {
    let dead = pcap::Capture::dead(pcap::Linktype::ETHERNET).expect("libpcap");
    let program = instructions(&dead.compile("ip protochain 6", false).expect("libpcap compiles it"));
    assert!(matches!(Program::new(&program), Err(Invalid::Beyond { .. })));
}

#[test]
fn bytes_may_lie_in_two_places() {
    let word_at = |at| {
        let program = [
            instruction(0x20, 0, 0, at),
            instruction(0x15, 0, 1, 0x0203_0405),
            RETURN,
            instruction(0x06, 0, 0, 0),
        ];
        Program::new(&program).expect("it is sound").matches(&Packet { front: &[1, 2, 3], rest: &[4, 5, 6] })
    };
    assert_eq!([0, 1, 2, 3].map(word_at), [false, true, false, false]);
}

fn packet() -> impl Strategy<Value = Vec<u8>> {
    let address = || prop_oneof![Just([10, 0, 0, 1]), Just([10, 0, 0, 2]), any::<[u8; 4]>()];
    let port = || prop_oneof![Just(80u16), Just(53), Just(4789), any::<u16>()];
    let built = (address(), address(), port(), port(), any::<[bool; 3]>(), 0..100usize).prop_map(
        |(src, dst, sport, dport, [is_tcp, is_tagged, is_six], len)| {
            let builder = PacketBuilder::ethernet2([2; 6], [4; 6]);
            let six = |address: [u8; 4]| {
                let mut six = [0x20; 16];
                six[12..].copy_from_slice(&address);
                six
            };
            let mut packet = Vec::new();
            let builder = match (is_tagged, is_six) {
                (true, _) => builder.single_vlan(7.try_into().expect("it fits")).ipv4(src, dst, 64),
                (false, true) => builder.ipv6(six(src), six(dst), 64),
                (false, false) => builder.ipv4(src, dst, 64),
            };
            let payload = vec![0x5a; len];
            if is_tcp {
                builder.tcp(sport, dport, 1, 2).syn().write(&mut packet, &payload)
            } else {
                builder.udp(sport, dport).write(&mut packet, &payload)
            }
            .expect("a Vec takes all");
            packet
        },
    );
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let mutated = (built, changes, any::<prop::sample::Index>(), any::<bool>());
    let mutated = mutated.prop_map(|(mut packet, changes, end, is_cut)| {
        for (at, value) in changes {
            let at = at.index(packet.len());
            packet[at] = value;
        }
        if is_cut {
            packet.truncate(end.index(packet.len()));
        }
        packet
    });
    prop_oneof![1 => prop::collection::vec(any::<u8>(), 0..120), 8 => mutated]
}

/// Filters of what libpcap makes its many instructions of.
fn filter() -> impl Strategy<Value = String> {
    let term = prop_oneof![
        prop::sample::select(vec![
            "ip",
            "ip6",
            "arp",
            "tcp",
            "udp",
            "icmp",
            "icmp6",
            "vlan",
            "ip multicast",
            "ether broadcast",
            "less 60",
            "greater 90",
            "portrange 50-100",
            "ip proto 47",
            "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
            "ip[6:2] & 0x1fff = 0",
            "ip[2:2] - ((ip[0] & 0xf) << 2) > 40",
            "udp[4:2] / 2 = len % 50",
            "len % 3 = 1",
            "ether[0] * 3 >> 1 < 200",
            "ip[ip[9]:4] != -ip[1]",
            "ip[0] ^ ip[8] | 3 > ip[9]",
        ])
        .prop_map(str::to_owned),
        (0..3u8).prop_map(|host| format!("host 10.0.0.{host}")),
        any::<[u8; 2]>().prop_map(|[a, b]| format!("net {}.0.0.0/8 and not src host {b}.0.0.1", a.max(1))),
        any::<u16>().prop_map(|port| format!("src port {port} or dst port {}", port ^ 0x50)),
        any::<bool>().prop_map(|is_tcp| format!("{} port 80", if is_tcp { "tcp" } else { "udp" })),
        (0..120u8, any::<u8>()).prop_map(|(at, value)| format!("ether[{at}:1] >= {value}")),
    ];
    prop::collection::vec((term, any::<[bool; 2]>()), 1..4).prop_map(|terms| {
        terms.into_iter().fold(String::new(), |all, (term, [is_or, is_not])| {
            let term = if is_not { format!("not ({term})") } else { format!("({term})") };
            match (all.as_str(), is_or) {
                ("", _) => term,
                (_, true) => format!("({all}) or {term}"),
                (_, false) => format!("({all}) and {term}"),
            }
        })
    })
}

fn any_instruction() -> impl Strategy<Value = Instruction> {
    let code = prop_oneof![
        6 => prop::sample::select(vec![
            0x00u16, 0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0x60, 0x80, 0x01, 0x61, 0x81, 0xb1, 0x02, 0x03, 0x04, 0x0c,
            0x14, 0x1c, 0x24, 0x2c, 0x34, 0x3c, 0x44, 0x54, 0x64, 0x6c, 0x74, 0x7c, 0x84, 0x94, 0x9c, 0xa4, 0xac, 0x05,
            0x15, 0x1d, 0x25, 0x2d, 0x35, 0x45, 0x06, 0x16, 0x07, 0x87,
        ]),
        1 => any::<u16>(),
    ];
    let k = prop_oneof![4 => 0..20u32, 1 => any::<u32>()];
    (code, 0..4u8, 0..4u8, k).prop_map(|(code, jt, jf, k)| instruction(code, jt, jf, k))
}

proptest! {
    #[test]
    fn matches_what_libpcap_matches(filter in filter(), packets in prop::collection::vec(packet(), 1..40)) {
        let (program, reference) = compile(&filter);
        for packet in packets {
            prop_assert_eq!(program.matches(&packet[..].into()), reference.filter(&packet), "{} {:?}", filter, packet);
        }
    }

    /// Where the packet's front lies apart it is the same packet.
    #[test]
    fn two_places_are_as_one(filter in filter(), packet in packet(), at in any::<prop::sample::Index>()) {
        let (program, _) = compile(&filter);
        let (front, rest) = packet.split_at(at.index(packet.len() + 1));
        prop_assert_eq!(program.matches(&Packet { front, rest }), program.matches(&packet[..].into()));
    }

    /// Whatever the instructions, they are refused or end, for whatever bytes.
    #[test]
    fn no_program_goes_wrong(
        mut program in prop::collection::vec(any_instruction(), 0..40),
        packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 1..8),
    ) {
        program.push(RETURN);
        if let Ok(program) = Program::new(&program) {
            for packet in packets {
                program.run(&packet[..].into());
            }
        }
    }
}
