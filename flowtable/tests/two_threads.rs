//! Two threads do random things to one full table, each to connections of its own, of which it keeps a model: every
//! verdict is checked against it. What a thread does not do to its connections, the other does: it evicts, sweeps, and
//! reads.
//!
//! What must hold at every moment: an assured connection that has not expired is found, in the state that its packets
//! have made; one that is not assured may be gone, but comes back as nothing else; a refusal says the truth.
//! `MARGAY_STRESS_SECONDS` says how long the stress goes on (a few seconds if it is not set).

#![cfg(not(loom))]

use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use hashbrown::HashMap;
use margay_encap::tcp::flags::{ACK, FIN, RST, SYN};
use margay_flowtable::table::Insert;
use margay_flowtable::{
    CtState, CtStatus, Direction, FlowAction, FlowKey, FlowRef, FlowTable, Hit, Judged, RuleId, SweepCursor,
    Timeouts, TrailId,
};

const TCP: u8 = 6;
const PROTOCOLS: [u8; 4] = [TCP, 17, 1, 132];

fn any_way(random: &mut Rng) -> Direction {
    if random.bool() { Direction::Original } else { Direction::Reply }
}

fn any_flags(random: &mut Rng) -> u8 {
    match random.u32(..32) {
        0 => RST,
        1 | 2 => FIN | ACK,
        3..8 => SYN,
        8..16 => SYN | ACK,
        _ => ACK,
    }
}

fn key(id: u32, way: Direction) -> FlowKey {
    let protocol = PROTOCOLS[id as usize % 4];
    let key = FlowKey { src: id, dst: 1 << 30 | id, sport: 7, dport: 53, protocol };
    if way == Direction::Original { key } else { key.reversed() }
}

/// One direction's action: tells the connection and the direction apart.
fn action(id: u32, way: Direction, generation: u32) -> FlowAction {
    FlowAction { next_hop: 2 * (id % 1000) + way as u32, generation, flags: way as u16 }
}

/// The trails of a connection that has been judged so often.
fn trails(id: u32, times: u32) -> [TrailId; 2] {
    [RuleId(id), if times == 0 { RuleId::NONE } else { RuleId(times) }].map(TrailId::from)
}

fn judged(id: u32, times: u32, generation: u32) -> Judged {
    let actions = [Direction::Original, Direction::Reply].map(|way| action(id, way, generation));
    Judged { actions, trails: trails(id, times) }
}

fn owner(id: u32) -> u32 {
    id % OWNERS
}

const OWNERS: u32 = 5;
const GENERATION: u32 = 9;

#[derive(Clone, Copy)]
struct Entry {
    flow: FlowRef,
    state: CtState,
    /// How often it has been judged again.
    times: u32,
}

impl Entry {
    fn is_expired(&self, id: u32, now: u32) -> bool {
        Timeouts::default().expired(PROTOCOLS[id as usize % 4], self.state, now)
    }

    /// Whether anybody but its packets and its thread may end it.
    fn may_be_gone(&self, id: u32, now: u32) -> bool {
        !self.state.is_assured(PROTOCOLS[id as usize % 4]) || self.is_expired(id, now)
    }
}

/// A thread: its connections are those whose number leaves its own when divided by two.
struct Side {
    number: u32,
    random: Rng,
    cursor: SweepCursor,
    model: HashMap<u32, Entry>,
    refused: u64,
}

impl Side {
    fn new(number: u32) -> Self {
        Self {
            number,
            // The same turns in every run.
            random: Rng::with_seed(u64::from(number) + 77),
            cursor: SweepCursor::default(),
            model: HashMap::new(),
            refused: 0,
        }
    }

