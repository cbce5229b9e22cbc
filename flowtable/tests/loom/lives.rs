//! The life of a connection: lookup and update against its end and the slot's next life.

use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::sync::{Arc, OnceLock};

use loom::thread;
use margay_flowtable::table::{Insert, SweepCursor};
use margay_flowtable::{AnyKey, CtStatus, Direction, FlowAction, FlowKey, FlowKey6, Key};

use super::*;

/// A lookup never finds one connection's entry under another's key, and what it found cannot be turned against the
/// slot's next connection.
#[test]
fn lookup_and_update_against_remove_and_reuse() {
    model(3, || {
        let table = table(1);
        let (k, l) = (key(&table, 0), key(&table, 1));
        let flow = new(insert(&table, &k)).flow;
        let other = thread::spawn({
            let table = Arc::clone(&table);
            move || {
                assert!(table.remove(flow));
                // The only slot: the insert reuses it.
                new(insert(&table, &l));
            }
        });
        if let Some(hit) = lookup(&table, &k) {
            assert_eq!(hit.flow, flow);
            table.set_action(&hit, 99, 2);
            table.observe(&hit, 0, 30);
            table.renew(flow, judged(&k, 1, 2));
        }
        lookup(&table, &l.reversed());
        other.join().unwrap();
        assert_eq!(lookup(&table, &k), None);
        assert_eq!(lookup(&table, &l).expect("present").state.last_seen, 0);
        assert!(!table.remove(flow));
        check_holds(&table, &[l]);
    });
}

/// What a walk meets is one connection's, whole, whatever becomes of its slot meanwhile.
#[test]
fn walk_against_remove_and_reuse() {
    model(2, || {
        let table = table(1);
        let (k, l) = (key(&table, 0), key(&table, 1));
        let flow = new(insert(&table, &k)).flow;
        let other = thread::spawn({
            let table = Arc::clone(&table);
            move || {
                assert!(table.remove(flow));
                new(insert(&table, &l));
            }
        });
        let walk = |keys: &[FlowKey]| {
            let met: Vec<_> = table.flows().collect();
            for met in &met {
                let key =
                    *keys.iter().find(|key| AnyKey::from(**key) == met.key).expect("a key of the table's");
                assert_eq!(
                    met.next_hops,
                    [action(&key), action(&key.reversed())].map(|action| action.next_hop)
                );
                assert_eq!(met.trails.ids(), trails(&key, 0));
                assert_eq!(met.state.last_seen, 0);
            }
            met.len()
        };
        walk(&[k, l]);
        other.join().unwrap();
        assert_eq!(walk(&[l]), 1);
        check_holds(&table, &[l]);
    });
}

/// The same of IPv6, where an entry's words are those of the key that its slot has next: the addresses beside it tell the
/// two apart.
#[test]
fn lookup_of_ipv6_against_remove_and_reuse_by_a_key_with_the_same_words() {
    let found = OnceLock::new();
    model(2, move || {
        let table = Arc::new(FlowTable::new(1, [1, 2, 3, 4], Timeouts::default()).with_ipv6());
        let (k, l) = *found.get_or_init(|| alike(&table));
        let insert = |table: &FlowTable, key: &FlowKey6, next_hop| {
            let action = FlowAction { next_hop, generation: 1, flags: 0 };
            new(table.insert(key, table.hash(key), [action; 2].into(), 1, 0, 0)).flow
        };
        let flow = insert(&table, &k, 10);
        let other = thread::spawn({
            let table = Arc::clone(&table);
            move || {
                assert!(table.remove(flow));
                insert(&table, &l, 20);
            }
        });
        if let Some(hit) = table.lookup(&k, table.hash(&k), 1) {
            assert_eq!(hit.action.next_hop, 10);
        }
        if let Some(key) = table.original_key(flow) {
            assert_eq!(key, k.into());
        }
        other.join().unwrap();
        assert!(table.lookup(&k, table.hash(&k), 1).is_none());
        assert!(table.lookup(&l, table.hash(&l), 1).is_some());
    });
}

/// Two keys of which the table's entries have the same words.
fn alike(table: &FlowTable) -> (FlowKey6, FlowKey6) {
    let key = |n: u64| FlowKey6 {
        src: Ipv6Addr::from_bits(n.into()),
        dst: Ipv6Addr::LOCALHOST,
        sport: 1,
        dport: 80,
        protocol: 17,
    };
    let mut seen = HashMap::new();
    let pair =
        (0..1 << 20).find_map(|n| seen.insert(table.hash(&key(n)), n).map(|before| (key(before), key(n))));
    pair.expect("a birthday")
}

