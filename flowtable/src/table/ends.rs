//! Connections that have ended, for who keeps records of them: a bounded queue, into which whoever ends a connection writes
//! what it was and what it carried. One for all workers: any of them may come to a connection's end first, and of the
//! packets there are many to one end. Nobody waits for it; what finds no room is counted.
//!
//! The counts are those at the end. A packet that another worker has let through and not counted by then is missing.

use crossbeam::queue::ArrayQueue;

use super::account::FlowCounts;
use super::action::ActionWord;
use super::judged::TrailsWord;
use super::track::Track;
use super::trails::TrailId;
use super::{FlowRef, FlowTable};
use crate::conntrack::{CtState, Direction};
use crate::key::AnyKey;
use crate::sync::{AtomicU64, Ordering};

/// Why a connection is in the table no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// No packet came for its timeout: [`CtState::is_closed`] says whether it was closed before.
    Expired,
    /// It made room for another.
    Evicted,
    /// Taken out, for another in its place.
    Removed,
}

/// A connection as it was when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedFlow {
    /// Of its first packet.
    pub key: AnyKey,
    pub why: End,
    pub state: CtState,
    /// Where its Original direction led, by the number of the caller's that stood there.
    pub next_hop: u32,
    pub trails: [TrailId; 2],
    /// `None` where the table keeps no accounts.
    pub counts: Option<FlowCounts>,
}

pub(super) struct Ends {
    waiting: ArrayQueue<EndedFlow>,
    lost: AtomicU64,
}

impl FlowTable {
    /// The same table, still empty, which keeps so many ended connections for [`FlowTable::ended`].
    #[must_use]
    pub fn with_ends(self, room: usize) -> Self {
        Self { ends: Some(Ends { waiting: ArrayQueue::new(room.max(1)), lost: AtomicU64::new(0) }), ..self }
    }

    /// Takes connections that have ended, the oldest first: no more than there was room for.
    pub fn ended(&self) -> impl Iterator<Item = EndedFlow> + '_ {
        let room = self.ends.as_ref().map_or(0, |ends| ends.waiting.capacity());
        std::iter::from_fn(|| self.ends.as_ref()?.waiting.pop()).take(room)
    }

    /// Connections that ended and found no room to wait in.
    pub fn ends_lost(&self) -> u64 {
        self.ends.as_ref().map_or(0, |ends| ends.lost.load(Ordering::Relaxed))
    }

    /// Keeps what the connection was. The caller has ended it and not cleared its slot yet; `track` is what it swapped.
    pub(super) fn note_ended(&self, flow: FlowRef, track: Track, why: End) {
        let Some(ends) = &self.ends else { return };
        let Some(key) = self.slots.key(flow) else { return };
        let half = self.slots.half(flow.slot, Direction::Original);
        let ended = EndedFlow {
            key,
            why,
            state: track.state(),
            next_hop: ActionWord(half.action.load(Ordering::Acquire)).next_hop(),
            trails: TrailsWord(half.trails.load(Ordering::Acquire)).trails().ids(),
            counts: self.slots.accounts.get(flow),
        };
        if ends.waiting.push(ended).is_err() {
            ends.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}
