//! How long frames have been in a worker's hands, as far as it took the time: counts by nanoseconds, in fixed memory.
//!
//! There are 32 buckets for each power of two, so that a bucket is 3.2 % wide at most, and one cache line is touched for
//! each burst that is timed.

use std::ops::RangeInclusive;

use super::Counter;

/// Buckets for each power of two, as a power of two.
const STEPS: u32 = 5;
/// The highest power of two that has buckets of its own. What took 2^33 ns (8.6 s) or longer counts in the last bucket.
const MOST_POWER: u32 = 32;
const BUCKETS: usize = ((MOST_POWER - STEPS + 2) as usize) << STEPS;

/// Frames by the time that they took.
#[derive(Debug)]
pub struct Latency {
    buckets: Box<[Counter]>,
    /// The times of all frames together, in nanoseconds.
    total: Counter,
}

/// Frames that took about the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LatencyBucket {
    pub nanoseconds: RangeInclusive<u64>,
    pub frames: u64,
}

impl Default for Latency {
    fn default() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| Counter::default()).collect(), total: Counter::default() }
    }
}

impl Latency {
    /// Counts so many frames that took so long.
    pub fn record(&self, nanoseconds: u64, frames: u64) {
        self.buckets[bucket(nanoseconds)].add(frames);
        self.total.add(nanoseconds.saturating_mul(frames));
    }

    /// The buckets that hold any frames, the shortest times first.
    pub fn buckets(&self) -> impl Iterator<Item = LatencyBucket> {
        let counted = self.buckets.iter().map(Counter::get).enumerate().filter(|(_, frames)| *frames > 0);
        counted.map(|(bucket, frames)| LatencyBucket { nanoseconds: range(bucket), frames })
    }

    /// The times of all frames together, in nanoseconds.
    pub fn total(&self) -> u64 {
        self.total.get()
    }
}

fn bucket(nanoseconds: u64) -> usize {
    match nanoseconds.checked_ilog2() {
        Some(power) if power > MOST_POWER => BUCKETS - 1,
        Some(power) if power >= STEPS => {
            let step = (nanoseconds >> (power - STEPS)) as usize & ((1 << STEPS) - 1);
            ((power - STEPS + 1) as usize) << STEPS | step
        }
        _ => nanoseconds as usize,
    }
}

/// The times that the bucket counts.
fn range(bucket: usize) -> RangeInclusive<u64> {
    let step = bucket as u64 & ((1 << STEPS) - 1);
    let Some(shift) = (bucket >> STEPS).checked_sub(1) else { return step..=step };
    let lowest = (step + (1 << STEPS)) << shift;
    lowest..=lowest + (1 << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_in_the_range_of_its_bucket_and_buckets_are_narrow() {
        let powers = (STEPS..=MOST_POWER).map(|power| 1u64 << power);
        for time in (0..200).chain(powers.flat_map(|power| [power, power + 1, power / 2 * 3, 2 * power - 1]))
        {
            let range = range(bucket(time));
            assert!(range.contains(&time), "{time} counts as {range:?}");
            let width = range.end() - range.start();
            assert!(width * 32 <= time, "{time} counts as {range:?}");
        }
    }

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        for next in 1..BUCKETS {
            assert_eq!(range(next - 1).end() + 1, *range(next).start());
        }
        assert_eq!(*range(BUCKETS - 1).end(), (2 << MOST_POWER) - 1);
    }

    #[test]
    fn what_is_counted_is_read_shortest_first() {
        let latency = Latency::default();
        for (time, frames) in [(u64::MAX, 1), (31, 2), (1000, 64), (1001, 1)] {
            latency.record(time, frames);
        }
        let read: Vec<_> = latency.buckets().map(|each| (*each.nanoseconds.start(), each.frames)).collect();
        assert_eq!(read, [(31, 2), (992, 65), (*range(BUCKETS - 1).start(), 1)]);
    }

    #[test]
    fn the_total_is_that_of_each_frame() {
        let latency = Latency::default();
        latency.record(1000, 64);
        latency.record(5, 2);
        assert_eq!(latency.total(), 64_010);
    }
}
