//! Models of the flow table's atomic protocols: loom runs each through its interleavings, and through what the memory
//! model lets each load see. `RUSTFLAGS="--cfg loom" cargo test -p margay-flowtable --release --test loom`
//!
//! Under loom a bucket has two words and a hash two buckets, so that a few connections meet every case.

#![cfg(loom)]

mod fragments;
mod lives;
mod places;
mod trails;

use std::sync::Arc;

use margay_flowtable::table::{FlowAction, FlowTable, Hit, Insert};
use margay_flowtable::{CtStatus, FlowKey, Judged, RuleId, Timeouts, TrailEra, TrailId, Trails};

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

/// The trails of a key's connection, of either direction, that has been judged so often.
fn trails(key: &FlowKey, times: u32) -> [TrailId; 2] {
    let end = u32::from(key.sport + key.dport);
    [RuleId(end), if times == 0 { RuleId::NONE } else { RuleId(end + times) }].map(TrailId::from)
}

/// What the connection of this Original key is judged to be.
fn judged(key: &FlowKey, times: u32, generation: u32) -> Judged {
    let actions = [action(key), action(&key.reversed())];
    Judged { actions: actions.map(|action| FlowAction { generation, ..action }), trails: trails(key, times) }
}

fn insert(table: &FlowTable, key: &FlowKey) -> Insert {
    table.insert(key, table.hash(key), judged(key, 0, 1), key.src, 0, 0)
}

fn lookup(table: &FlowTable, key: &FlowKey) -> Option<Hit> {
    let hit = table.lookup(key, table.hash(key), 1);
    if let Some(hit) = hit {
        assert_eq!(hit.action, action(key), "what a lookup finds is the key's own, whole");
        assert_eq!(hit.trails.ids(), trails(key, 0));
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
