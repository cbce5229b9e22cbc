//! The flow table: one for all workers, of fixed memory, with wait-free lookup and lock-free insert and remove.
//!
//! A connection is a slot of two halves, one cache line for each direction (`slot.rs`), and one word of an index
//! (`index.rs`). The index is asked by a hash that a key shares with its reverse. So both directions of a connection
//! are found by one word; one compare-and-swap makes a connection appear or end as a whole; and two workers that see
//! the first packets of one connection at once, be it from both sides, meet at one place. An established packet
//! touches two cache lines, its bucket and its half; a third where a crowded bucket has sent its connection on.
//!
//! When the table is full, a connection that is not assured makes room for a new one (`evict.rs`); no endpoint holds
//! more than its share (`share.rs`). Expired connections are found by deadlines that stand apart (`deadline.rs`,
//! `sweep.rs`). An entry names what admitted its connection as two trails (`trails.rs`).
//!
//! Everything is atomics in arrays, addressed by number: the table can lie in memory that outlives the process.
//!
//! # Memory
//!
//! All of it is allocated and touched by [`FlowTable::new`]. Bytes a connection, and at 10 million:
//!
//! | part | bytes | at 10M |
//! | --- | --- | --- |
//! | entries: both directions and conntrack, 2 x 64 | 128 | 1,280 MB |
//! | index: 64-byte buckets of 7 words, half of them filled when every slot is taken | 18.3 | 183 MB |
//! | deadlines | 2 | 20 MB |
//! | shares: 65,536 counters | - | 0.3 MB |
//! | trails: 262,144 cells | - | 2.1 MB |
//! | together | 148.3 | 1,485 MB |
//!
//! An entry has room left for a NAT pair (addresses and ports), a DSCP and 8 bytes of owner and version (`slot.rs`). What
//! is not in every table stands beside the entries: what connections carry (`account.rs`: 36 bytes a connection, 360 MB),
//! and the addresses of a table that takes IPv6 (`wide.rs`: 32 bytes a connection, whichever family that is, 320 MB).
//! With both it is 216.3 bytes, 2,165 MB. An established packet touches one more line for the first, and one of IPv6 one
//! for the second.

mod account;
mod action;
mod burst;
mod deadline;
mod ends;
mod evict;
mod index;
mod insert;
mod judged;
mod lifecycle;
mod memory;
mod scan;
mod share;
mod slot;
mod sweep;
mod track;
mod trails;
mod walk;
mod wide;

use std::{fmt, slice};

pub use account::{FlowCounts, Traffic};
use action::ActionWord;
pub use action::FlowAction;
pub use burst::Query;
use deadline::Deadlines;
use ends::Ends;
pub use ends::{End as FlowEnd, EndedFlow};
use evict::Clock;
use index::{Index, Word};
pub use insert::Insert;
pub use judged::{FlowTrails, Judged};
use share::Shares;
use slot::{DIRECTIONS, Slots};
use sweep::Pass;
pub use sweep::{SweepCursor, Swept};
pub use trails::{TrailEra, TrailId, Trails};
pub use walk::Flow;
use wide::WideAddresses;

use crate::conntrack::{CtState, Direction, Timeouts};
use crate::hash::KeyHash;
use crate::isa::Isa;
use crate::key::{AnyKey, Key};
use crate::prefetch::prefetch;
use crate::sync::Ordering;

/// A connection in the table. Stays harmless when the connection is gone: calls that take it do nothing then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowRef {
    slot: u32,
    incarnation: u32,
}

/// What a lookup finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    pub flow: FlowRef,
    /// Which way the packet goes in the connection.
    pub direction: Direction,
    /// What to do with packets of this direction.
    pub action: FlowAction,
    /// The action is of the generation that the caller named.
    pub is_current: bool,
    /// What admitted the connection, on egress and ingress ([`Judged::trails`]).
    pub trails: FlowTrails,
    /// The connection as this direction last saw it.
    pub state: CtState,
}

pub struct FlowTable {
    hash: KeyHash,
    isa: Isa,
    index: Index,
    slots: Slots,
    deadlines: Deadlines,
    pass: Pass,
    clock: Clock,
    /// None where every endpoint may fill the table.
    shares: Option<Shares>,
    timeouts: Timeouts,
    trails: Trails,
    /// None where nobody asks for ended connections.
    ends: Option<Ends>,
}

impl fmt::Debug for FlowTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowTable").field("len", &self.len()).field("capacity", &self.capacity()).finish()
    }
}

impl FlowTable {
    /// Connections that a table can hold at most.
    pub const MAX_CONNECTIONS: u32 = 1 << 28;

    /// A table for so many connections, or [`FlowTable::MAX_CONNECTIONS`]. The seed is a secret from the system's
    /// entropy: whoever knows it can choose keys that collide.
    pub fn new(connections: u32, seed: [u64; 4], timeouts: Timeouts) -> Self {
        let (connections, isa) = (connections.min(Self::MAX_CONNECTIONS), Isa::best());
        let deadlines = Deadlines::new(connections);
        Self {
            hash: KeyHash::new(seed, isa),
            isa,
            index: Index::new(connections as usize),
            slots: Slots::new(connections),
            pass: Pass::new(deadlines.lines()),
            deadlines,
            clock: Clock::default(),
            shares: None,
            timeouts,
            trails: Trails::new(),
            ends: None,
        }
    }

