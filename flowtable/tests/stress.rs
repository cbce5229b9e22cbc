//! Threads churn a small, crowded flow table: what is found is always the key's own, what nobody removes is always
//! found, and the books balance.

#![cfg(not(loom))]

use std::collections::HashSet;
use std::thread;

use fastrand::Rng;
use margay_flowtable::table::Insert;
use margay_flowtable::{
    AnyKey, CtStatus, Direction, FlowAction, FlowKey, FlowTable, Hit, Judged, RuleId, SweepCursor, Timeouts,
    TrailId,
};

const THREADS: u32 = 3;
const CONNECTIONS: u32 = 48;
const KEYS: u32 = 64;
/// The first keys are inserted and assured at the start, kept awake, and removed by nobody.
const PINNED: u32 = 8;
/// From here on, connections are too old when they are inserted, and left to the sweeps.
const STALE: u32 = 48;
const ROUNDS: u32 = 20;
const TURNS: u32 = 50_000;
/// What a thread's clock may be ahead of another's; less than any timeout.
const DRIFT: u32 = 4;

fn key(id: u32) -> FlowKey {
    FlowKey { src: id, dst: 1000, sport: 7, dport: 53, protocol: 17 }
}

/// One direction's action: tells the connection and the direction apart in every field that stays.
fn action(id: u32, direction: Direction, generation: u32) -> FlowAction {
    let flags = direction as u16;
    FlowAction { next_hop: 2 * id + u32::from(flags), generation, flags }
}

/// Both trails tell the connection, and which of its times it was judged; no rule is a time too.
fn trails(id: u32, time: u32) -> [TrailId; 2] {
    let rule = RuleId(1000 * (time % TIMES) + id);
    let both = if time.is_multiple_of(2) { [rule, RuleId(rule.0 + 500)] } else { [RuleId::NONE, rule] };
    both.map(TrailId::from)
}

const TIMES: u32 = 6;

fn judged(id: u32, generation: u32) -> Judged {
    let actions = [Direction::Original, Direction::Reply].map(|way| action(id, way, generation));
    Judged { actions, trails: trails(id, generation) }
}

struct World {
    table: FlowTable,
}

/// What a thread did to the number of connections.
#[derive(Default)]
struct Book {
    made: usize,
    removed: usize,
}

impl World {
    fn lookup(&self, id: u32, way: Direction, generation: u32) -> Option<Hit> {
        let key = if way == Direction::Original { key(id) } else { key(id).reversed() };
        let hit = self.table.lookup(&key, self.table.hash(&key), generation)?;
        assert_eq!(hit.direction, way);
        assert_eq!(hit.action, action(id, way, hit.action.generation), "another connection's entry");
        assert!(
            (0..TIMES).any(|time| hit.trails.ids() == trails(id, time)),
            "another connection's trails: {hit:?}"
        );
        Some(hit)
    }

    fn insert(&self, id: u32, generation: u32, now: u32) -> Insert {
        let key = key(id);
        self.table.insert(&key, self.table.hash(&key), judged(id, generation), id, 0, now)
    }

    /// One thread's part of a round.
    fn churn(&self, seed: u32, clock: u32) -> Book {
        // The same turns in every run.
        let mut random = Rng::with_seed(u64::from(seed));
        let mut cursor = SweepCursor::default();
        let mut book = Book::default();
        for turn in 0..TURNS {
            let id = random.u32(..KEYS);
            let now = clock + random.u32(..DRIFT);
            let generation = clock + turn / 100;
            let way = if random.bool() { Direction::Original } else { Direction::Reply };
            if random.u32(..8) == 0 {
                book.removed +=
                    self.table.sweep(&mut cursor, u64::from(now) * 1000 + 999, generation, 8).expired;
            }
            let Some(hit) = self.lookup(id, way, generation) else {
                assert!(id >= PINNED, "a connection that nobody removed is gone");
                let since = if id < STALE { now } else { now - 100 };
                book.made += usize::from(matches!(self.insert(id, generation, since), Insert::New(_)));
                continue;
            };
            match random.u32(..8) {
                0 if id >= PINNED => book.removed += usize::from(self.table.remove(hit.flow)),
                1 => drop(self.table.set_action(&hit, hit.action.next_hop, generation)),
                2 => drop(self.table.renew(hit.flow, judged(id, generation))),
                _ if id < STALE => {
                    let status = self.table.observe(&hit, 0, now);
                    assert!(status == CtStatus::Tracked || id >= PINNED, "{status:?}");
                }
                _ => {}
            }
        }
        book
    }

