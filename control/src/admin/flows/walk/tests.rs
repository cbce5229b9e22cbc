use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use margay_flowtable::{Direction, FlowAction, FlowKey, Hit, Insert, Timeouts};
use proptest::prelude::*;

use super::*;
use crate::admin::flows::asked::Filter;

/// A table that counts, with a connection for each number: what it has carried in packets of 100 bytes.
fn table(carried: &[u64]) -> (Arc<FlowTable>, Vec<Hit>) {
    let table = FlowTable::new(4096, [1, 2, 3, 4], Timeouts::default()).with_accounting();
    let hits = carried.iter().enumerate().map(|(n, packets)| {
        let hit = enter(&table, n as u32);
        (0..*packets).for_each(|_| table.count(&hit, 100));
        hit
    });
    let hits = hits.collect();
    (Arc::new(table), hits)
}

fn key(n: u32) -> FlowKey {
    FlowKey { src: 0x0a00_0000 + n, dst: 0x0a01_0001, sport: 4000 + (n % 7) as u16, dport: 80, protocol: 17 }
}

fn enter(table: &FlowTable, n: u32) -> Hit {
    let (key, action) = (key(n), FlowAction { next_hop: 0, generation: 0, flags: 0 });
    match table.insert(&key, table.hash(&key), [action; 2].into(), n, 0, 0) {
        Insert::New(hit) => hit,
        other => panic!("{other:?}"),
    }
}

fn walk(table: &Arc<FlowTable>, sort: Option<Sort>, limit: usize) -> Walk {
    let filter = Filter::default();
    Walk { table: Arc::clone(table), filter, sort, rates: false, cursor: None, limit }
}

/// Which connections are on the page, and the next page, where there is one.
fn page(mut walk: Walk) -> (Vec<u32>, Option<Walk>) {
    let found = walk.run().expect("the table counts");
    let number = |met: &Met| match met.flow.key {
        margay_flowtable::AnyKey::V4(key) => key.src - 0x0a00_0000,
        margay_flowtable::AnyKey::V6(_) => panic!("of another family"),
    };
    walk.cursor = found.next;
    (found.met.iter().map(number).collect(), found.next.map(|_| walk))
}

fn pages(first: Walk) -> Vec<u32> {
    let (mut all, mut next) = page(first);
    while let Some(walk) = next {
        let (more, after) = page(walk);
        assert!(!more.is_empty(), "a page that was told of has something on it");
        all.extend(more);
        next = after;
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Pages of any size are what sorting all of them gives, equal ones included.
    #[test]
    fn pages_are_the_sorted_whole(carried in prop::collection::vec(0u64..6, 0..60), limit in 1usize..20) {
        let (table, _) = table(&carried);
        for sort in [Sort::Bytes, Sort::Packets] {
            let all = pages(walk(&table, Some(sort), limit));
            let numbers: Vec<u64> = all.iter().map(|n| carried[*n as usize]).collect();
            prop_assert!(numbers.is_sorted_by(|a, b| a >= b), "{:?}", numbers);
            prop_assert_eq!(all.iter().copied().collect::<HashSet<_>>().len(), carried.len());
            prop_assert_eq!(all.len(), carried.len());
        }
    }

    /// A connection that lives throughout is on one page, whatever comes and goes between them.
    #[test]
    fn pages_have_what_stays_once(stays in 1u32..200, leaves in 0u32..200, limit in 1usize..40) {
        let (table, hits) = table(&vec![0; (stays + leaves) as usize]);
        let mut next = Some(walk(&table, None, limit));
        let mut met: BTreeMap<u32, u32> = BTreeMap::new();
        let mut gone = hits.iter().skip(stays as usize);
        let mut fresh = 1000..;
        while let Some(walk) = next {
            let (numbers, after) = page(walk);
            for n in numbers {
                *met.entry(n).or_default() += 1;
            }
            gone.by_ref().take(3).for_each(|hit| assert!(table.remove(hit.flow)));
            for n in fresh.by_ref().take(2).filter(|n| *n < 1100) {
                enter(&table, n);
            }
            next = after;
        }
        for n in 0..stays {
            prop_assert_eq!(met.get(&n), Some(&1), "{}", n);
        }
    }
}

#[test]
fn only_what_the_filter_wants_is_met_and_counted() {
    let (table, _) = table(&[1; 70]);
    let met = |filter| {
        let found = Walk { filter, ..walk(&table, Some(Sort::Bytes), 100) }.run().unwrap();
        assert_eq!(found.matched, Some(found.met.len() as u64));
        found.met.len()
    };
    let all = Filter::default;
    assert_eq!(met(all()), 70);
    assert_eq!(met(Filter { port: Some(4003), ..all() }), 10);
    assert_eq!(met(Filter { port: Some(80), ..all() }), 70);
    assert_eq!(met(Filter { protocol: Some(6), ..all() }), 0);
    assert_eq!(met(Filter { state: Some("UNREPLIED"), ..all() }), 70);
    assert_eq!(met(Filter { state: Some("DENIED"), ..all() }), 0);
    assert_eq!(met(Filter { net: Some("10.0.0.0/29".parse().unwrap()), ..all() }), 8);
    assert_eq!(met(Filter { net: Some("10.1.0.0/16".parse().unwrap()), ..all() }), 70);
}

#[test]
fn the_rate_is_what_came_between_two_looks_not_what_came_before() {
    let (table, hits) = table(&[500, 0, 300]);
    let ends = Arc::new(AtomicBool::new(false));
    let sender = thread::spawn({
        let (table, ends, hit) = (Arc::clone(&table), Arc::clone(&ends), hits[1]);
        move || {
            while !ends.load(Relaxed) {
                table.count_way(hit.flow, Direction::Reply, 100);
                thread::sleep(Duration::from_millis(1));
            }
        }
    });
    let found = walk(&table, Some(Sort::Rate), 2).run().unwrap();
    ends.store(true, Relaxed);
    sender.join().unwrap();
    let rates: Vec<_> =
        found.met.iter().map(|met| (met.flow.flow, met.rate.unwrap().packets > 0.0)).collect();
    assert_eq!(rates, [(hits[1].flow, true), (hits[0].flow, false)]);
    assert!(found.next.is_some() && found.measured.is_some());
}

#[test]
fn counts_that_begin_anew_are_not_taken_for_a_flood() {
    let flow = table(&[0]).1[0].flow;
    let look = |bytes, packets| Look { flow, bytes, packets };
    assert_eq!(look(900, 9).since(Some(&look(700, 7))), (2, 200));
    assert_eq!(look(100, 1).since(Some(&look(700, 7))), (1, 100));
    assert_eq!(look(100, 3).since(Some(&look(0, u32::MAX))), (4, 100));
    assert_eq!(look(900, 9).since(None), (9, 900));
}

#[test]
fn a_table_that_does_not_count_is_not_sorted_by_counts() {
    let table = Arc::new(FlowTable::new(16, [1, 2, 3, 4], Timeouts::default()));
    let why = walk(&table, Some(Sort::Bytes), 1).run().unwrap_err();
    assert!(format!("{why:?}").contains("flow_table.accounting"), "{why:?}");
    enter(&table, 7);
    assert_eq!(pages(walk(&table, None, 1)), [7]);
}
