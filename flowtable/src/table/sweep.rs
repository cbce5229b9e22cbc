//! Expiry: once a second a pass over the deadlines, in bounded portions that the workers share.
//!
//! A pass reads two bytes a slot, in a row: 20 MB at 10 million connections. An entry is touched only when its deadline
//! has come (`deadline.rs`): once in a connection's timeout, not once a pass.
//!
//! Whoever has time claims the next portion of the pass, no sooner than its time of the second comes, so that each
//! second every slot is looked at by somebody. A worker that stands still keeps at most one portion from one pass; the
//! next pass, which others do, looks there again. A pass that could not be done in its second is finished before the
//! next begins.
//!
//! A packet never revives a connection that has expired, swept or not ([`FlowTable::observe`] looks): the sweep gives
//! back memory, and the only thing its pace decides is when.

use super::action::{AGING_INTERVAL, ActionWord};
use super::deadline::{Due, LINE};
use super::slot::{DIRECTIONS, incarnation, is_live};
use super::{FlowRef, FlowTable};
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// Lines that are claimed at once.
const PORTION: u32 = 64;

/// What touching an entry costs of the budget, of which a line of deadlines costs 1; and what removing it does.
const LOOK: usize = 4;
const REMOVAL: usize = 16;

/// The portion of a pass that a sweeper has claimed and not done yet. Each that sweeps has its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct SweepCursor {
    /// From this slot on, up to that one.
    slot: u32,
    end: u32,
    /// Whether the pass looks at the age of stamps.
    ages: bool,
}

/// What a portion of a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Connections removed.
    pub expired: usize,
    /// Nothing more is due now.
    pub done: bool,
}

/// How far the pass has been claimed: its second (32 bits), whether it ages stamps (1 bit), and the next line (31).
pub(super) struct Pass {
    word: AtomicU64,
    /// Generation of the last pass that aged stamps.
    aged_at: AtomicU32,
}

const AGES: u64 = 1 << 31;

impl Pass {
    /// As if one had been done at second 0.
    pub(super) fn new(lines: u32) -> Self {
        Self { word: AtomicU64::new(u64::from(lines)), aged_at: AtomicU32::new(0) }
    }

    /// The next portion, if its time has come. Lock-free: a swap fails when another has claimed.
    fn claim(&self, lines: u32, now: u64, generation: u32) -> Option<SweepCursor> {
        let (second, fraction) = ((now / 1000) as u32, (now % 1000) as u32);
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let behind = second.wrapping_sub((word >> 32) as u32).cast_signed();
            let (ages, line) = (word & AGES != 0, word as u32 & !(AGES as u32));
            let (next, portion) = if line == lines {
                if behind <= 0 || lines == 0 {
                    return None;
                }
                let ages = generation.wrapping_sub(self.aged_at.load(Ordering::Relaxed)) >= AGING_INTERVAL;
                (u64::from(second) << 32 | if ages { AGES } else { 0 }, None)
            } else {
                // By now so much of the pass should have been begun: all of it, if its second is over.
                let due = u64::from(lines) * u64::from(fraction + 1) / 1000;
                if behind < 0 || behind == 0 && u64::from(line) > due {
                    return None;
                }
                let end = (line + PORTION).min(lines);
                let portion = SweepCursor { slot: line * LINE, end: end * LINE, ages };
                (word - u64::from(line) + u64::from(end), Some(portion))
            };
            match self.word.compare_exchange_weak(word, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) if portion.is_some() => return portion,
                Ok(_) => {
                    if next & AGES != 0 {
                        self.aged_at.store(generation, Ordering::Relaxed);
                    }
                    word = next;
                }
                Err(current) => word = current,
            }
        }
    }
}

impl FlowTable {
    /// Goes on with the pass at `now` (milliseconds): removes connections that have expired, until nothing is due or
    /// the budget is used up, in cache lines of deadlines or their worth. `generation` is that of the caller's snapshot.
    pub fn sweep(&self, cursor: &mut SweepCursor, now: u64, generation: u32, budget: usize) -> Swept {
        let second = (now / 1000) as u32;
        let mut expired = 0;
        let mut used = 0;
        while used < budget {
            if cursor.slot >= cursor.end {
                match self.pass.claim(self.deadlines.lines(), now, generation) {
                    Some(portion) => *cursor = portion,
                    None => return Swept { expired, done: true },
                }
            }
            let starts_line = cursor.slot.is_multiple_of(LINE);
            if starts_line && !cursor.ages && !self.deadlines.any_has_come(cursor.slot / LINE, second) {
                cursor.slot += LINE;
                used += 1;
                continue;
            }
            let due = self.deadlines.get(cursor.slot);
            if due.has_come(second) {
                let removed = self.expire(cursor.slot, second);
                expired += usize::from(removed);
                used += if removed { REMOVAL } else { LOOK };
            }
            if cursor.ages && due != Due::FREE {
                self.age(cursor.slot, generation);
                used += LOOK;
            }
            cursor.slot += 1;
            used += usize::from(cursor.slot.is_multiple_of(LINE));
        }
        Swept { expired, done: false }
    }

    /// Removes the slot's connection if it has expired, else writes its deadline down. A packet that comes between the
    /// look and the removal changes the word that the removal swaps, and so saves the connection.
    fn expire(&self, slot: u32, now: u32) -> bool {
        let track = self.slots.track(slot);
        let flow = FlowRef { slot, incarnation: track.incarnation() };
        let Some(protocol) = self.slots.protocol(flow).filter(|_| is_live(flow.incarnation)) else {
            return false;
        };
        if self.timeouts.expired(protocol, track.state(), now) {
            return self.remove_unchanged(flow, track);
        }
        self.settle(slot, now);
        false
    }

    /// Moves the slot's deadline to what its connection asks for (the interleavings: `deadline.rs`). Lock-free: it
    /// begins anew only where another has written the deadline, a packet has changed the connection or another
    /// connection has come.
    pub(super) fn settle(&self, slot: u32, now: u32) {
        let mut written = self.deadlines.get(slot);
        loop {
            let track = self.slots.track(slot);
            let flow = FlowRef { slot, incarnation: track.incarnation() };
            // Where no connection stands, the slot's owner writes the next deadline.
            let Some(protocol) = self.slots.protocol(flow).filter(|_| is_live(flow.incarnation)) else {
                return;
            };
            let asked = self.due(protocol, track.state(), now);
            if asked == written || written == Due::FREE {
                return;
            }
            if let Err(other) = self.deadlines.exchange(slot, written, asked) {
                written = other;
                continue;
            }
            fence(Ordering::SeqCst);
            if self.slots.track(slot) == track {
                return;
            }
            written = asked;
        }
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