    fn check(&self, live: usize) {
        assert_eq!(self.table.len(), live, "made less removed and evicted");
        let flows: Vec<_> = self.table.flows().collect();
        assert_eq!(flows.len(), self.table.len());
        let keys: HashSet<_> = flows.iter().map(|flow| flow.key).collect();
        assert_eq!(keys.len(), flows.len(), "one connection for each key");
        for flow in flows {
            let AnyKey::V4(FlowKey { src: id, .. }) = flow.key else { panic!("{flow:?}") };
            for way in [Direction::Original, Direction::Reply] {
                assert_eq!(
                    self.lookup(id, way, 0).map(|hit| hit.flow),
                    Some(flow.flow),
                    "found by its index"
                );
            }
        }
    }
}

#[test]
fn churn_from_many_threads() {
    let world = World { table: FlowTable::new(CONNECTIONS, [3, 1, 4, 1], Timeouts::default()) };
    let start = 1000;
    for id in 0..PINNED {
        assert!(matches!(world.insert(id, start, start), Insert::New(_)));
        // An answer, and one more packet in a later second.
        for now in [start, start + 1] {
            let answer = world.lookup(id, Direction::Reply, start).expect("present");
            assert_eq!(world.table.observe(&answer, 0, now), CtStatus::Tracked);
        }
    }
    let mut live = PINNED as usize;
    let mut evicted = 0;
    for round in 0..ROUNDS {
        // Between two rounds less time passes than a connection lives: only the stale ones expire.
        let clock = start + 10 * round;
        let books: Vec<Book> = thread::scope(|scope| {
            let world = &world;
            let churn = |thread| scope.spawn(move || world.churn(round * THREADS + thread, clock));
            let threads: Vec<_> = (0..THREADS).map(churn).collect();
            threads.into_iter().map(|thread| thread.join().expect("its assertions hold")).collect()
        });
        live += books.iter().map(|book| book.made).sum::<usize>();
        live -= books.iter().map(|book| book.removed).sum::<usize>();
        live -=
            std::mem::replace(&mut evicted, world.table.evicted()).abs_diff(world.table.evicted()) as usize;
        world.check(live);
    }
    // Every slot is still there.
    for id in (KEYS..).take(world.table.capacity() - live) {
        assert!(matches!(world.insert(id, start, start), Insert::New(_)));
    }
    assert_eq!((world.table.len(), world.table.evicted()), (world.table.capacity(), evicted));
}

/// Two threads insert the same connections from both sides at once, over and over: each is made once.
#[test]
fn first_packets_from_both_sides() {
    let table = FlowTable::new(CONNECTIONS, [3, 1, 4, 1], Timeouts::default());
    let made = |id, key: FlowKey| match table.insert(&key, table.hash(&key), judged(id, 0), id, 0, 0) {
        Insert::New(_) => 1,
        Insert::Exists(_) => 0,
        Insert::Full | Insert::ShareSpent => panic!("there is room"),
    };
    for _ in 0..500 {
        let sum: u32 = thread::scope(|scope| {
            let other =
                scope.spawn(|| (0..CONNECTIONS / 2).map(|id| made(id, key(id).reversed())).sum::<u32>());
            let mine = (0..CONNECTIONS / 2).map(|id| made(id, key(id))).sum::<u32>();
            mine + other.join().expect("its assertions hold")
        });
        assert_eq!(sum, CONNECTIONS / 2);
        assert_eq!(table.len(), table.capacity() / 2);
        for flow in table.flows().collect::<Vec<_>>() {
            assert!(table.remove(flow.flow));
        }
    }
}
