//! Deadlines: for every slot the second before which nobody need look at it, and whether it may be evicted. Two bytes
//! a slot, apart from the entries, so that one cache line tells of 32 connections.
//!
//! The word is a hint that errs to one side. It may call for a look too early, which costs the look; never too late.
//! What a connection is, its track alone says, and whoever acts on a hint acts by a swap of the track.
//!
//! # Who writes it
//!
//! The owner of a slot: `fill` stores the first deadline, after the track; `clear` stores [`Due::FREE`], after the
//! connection has ended and before the slot is given back. A packet that shortens its connection's life ([`hasten`]
//! only ever makes it earlier). Whoever has looked at the connection ([`settle`] moves the word to what the track
//! says). Packets that lengthen a life write nothing: the sweep finds out when the old deadline has come.
//!
//! # Interleavings
//!
//! `settle` (1) reads the word, (2) reads the track, (3) swaps the word for what that track asks for, (4) looks at the
//! track again, and begins anew if it has changed. A packet (a) swaps the track and (b) makes the word earlier. Between
//! (3) and (4), and between (a) and (b), stands a sequentially consistent fence: so the second look sees the packet's
//! track, or the packet sees the word as `settle` left it or later. Either way the word ends no later than the packet
//! asks for.
//!
//! The slot's reuse: `clear` in between makes (3) fail, for the word is `FREE`. If the next connection's first deadline
//! happens to be the same word as before, (3) succeeds, and having read that word it has seen the track that was
//! stored before it; (4) then finds another incarnation. A late (b) finds `FREE` and does nothing, or asks for a look
//! at the next connection too early.
//!
//! [`hasten`]: Deadlines::hasten
//! [`settle`]: super::FlowTable::settle

use crate::sync::{AtomicU16, Ordering};

/// Slots of one line.
#[cfg(not(loom))]
pub(super) const LINE: u32 = 32;
#[cfg(loom)]
pub(super) const LINE: u32 = 2;

/// A deadline is at most so far ahead, in seconds: later ones are looked at in between. The other three quarters of
/// the circle are the past: no pause of the sweep under six hours makes a deadline look new.
pub(super) const HORIZON: u32 = (1 << 13) - 1;

/// Second (15 bits, a circle) and whether the connection may be evicted (1 bit).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due(u16);

impl Due {
    /// No connection, nothing to look at.
    pub(super) const FREE: Self = Self(0);

    /// Due at `second`, or before it if that is beyond the horizon. Both are of the caller's clock.
    pub(super) fn at(second: u64, now: u32, evictable: bool) -> Self {
        let ahead = second.saturating_sub(u64::from(now)).min(u64::from(HORIZON)) as u32;
        let word = (now.wrapping_add(ahead) << 1) as u16 | u16::from(evictable);
        // Where that is `FREE`'s word: a second early.
        Self(if word == 0 { word.wrapping_sub(2) } else { word })
    }

    /// Whether the second has come.
    #[inline]
    pub(super) fn has_come(self, now: u32) -> bool {
        // Twice the seconds ahead, less one, and the bit: from 0 to the horizon it is not due.
        self != Self::FREE && self.0.wrapping_sub((now << 1) as u16).wrapping_sub(2) >= (HORIZON << 1) as u16
    }

    #[inline]
    pub(super) fn is_evictable(self) -> bool {
        self.0 & 1 != 0
    }

    /// Seconds ahead of `now`; 0 if it has come.
    fn ahead(self, now: u32) -> u16 {
        if self.has_come(now) { 0 } else { self.0.wrapping_sub((now << 1) as u16) >> 1 }
    }

    /// The earlier of both deadlines, evictable if one is.
    fn sooner(self, other: Self, now: u32) -> Self {
        let first = if other.ahead(now) < self.ahead(now) { other } else { self };
        Self(first.0 | (self.0 | other.0) & 1)
    }
}

#[repr(align(64))]
struct Line([AtomicU16; LINE as usize]);

#[cfg(not(loom))]
const _: () = assert!(size_of::<Line>() == 64);

pub(super) struct Deadlines {
    lines: Box<[Line]>,
}

