//! What a worker's time goes into: how much of it is turns that moved frames, and how long bursts were in its hands.
//!
//! The time of a turn is the difference of two readings that the loop takes anyway. Of bursts few are timed
//! ([`BURSTS_PER_SAMPLE`]): the clock is read twice for each of these, and for the others a number is counted down.

use std::time::{Duration, Instant};

use crate::counters::Counters;
use crate::egress::Egress;

/// One burst in so many is timed, from when it was taken from its port until its frames were handed on: to the kernel, or
/// to the worker who has the port. All frames of the burst count with that time.
pub const BURSTS_PER_SAMPLE: u32 = 32;

/// What a port has no room for waits, and the burst's time goes on; no longer than this, for the port may be down.
const LONGEST: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Stopwatch {
    /// When the turn began that is under way, in nanoseconds.
    turn: u64,
    /// Whether the last turn moved a frame.
    was_busy: bool,
    /// Bursts until the next that is timed, that one included.
    bursts: u32,
    sample: Option<Sample>,
}

/// A burst under way.
#[derive(Debug)]
struct Sample {
    taken: Instant,
    frames: usize,
    /// Frames that waited for their ports before it came.
    waiting: usize,
}

impl Default for Stopwatch {
    fn default() -> Self {
        Self { turn: 0, was_busy: false, bursts: 1, sample: None }
    }
}

impl Stopwatch {
    /// A turn begins at `now`, nanoseconds of a monotonic clock.
    #[inline]
    pub(super) fn begin_turn(&mut self, now: u64, counters: &Counters) {
        let last = now.saturating_sub(std::mem::replace(&mut self.turn, now));
        if std::mem::take(&mut self.was_busy) {
            counters.busy_nanoseconds.add(last);
        }
    }

    #[inline]
    pub(super) fn end_turn(&mut self, is_busy: bool) {
        self.was_busy = is_busy;
    }

    /// A burst has been taken from its port, and nothing else has been done with it.
    #[inline]
    pub(super) fn take_burst(&mut self, frames: usize, egress: &Egress) {
        self.bursts -= 1;
        if self.bursts == 0 {
            self.begin_sample(frames, egress);
        }
    }

    #[cold]
    fn begin_sample(&mut self, frames: usize, egress: &Egress) {
        self.bursts = BURSTS_PER_SAMPLE;
        if self.sample.is_none() {
            self.sample = Some(Sample { taken: Instant::now(), frames, waiting: egress.len() });
        }
    }

    /// What waited has been handed on, as far as its ports have room.
    #[inline]
    pub(super) fn transmitted(&mut self, egress: &Egress, counters: &Counters) {
        if self.sample.is_some() {
            self.end_sample(egress, counters);
        }
    }

    /// Frames leave in the order in which they came, so the burst is gone when no more wait than before it. Behind a port
    /// that has had no room all along its frames leave a burst later than that, or are dropped.
    #[cold]
    fn end_sample(&mut self, egress: &Egress, counters: &Counters) {
        let Some(sample) = &self.sample else { return };
        let time = sample.taken.elapsed();
        if egress.len() <= sample.waiting || time >= LONGEST {
            let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            counters.latency.record(nanoseconds, sample.frames as u64);
            self.sample = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_busy_turns_counts_and_that_of_others_does_not() {
        let (mut stopwatch, counters) = (Stopwatch::default(), Counters::with_rules(1));
        for (began, is_busy) in [(5, false), (100, true), (130, true), (150, false), (1000, true)] {
            stopwatch.begin_turn(began, &counters);
            stopwatch.end_turn(is_busy);
        }
        assert_eq!(counters.busy_nanoseconds.get(), 30 + 20);
    }
}
