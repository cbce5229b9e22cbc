//! Conntrack against a model that keeps every packet, and Calico's times one by one.

#![cfg(not(loom))]

use margay_encap::tcp::flags as tcp;
use margay_flowtable::conntrack::{CtState, Direction, Timeouts};
use proptest::collection::vec;
use proptest::prelude::*;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const SYN_ACK: u8 = tcp::SYN | tcp::ACK;

type Packet = (Direction, u8, u32);

/// What the packets of each side have had together.
fn sent(packets: &[Packet], direction: Direction, flag: u8) -> bool {
    // A packet without flags says no less than an ACK.
    let flags = |flags| if flags == 0 { tcp::ACK } else { flags };
    packets.iter().any(|(way, each, _)| *way == direction && flags(*each) & flag != 0)
}

/// Whether a TCP connection of these packets is established.
fn model_established(packets: &[Packet]) -> bool {
    let by = |direction, flag| sent(packets, direction, flag);
    let each = |flag| by(Direction::Original, flag) && by(Direction::Reply, flag);
    match packets[0].1 & (SYN_ACK | tcp::FIN | tcp::RST) {
        tcp::SYN => each(tcp::SYN) && each(tcp::ACK),
        // Met in the middle; a SYN of the same side puts that in doubt until the other speaks.
        tcp::ACK | 0 if packets[0].1 == 0 || packets[0].1 & tcp::ACK != 0 => {
            !by(Direction::Original, tcp::SYN) || by(Direction::Reply, tcp::ACK)
        }
        // Met as it began or ended.
        _ => by(Direction::Reply, tcp::ACK),
    }
}

fn model_closed(packets: &[Packet]) -> bool {
    let by = |direction, flag| sent(packets, direction, flag);
    by(Direction::Original, tcp::FIN) && by(Direction::Reply, tcp::FIN)
        || by(Direction::Original, tcp::RST)
        || by(Direction::Reply, tcp::RST)
}

fn model_assured(protocol: u8, packets: &[Packet]) -> bool {
    let spoke_before = |direction, at: usize| packets[..at].iter().any(|packet| packet.0 == direction);
    match protocol {
        TCP => {
            model_established(packets) && sent(packets, Direction::Reply, tcp::ACK) && !model_closed(packets)
        }
        ICMP => false,
        _ => (1..packets.len()).any(|at| {
            let is_later = packets[at].2 > packets[at - 1].2;
            is_later && spoke_before(Direction::Original, at) && spoke_before(Direction::Reply, at)
        }),
    }
}

/// Seconds that a connection of these packets is kept after the last, told from all of them at once.
fn model_timeout(protocol: u8, packets: &[Packet]) -> u32 {
    let sent = |direction, flag| sent(packets, direction, flag);
    let each = |flag| sent(Direction::Original, flag) && sent(Direction::Reply, flag);
    let established = model_established(packets);
    match protocol {
        TCP => {
            let mut limits = vec![if established { 3600 } else { 20 }];
            if each(tcp::FIN) {
                limits.push(120);
            }
            if sent(Direction::Original, tcp::RST) || sent(Direction::Reply, tcp::RST) {
                limits.push(40);
            }
            limits.into_iter().min().expect("one at least")
        }
        UDP => 60,
        ICMP => 5,
        _ => 600,
    }
}

fn run(protocol: u8, packets: &[Packet]) -> CtState {
    let (_, first, at) = packets[0];
    packets[1..].iter().fold(CtState::first(protocol, first, at), |state, (direction, flags, now)| {
        state.step(*direction, if protocol == TCP { *flags } else { 0 }, *now)
    })
}

fn packet() -> impl Strategy<Value = (bool, u8, u32)> {
    // Bytes of flags, whole and sparse: a random byte alone would set RST in every other packet.
    let flags =
        prop_oneof![Just(tcp::ACK), Just(SYN_ACK), Just(tcp::SYN), Just(tcp::FIN | tcp::ACK), any::<u8>()];
    (any::<bool>(), flags, 0..30u32)
}

