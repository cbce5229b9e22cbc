//! Eviction: room in a full table, at the cost of a connection that is not assured.
//!
//! A hand goes round the deadlines, as on a clock, and takes the first connection that may go: a handshake that is not
//! complete, a connection that is closed, a flow that has not lasted beyond an answer (`CtState::is_assured`). So a new
//! one has a whole round of the hand to become assured. An assured connection is never evicted: the eviction swaps the track that it has judged, and a
//! packet that assures the connection before that has changed it.

use crossbeam::utils::CachePadded;

use super::deadline::LINE;
use super::ends::End;
use super::share::ShareId;
use super::slot::is_live;
use super::{FlowRef, FlowTable};
use crate::sync::{AtomicU64, Ordering};

/// Deadlines that an eviction passes at most: 128 cache lines, in a row.
#[cfg(not(loom))]
const SCAN: u32 = 4096;
#[cfg(loom)]
const SCAN: u32 = 2;
/// Entries that it looks at at most. A deadline's word may still call a connection evictable that no longer is.
const LOOKS: u32 = 64;

/// Where the hand stands, and how often it has taken something.
#[derive(Default)]
pub(super) struct Clock {
    /// Slots passed since the start: by whoever finds the table full, and by owners that have spent their share, so
    /// that one of these does not turn the hand of all.
    hands: [CachePadded<AtomicU64>; 2],
    evicted: CachePadded<AtomicU64>,
}

impl FlowTable {
    /// Connections that have been evicted since the start.
    pub fn evicted(&self) -> u64 {
        self.clock.evicted.load(Ordering::Relaxed)
    }

    /// Ends a connection that may go, of this share if one is given, and hands its slot to the caller. Bounded, and
    /// waits for nobody: several hands may come to one connection, and the first one has it.
    pub(super) fn evict(&self, share: Option<ShareId>, now: u32) -> Option<u32> {
        let capacity = self.slots.capacity();
        let hand = &self.clock.hands[usize::from(share.is_some())];
        let start = hand.load(Ordering::Relaxed);
        let mut looks = 0;
        let mut passed = 0;
        let mut evicted = None;
        while evicted.is_none() && passed < SCAN.min(capacity) && looks < LOOKS {
            let slot = (start.wrapping_add(u64::from(passed)) % u64::from(capacity)) as u32;
            if slot.is_multiple_of(LINE) && !self.deadlines.any_evictable(slot / LINE) {
                passed += LINE.min(capacity - slot);
                continue;
            }
            passed += 1;
            if self.deadlines.get(slot).is_evictable() {
                looks += 1;
                evicted = self.evict_slot(slot, share, now);
            }
        }
        // If another has moved the hand, it stays where that one left it.
        let moved = start.wrapping_add(u64::from(passed));
        let _ = hand.compare_exchange(start, moved, Ordering::Relaxed, Ordering::Relaxed);
        if evicted.is_some() {
            self.clock.evicted.fetch_add(1, Ordering::Relaxed);
        }
        evicted
    }

    fn evict_slot(&self, slot: u32, share: Option<ShareId>, now: u32) -> Option<u32> {
        let track = self.slots.track(slot);
        let flow = FlowRef { slot, incarnation: track.incarnation() };
        let protocol = self.slots.protocol(flow).filter(|_| is_live(flow.incarnation))?;
        if track.state().is_assured(protocol) {
            self.settle(slot, now);
            return None;
        }
        // The slot may have changed hands since: then the swap of the track fails.
        if share.is_some_and(|share| self.slots.share(slot) != share) {
            return None;
        }
        self.end_unchanged(flow, track, End::Evicted)
    }
}
