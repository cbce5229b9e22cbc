//! A flood of SYNs from random sources at a full table: established connections are found throughout, and every SYN is
//! counted as what became of it.

#![cfg(not(loom))]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use margay_encap::tcp::flags::{ACK, SYN};
use margay_flowtable::table::Insert;
use margay_flowtable::{CtStatus, FlowAction, FlowKey, FlowTable, SweepCursor, Timeouts};

const ESTABLISHED: u32 = 100_000;
const FLOOD: u32 = 2_000_000;
const ACTION: FlowAction = FlowAction { next_hop: 1, generation: 1, flags: 0 };
const SERVER: u32 = 0x0a00_0001;

fn insert(table: &FlowTable, key: &FlowKey, now: u32) -> Insert {
    table.insert(key, table.hash(key), [ACTION; 2].into(), key.dst, SYN, now)
}

fn observe(table: &FlowTable, key: &FlowKey, flags: u8, now: u32) -> Option<CtStatus> {
    let hit = table.lookup(key, table.hash(key), 1)?;
    Some(table.observe(&hit, flags, now))
}

fn client(number: u32) -> FlowKey {
    FlowKey { src: 0x0b00_0000 | number, dst: SERVER, sport: 1000, dport: 443, protocol: 6 }
}

/// The nth SYN of the flood: every one from another source (an odd factor permutes the numbers).
fn attacker(number: u32) -> FlowKey {
    let source = number.wrapping_mul(0x9e37_79b1);
    FlowKey { src: source, dst: SERVER + 1, sport: 2000, dport: 80, protocol: 6 }
}

fn establish(table: &FlowTable, key: &FlowKey) {
    assert!(matches!(insert(table, key, 0), Insert::New(_)));
    assert_eq!(observe(table, &key.reversed(), SYN | ACK, 0), Some(CtStatus::Tracked));
    assert_eq!(observe(table, key, ACK, 0), Some(CtStatus::Tracked));
}

/// What became of the flood: inserted, refused for want of a slot, refused for the share.
fn flood(table: &FlowTable, from: u32, count: u32) -> [u64; 3] {
    let mut sums = [0; 3];
    for number in from..from + count {
        match insert(table, &attacker(number), 0) {
            Insert::New(_) => sums[0] += 1,
            Insert::Exists(hit) => panic!("{hit:?}: every source is another"),
            Insert::Full => sums[1] += 1,
            Insert::ShareSpent => sums[2] += 1,
        }
    }
    sums
}

fn all_found(table: &FlowTable) -> bool {
    let each = |number| {
        let key = client(number);
        let back = key.reversed();
        observe(table, &key, ACK, 1) == Some(CtStatus::Tracked)
            && observe(table, &back, ACK, 1) == Some(CtStatus::Tracked)
    };
    (0..ESTABLISHED).all(each)
}

#[test]
fn established_connections_outlive_a_flood() {
    let table = FlowTable::new(ESTABLISHED + 20_000, [3, 1, 4, 1], Timeouts::default());
    (0..ESTABLISHED).for_each(|number| establish(&table, &client(number)));
    let floods = AtomicBool::new(true);
    let [new, full, share] = thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while floods.load(Ordering::Relaxed) {
                assert!(all_found(&table));
            }
        });
        let sums = flood(&table, 0, FLOOD);
        floods.store(false, Ordering::Relaxed);
        watcher.join().expect("its assertions hold");
        sums
    });
    assert_eq!((new + full + share, share), (u64::from(FLOOD), 0));
    assert_eq!(table.len() as u64, u64::from(ESTABLISHED) + new - table.evicted());
    assert_eq!(table.len(), table.capacity());
    // Refused where the hand has come to nothing but established connections: it goes on from there.
    assert!(full < u64::from(FLOOD) / 100, "{full}: a sixth of the table is there to be evicted");
    assert!(all_found(&table));
    // Who wants to connect meanwhile can: a connection has a round of the hand to complete its handshake.
    for number in ESTABLISHED..ESTABLISHED + 1000 {
        let key = client(number);
        assert!((0..100).any(|_| matches!(insert(&table, &key, 1), Insert::New(_))), "after some tries");
        flood(&table, FLOOD + 10 * number, 10);
        assert_eq!(observe(&table, &key.reversed(), SYN | ACK, 1), Some(CtStatus::Tracked));
        assert_eq!(observe(&table, &key, ACK, 1), Some(CtStatus::Tracked));
    }
    // 20 s later what has not been completed is gone.
    let mut cursor = SweepCursor::default();
    while !table.sweep(&mut cursor, 22_999, 1, 1000).done {}
    assert_eq!(table.len() as u32, ESTABLISHED + 1000);
    assert!(all_found(&table));
}

#[test]
fn a_flood_at_one_endpoint_spends_its_share_alone() {
    let table = FlowTable::new(40_000, [3, 1, 4, 1], Timeouts::default()).with_share(10_000);
    let [new, full, share] = flood(&table, 0, 100_000);
    // Its own connections make room for its own.
    assert_eq!((new + share, full), (100_000, 0));
    assert!(share < 1000, "{share}");
    assert_eq!((table.len(), table.share_held(SERVER + 1)), (10_000, 10_000));
    assert_eq!(table.evicted(), new - 10_000);
    (0..10_000).for_each(|number| establish(&table, &client(number)));
    assert_eq!(insert(&table, &client(10_000), 0), Insert::ShareSpent, "all of its connections are assured");
    assert_eq!(table.share_held(SERVER), 10_000);
}