proptest! {
    #[test]
    fn equals_the_model(protocol in prop_oneof![Just(TCP), Just(UDP), Just(ICMP), Just(132u8)], steps in vec(packet(), 1..12)) {
        let mut now = 100;
        let mut packets: Vec<Packet> = Vec::new();
        for (reply, flags, later) in steps {
            now += later;
            let direction = if reply && !packets.is_empty() { Direction::Reply } else { Direction::Original };
            packets.push((direction, flags, now));
        }
        let state = run(protocol, &packets);
        let limit = model_timeout(protocol, &packets);
        prop_assert_eq!(state.last_seen, now);
        prop_assert_eq!(Timeouts::default().of(protocol, state), limit);
        prop_assert_eq!(state.is_assured(protocol), model_assured(protocol, &packets));
        prop_assert!(!Timeouts::default().expired(protocol, state, now + limit));
        prop_assert!(Timeouts::default().expired(protocol, state, now + limit + 1));
    }
}

#[test]
fn a_connection_through_its_life() {
    use Direction::{Original, Reply};
    let steps = [
        (Original, tcp::SYN, 20, "SYN"),
        (Reply, SYN_ACK, 20, "SYN+ACK"),
        (Original, tcp::ACK, 3600, "established"),
        (Reply, tcp::ACK, 3600, "data"),
        (Original, tcp::FIN | tcp::ACK, 3600, "one side has finished"),
        (Reply, tcp::FIN | tcp::ACK, 120, "both have"),
        (Original, tcp::RST, 40, "reset"),
    ];
    let mut state = CtState::first(TCP, tcp::SYN, 0);
    for (direction, flags, kept, what) in steps {
        state = state.step(direction, flags, 0);
        assert_eq!(Timeouts::default().of(TCP, state), kept, "{what}");
        assert_eq!(state.is_closed(), kept < 3600 && state.is_established(), "{what}");
    }
}

#[test]
fn first_packets() {
    for (flags, established, closed, what) in [
        (tcp::SYN, false, false, "opens"),
        (tcp::ACK, true, false, "met in the middle"),
        (tcp::FIN | tcp::ACK, false, false, "met at the end"),
        (tcp::RST, false, true, "met as it was reset"),
        (SYN_ACK, false, false, "answers a SYN that went another way"),
    ] {
        let state = CtState::first(TCP, flags, 0);
        assert_eq!((state.is_established(), state.is_closed()), (established, closed), "{what}");
        assert!(!state.is_assured(TCP), "{what}: nobody has answered");
    }
    let answered = CtState::first(TCP, SYN_ACK, 0).step(Direction::Reply, tcp::ACK, 0);
    assert!(answered.is_established());
}

/// Both sides send a SYN before either has the other's.
#[test]
fn simultaneous_open() {
    use Direction::{Original, Reply};
    let mut state = CtState::first(TCP, tcp::SYN, 0);
    for (direction, flags, established) in
        [(Reply, tcp::SYN, false), (Original, SYN_ACK, false), (Reply, SYN_ACK, true)]
    {
        state = state.step(direction, flags, 0);
        assert_eq!((state.is_established(), state.is_assured(TCP)), (established, established));
    }
}

/// The first packet of the other side assures TCP that was met established; of other protocols only a connection that
/// goes on after its answer is assured, and ICMP never.
#[test]
fn what_assures() {
    for (protocol, flags, at_once, later) in
        [(TCP, tcp::ACK, true, true), (UDP, 0, false, true), (132, 0, false, true), (ICMP, 0, false, false)]
    {
        let spoken = CtState::first(protocol, flags, 0).step(Direction::Original, flags, 1);
        assert!(!spoken.is_assured(protocol), "{protocol}: nobody has answered");
        let answered = spoken.step(Direction::Reply, flags, 2).step(Direction::Original, flags, 2);
        assert_eq!(answered.is_assured(protocol), at_once, "{protocol}");
        assert_eq!(answered.step(Direction::Reply, flags, 3).is_assured(protocol), later, "{protocol}");
    }
}

#[test]
fn clocks_that_differ_expire_nothing() {
    let state = CtState::first(UDP, 0, 100).step(Direction::Reply, 0, 99);
    assert_eq!(state.last_seen, 100);
    assert!(!Timeouts::default().expired(UDP, state, 98));
}
