//! Inserts: how a connection comes to stand in the table once, whoever else inserts it.

use super::deadline::Due;
use super::index::{Position, Word};
use super::judged::{FlowTrails, Judged};
use super::{FlowTable, Hit};
use crate::conntrack::{CtState, Direction};
use crate::key::Key;
use crate::sync::{Ordering, fence};

/// What became of an insert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insert {
    /// The connection stands in the table, and the key is its Original direction.
    New(Hit),
    /// The key already belongs to a connection, in either direction, that another worker may have put there just now.
    Exists(Hit),
    /// No slot is free, and a bounded search found none to make free (or, at a full table, no place of the index near the
    /// key's is).
    Full,
    /// The owner holds its share of the table, and a bounded search found none of its connections to make room.
    ShareSpent,
}

/// How often an insert begins anew after another of the same key has taken its word out. That one then stands in
/// the table or has given way to a third: twice is rare, and the bound is there so that there is one. Past it the
/// table counts as full.
const ATTEMPTS: usize = 8;

impl FlowTable {
    /// Puts a connection into the table, unless its key or the reverse is there.
    ///
    /// `judged` says what to do with packets of both directions, and by which trails; `owner` is the address whose share the connection counts in; `tcp_flags` are the first packet's (0 if it is no TCP),
    /// `now` is in seconds.
    ///
    /// Where no slot is free, or the owner holds its share, a connection that is not assured is evicted.
    ///
    /// Of inserts that race for one connection exactly one gets `New`; the others get `Exists` with the winner's.
    /// Lock-free: no insert waits for another, however long that one sleeps.
    ///
    /// # Interleavings
    ///
    /// An insert (1) finds no word with its key, (2) fills a slot of its own, (3) puts an `INSERTING` word into an
    /// empty place, (4) looks through all places of the hash for rivals, and (5) turns its word `VALID`. Only `VALID`
    /// words are seen by lookups. In (4), a rival that is `VALID`, or `INSERTING` at an earlier place, wins: the insert
    /// takes its own word out. A rival that is `INSERTING` at a later place loses: its word is taken out, and its (5)
    /// fails.
    ///
    /// Two inserts of one key cannot both become `VALID`. Between (3) and (4) stands a sequentially consistent fence,
    /// so of any two at least one sees the other's word, say B sees A's. If A's is `VALID`, B gives way. If it is
    /// `INSERTING` at an earlier place, B gives way. If at a later place, B swaps it for `EMPTY`: either that succeeds
    /// and A's (5) fails, or A's (5) came first and B sees `VALID` and gives way.
    ///
    /// One does become `VALID`: whoever gives way does so to a `VALID` word or to one at an earlier place, and there is
    /// a first place. (An insert whose thread sleeps between (3) and (5) is given way to, for its action is as good;
    /// its connection appears when it wakes. Until then packets of the flow go on being first packets.)
    pub fn insert<K: Key>(
        &self,
        key: &K,
        hash: u64,
        judged: Judged,
        owner: u32,
        tcp_flags: u8,
        now: u32,
    ) -> Insert {
        let generation = judged.actions[0].generation;
        if let Some(hit) = self.find_any(key, hash, generation) {
            return Insert::Exists(hit);
        }
        if key.wide().is_some() && self.slots.wide.is_none() {
            return Insert::Full;
        }
        let share = self.share_of(owner);
        let slot = match self.acquire(share, now) {
            Ok(slot) => slot,
            Err(refusal) => return refusal,
        };
        let state = CtState::first(key.protocol(), tcp_flags, now);
        key.wide().map(|wide| self.slots.wide.set(slot, wide));
        let flow = self.slots.fill(slot, key.words(&self.hash), judged, share, state);
        self.deadlines.fill(slot, self.due(key.protocol(), state, now));
        let word = Word::inserting(hash, slot, key.is_ascending());
        for _ in 0..ATTEMPTS {
            let Some(position) = self.index.claim(hash, word) else { break };
            fence(Ordering::SeqCst);
            if let Some(winner) = self.find_winner(key, hash, position, generation) {
                self.index.release(hash, position, word);
                self.retire(flow);
                return Insert::Exists(winner);
            }
            // Counted before it can be removed, so that the count never falls below zero.
            self.slots.count(1);
            if self.index.validate(hash, position, word) {
                return Insert::New(Hit {
                    flow,
                    direction: Direction::Original,
                    action: judged.actions[0],
                    is_current: true,
                    trails: FlowTrails::new(judged.trails),
                    state,
                });
            }
            self.slots.count(-1);
            if let Some(winner) = self.find_any(key, hash, generation) {
                self.retire(flow);
                return Insert::Exists(winner);
            }
        }
        self.retire(flow);
        Insert::Full
    }

    /// When a connection in this state is to be looked at next.
    pub(super) fn due(&self, protocol: u8, state: CtState, now: u32) -> Due {
        Due::at(self.timeouts.deadline(protocol, state), now, !state.is_assured(protocol))
    }

    /// A connection with the key that is in the table or being inserted.
    fn find_any<K: Key>(&self, key: &K, hash: u64, generation: u32) -> Option<Hit> {
        self.index.find(hash, |_, word| self.read_alive(word, key, generation))
    }

    /// The rival that the insert at `own` has to give way to; those that have to give way to it are taken out.
    fn find_winner<K: Key>(&self, key: &K, hash: u64, own: Position, generation: u32) -> Option<Hit> {
        self.index.find(hash, |position, word| {
            if position == own {
                return None;
            }
            let rival = self.read_alive(word, key, generation)?;
            let wins = word.is_valid() || position < own || !self.index.evict(hash, position, word);
            wins.then_some(rival)
        })
    }

    /// As `read`, but also misses a connection that is ending and whose Reply half does not say so yet.
    fn read_alive<K: Key>(&self, word: Word, key: &K, generation: u32) -> Option<Hit> {
        let hit = self.read(word, key, generation)?;
        (self.slots.track(word.slot()).incarnation() == hit.flow.incarnation).then_some(hit)
    }
}