    /// The same table, still empty, with these instructions instead of [`Isa::best`].
    #[must_use]
    pub fn with_isa(self, isa: Isa) -> Self {
        assert!(
            self.is_empty(),
            "connections are found by the hash of the instructions that they were made with"
        );
        Self { hash: self.hash.with_isa(isa), isa, ..self }
    }

    /// The same table, still empty, where no owner holds more than so many connections at once.
    #[must_use]
    pub fn with_share(self, connections: u32) -> Self {
        Self { shares: Some(Shares::new(connections)), ..self }
    }

    /// The same table, still empty, which takes IPv6 too.
    #[must_use]
    pub fn with_ipv6(mut self) -> Self {
        self.slots.wide = WideAddresses::new(self.slots.capacity());
        self
    }

    /// Connections in the table; a moment's value while workers run.
    pub fn len(&self) -> usize {
        self.slots.live()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn capacity(&self) -> usize {
        self.slots.capacity() as usize
    }

    /// What the trails of entries mean.
    pub fn trails(&self) -> &Trails {
        &self.trails
    }

    /// The hash that the other calls take. A key and its reverse have the same.
    #[inline]
    pub fn hash<K: Key>(&self, key: &K) -> u64 {
        self.hash.hash_words(key.words(&self.hash)).0
    }

    /// Asks for the cache line where a lookup of this hash begins.
    #[inline]
    fn prefetch(&self, hash: u64) {
        prefetch(self.index.home_bucket(hash));
    }

    /// The connection that the key belongs to, in either direction. `generation` is that of the caller's snapshot; it
    /// completes the one in the action.
    ///
    /// Wait-free: a bounded number of loads, no store. If the connection ends meanwhile, the lookup may miss; until who
    /// ends it is done, packets of the Reply direction may still find what those of the Original one do not.
    #[inline]
    pub fn lookup<K: Key>(&self, key: &K, hash: u64, generation: u32) -> Option<Hit> {
        // The home bucket is searched all at once: which of its words it is hangs on memory, and a branch on that would
        // be mispredicted and wait for it.
        let mut query = Query::of(key.words(&self.hash), hash, key.is_ascending());
        self.isa.search(&self.index, slice::from_mut(&mut query));
        let hit = self.fetch_key(&query, key, generation);
        if hit.is_some() || query.is_absent() && !self.index.has_displaced(hash) {
            return hit;
        }
        // In another bucket, or behind another with its tag.
        self.index.find(hash, |_, word| if word.is_valid() { self.read(word, key, generation) } else { None })
    }

    #[inline]
    fn read<K: Key>(&self, word: Word, key: &K, generation: u32) -> Option<Hit> {
        let half = Slots::number(word.slot(), direction(key.is_ascending(), word));
        let hit = self.slots.read(half, key.words(&self.hash), generation);
        hit.filter(|hit| self.slots.has_key(hit, key))
    }

    /// Gives one direction of a connection the next hop of a later snapshot. False, and nothing is changed, if the
    /// connection is gone or another worker has just changed the entry, or had a still later snapshot.
    pub fn set_action(&self, hit: &Hit, next_hop: u32, generation: u32) -> bool {
        self.set_next_hop(hit.flow, hit.direction, next_hop, generation)
    }

    /// Gives both directions of a connection what a later snapshot decided. False if the connection is gone, or if
    /// flags differ: these are fixed for a connection's life, and the caller removes it and inserts it anew.
    pub fn renew(&self, flow: FlowRef, judged: Judged) -> bool {
        let actions = DIRECTIONS.into_iter().zip(judged.actions);
        let fits = actions.clone().all(|(way, action)| self.slots.has_flags(flow.slot, way, &action));
        if !fits || self.slots.track(flow.slot).incarnation() != flow.incarnation {
            return false;
        }
        for (direction, action) in actions {
            if self.set_next_hop(flow, direction, action.next_hop, action.generation) {
                self.set_trails(flow, direction, judged.trails, action.generation);
            }
        }
        true
    }

    fn set_next_hop(&self, flow: FlowRef, direction: Direction, next_hop: u32, generation: u32) -> bool {
        let word = &self.slots.half(flow.slot, direction).action;
        let old = word.load(Ordering::Acquire);
        if slot::incarnation(old) != flow.incarnation || ActionWord(old).is_after(generation) {
            return false;
        }
        // One try: if another worker comes between and its snapshot was an older one, the next packet tries again.
        let new = ActionWord::new(next_hop, generation, flow.incarnation);
        word.compare_exchange(old, new.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The key of the connection's first packet; `None` if the connection is gone.
    pub fn original_key(&self, flow: FlowRef) -> Option<AnyKey> {
        self.slots.key(flow)
    }
}

/// Which way packets with a key of this orientation go in the connection that the word names, if it is theirs: a
/// connection's keys are each other's reverse.
#[inline]
fn direction(is_ascending: bool, word: Word) -> Direction {
    if is_ascending == word.is_ascending() { Direction::Original } else { Direction::Reply }
}
