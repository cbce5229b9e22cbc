//! The flow table against a map that is obviously right, over random operations.

#![cfg(not(loom))]

use std::net::Ipv6Addr;

use hashbrown::HashMap;
use margay_flowtable::table::Insert;
use margay_flowtable::{
    AnyKey, CtState, CtStatus, Direction, EndedFlow, FlowAction, FlowCounts, FlowEnd, FlowKey, FlowKey6,
    FlowRef, FlowTable, Judged, Key, RuleId, SweepCursor, Timeouts, TrailId,
};
use proptest::collection::vec;
use proptest::prelude::*;

const UDP: u8 = 17;
const TCP: u8 = 6;

#[derive(Clone, Debug)]
enum Op {
    Insert(AnyKey, u8),
    Lookup(AnyKey),
    Remove(AnyKey),
    Observe(AnyKey, u8),
    Renew(AnyKey),
    Wait(u32),
    Sweep,
}

/// Of both families: few addresses and ports, so that keys, their reverses and keys that are their own reverse meet.
fn key() -> impl Strategy<Value = AnyKey> {
    let protocol = prop_oneof![Just(TCP), Just(UDP), Just(1u8), Just(132)];
    (any::<bool>(), 0..3u32, 0..3u32, 0..4u16, 0..4u16, protocol).prop_map(
        |(is_v4, src, dst, sport, dport, protocol)| {
            if is_v4 {
                FlowKey { src, dst, sport, dport, protocol }.into()
            } else {
                let [src, dst] = [src, dst].map(|end| Ipv6Addr::from_bits(end.into()));
                FlowKey6 { src, dst, sport, dport, protocol }.into()
            }
        },
    )
}

/// The source, or of IPv6 the last bits of it.
fn src(key: &AnyKey) -> u32 {
    match key {
        AnyKey::V4(key) => key.src,
        AnyKey::V6(key) => key.src.to_bits() as u32,
    }
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (key(), any::<u8>()).prop_map(|(key, flags)| Op::Insert(key, flags)),
        4 => key().prop_map(Op::Lookup),
        2 => key().prop_map(Op::Remove),
        4 => (key(), any::<u8>()).prop_map(|(key, flags)| Op::Observe(key, flags)),
        2 => key().prop_map(Op::Renew),
        1 => (0..80u32).prop_map(Op::Wait),
        1 => Just(Op::Sweep),
    ]
}

#[derive(Clone, Copy)]
struct Entry {
    flow: FlowRef,
    judged: Judged,
    state: CtState,
    counts: FlowCounts,
}

/// The table and what it should hold, by Original key.
struct Pair {
    table: FlowTable,
    oracle: HashMap<AnyKey, Entry>,
    /// Connections that the step at hand has ended.
    ended: Vec<(AnyKey, Entry, FlowEnd)>,
    /// Connections of one source at most.
    share: u32,
    cursor: SweepCursor,
    now: u32,
    generation: u32,
}

impl Pair {
    fn new(connections: u32, share: u32) -> Self {
        Self {
            table: FlowTable::new(connections, [7, 8, 9, 10], Timeouts::default())
                .with_share(share)
                .with_accounting()
                .with_ends(64)
                .with_ipv6(),
            share,
            oracle: HashMap::new(),
            ended: Vec::new(),
            cursor: SweepCursor::default(),
            now: 1000,
            generation: 0xffff_fff0,
        }
    }

    /// The connection that a key belongs to, and which way.
    fn find(&self, key: &AnyKey) -> Option<(AnyKey, Direction)> {
        if self.oracle.contains_key(key) {
            return Some((*key, Direction::Original));
        }
        let reversed = key.reversed();
        self.oracle.contains_key(&reversed).then_some((reversed, Direction::Reply))
    }

    fn action(&self, key: &AnyKey, direction: Direction) -> FlowAction {
        FlowAction {
            next_hop: self.generation.wrapping_mul(31).wrapping_add(src(key)) % FlowAction::NEXT_HOPS,
            generation: self.generation,
            flags: direction as u16,
        }
    }

    fn judged(&self, key: &AnyKey) -> Judged {
        let actions = [self.action(key, Direction::Original), self.action(key, Direction::Reply)];
        let rule = RuleId(self.generation.wrapping_mul(37).wrapping_add(src(key)) % TrailId::RULES);
        let trails = if self.generation.is_multiple_of(3) {
            [RuleId::NONE, rule]
        } else {
            [rule, RuleId(src(&key.reversed()))]
        };
        Judged { actions, trails: trails.map(TrailId::from) }
    }

