//! The table of datagrams in fragments: against a plain model, at its bounds, and under threads.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, Ordering};

use margay_encap::{Part, Transport};
use margay_flowtable::{DatagramKey, DatagramRef, Fragments, Placed};
use proptest::prelude::*;

const SECRET: [u64; 2] = [1, 2];
const TIMEOUT: u32 = 30;

fn from(sender: u32, n: u16) -> DatagramKey {
    let [src, dst] = [sender, 0x0a00_0002].map(|address| Ipv4Addr::from_bits(address).into());
    DatagramKey::new(src, dst, n.into(), 17)
}

fn key(n: u16) -> DatagramKey {
    from(0x0a00_0001, n)
}

fn of_ipv6(sender: u128, n: u32, protocol: u8) -> DatagramKey {
    DatagramKey::new(Ipv6Addr::from_bits(sender).into(), Ipv6Addr::LOCALHOST.into(), n, protocol)
}

/// The part of `len` units at a unit.
fn part(at: u32, len: u32, is_last: bool) -> Part {
    Part { offset: at * 8, len: len * 8, is_last }
}

fn transport(n: u16) -> Transport {
    Transport { ports_ne: u32::from(n) | 0x3500_0000, icmp_type: n as u8, icmp_code: (n >> 8) as u8 }
}

fn place(table: &Fragments, key: &DatagramKey, part: Part, now: u64) -> Placed {
    let first = (part.offset == 0).then(|| transport(key.identification as u16));
    table.place(key, part, first, now)
}

fn early(placed: Placed) -> DatagramRef {
    match placed {
        Placed::Early(at) => at,
        other => panic!("{other:?}"),
    }
}

#[test]
fn later_fragments_are_of_the_first_ones_flow_in_any_order() {
    let table = Fragments::new(16, SECRET, TIMEOUT);
    let known = Placed::Known(transport(7));
    assert_eq!(place(&table, &key(7), part(0, 185, false), 0), known);
    assert_eq!(place(&table, &key(7), part(185, 185, false), 1), known);
    assert_eq!(place(&table, &key(7), part(370, 3, true), 2), known);
    assert!(table.is_empty(), "it has come whole");

    let last = early(place(&table, &key(8), part(370, 3, true), 3));
    let middle = early(place(&table, &key(8), part(185, 185, false), 3));
    assert_eq!(table.transport(last), Placed::Early(last));
    assert_eq!(table.len(), 1);
    assert_eq!(place(&table, &key(8), part(0, 185, false), 4), Placed::Known(transport(8)));
    for at in [last, middle] {
        assert_eq!(table.transport(at), Placed::Known(transport(8)), "though it is whole");
    }
    assert!(table.is_empty());
}

#[test]
fn what_overlaps_or_contradicts_is_refused_and_the_rest_of_its_datagram() {
    let (whole, end) = (part(0, 10, false), part(20, 5, true));
    let spoils = [
        ("over both of two", part(5, 10, false)),
        ("one unit too many", part(19, 2, false)),
        ("ends beyond the end", part(24, 2, false)),
        ("lies beyond the end", part(25, 1, false)),
        ("a second end", part(11, 1, true)),
        ("a second end beyond", part(30, 1, true)),
        ("beyond every datagram", part(8191, 2, false)),
    ];
    for (n, (what, fragment)) in (1..).zip(spoils) {
        let table = Fragments::new(16, SECRET, TIMEOUT);
        for good in [whole, end] {
            assert_eq!(place(&table, &key(n), good, 0), Placed::Known(transport(n)));
        }
        assert_eq!(place(&table, &key(n), fragment, 1), Placed::Overlaps, "{what}");
        assert_eq!(place(&table, &key(n), part(15, 1, false), 2), Placed::Overlaps, "{what}: and the rest");
        assert_eq!(
            place(&table, &key(n), part(16, 1, false), 31_000),
            early_of(&table, n),
            "{what}: for 30 s"
        );
    }
}

/// What a later fragment of a datagram that begins with it gets.
fn early_of(table: &Fragments, n: u16) -> Placed {
    Placed::Early(early(place(table, &key(n), part(1000, 1, false), 31_000)))
}

#[test]
fn an_end_before_what_has_come_is_a_contradiction() {
    let table = Fragments::new(16, SECRET, TIMEOUT);
    place(&table, &key(1), part(0, 10, false), 0);
    place(&table, &key(1), part(40, 10, false), 0);
    assert_eq!(place(&table, &key(1), part(20, 5, true), 0), Placed::Overlaps);
}

#[test]
fn a_repeated_fragment_is_dropped_and_spoils_nothing() {
    let table = Fragments::new(16, SECRET, TIMEOUT);
    for now in 0..2 {
        let expected = if now == 0 { Placed::Known(transport(1)) } else { Placed::Overlaps };
        assert_eq!(place(&table, &key(1), part(0, 100, false), now), expected);
        assert_eq!(place(&table, &key(1), part(100, 100, false), now), expected);
    }
    assert_eq!(place(&table, &key(1), part(200, 1, true), 2), Placed::Known(transport(1)));
}