impl Deadlines {
    pub(super) fn new(slots: u32) -> Self {
        let line = || Line(std::array::from_fn(|_| AtomicU16::new(Due::FREE.0)));
        Self { lines: std::iter::repeat_with(line).take(slots.div_ceil(LINE) as usize).collect() }
    }

    pub(super) fn lines(&self) -> u32 {
        self.lines.len() as u32
    }

    #[inline]
    fn word(&self, slot: u32) -> &AtomicU16 {
        &self.lines[(slot / LINE) as usize].0[(slot % LINE) as usize]
    }

    #[inline]
    pub(super) fn get(&self, slot: u32) -> Due {
        Due(self.word(slot).load(Ordering::Acquire))
    }

    /// Whether the second of any slot of the line has come. Without a branch for each: most lines have none.
    #[inline]
    pub(super) fn any_has_come(&self, line: u32, now: u32) -> bool {
        let words = &self.lines[line as usize].0;
        words.iter().fold(false, |any, word| any | Due(word.load(Ordering::Relaxed)).has_come(now))
    }

    #[inline]
    pub(super) fn any_evictable(&self, line: u32) -> bool {
        let words = &self.lines[line as usize].0;
        words.iter().fold(0, |all, word| all | word.load(Ordering::Relaxed)) & 1 != 0
    }

    /// By the owner of the slot, after it has stored the track.
    pub(super) fn fill(&self, slot: u32, due: Due) {
        self.word(slot).store(due.0, Ordering::Release);
    }

    /// By the owner of the slot, after the connection has ended. A swap: it takes its place after those that came before
    /// it, and makes those that come after fail.
    pub(super) fn clear(&self, slot: u32) {
        self.word(slot).swap(Due::FREE.0, Ordering::AcqRel);
    }

    pub(super) fn exchange(&self, slot: u32, from: Due, to: Due) -> Result<(), Due> {
        let word = self.word(slot);
        word.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire).map(drop).map_err(Due)
    }

    /// Sees to it that the slot is looked at no later than `due`. Lock-free: the word changes under it only when
    /// somebody has looked at the connection, or has hastened it too.
    pub(super) fn hasten(&self, slot: u32, due: Due, now: u32) {
        let mut current = self.get(slot);
        while current != Due::FREE && current.sooner(due, now) != current {
            match self.exchange(slot, current, current.sooner(due, now)) {
                Ok(()) => return,
                Err(other) => current = other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_when_its_second_does_and_stays_come() {
        for now in [0, 1, 32_767, 32_768, 40_000, 65_535, u32::MAX - 1] {
            for (ahead, evictable) in [(0, false), (1, true), (20, true), (3601, false), (HORIZON, true)] {
                let due = Due::at(u64::from(now) + u64::from(ahead), now, evictable);
                assert_ne!(due, Due::FREE);
                for early in 2..=ahead {
                    assert!(!due.has_come(now.wrapping_add(ahead - early)), "{now} {ahead} {early}");
                }
                for late in 0..20_000 {
                    assert!(due.has_come(now.wrapping_add(ahead + late)), "{now} {ahead} {late}");
                }
            }
        }
    }

    #[test]
    fn what_is_beyond_the_horizon_is_looked_at_there() {
        let due = Due::at(u64::from(u32::MAX) * 2, 100, false);
        assert!(!due.has_come(100 + HORIZON - 1) && due.has_come(100 + HORIZON));
    }

    #[test]
    fn a_free_slot_is_never_due() {
        assert!((0..70_000).all(|now| !Due::FREE.has_come(now)) && !Due::FREE.is_evictable());
    }

    #[test]
    fn hastening_only_hastens() {
        let deadlines = Deadlines::new(1);
        let at = |second, evictable| Due::at(second, 1000, evictable);
        deadlines.hasten(0, at(1001, true), 1000);
        assert_eq!(deadlines.get(0), Due::FREE, "nobody is there");
        deadlines.fill(0, at(4600, false));
        for (asked, is) in [
            (at(1120, true), at(1120, true)),
            (at(1040, false), at(1040, true)),
            (at(1120, false), at(1040, true)),
            (at(900, false), at(1000, true)),
        ] {
            deadlines.hasten(0, asked, 1000);
            assert_eq!(deadlines.get(0), is);
        }
    }
}
