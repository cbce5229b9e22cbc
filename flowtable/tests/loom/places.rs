//! Who gets a place: inserts against inserts, eviction, expiry, shares.

use std::sync::Arc;

use loom::thread;
use margay_flowtable::table::{FlowTable, Insert, SweepCursor};
use margay_flowtable::{CtStatus, FlowKey, Timeouts};

use super::*;

/// Two inserts of one connection: one is new, and the other is told of it.
fn check_one_won(results: [Insert; 2]) {
    match results {
        [Insert::New(new), Insert::Exists(other)] | [Insert::Exists(other), Insert::New(new)] => {
            assert_eq!(new.flow, other.flow);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn inserts_of_one_key() {
    model(3, || {
        let table = table(2);
        let k = key(&table, 0);
        let other = thread::spawn({
            let table = Arc::clone(&table);
            move || insert(&table, &k)
        });
        check_one_won([insert(&table, &k), other.join().unwrap()]);
        check_holds(&table, &[k]);
    });
}

#[test]
fn inserts_of_a_key_and_its_reverse() {
    model(3, || {
        let table = table(2);
        let k = key(&table, 0);
        let other = thread::spawn({
            let table = Arc::clone(&table);
            move || insert(&table, &k.reversed())
        });
        check_one_won([insert(&table, &k), other.join().unwrap()]);
        check_holds(&table, &[k]);
    });
}

/// The later insert may find an earlier place than the one before it did: a connection there was removed between.
#[test]
fn inserts_of_one_key_where_a_place_becomes_empty() {
    model(3, || {
        let table = table(3);
        let (x, k) = (key(&table, 0), key(&table, 1));
        let in_the_way = new(insert(&table, &x)).flow;
        let other = thread::spawn({
            let table = Arc::clone(&table);
            move || {
                assert!(table.remove(in_the_way));
                insert(&table, &k)
            }
        });
        check_one_won([insert(&table, &k), other.join().unwrap()]);
        check_holds(&table, &[k]);
    });
}

/// The same where the home bucket is full, so that one insert goes to the next bucket and the other need not.
#[test]
fn inserts_of_one_key_in_two_buckets() {
    model(3, || {
        let table = table(4);
        let (x, y, k) = (key(&table, 0), key(&table, 1), key(&table, 2));
        new(insert(&table, &x));
        let in_the_way = new(insert(&table, &y)).flow;
        let other = thread::spawn({
            let table = Arc::clone(&table);
            move || {
                assert!(table.remove(in_the_way));
                insert(&table, &k)
            }
        });
        check_one_won([insert(&table, &k), other.join().unwrap()]);
        check_holds(&table, &[x, k]);
    });
}

#[test]
fn inserts_for_the_last_slot() {
    model(3, || {
        let table = table(1);
        let (k, l) = (key(&table, 0), key(&table, 1));
        let other = thread::spawn({
            let table = Arc::clone(&table);
            move || insert(&table, &l)
        });
        let results = (insert(&table, &k), other.join().unwrap());
        let holds_k = lookup(&table, &k).is_some();
        match results {
            (Insert::New(_), Insert::Full) => assert!(holds_k),
            (Insert::Full, Insert::New(_)) => assert!(!holds_k),
            // The later one has evicted the other.
            (Insert::New(_), Insert::New(_)) => assert_eq!(table.evicted(), 1),
            other => panic!("{other:?}"),
        }
        check_holds(&table, &[if holds_k { k } else { l }]);
    });
}

/// Two full tables' worth of inserts come to one connection that may go: one has its slot.
#[test]
fn evictions_of_one_connection() {
    model(3, || {
        let table = table(1);
        let keys: Vec<_> = (0..3).map(|n| key(&table, n)).collect();
        new(insert(&table, &keys[0]));
        let other = thread::spawn({
            let (table, l) = (Arc::clone(&table), keys[1]);
            move || insert(&table, &l)
        });
        let results = [insert(&table, &keys[2]), other.join().unwrap()];
        let made = results.iter().filter(|result| matches!(result, Insert::New(_))).count();
        assert_eq!((made as u64, lookup(&table, &keys[0])), (table.evicted(), None), "{results:?}");
        let held = keys.into_iter().find(|key| lookup(&table, key).is_some()).expect("one of the new ones");
        check_holds(&table, &[held]);
    });
}

/// A connection that a packet has assured is not evicted; one that was evicted first is told so.
#[test]
fn eviction_against_becoming_assured() {
    model(3, || {
        let table = table(1);
        // Met established, so that the first packet of the other side assures it.
        let (k, l) = (FlowKey { protocol: 6, ..key(&table, 0) }, key(&table, 1));
        let ack = 16;
        new(table.insert(&k, table.hash(&k), judged(&k, 0, 1), k.src, ack, 0));
        let other = thread::spawn({
            let table = Arc::clone(&table);
            move || insert(&table, &l)
        });
        let seen = lookup(&table, &k.reversed()).map(|hit| table.observe(&hit, ack, 1));
        let result = other.join().unwrap();
        if seen == Some(CtStatus::Tracked) {
            assert_eq!(result, Insert::Full);
            check_holds(&table, &[k]);
        } else {
            new(result);
            check_holds(&table, &[l]);
        }
    });
}

/// A sweeper moves a connection's deadline to what it has read while a packet shortens the connection's life: the next
/// pass that may remove it does.
#[test]
fn deadline_moved_against_life_shortened() {
    model(3, || {
        let table = table(1);
        let k = FlowKey { protocol: 6, ..key(&table, 0) };
        let (fin, rst, ack) = (1, 4, 16);
        // Met established, and so kept for an hour, but its deadline is that of a handshake.
        table.insert(&k, table.hash(&k), judged(&k, 0, 1), k.src, fin | ack, 0);
        let hit = lookup(&table, &k.reversed()).expect("present");
        table.observe(&hit, ack, 10);
        let sweeper = thread::spawn({
            let table = Arc::clone(&table);
            move || table.sweep(&mut SweepCursor::default(), 21_000, 1, 100).expired
        });
        let hit = lookup(&table, &k.reversed()).expect("present");
        assert_eq!(table.observe(&hit, rst, 21), CtStatus::Tracked);
        assert_eq!(sweeper.join().unwrap(), 0);
        // Reset at 21: kept to 61.
        assert_eq!(table.sweep(&mut SweepCursor::default(), 61_000, 1, 100).expired, 0);
        assert_eq!(table.sweep(&mut SweepCursor::default(), 62_000, 1, 100).expired, 1);
        assert!(table.is_empty());
    });
}

/// A sweeper moves the deadline of a connection that ends meanwhile, and whose slot another takes: the other's deadline
/// is its own.
#[test]
fn deadline_moved_against_remove_and_reuse() {
    model(3, || {
        let table = table(1);
        let (k, l) = (key(&table, 0), key(&table, 1));
        let hit = new(insert(&table, &k));
        // The packet has the sweep at 61 move the deadline to 111.
        assert_eq!(table.observe(&hit, 0, 50), CtStatus::Tracked);
        let sweeper = thread::spawn({
            let table = Arc::clone(&table);
            move || table.sweep(&mut SweepCursor::default(), 61_000, 1, 100).expired
        });
        assert!(table.remove(hit.flow));
        // Its first deadline is 61, the same word as its predecessor's.
        let made = insert(&table, &l);
        let expired = sweeper.join().unwrap();
        let removed = table.sweep(&mut SweepCursor::default(), 62_000, 1, 100).expired;
        assert_eq!(expired + removed, 1, "made {made:?}");
        assert!(table.is_empty());
    });
}

/// Two sweepers share one pass: what has expired is removed once, and nothing is left out.
#[test]
fn sweepers_of_one_pass() {
    model(3, || {
        let table = table(2);
        let (k, l) = (key(&table, 0), key(&table, 1));
        new(insert(&table, &k));
        new(insert(&table, &l));
        let other = thread::spawn({
            let table = Arc::clone(&table);
            move || table.sweep(&mut SweepCursor::default(), 61_000, 1, 100).expired
        });
        let mine = table.sweep(&mut SweepCursor::default(), 61_000, 1, 100).expired;
        assert_eq!(mine + other.join().unwrap(), 2);
        check_holds(&table, &[]);
    });
}

/// Of two inserts for the last connection of a share one is made (or evicts the other); a connection that ends in two
/// places at once is given back once.
#[test]
fn shares_count_each_connection_once() {
    model(3, || {
        let table = FlowTable::new(3, [1, 2, 3, 4], Timeouts::default()).with_share(2);
        let table = Arc::new(table);
        let keys: Vec<_> = (0..3).map(|n| key(&table, n)).collect();
        let first = new(insert(&table, &keys[0])).flow;
        let other = thread::spawn({
            let (table, l) = (Arc::clone(&table), keys[1]);
            move || {
                table.remove(first);
                insert(&table, &l)
            }
        });
        let mine = table.remove(first);
        let result = insert(&table, &keys[2]);
        let made = [result, other.join().unwrap()];
        assert!(made.iter().all(|insert| matches!(insert, Insert::New(_))), "{mine} {made:?}");
        assert_eq!((table.share_held(1), table.len()), (2, 2));
        for flow in table.flows().collect::<Vec<_>>() {
            assert!(table.remove(flow.flow));
        }
        assert_eq!(table.share_held(1), 0);
    });
}

/// Inserts that race for one place of a share, at a table with room.
#[test]
fn inserts_for_the_last_of_a_share() {
    model(3, || {
        let table = Arc::new(FlowTable::new(2, [1, 2, 3, 4], Timeouts::default()).with_share(1));
        let (k, l) = (key(&table, 0), key(&table, 1));
        let other = thread::spawn({
            let table = Arc::clone(&table);
            move || insert(&table, &l)
        });
        let results = [insert(&table, &k), other.join().unwrap()];
        let made = results.iter().filter(|result| matches!(result, Insert::New(_))).count();
        assert!(results.iter().all(|result| matches!(result, Insert::New(_) | Insert::ShareSpent)));
        assert_eq!(made as u64 - table.evicted(), 1, "{results:?}");
        assert_eq!((table.share_held(1), table.len()), (1, 1));
        for flow in table.flows().collect::<Vec<_>>() {
            assert!(table.remove(flow.flow));
        }
        assert_eq!(table.share_held(1), 0);
    });
}
