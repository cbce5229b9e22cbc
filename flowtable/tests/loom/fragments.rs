//! Datagrams in fragments, whose fragments come to several workers at once.

use loom::thread;
use margay_encap::{Part, Transport};
use margay_flowtable::{DatagramKey, Fragments, Placed};
use std::net::Ipv4Addr;
use std::sync::Arc;

use super::model;

fn key(n: u16) -> DatagramKey {
    let [src, dst] = [u32::from(n), 9].map(|address| Ipv4Addr::from_bits(address).into());
    DatagramKey::new(src, dst, n.into(), 17)
}

const fn transport(n: u16) -> Transport {
    Transport { ports_ne: n as u32, icmp_type: 0, icmp_code: 0 }
}

/// A fragment of this datagram, from one unit to another.
fn place(table: &Fragments, n: u16, from: u32, to: u32, is_last: bool, now: u64) -> Placed {
    let part = Part { offset: from * 8, len: (to - from) * 8, is_last };
    table.place(&key(n), part, (from == 0).then_some(transport(n)), now)
}

/// The first fragment and a later one of a datagram at once: both are of one, and whoever came early learns the rest.
#[test]
fn one_datagram_begins_on_two_workers() {
    model(3, || {
        let table = Arc::new(Fragments::new(8, [1, 2], 30));
        let other = Arc::clone(&table);
        let first = thread::spawn(move || place(&other, 1, 0, 2, false, 0));
        let later = place(&table, 1, 2, 4, false, 0);
        assert_eq!(first.join().unwrap(), Placed::Known(transport(1)));
        assert_eq!(table.len(), 1);
        match later {
            Placed::Known(known) => assert_eq!(known, transport(1)),
            Placed::Early(at) => assert_eq!(table.transport(at), Placed::Known(transport(1))),
            other => panic!("{other:?}"),
        }
        assert_eq!(place(&table, 1, 4, 5, true, 0), Placed::Known(transport(1)));
        assert!(table.is_empty(), "every byte has been counted");
    });
}

/// Fragments that overlap, the larger one over two words: one of them passes at most.
#[test]
fn of_two_that_overlap_one_passes_at_most() {
    model(3, || {
        let table = Arc::new(Fragments::new(8, [1, 2], 30));
        place(&table, 1, 0, 1, false, 0);
        let other = Arc::clone(&table);
        let wide = thread::spawn(move || place(&other, 1, 30, 34, false, 0));
        let narrow = place(&table, 1, 33, 34, false, 0);
        let passed = [wide.join().unwrap(), narrow].into_iter().filter(|placed| *placed != Placed::Overlaps);
        assert!(passed.count() <= 1);
    });
}

/// A second end, and bytes beyond the first one, at once: the datagram never counts as whole.
#[test]
fn an_end_and_what_lies_beyond_it_contradict_each_other() {
    model(3, || {
        let table = Arc::new(Fragments::new(8, [1, 2], 30));
        place(&table, 1, 0, 2, false, 0);
        let other = Arc::clone(&table);
        let end = thread::spawn(move || place(&other, 1, 2, 3, true, 0));
        let beyond = place(&table, 1, 3, 4, false, 0);
        let end = end.join().unwrap();
        // Where the end came first the datagram was whole, and what lies beyond began another.
        assert!(
            end == Placed::Overlaps
                || beyond == Placed::Overlaps
                || matches!(beyond, Placed::Early(_) | Placed::Gone)
        );
    });
}

/// A datagram takes the slot of another while a fragment of that one comes in: neither is of the other.
#[test]
fn a_datagram_that_gives_way_leaves_nothing_behind() {
    model(3, || {
        let table = Arc::new(Fragments::new(1, [1, 2], 30));
        place(&table, 1, 0, 1, false, 0);
        let other = Arc::clone(&table);
        let late = thread::spawn(move || place(&other, 1, 1, 3, false, 2000));
        let new = place(&table, 2, 0, 2, false, 2000);
        let late = late.join().unwrap();
        let is_own = |placed: Placed, n| match placed {
            Placed::Known(known) => known == transport(n),
            Placed::Early(_) => n == 1,
            Placed::Full | Placed::Gone => true,
            Placed::Overlaps => false,
        };
        assert!(is_own(late, 1) && is_own(new, 2), "{late:?} {new:?}");
        assert!(table.len() <= 1);
        if new == Placed::Known(transport(2)) && matches!(late, Placed::Gone | Placed::Known(_)) {
            let rest = place(&table, 2, 2, 4, true, 2000);
            assert_eq!(rest, Placed::Known(transport(2)), "no bit of the other is in its way");
            assert!(table.is_empty());
        }
    });
}

/// Two datagrams begin at once where one has its slot free: each is whole, or is refused.
#[test]
fn two_datagrams_begin_for_one_slot() {
    model(3, || {
        let table = Arc::new(Fragments::new(1, [1, 2], 30));
        let other = Arc::clone(&table);
        let one = thread::spawn(move || place(&other, 1, 0, 1, false, 0));
        let two = place(&table, 2, 0, 1, false, 0);
        let placed = [one.join().unwrap(), two];
        let known = [1, 2].map(|n| Placed::Known(transport(n)));
        assert_eq!(placed.iter().zip(known).filter(|(placed, known)| *placed == known).count(), 1);
        assert!(placed.contains(&Placed::Full));
        assert_eq!(table.len(), 1);
    });
}
