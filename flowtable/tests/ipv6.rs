//! Connections of IPv6 in the flow table, where their entries do not tell them apart.

#![cfg(not(loom))]

use std::net::Ipv6Addr;

use hashbrown::HashMap;
use margay_flowtable::table::Insert;
use margay_flowtable::{AnyKey, FlowAction, FlowKey6, FlowTable, Key, Timeouts};

const TCP: u8 = 6;

/// An entry has 32 bits of an IPv6 address: of a few hundred thousand some are the same, and nobody is taken for another.
#[test]
fn connections_of_ipv6_whose_entries_look_the_same_are_apart() {
    let table = FlowTable::new(4, [1, 2, 3, 4], Timeouts::default()).with_ipv6();
    let key = |n: u64| FlowKey6 {
        src: Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(n)),
        dst: Ipv6Addr::from_bits(0xfd01 << 112),
        sport: 1,
        dport: 80,
        protocol: TCP,
    };
    let mut seen = HashMap::new();
    let (a, b) = (0..1 << 20)
        .find_map(|n| seen.insert(table.hash(&key(n)), n).map(|before| (key(before), key(n))))
        .expect("a birthday");
    let action = |next_hop| FlowAction { next_hop, generation: 0, flags: 0 };
    let insert = |key, next_hop| {
        table.insert(&key, table.hash(&key), [action(next_hop), action(next_hop + 1)].into(), 1, 16, 0)
    };
    let found = |key: FlowKey6| table.lookup(&key, table.hash(&key), 0).map(|hit| hit.action.next_hop);
    let Insert::New(first) = insert(a, 10) else { panic!("full") };
    assert_eq!([a, a.reversed(), b, b.reversed()].map(found), [Some(10), Some(11), None, None]);
    let query = table.query_key(&b);
    assert!(table.fetch_key(&query, &b, 0).is_none());
    assert!(matches!(insert(b, 20), Insert::New(_)));
    let both = [a, a.reversed(), b, b.reversed()].map(found);
    assert_eq!(both, [Some(10), Some(11), Some(20), Some(21)]);
    assert!(table.remove(first.flow));
    assert_eq!([a, a.reversed(), b, b.reversed()].map(found), [None, None, Some(20), Some(21)]);
    assert_eq!(table.flows().map(|flow| flow.key).collect::<Vec<_>>(), [AnyKey::from(b)]);
}

#[test]
fn a_table_without_ipv6_takes_none() {
    let table = FlowTable::new(4, [1, 2, 3, 4], Timeouts::default());
    let key =
        FlowKey6 { src: Ipv6Addr::LOCALHOST, dst: Ipv6Addr::LOCALHOST, sport: 1, dport: 2, protocol: TCP };
    let action = FlowAction { next_hop: 0, generation: 0, flags: 0 };
    assert_eq!(table.insert(&key, table.hash(&key), [action; 2].into(), 1, 0, 0), Insert::Full);
    assert!(table.is_empty());
}