    fn turn(&mut self, table: &FlowTable, ids: u32, now: u32) {
        let id = self.random.u32(..ids / 2) * 2 + self.number;
        match self.random.u32(..16) {
            0 => self.sweep(table, now, 8),
            1 => self.remove(table, id, now),
            // The other's: whatever is found is the key's.
            2 | 3 => _ = find(table, id ^ 1, any_way(&mut self.random)),
            4 => self.renew(table, id, now),
            5..10 => self.packet(table, id, now),
            _ => self.insert(table, id, now),
        }
    }

    fn sweep(&mut self, table: &FlowTable, now: u32, budget: usize) {
        table.sweep(&mut self.cursor, u64::from(now) * 1000 + 999, GENERATION, budget);
    }

    /// What the table says, which is what the model says.
    fn lookup(&mut self, table: &FlowTable, id: u32, way: Direction, now: u32) -> Option<Hit> {
        let hit = find_settled(table, id, way);
        let entry = self.model.get(&id).copied();
        match (hit, entry) {
            (Some(hit), Some(entry)) => {
                assert_eq!(hit.flow, entry.flow);
                // The other half's copy may be behind.
                assert!(way == Direction::Reply || hit.state == entry.state, "{id}: {hit:?}");
                assert_eq!(hit.trails.ids(), trails(id, entry.times));
            }
            (Some(hit), None) => panic!("{id} came back: {hit:?}"),
            (None, Some(entry)) => {
                assert!(entry.may_be_gone(id, now), "{id} is lost at {now}: {:?}", entry.state);
                self.model.remove(&id);
            }
            (None, None) => {}
        }
        hit
    }

    fn remove(&mut self, table: &FlowTable, id: u32, now: u32) {
        let way = any_way(&mut self.random);
        if let Some(hit) = self.lookup(table, id, way, now) {
            let entry = self.model.remove(&id).expect("found");
            assert!(table.remove(hit.flow) || entry.may_be_gone(id, now));
        }
    }

    fn renew(&mut self, table: &FlowTable, id: u32, now: u32) {
        let way = any_way(&mut self.random);
        let Some(hit) = self.lookup(table, id, way, now) else { return };
        let entry = self.model.get_mut(&id).expect("found");
        if table.renew(hit.flow, judged(id, entry.times + 1, GENERATION)) {
            entry.times += 1;
        } else {
            assert!(entry.may_be_gone(id, now), "{id}: {hit:?}");
        }
    }

    fn packet(&mut self, table: &FlowTable, id: u32, now: u32) {
        let way = any_way(&mut self.random);
        let Some(hit) = self.lookup(table, id, way, now) else { return };
        let flags = if id.is_multiple_of(4) { any_flags(&mut self.random) } else { 0 };
        let entry = *self.model.get(&id).expect("found");
        match table.observe(&hit, flags, now) {
            CtStatus::Tracked => {
                let state = entry.state.step(way, flags, now);
                assert!(!entry.is_expired(id, now), "an expired connection is not revived");
                self.model.insert(id, Entry { state, ..entry });
            }
            CtStatus::Reopen => {
                assert!(flags == SYN && entry.state.is_closed());
                let _ = table.remove(hit.flow);
                self.model.remove(&id);
            }
            CtStatus::Gone => {
                assert!(entry.may_be_gone(id, now));
                self.model.remove(&id);
            }
        }
    }

    fn insert(&mut self, table: &FlowTable, id: u32, now: u32) {
        let key = key(id, Direction::Original);
        let flags = if id.is_multiple_of(4) { any_flags(&mut self.random) } else { 0 };
        let before = self.model.get(&id).copied();
        let gone = before.is_none_or(|entry| entry.may_be_gone(id, now));
        match table.insert(&key, table.hash(&key), judged(id, 0, GENERATION), owner(id), flags, now) {
            Insert::New(hit) => {
                assert!(gone, "{id} stands in the table already");
                assert_eq!(hit.state, CtState::first(key.protocol, flags, now));
                self.model.insert(id, Entry { flow: hit.flow, state: hit.state, times: 0 });
            }
            Insert::Exists(hit) => assert_eq!(Some(hit.flow), before.map(|entry| entry.flow)),
            Insert::Full | Insert::ShareSpent => {
                assert!(gone, "{id} stands in the table already");
                self.model.remove(&id);
                self.refused += 1;
            }
        }
    }
}