/// Who looks a connection up while it is judged again sees its old trails or its new ones.
#[test]
fn trails_change_under_a_lookup() {
    model(3, || {
        let table = table(1);
        let k = key(&table, 0);
        let flow = new(insert(&table, &k)).flow;
        let other = thread::spawn({
            let table = Arc::clone(&table);
            move || assert!(table.renew(flow, judged(&k, 1, 2)))
        });
        let found = |key: &FlowKey| table.lookup(key, table.hash(key), 2).expect("present").trails.ids();
        for key in [k, k.reversed()] {
            assert!([trails(&k, 0), trails(&k, 1)].contains(&found(&key)));
        }
        other.join().unwrap();
        assert_eq!([found(&k), found(&k.reversed())], [trails(&k, 1); 2]);
    });
}

/// Two workers judge a connection again by different snapshots: the trails are in the end those of the generation that
/// the action has, which is nearly always the later one's (where its one try has failed, its next packet tries again).
#[test]
fn trails_stay_those_of_the_action() {
    model(3, || {
        let table = table(1);
        let k = key(&table, 0);
        let flow = new(insert(&table, &k)).flow;
        let other = thread::spawn({
            let table = Arc::clone(&table);
            move || assert!(table.renew(flow, judged(&k, 1, 2)))
        });
        assert!(table.renew(flow, judged(&k, 2, 3)));
        other.join().unwrap();
        for key in [k, k.reversed()] {
            let hit = table.lookup(&key, table.hash(&key), 3).expect("present");
            assert_eq!(hit.trails.ids(), trails(&k, hit.action.generation - 1));
        }
    });
}

fn update_against_expiry(from_reply: bool) {
    model(3, move || {
        let table = table(1);
        let k = key(&table, 0);
        new(insert(&table, &k));
        let sweeper = thread::spawn({
            let table = Arc::clone(&table);
            move || table.sweep(&mut SweepCursor::default(), 61_000, 1, 100).expired
        });
        let mine = if from_reply { k.reversed() } else { k };
        let seen = lookup(&table, &mine).map(|hit| table.observe(&hit, 0, 50));
        let expired = sweeper.join().unwrap();
        match seen {
            Some(CtStatus::Tracked) => assert_eq!(expired, 0, "a packet at 50 keeps it until 110"),
            Some(CtStatus::Gone) | None => assert_eq!(expired, 1),
            Some(CtStatus::Reopen) => panic!("no TCP"),
        }
        check_holds(&table, if expired == 0 { std::slice::from_ref(&k) } else { &[] });
    });
}

#[test]
fn update_by_original_against_expiry() {
    update_against_expiry(false);
}

#[test]
fn update_by_reply_against_expiry() {
    update_against_expiry(true);
}

/// Packets of both directions step a connection at once: no flag is lost.
#[test]
fn updates_from_both_sides() {
    model(3, || {
        let table = table(1);
        let k = FlowKey { protocol: 6, ..key(&table, 0) };
        let (syn, ack) = (2, 16);
        table.insert(&k, table.hash(&k), judged(&k, 0, 1), k.src, syn, 0);
        let replier = thread::spawn({
            let table = Arc::clone(&table);
            move || {
                let hit = lookup(&table, &k.reversed()).expect("present");
                assert_eq!(table.observe(&hit, syn | ack, 1), CtStatus::Tracked);
            }
        });
        let hit = lookup(&table, &k).expect("present");
        assert_eq!(table.observe(&hit, ack, 2), CtStatus::Tracked);
        replier.join().unwrap();
        let state = lookup(&table, &k).expect("present").state;
        assert!(state.is_established() && state.last_seen == 2, "{state:?}");
    });
}

/// A connection that nobody removes is found throughout, in the bucket next to its home too.
#[test]
fn lookup_while_the_home_bucket_churns() {
    model(3, || {
        let table = table(4);
        let keys: Vec<_> = (0..4).map(|n| key(&table, n)).collect();
        let first = new(insert(&table, &keys[0])).flow;
        new(insert(&table, &keys[1]));
        new(insert(&table, &keys[2]));
        let other = thread::spawn({
            let (table, late) = (Arc::clone(&table), keys[3]);
            move || {
                assert!(table.remove(first));
                new(insert(&table, &late));
            }
        });
        assert!(lookup(&table, &keys[2]).is_some() && lookup(&table, &keys[2].reversed()).is_some());
        other.join().unwrap();
        check_holds(&table, &keys[1..]);
    });
}