    fn lookup(&self, key: &AnyKey) -> Option<margay_flowtable::Hit> {
        let hash = self.table.hash(key);
        let hit = self.table.lookup(key, hash, self.generation);
        let expected = self.find(key);
        assert_eq!(hit.is_some(), expected.is_some(), "{key:?}");
        let (hit, (original, direction)) = (hit?, expected?);
        let entry = &self.oracle[&original];
        assert_eq!((hit.flow, hit.direction), (entry.flow, direction));
        assert_eq!(
            (hit.action, hit.trails.ids()),
            (entry.judged.actions[direction as usize], entry.judged.trails)
        );
        assert_eq!(self.table.original_key(hit.flow), Some(original));
        assert_eq!(self.table.counts(hit.flow), Some(entry.counts));
        Some(hit)
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Insert(key, flags) => self.insert(key, *flags),
            Op::Lookup(key) => _ = self.lookup(key),
            Op::Remove(key) => {
                if let Some(hit) = self.lookup(key) {
                    let (original, _) = self.find(key).expect("the lookup found it");
                    self.end(&original, FlowEnd::Removed);
                    assert!(self.table.remove(hit.flow) && !self.table.remove(hit.flow));
                }
            }
            Op::Observe(key, flags) => self.observe(key, *flags),
            Op::Renew(key) => self.renew(key),
            Op::Wait(seconds) => self.now += seconds,
            Op::Sweep => {
                let now = u64::from(self.now) * 1000 + 999;
                while !self.table.sweep(&mut self.cursor, now, self.generation, 3).done {}
                let now = self.now;
                let expired = |(key, entry): (&AnyKey, &Entry)| {
                    Timeouts::default().expired(key.protocol(), entry.state, now).then_some(*key)
                };
                let expired: Vec<AnyKey> = self.oracle.iter().filter_map(expired).collect();
                for key in &expired {
                    self.end(key, FlowEnd::Expired);
                }
            }
        }
        assert_eq!(self.table.len(), self.oracle.len());
        self.check_ended();
    }

    fn end(&mut self, key: &AnyKey, why: FlowEnd) {
        let entry = self.oracle.remove(key).expect("it stood in the table");
        self.ended.push((*key, entry, why));
    }

    /// Every connection that has ended is told of once, with what it was and what it carried.
    fn check_ended(&mut self) {
        let mut told: HashMap<AnyKey, EndedFlow> =
            self.table.ended().map(|ended| (ended.key, ended)).collect();
        assert_eq!(told.len(), self.ended.len());
        for (key, entry, why) in self.ended.drain(..) {
            let ended = told.remove(&key).expect("told");
            assert_eq!((ended.why, ended.state, ended.counts), (why, entry.state, Some(entry.counts)));
            assert_eq!(
                (ended.next_hop, ended.trails),
                (entry.judged.actions[0].next_hop, entry.judged.trails)
            );
        }
        assert_eq!(self.table.ends_lost(), 0);
    }

    fn insert(&mut self, key: &AnyKey, flags: u8) {
        let judged = self.judged(key);
        let flags = if key.protocol() == TCP { flags } else { 0 };
        let evicted = self.table.evicted();
        match self.table.insert(key, self.table.hash(key), judged, src(key), flags, self.now) {
            Insert::New(hit) => {
                assert!(self.find(key).is_none());
                self.make_room(src(key), self.table.evicted() - evicted);
                let state = CtState::first(key.protocol(), flags, self.now);
                assert_eq!(
                    (hit.action, hit.trails.ids(), hit.state),
                    (judged.actions[0], judged.trails, state)
                );
                let counts = FlowCounts { started: self.now, ..FlowCounts::default() };
                self.oracle.insert(*key, Entry { flow: hit.flow, judged, state, counts });
            }
            Insert::Exists(hit) => assert_eq!(self.lookup(key), Some(hit)),
            Insert::Full => {
                assert!(self.oracle.len() == self.table.capacity() && self.held(src(key)) < self.share);
                assert!(self.may_go(None).is_empty());
            }
            Insert::ShareSpent => {
                assert_eq!(self.held(src(key)), self.share);
                assert!(self.may_go(Some(src(key))).is_empty());
            }
        }
    }

    fn held(&self, owner: u32) -> u32 {
        self.oracle.keys().filter(|key| src(key) == owner).count() as u32
    }

    /// Connections that are not assured, of this owner if one is given.
    fn may_go(&self, owner: Option<u32>) -> Vec<AnyKey> {
        let may_go = |(key, entry): (&AnyKey, &Entry)| {
            let may_go =
                owner.is_none_or(|owner| src(key) == owner) && !entry.state.is_assured(key.protocol());
            may_go.then_some(*key)
        };
        self.oracle.iter().filter_map(may_go).collect()
    }

    /// An insert of this owner has evicted so many: one that may go, where there was no room.
    fn make_room(&mut self, owner: u32, evicted: u64) {
        let share_spent = self.held(owner) == self.share;
        assert_eq!(evicted, u64::from(share_spent || self.oracle.len() == self.table.capacity()));
        let may_go = self.may_go(share_spent.then_some(owner));
        let is_gone = |key: &AnyKey| self.table.lookup(key, self.table.hash(key), 0).is_none();
        let gone: Vec<AnyKey> = may_go.into_iter().filter(is_gone).collect();
        assert_eq!(gone.len() as u64, evicted);
        for key in &gone {
            self.end(key, FlowEnd::Evicted);
        }
    }

    fn observe(&mut self, key: &AnyKey, flags: u8) {
        let Some(hit) = self.lookup(key) else { return };
        let (original, direction) = self.find(key).expect("the lookup found it");
        let flags = if key.protocol() == TCP { flags } else { 0 };
        let entry = self.oracle.get_mut(&original).expect("found");
        let opens = flags & 0x17 == 0x02;
        let status = self.table.observe(&hit, flags, self.now);
        if Timeouts::default().expired(key.protocol(), entry.state, self.now) {
            assert_eq!(status, CtStatus::Gone);
            self.end(&original, FlowEnd::Expired);
        } else if opens && entry.state.is_closed() {
            assert_eq!(status, CtStatus::Reopen);
        } else {
            assert_eq!(status, CtStatus::Tracked);
            entry.state = entry.state.step(direction, flags, self.now);
            let traffic = match direction {
                Direction::Original => &mut entry.counts.original,
                Direction::Reply => &mut entry.counts.reply,
            };
            traffic.packets += 1;
            traffic.bytes += u64::from(flags);
            self.table.count(&hit, flags.into());
        }
    }

    fn renew(&mut self, key: &AnyKey) {
        self.generation = self.generation.wrapping_add(1);
        let Some(hit) = self.lookup(key) else { return };
        let (original, direction) = self.find(key).expect("the lookup found it");
        let judged = self.judged(&original);
        if key.ports().1.is_multiple_of(2) {
            assert!(self.table.renew(hit.flow, judged));
            self.oracle.get_mut(&original).expect("found").judged = judged;
            let generation = self.generation.wrapping_sub(1);
            let older = judged.actions.map(|action| FlowAction { generation, ..action });
            self.table.renew(hit.flow, older.into());
            assert_eq!(self.lookup(key).expect("present").trails.ids(), judged.trails, "never backwards");
        } else {
            let action = judged.actions[direction as usize];
            assert!(self.table.set_action(&hit, action.next_hop, action.generation));
            self.oracle.get_mut(&original).expect("found").judged.actions[direction as usize] = action;
            assert!(!self.table.set_action(&hit, 1, action.generation.wrapping_sub(1)), "never backwards");
        }
    }

    fn check_all(&self) {
        let mut flows = 0;
        for flow in self.table.flows() {
            let entry = &self.oracle[&flow.key];
            assert_eq!((flow.flow, flow.state), (entry.flow, entry.state));
            assert_eq!(flow.next_hops, entry.judged.actions.map(|action| action.next_hop));
            assert_eq!(flow.trails.ids(), entry.judged.trails);
            flows += 1;
        }
        assert_eq!(flows, self.oracle.len());
        assert!((0..3).all(|owner| self.table.share_held(owner) == self.held(owner)));
        for key in self.oracle.keys() {
            assert!(self.lookup(key).is_some() && self.lookup(&key.reversed()).is_some());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn equals_the_map(connections in 1..40u32, share in 1..40u32, ops in vec(op(), 1..300)) {
        let mut pair = Pair::new(connections, share);
        for op in &ops {
            pair.apply(op);
        }
        pair.check_all();
    }
}

#[test]
fn ends_that_find_no_room_are_counted() {
    let table = FlowTable::new(8, [1, 2, 3, 4], Timeouts::default()).with_ends(3);
    let action = FlowAction { next_hop: 0, generation: 0, flags: 0 };
    for sport in 0..5 {
        let key = FlowKey { src: 1, dst: 2, sport, dport: 80, protocol: TCP };
        let Insert::New(hit) = table.insert(&key, table.hash(&key), [action; 2].into(), 1, 0, 0) else {
            panic!("full")
        };
        assert!(table.remove(hit.flow));
    }
    let ended: Vec<u16> = table.ended().map(|ended| ended.key.ports().0).collect();
    assert_eq!((ended, table.ends_lost()), (vec![0, 1, 2], 2));
}

/// Every slot can be taken, a further insert is refused and changes nothing, and after a removal there is room for
/// one. The buckets are as full as they ever are, so this goes through displaced words too.
#[test]
fn a_full_table_refuses() {
    const CONNECTIONS: u32 = 20_000;
    let table = FlowTable::new(CONNECTIONS, [1, 2, 3, 4], Timeouts::default());
    let key = |n: u32| FlowKey { src: n, dst: 0x0a00_0001, sport: 1, dport: 80, protocol: TCP };
    let action = FlowAction { next_hop: 0, generation: 0, flags: 0 };
    let insert = |n| table.insert(&key(n), table.hash(&key(n)), [action; 2].into(), n, 16, 0);
    let lookup = |n| table.lookup(&key(n), table.hash(&key(n)), 0);
    let assure = |n: u32| {
        let key = key(n).reversed();
        table
            .lookup(&key, table.hash(&key), 0)
            .is_some_and(|hit| table.observe(&hit, 16, 0) == CtStatus::Tracked)
    };
    for turn in 0..3 {
        let flows: Vec<FlowRef> = (0..CONNECTIONS)
            .map(|n| match insert(n) {
                Insert::New(hit) => hit.flow,
                other => panic!("turn {turn}, connection {n}: {other:?}"),
            })
            .collect();
        assert!((0..CONNECTIONS).all(assure) && table.len() == table.capacity());
        // Each refusal has the eviction examine the next deadlines, and find that all are assured.
        assert!((0..40).all(|_| insert(CONNECTIONS) == Insert::Full));
        assert!(lookup(CONNECTIONS).is_none());
        assert!(table.remove(flows[17]));
        assert!(matches!(insert(CONNECTIONS), Insert::New(_)) && assure(CONNECTIONS));
        assert!(lookup(17).is_none() && lookup(CONNECTIONS).is_some());
        assert_eq!(insert(17), Insert::Full);
        for n in (0..=CONNECTIONS).filter(|n| *n != 17) {
            assert!(table.remove(lookup(n).expect("present").flow), "turn {turn}, connection {n}");
        }
        assert!(table.is_empty());
    }
}

#[test]
fn a_table_of_none_is_full() {
    let table = FlowTable::new(0, [0; 4], Timeouts::default());
    let key = FlowKey { src: 1, dst: 2, sport: 3, dport: 4, protocol: TCP };
    let action = FlowAction { next_hop: 0, generation: 0, flags: 0 };
    assert_eq!(table.insert(&key, table.hash(&key), [action; 2].into(), 1, 0, 0), Insert::Full);
    assert!(table.sweep(&mut SweepCursor::default(), 5000, 0, 10).done);
}

/// What decides policy cannot change under a connection.
#[test]
fn renew_refuses_other_flags() {
    let table = FlowTable::new(1, [0; 4], Timeouts::default());
    let key = FlowKey { src: 1, dst: 2, sport: 3, dport: 4, protocol: TCP };
    let action = FlowAction { next_hop: 5, generation: 1, flags: FlowAction::SRC_LOCAL };
    let Insert::New(hit) = table.insert(&key, table.hash(&key), [action; 2].into(), 1, 0, 0) else {
        panic!("full")
    };
    let later = FlowAction { next_hop: 6, generation: 2, ..action };
    assert!(!table.renew(hit.flow, [later, FlowAction { flags: 0, ..later }].into()));
    assert_eq!(table.lookup(&key, table.hash(&key), 2).expect("present").action, action);
    assert!(table.renew(hit.flow, [later; 2].into()));
    assert_eq!(table.lookup(&key, table.hash(&key), 2).expect("present").action, later);
}

/// A direction that is silent for ever so many snapshots never looks as if it had been confirmed lately.
#[test]
fn sweeps_keep_old_stamps_old() {
    let timeouts = Timeouts { tcp_established: u32::MAX, ..Timeouts::default() };
    let table = FlowTable::new(1, [0; 4], timeouts);
    let key = FlowKey { src: 1, dst: 2, sport: 3, dport: 4, protocol: TCP };
    let action = FlowAction { next_hop: 5, generation: 7, flags: 0 };
    assert!(matches!(table.insert(&key, table.hash(&key), [action; 2].into(), 1, 16, 0), Insert::New(_)));
    let mut cursor = SweepCursor::default();
    let mut generation: u32 = 7;
    for second in 1..100_000 {
        generation = generation.wrapping_add(10_007);
        while !table.sweep(&mut cursor, second * 1000, generation, 100).done {}
        for key in [key, key.reversed()] {
            let hit = table.lookup(&key, table.hash(&key), generation).expect("present");
            let age = generation.wrapping_sub(hit.action.generation);
            assert!((10_000..1 << 31).contains(&age), "{age} at {generation}");
        }
    }
}
