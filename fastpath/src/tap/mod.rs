//! Taps: what a worker copies of the packets that match a filter, and tells of what became of them.
//!
//! Control makes a [`Tap`] for each worker, with all the memory that it will ever use, and hands it over by a command; what
//! the worker writes into it control reads at the other end, a [`TapReader`]. A worker never waits for that: where the
//! memory is full, or more packets match in a second than the tap takes, packets are counted and not copied. While a worker
//! has no tap, a burst costs one branch.
//!
//! A packet matches by its bytes as they came in, by what these carry in a tunnel, or by a frame that it leaves in.

mod carried;
mod note;
pub mod program;
mod ring;
mod taps;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;
use std::time::Duration;

use margay_flowtable::PortId;

pub use carried::carried;
pub use note::{End, Fate, Image, Leaving, Note, Steps, What};
pub use program::{Instruction, Invalid, Program};
pub use ring::{TapReader, tap};
pub(crate) use taps::{Tapped, Taps};

use crate::counters::Counter;

/// Taps that a worker has at once.
pub const TAPS: usize = 4;
/// Bytes of a packet that a tap copies at most: the longest packet, and its Ethernet header.
pub const LONGEST_SNAP: u32 = 65_549;

/// A tap's number, which no other tap of the process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TapId(pub u64);

/// What a tap copies.
#[derive(Clone, Debug)]
pub struct Spec {
    /// None: every packet.
    pub filter: Option<Program>,
    /// Bytes of each frame.
    pub snap: u32,
    /// Packets of one worker in a second.
    pub per_second: u32,
    /// Bytes of frames of one worker that wait to be read.
    pub waiting: usize,
}

/// What a worker's tap has counted. The worker writes, anyone reads.
#[derive(Debug, Default)]
pub struct TapCounts {
    /// Packets that matched.
    pub matched: Counter,
    /// Of these, those that were not copied: more than the tap takes in a second, or than its memory holds.
    pub missed: Counter,
    /// Frames that left, of packets that were copied, and were not copied themselves.
    pub missed_leaving: Counter,
}

/// A worker's end of a tap.
#[derive(Debug)]
pub struct Tap {
    pub(crate) id: TapId,
    spec: Spec,
    ring: ring::Writer,
    counts: Arc<TapCounts>,
    /// Packets of which the end is still to be told: room is kept for that.
    owed: usize,
    /// A frame that is written, of which it is not known yet whether it leaves.
    leaving: Option<(u64, Image, Leaving)>,
    /// The second of the clock that is under way, and packets taken in it.
    second: u64,
    taken: u32,
}

/// When something was seen, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight<'a> {
    /// Since 1970.
    pub(crate) at: Duration,
    pub(crate) port: PortId,
    pub(crate) bytes: &'a [u8],
    /// Where VXLAN is.
    pub(crate) vxlan_port: u16,
}

impl Tap {
    pub fn id(&self) -> TapId {
        self.id
    }

    /// Whether the frame, or what it carries, matches.
    fn matches(&self, sight: &Sight<'_>) -> bool {
        let Some(filter) = &self.spec.filter else { return true };
        filter.matches(&sight.bytes.into())
            || carried(sight.bytes, sight.vxlan_port).is_some_and(|inner| filter.matches(&inner))
    }

    /// Takes in a packet that matches, and what there is to tell of it later. False where it cannot.
    fn begin(&mut self, at: Duration) -> bool {
        self.counts.matched.add(1);
        if std::mem::replace(&mut self.second, at.as_secs()) != at.as_secs() {
            self.taken = 0;
        }
        // For the packet as it came and its end, beside the ends of others.
        let has_room = self.taken < self.spec.per_second && self.ring.room() >= self.owed + 2;
        if has_room {
            self.taken += 1;
            self.owed += 1;
        } else {
            self.counts.missed.add(1);
        }
        has_room
    }

    /// Copies a packet that comes in. False where there is no room.
    fn enter(&mut self, packet: u64, sight: &Sight<'_>) -> bool {
        if !self.begin(sight.at) {
            return false;
        }
        let Some(image) = self.copy(sight) else {
            self.owed -= 1;
            self.counts.missed.add(1);
            return false;
        };
        self.ring.tell(Note { packet, what: What::Came(image) });
        true
    }

    /// Copies a frame that is about to leave.
    fn leave(&mut self, packet: u64, sight: &Sight<'_>, leaving: Leaving) {
        let has_room = self.ring.room() > self.owed;
        match has_room.then(|| self.copy(sight)).flatten() {
            Some(image) => self.leaving = Some((packet, image, leaving)),
            None => self.counts.missed_leaving.add(1),
        }
    }

    /// Tells whether that frame leaves.
    fn settle(&mut self, is_sent: bool) {
        if let Some((packet, image, leaving)) = self.leaving.take() {
            self.ring.tell(Note { packet, what: What::Leaves { image, leaving, is_sent } });
        }
    }

    /// Tells what became of a packet: the last that is told of it.
    fn end(&mut self, packet: u64, end: &End) {
        self.owed = self.owed.saturating_sub(1);
        self.ring.tell(Note { packet, what: What::Ended(*end) });
    }

    fn copy(&mut self, sight: &Sight<'_>) -> Option<Image> {
        let copied = sight.bytes.len().min(self.spec.snap as usize);
        let len = sight.bytes.len() as u32;
        let image = Image { port: sight.port, at: sight.at, len, copied: copied as u32 };
        self.ring.copy(&sight.bytes[..copied]).then_some(image)
    }
}
