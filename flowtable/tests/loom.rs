//! Models of the flow table's atomic protocols: loom runs each through its interleavings, and through what the memory
//! model lets each load see. `RUSTFLAGS="--cfg loom" cargo test -p margay-flowtable --release --test loom`
//!
//! Under loom a bucket has two words and a hash two buckets, so that a few connections meet every case.

#![cfg(loom)]

use std::sync::Arc;

use loom::thread;
use margay_flowtable::table::{FlowAction, FlowTable, Hit, Insert, SweepCursor};
use margay_flowtable::{CtStatus, FlowKey, Timeouts};

/// Explores every schedule with at most so many switches away from a thread that could have gone on.
fn model(preemptions: usize, test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000;
    builder.check(test);
}

fn table(connections: u32) -> Arc<FlowTable> {
    Arc::new(FlowTable::new(connections, [1, 2, 3, 4], Timeouts::default()))
}

/// The nth UDP key whose home is the table's first bucket (of as many as it has connections).
fn key(table: &FlowTable, n: usize) -> FlowKey {
    let buckets = table.capacity().max(2) as u128;
    let at = |sport| FlowKey { src: 1, dst: 2, sport, dport: 53, protocol: 17 };
    let home = |key: &FlowKey| (u128::from(table.hash(key)) * buckets) >> 64;
    (1..).map(at).filter(|key| home(key) == 0).nth(n).expect("keys enough")
}

/// An action that tells which key and which direction it was made for.
fn action(key: &FlowKey) -> FlowAction {
    FlowAction { next_hop: u32::from(key.sport), generation: 1, flags: key.sport }
}

fn insert(table: &FlowTable, key: &FlowKey) -> Insert {
    table.insert(key, table.hash(key), [action(key), action(&key.reversed())], key.src, 0, 0)
}

fn lookup(table: &FlowTable, key: &FlowKey) -> Option<Hit> {
    let hit = table.lookup(key, table.hash(key), 1);
    if let Some(hit) = hit {
        assert_eq!(hit.action, action(key), "what a lookup finds is the key's own, whole");
    }
    hit
}

fn new(insert: Insert) -> Hit {
    match insert {
        Insert::New(hit) => hit,
        other => panic!("{other:?}"),
    }
}

/// The table holds these connections and no other, and can take as many more as it has room for.
fn check_holds(table: &FlowTable, keys: &[FlowKey]) {
    assert_eq!(table.len(), keys.len());
    let mut flows: Vec<_> = keys.iter().map(|key| lookup(table, key).expect("present").flow).collect();
    for (key, flow) in keys.iter().zip(&flows) {
        assert_eq!(lookup(table, &key.reversed()).expect("present").flow, *flow);
    }
    let more: Vec<_> = (keys.len()..table.capacity()).map(|n| FlowKey { src: 9, ..key(table, n) }).collect();
    flows.extend(more.iter().map(|key| new(insert(table, key)).flow));
    // Packets of both directions, and another in a later second, assure each, so that none makes room.
    for key in keys.iter().chain(&more) {
        for (key, later) in [(*key, 0), (key.reversed(), 0), (*key, 1)] {
            let hit = lookup(table, &key).expect("present");
            assert_eq!(table.observe(&hit, 0, hit.state.last_seen + later), CtStatus::Tracked);
        }
    }
    assert_eq!(insert(table, &FlowKey { src: 10, ..key(table, 0) }), Insert::Full, "no slot was made");
    for flow in &flows {
        assert!(table.remove(*flow), "every slot is held once");
        assert!(!table.remove(*flow));
    }
    assert!(table.is_empty());
}

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
        new(table.insert(&k, table.hash(&k), [action(&k), action(&k.reversed())], k.src, ack, 0));
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
        table.insert(&k, table.hash(&k), [action(&k), action(&k.reversed())], k.src, fin | ack, 0);
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
            table.renew(flow, action(&k), action(&k.reversed()));
        }
        lookup(&table, &l.reversed());
        other.join().unwrap();
        assert_eq!(lookup(&table, &k), None);
        assert_eq!(lookup(&table, &l).expect("present").state.last_seen, 0);
        assert!(!table.remove(flow));
        check_holds(&table, &[l]);
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
        table.insert(&k, table.hash(&k), [action(&k), action(&k.reversed())], k.src, syn, 0);
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