#[test]
fn the_last_bytes_of_the_longest_datagram_have_a_place() {
    let table = Fragments::new(1, SECRET, TIMEOUT);
    let parts = (0..8191).step_by(185).map(|at| part(at, 185.min(8191 - at), false));
    for part in parts {
        assert_eq!(place(&table, &key(1), part, 0), Placed::Known(transport(1)));
    }
    let last = Part { offset: 65_528, len: 7, is_last: true };
    assert_eq!(place(&table, &key(1), last, 0), Placed::Known(transport(1)));
    assert!(table.is_empty());
}

#[test]
fn families_senders_and_protocols_are_apart() {
    let table = Fragments::new(64, SECRET, TIMEOUT);
    let keys = [
        key(1),
        key(2),
        from(3, 1),
        DatagramKey { dst: 9, ..key(1) },
        DatagramKey { protocol: 1, ..key(1) },
        of_ipv6(1, 1, 17),
        of_ipv6(1, 0x0100_0001, 17),
        of_ipv6(1 << 64, 1, 17),
    ];
    for key in &keys {
        early(place(&table, key, part(1, 1, false), 0));
    }
    assert_eq!(table.len(), keys.len());
    assert_eq!(of_ipv6(1, 1, 17), of_ipv6(1, 1, 6));
}

#[test]
fn memory_is_bounded_and_the_oldest_gives_way_after_a_second() {
    const DATAGRAMS: u32 = 32;
    let table = Fragments::new(DATAGRAMS, SECRET, TIMEOUT);
    // A bucket may be full before the table is.
    let entered: Vec<u32> = (0..DATAGRAMS * 4)
        .filter(|n| place(&table, &from(n + 1, 1), part(0, 1, false), 0) != Placed::Full)
        .collect();
    assert_eq!(table.len(), DATAGRAMS as usize);
    assert_eq!(entered.len(), DATAGRAMS as usize);
    assert_eq!(place(&table, &from(1000, 1), part(0, 1, false), 900), Placed::Full);
    assert_eq!(
        place(&table, &from(entered[0] + 1, 1), part(1, 1, false), 900),
        Placed::Known(transport(1)),
        "who is in stays"
    );
    for n in 0..10 * DATAGRAMS {
        let placed = place(&table, &from(2000 + n, 1), part(0, 1, false), 2000 * u64::from(n + 1));
        assert_eq!(placed, Placed::Known(transport(1)));
        assert!(table.len() <= DATAGRAMS as usize);
    }
}

#[test]
fn a_datagram_that_came_whole_makes_room_at_once() {
    let table = Fragments::new(4, SECRET, TIMEOUT);
    for n in 0..1000 {
        let sender = from(1 + n, n as u16);
        let known = Placed::Known(transport(n as u16));
        assert_eq!(place(&table, &sender, part(0, 9, false), 0), known, "{n}");
        assert_eq!(place(&table, &sender, part(9, 9, true), 0), known, "{n}");
    }
    assert!(table.is_empty());
}

#[test]
fn what_waits_learns_though_the_datagram_begins_again() {
    let table = Fragments::new(64, SECRET, TIMEOUT);
    let waits = early(place(&table, &key(1), part(9, 9, true), 0));
    for n in 0..2 {
        assert_eq!(
            place(&table, &key(1), part(0, 9, false), n),
            Placed::Known(transport(1)),
            "whole, and again"
        );
    }
    assert_eq!(table.transport(waits), Placed::Known(transport(1)));
}

#[test]
fn no_sender_takes_more_than_its_share() {
    let table = Fragments::new(400, SECRET, TIMEOUT);
    let flood = |now| {
        (0..1000).filter(|n| place(&table, &from(1, *n), part(0, 1, false), now) != Placed::Full).count()
    };
    assert_eq!(flood(0), 100);
    assert_eq!(table.len(), 100);
    let others = (2..60).filter(|n| place(&table, &from(*n, 1), part(0, 1, false), 1) != Placed::Full);
    assert_eq!(others.count(), 58, "others find room");
    flood(5000);
    assert_eq!(table.len(), 158, "and keep it: the sender's own give way to the sender's");
}

#[test]
fn a_datagram_is_given_up_after_the_timeout() {
    let table = Fragments::new(16, SECRET, TIMEOUT);
    place(&table, &key(1), part(0, 10, false), 0);
    assert_eq!(place(&table, &key(1), part(10, 10, false), 29_000), Placed::Known(transport(1)));
    early(place(&table, &key(1), part(20, 10, false), 31_000));
    assert_eq!(table.len(), 2, "until another needs the slot");
}