fn find(table: &FlowTable, id: u32, way: Direction) -> Option<Hit> {
    let key = key(id, way);
    let hit = table.lookup(&key, table.hash(&key), GENERATION)?;
    assert_eq!((hit.direction, hit.action), (way, action(id, way, GENERATION)), "another connection's entry");
    assert_eq!(hit.trails.ids()[0], RuleId(id).into(), "another connection's trails");
    Some(hit)
}

/// The same, once nobody is ending the connection any more: until then its Reply half may be found after the Original
/// half is gone.
fn find_settled(table: &FlowTable, id: u32, way: Direction) -> Option<Hit> {
    for _ in 0..10_000_000 {
        let hit = find(table, id, way)?;
        if way == Direction::Original
            || find(table, id, Direction::Original).map(|o| o.flow) == Some(hit.flow)
        {
            return Some(hit);
        }
        thread::yield_now();
    }
    panic!("{id} is found in one direction alone");
}

/// While nobody works on it, the table holds what the models say, and nothing that has expired.
fn check(table: &FlowTable, sides: &mut [Side; 2], now: u32) {
    // A portion that a side has claimed only it can do.
    for side in sides.iter_mut() {
        side.sweep(table, now, usize::MAX);
    }
    let mut live = 0;
    let mut held = [0; OWNERS as usize];
    for side in sides {
        for id in side.model.keys().copied().collect::<Vec<_>>() {
            let Some(hit) = side.lookup(table, id, Direction::Original, now) else { continue };
            assert!(!side.model[&id].is_expired(id, now), "{id} outlived its second: {hit:?}");
            live += 1;
            held[owner(id) as usize] += 1;
        }
    }
    assert_eq!((live, table.flows().count()), (table.len(), table.len()), "no more than the models know");
    assert_eq!(held, std::array::from_fn(|owner| table.share_held(owner as u32)));
}

/// Rounds of `turns` by each thread, until `goes_on` says no; returns the refusals.
fn run(table: &FlowTable, ids: u32, turns: u32, mut goes_on: impl FnMut(u32) -> bool) -> u64 {
    let mut sides = [Side::new(0), Side::new(1)];
    let mut clock = Rng::with_seed(5);
    let mut now = 1000;
    for round in 0.. {
        if !goes_on(round) {
            break;
        }
        thread::scope(|scope| {
            for side in &mut sides {
                scope.spawn(move || (0..turns).for_each(|_| side.turn(table, ids, now)));
            }
        });
        check(table, &mut sides, now);
        // Mostly less than any timeout; sometimes long enough for a handshake, an hour now and then.
        now += match clock.u32(..50) {
            0 => 3601,
            1..10 => clock.u32(..70),
            _ => clock.u32(..4),
        };
    }
    sides.iter().map(|side| side.refused).sum()
}

#[test]
fn every_verdict_equals_the_model() {
    let mut refused = 0;
    for (connections, share) in [(64, 64), (64, 10), (7, 3), (1, 1)] {
        let table = FlowTable::new(connections, [2, 7, 1, 8], Timeouts::default()).with_share(share);
        refused += run(&table, 100, 500, |round| round < 400);
        assert!(table.evicted() > 100, "{}", table.evicted());
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn churn_at_full_load() {
    let seconds = std::env::var("MARGAY_STRESS_SECONDS").map_or(3, |text| text.parse().expect("seconds"));
    let end = Instant::now() + Duration::from_secs(seconds);
    let table = FlowTable::new(50_000, [3, 1, 4, 1], Timeouts::default()).with_share(15_000);
    run(&table, 80_000, 200_000, |round| round == 0 || Instant::now() < end);
    assert!(table.evicted() > 0);
}
