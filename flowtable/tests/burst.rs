//! Lookup of bursts: the same as one by one, whatever the processor.

#![cfg(not(loom))]

use margay_flowtable::table::Insert;
use margay_flowtable::{FlowAction, FlowKey, FlowTable, Isa, Timeouts};

const CONNECTIONS: u32 = 5000;

fn key(n: u32) -> FlowKey {
    FlowKey { src: 0x0a00_0000 + n / 7, dst: 0x0a01_0000 + n % 11, sport: n as u16, dport: 53, protocol: 17 }
}

/// Half of the keys are there, in a table that has no more room; some of them in a bucket that is not their home.
#[test]
fn burst_finds_what_lookups_find() {
    for isa in [Isa::PORTABLE, Isa::best()] {
        let table = FlowTable::new(CONNECTIONS, [1, 2, 3, 4], Timeouts::default()).with_isa(isa);
        let action = FlowAction { next_hop: 1, generation: 9, flags: 0 };
        for n in 0..CONNECTIONS {
            let key = key(n);
            let inserted = table.insert(&key, table.hash(&key), [action; 2].into(), 1, 0, 0);
            assert!(matches!(inserted, Insert::New(_)));
        }
        let keys: Vec<FlowKey> =
            (0..2 * CONNECTIONS).map(|n| if n % 3 == 0 { key(n).reversed() } else { key(n) }).collect();
        let one_by_one: Vec<_> = keys.iter().map(|key| table.lookup(key, table.hash(key), 9)).collect();
        for length in [1, 63, 64, 65, keys.len()] {
            let mut hits = vec![None; keys.len()];
            for (keys, hits) in keys.chunks(length).zip(hits.chunks_mut(length)) {
                table.lookup_burst(keys, 9, hits);
            }
            assert_eq!(hits, one_by_one, "{} in bursts of {length}", isa.name());
        }
        assert_eq!(one_by_one.iter().flatten().count(), CONNECTIONS as usize);
    }
}

/// What a search has found may be gone, and another in its place, when it is fetched.
#[test]
fn removed_between_search_and_fetch_is_not_found() {
    for isa in [Isa::PORTABLE, Isa::best()] {
        let table = FlowTable::new(1, [1, 2, 3, 4], Timeouts::default()).with_isa(isa);
        let action = FlowAction { next_hop: 1, generation: 9, flags: 0 };
        let (first, second) = (key(1), key(2));
        let Insert::New(hit) = table.insert(&first, table.hash(&first), [action; 2].into(), 1, 0, 0) else {
            panic!("no room");
        };
        let mut queries = [table.query(first.words()), table.query(second.words())];
        table.search(&mut queries);
        assert_eq!(table.fetch(&queries[0], 9), Some(hit));
        assert!(table.remove(hit.flow));
        assert_eq!(table.fetch(&queries[0], 9), None);
        table.insert(&second, table.hash(&second), [action; 2].into(), 1, 0, 0);
        assert_eq!(queries.map(|query| table.fetch(&query, 9)), [None; 2]);
        table.search(&mut queries);
        assert_eq!(queries.map(|query| table.fetch(&query, 9).is_some()), [false, true]);
    }
}