/// A datagram as anyone would write it down.
#[derive(Clone, Default)]
struct Plain {
    come: Vec<bool>,
    end: Option<usize>,
    first: bool,
    spoilt: bool,
}

#[derive(Debug, PartialEq)]
enum Answer {
    Known,
    Early,
    Refused,
}

impl Plain {
    fn place(&mut self, at: usize, len: usize, is_last: bool) -> Answer {
        self.come.resize(self.come.len().max(at + len), false);
        let there = self.come[at..at + len].iter().filter(|there| **there).count();
        if there == len && !self.spoilt {
            return Answer::Refused;
        }
        let is_end = is_last.then_some(at + len);
        let contradicts =
            self.end.is_some() && is_last || self.end.or(is_end).is_some_and(|end| self.come.len() > end);
        if self.spoilt || there > 0 || contradicts {
            self.spoilt = true;
            return Answer::Refused;
        }
        self.come[at..at + len].fill(true);
        self.end = self.end.or(is_end);
        self.first |= at == 0;
        if self.first { Answer::Known } else { Answer::Early }
    }

    fn is_whole(&self) -> bool {
        !self.spoilt && self.end == Some(self.come.len()) && self.come.iter().all(|come| *come)
    }
}

proptest! {
    /// Any fragments of a few datagrams, in any order: the table answers as the model does.
    #[test]
    fn agrees_with_a_plain_model(
        fragments in prop::collection::vec((0..4_u16, 0..120_usize, 1..70_usize, prop::bool::weighted(0.2)), 0..200),
    ) {
        let (table, mut plain) = (Fragments::new(1024, SECRET, TIMEOUT), HashMap::<u16, Plain>::new());
        for (n, at, len, is_last) in fragments {
            let placed = place(&table, &key(n), part(at as u32, len as u32, is_last), 0);
            let datagram = plain.entry(n).or_default();
            let expected = datagram.place(at, len, is_last);
            let is_whole = datagram.is_whole();
            let answer = match placed {
                Placed::Known(known) => {
                    prop_assert_eq!(known, transport(n));
                    Answer::Known
                }
                Placed::Early(_) => Answer::Early,
                Placed::Overlaps => Answer::Refused,
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(answer, expected, "datagram {} at {} of {}", n, at, len);
            if is_whole {
                plain.remove(&n);
            }
            prop_assert_eq!(table.len(), plain.len());
        }
    }
}

/// Workers that see the fragments of the same datagrams, some of them twice, in orders of their own: each fragment is
/// let through by one of them at most, with its own datagram's transport, and what came early learns it.
#[test]
fn workers_share_datagrams() {
    const DATAGRAMS: u16 = 400;
    const PIECES: u32 = 12;
    let table = Fragments::new(2048, SECRET, TIMEOUT);
    let through: Vec<AtomicU32> = (0..u32::from(DATAGRAMS) * PIECES).map(|_| AtomicU32::new(0)).collect();
    std::thread::scope(|scope| {
        for worker in 0..3 {
            let (table, through) = (&table, &through);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(worker);
                let mut held = Vec::new();
                for group in 0..DATAGRAMS / 8 {
                    let mut pieces: Vec<(u16, u32)> = (0..8)
                        .flat_map(|n| (0..PIECES).map(move |piece| (group * 8 + n, piece)))
                        // Two of three: every fragment is seen by some worker, nearly all by two.
                        .filter(|(n, piece)| (u32::from(*n) + piece) % 3 != worker as u32)
                        .collect();
                    random.shuffle(&mut pieces);
                    for (n, piece) in pieces {
                        // The last never comes, so that the datagrams stay.
                        let fragment = part(piece * 100, 100, false);
                        let number = u32::from(n) * PIECES + piece;
                        match place(table, &from(u32::from(n) + 1, n), fragment, 0) {
                            Placed::Known(known) => {
                                assert_eq!(known, transport(n));
                                through[number as usize].fetch_add(1, Ordering::Relaxed);
                            }
                            Placed::Early(at) => {
                                through[number as usize].fetch_add(1, Ordering::Relaxed);
                                held.push((n, at));
                            }
                            Placed::Overlaps => {}
                            other => panic!("{other:?}"),
                        }
                    }
                }
                // What two saw at the same time may have spoilt a datagram: then for good.
                for (n, at) in held {
                    while matches!(table.transport(at), Placed::Early(_)) {
                        std::thread::yield_now();
                    }
                    let answer = table.transport(at);
                    assert!(
                        answer == Placed::Known(transport(n)) || answer == Placed::Overlaps,
                        "{answer:?}"
                    );
                }
            });
        }
    });
    assert!(through.iter().all(|through| through.load(Ordering::Relaxed) <= 1), "one went through twice");
    assert_eq!(table.len(), usize::from(DATAGRAMS), "each datagram is there once");
}