/// An insert meets the connection that is being removed, or makes a new one.
#[test]
fn insert_against_remove() {
    model(3, || {
        let table = table(2);
        let k = key(&table, 0);
        let flow = new(insert(&table, &k)).flow;
        let other = thread::spawn({
            let table = Arc::clone(&table);
            move || assert!(table.remove(flow))
        });
        let result = insert(&table, &k.reversed());
        other.join().unwrap();
        match result {
            Insert::New(hit) => {
                assert_ne!(hit.flow, flow);
                check_holds(&table, &[k]);
            }
            Insert::Exists(hit) => {
                assert_eq!(hit.flow, flow);
                check_holds(&table, &[]);
            }
            Insert::Full | Insert::ShareSpent => panic!("there is a second slot"),
        }
    });
}

#[test]
fn removes_of_one_connection() {
    model(3, || {
        let table = table(2);
        let k = key(&table, 0);
        let flow = new(insert(&table, &k)).flow;
        let other = thread::spawn({
            let table = Arc::clone(&table);
            move || table.remove(flow)
        });
        assert!(table.remove(flow) != other.join().unwrap(), "one of them removed it");
        check_holds(&table, &[]);
    });
}

/// While one thread has read the head of the free stack and its link, another takes two slots and gives the first one
/// back: the head is the same slot, the link is not.
#[test]
fn free_stack_whose_head_came_back() {
    model(3, || {
        let table = table(3);
        let keys: Vec<_> = (0..3).map(|n| key(&table, n)).collect();
        let other = thread::spawn({
            let table = Arc::clone(&table);
            let (l, m) = (keys[1], keys[2]);
            move || {
                let flow = new(insert(&table, &l)).flow;
                new(insert(&table, &m));
                assert!(table.remove(flow));
            }
        });
        new(insert(&table, &keys[0]));
        other.join().unwrap();
        check_holds(&table, &[keys[0], keys[2]]);
    });
}

/// While a connection is being ended its Reply half may still be found, whole, when its Original half is gone; not when
/// that is done.
#[test]
fn lookups_of_both_directions_while_it_ends() {
    model(3, || {
        let table = table(1);
        let k = key(&table, 0);
        let flow = new(insert(&table, &k)).flow;
        let other = thread::spawn({
            let table = Arc::clone(&table);
            move || assert!(table.remove(flow))
        });
        // What is found is the key's own, as `lookup` asserts, in either direction and any order.
        for key in [k, k.reversed(), k] {
            lookup(&table, &key);
        }
        other.join().unwrap();
        assert!(lookup(&table, &k.reversed()).is_none());
        check_holds(&table, &[]);
    });
}

/// A packet that comes late counts for its own connection or for none, whatever has become of the slot; what it costs the
/// next connection is at most what that one counted meanwhile.
#[test]
fn counts_against_remove_and_reuse() {
    model(3, || {
        let table = Arc::new(FlowTable::new(1, [1, 2, 3, 4], Timeouts::default()).with_accounting());
        let (k, l) = (key(&table, 0), key(&table, 1));
        let first = new(insert(&table, &k));
        table.count(&first, 1000);
        let other = thread::spawn({
            let table = Arc::clone(&table);
            move || {
                assert!(table.remove(first.flow));
                let next = new(insert(&table, &l));
                table.count(&next, 7);
                next
            }
        });
        table.count(&first, 1000);
        if let Some(counts) = table.counts(first.flow) {
            assert!(counts.original.packets <= 2 && counts.original.bytes % 1000 == 0, "{counts:?}");
        }
        let next = other.join().unwrap();
        table.count(&next, 7);
        let counts = table.counts(next.flow).expect("present").original;
        assert!((1..=2).contains(&counts.packets) && [7, 14].contains(&counts.bytes), "{counts:?}");
        assert_eq!(table.counts(first.flow), None);
    });
}

/// Each direction counts for itself, and loses nothing to the other.
#[test]
fn directions_are_counted_apart() {
    model(3, || {
        let table = Arc::new(FlowTable::new(1, [1, 2, 3, 4], Timeouts::default()).with_accounting());
        let k = key(&table, 0);
        let flow = new(insert(&table, &k)).flow;
        let replier = thread::spawn({
            let table = Arc::clone(&table);
            move || (0..2).for_each(|_| table.count_way(flow, Direction::Reply, 5))
        });
        (0..2).for_each(|_| table.count_way(flow, Direction::Original, 3));
        replier.join().unwrap();
        let counts = table.counts(flow).expect("present");
        let seen = [counts.original, counts.reply].map(|way| (way.packets, way.bytes));
        assert_eq!(seen, [(2, 6), (2, 10)]);
    });
}
