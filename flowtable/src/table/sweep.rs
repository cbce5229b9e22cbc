//! Expiry: a sweep over the slots in bounded portions.
//!
//! A packet never revives a connection that has expired, swept or not ([`FlowTable::observe`] looks): the sweep gives
//! back memory, and the only thing its pace decides is when.

use super::action::{AGING_INTERVAL, ActionWord};
use super::slot::{DIRECTIONS, incarnation, is_live};
use super::{FlowRef, FlowTable};
use crate::sync::Ordering;

/// Where a sweep stands. Each that sweeps has its own: several may go over one table at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct SweepCursor {
    slot: u32,
    /// Generation at which the round before last looked at the age of stamps, and whether this round does.
    aged_at: u32,
    ages: bool,
}

/// What a portion of a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Slots looked at.
    pub visited: usize,
    /// Connections removed.
    pub expired: usize,
    /// The portion came to the end of the table; the next one begins at its start.
    pub wrapped: bool,
}

impl FlowTable {
    /// Looks at the next `budget` slots, and removes the connections that have expired by `now` (seconds).
    /// `generation` is that of the caller's snapshot.
    pub fn sweep(&self, cursor: &mut SweepCursor, now: u32, generation: u32, budget: usize) -> Swept {
        let mut swept = Swept::default();
        while swept.visited < budget && !swept.wrapped {
            if cursor.slot == 0 {
                cursor.ages = generation.wrapping_sub(cursor.aged_at) >= AGING_INTERVAL;
                if cursor.ages {
                    cursor.aged_at = generation;
                }
            }
            if cursor.slot < self.slots.capacity() {
                swept.visited += 1;
                swept.expired += usize::from(self.expire(cursor.slot, now));
                if cursor.ages {
                    self.age(cursor.slot, generation);
                }
                cursor.slot += 1;
            }
            if cursor.slot >= self.slots.capacity() {
                cursor.slot = 0;
                swept.wrapped = true;
            }
        }
        swept
    }

    /// Removes the slot's connection if it has expired. A packet that comes between the look and the removal changes
    /// the word that the removal swaps, and so saves the connection.
    fn expire(&self, slot: u32, now: u32) -> bool {
        let track = self.slots.track(slot);
        let flow = FlowRef { slot, incarnation: track.incarnation() };
        is_live(flow.incarnation)
            && self.timeouts.expired(self.slots.protocol(slot), track.state(), now)
            && self.remove_unchanged(flow, track)
    }

    /// Keeps the stamps of a direction that has long been silent from turning round and looking new. A swap that
    /// fails has met a newer stamp.
    fn age(&self, slot: u32, generation: u32) {
        for direction in DIRECTIONS {
            let word = &self.slots.half(slot, direction).action;
            let old = word.load(Ordering::Acquire);
            // A free slot is left alone: its next owner writes there without looking.
            if is_live(incarnation(old))
                && let Some(aged) = ActionWord(old).aged(generation)
            {
                let _ = word.compare_exchange(old, aged.0, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
    }
}
