//! What has arrived of a trial: which packets, in which order, after which time.

use hdrhistogram::Histogram;

use crate::lab::load::stamp::Stamp;
use crate::lab::load::{Arrivals, latencies};

/// Packets are told apart among the last so many, so that a trial may last.
const WINDOW: u32 = 1 << 24;
const BITS: u32 = u32::BITS;

#[derive(Debug)]
pub(super) struct Tally {
    trial: u8,
    /// For 32 numbers each, how often the window had passed before them and, in the low half, a bit for each.
    seen: Vec<u64>,
    highest: Option<u32>,
    pub(super) packets: u64,
    duplicates: u64,
    reordered: u64,
    latency: Histogram<u64>,
}

impl Tally {
    /// Of a trial of which nothing has arrived.
    pub(super) fn new(trial: u8) -> Self {
        Self {
            trial,
            seen: vec![0; (WINDOW / BITS) as usize],
            highest: None,
            packets: 0,
            duplicates: 0,
            reordered: 0,
            latency: latencies(),
        }
    }

    /// Counts a packet that arrived at `now`, if it is of this trial.
    pub(super) fn count(&mut self, stamp: Stamp, now: u64) {
        if stamp.trial != self.trial {
            return;
        }
        self.packets += 1;
        if self.is_first(stamp.number) {
            let is_overtaken = self.highest.is_some_and(|highest| is_before(stamp.number, highest));
            self.reordered += u64::from(is_overtaken);
            if !is_overtaken {
                self.highest = Some(stamp.number);
            }
        } else {
            self.duplicates += 1;
        }
        self.latency.saturating_record(now.saturating_sub(stamp.departure));
    }

    fn is_first(&mut self, number: u32) -> bool {
        let word = &mut self.seen[(number % WINDOW / BITS) as usize];
        let (bit, round) = (1 << (number % BITS), u64::from(number / WINDOW) << 32);
        if *word & !u64::from(u32::MAX) != round {
            *word = round;
        }
        let is_first = *word & bit == 0;
        *word |= bit;
        is_first
    }

    pub(super) fn arrivals(&self) -> Arrivals {
        Arrivals {
            received: self.packets - self.duplicates,
            duplicates: self.duplicates,
            reordered: self.reordered,
            latency: self.latency.clone(),
        }
    }
}

/// Of numbers that begin anew after the last.
fn is_before(number: u32, other: u32) -> bool {
    number.wrapping_sub(other).cast_signed() < 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What became of packets of these numbers: different ones, duplicates, reordered ones.
    fn counted(numbers: &[u32]) -> [u64; 3] {
        let mut tally = Tally::new(1);
        for &number in numbers {
            tally.count(Stamp { trial: 1, number, departure: 100 }, 350);
            tally.count(Stamp { trial: 2, number: number ^ 1, departure: 0 }, 350);
        }
        let Arrivals { received, duplicates, reordered, latency } = tally.arrivals();
        assert_eq!(latency.len(), numbers.len() as u64);
        assert!(latency.equivalent(latency.max(), 250));
        [received, duplicates, reordered]
    }

    #[test]
    fn what_comes_twice_or_late_is_seen() {
        assert_eq!(counted(&[0, 1, 2]), [3, 0, 0]);
        assert_eq!(counted(&[0, 1, 1, 0, 2]), [3, 2, 0]);
        assert_eq!(counted(&[0, 3, 1, 2, 4]), [5, 0, 2]);
        // The window passes, and numbers begin anew.
        assert_eq!(counted(&[5, WINDOW + 5, WINDOW + 5]), [2, 1, 0]);
        assert_eq!(counted(&[u32::MAX, 0, 1]), [3, 0, 0]);
    }
}
