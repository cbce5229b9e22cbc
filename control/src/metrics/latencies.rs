//! How long frames were in the workers' hands: what a worker has counted, as one reads it.

use hdrhistogram::Histogram;
use margay_fastpath::counters::{Latency, LatencyBucket};

/// Powers of two whose nanoseconds are the bounds of what Prometheus is told: from a microsecond to an eighth of a second.
const BOUNDS: std::ops::RangeInclusive<u32> = 10..=27;

/// Digits of a time that a reader of the histogram has, and the longest time, in nanoseconds: more than the workers' buckets
/// tell apart, and longer than they count.
const DIGITS: u8 = 3;
const LONGEST: u64 = 1 << 34;

/// Frames by the time that they took, of the bursts that were timed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latencies {
    /// The shortest times first; none is empty.
    pub buckets: Vec<LatencyBucket>,
    /// Of all frames together, in nanoseconds.
    pub total: u64,
}

impl From<&Latency> for Latencies {
    fn from(latency: &Latency) -> Self {
        Self { buckets: latency.buckets().collect(), total: latency.total() }
    }
}

impl Latencies {
    pub fn frames(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.frames).sum()
    }

    /// The same for who asks how long so many in a hundred took. A frame counts with the middle of its bucket.
    pub fn histogram(&self) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, LONGEST, DIGITS).expect("bounds that it can have");
        for LatencyBucket { nanoseconds, frames } in &self.buckets {
            let middle = nanoseconds.start().midpoint(*nanoseconds.end());
            histogram.saturating_record_n(middle, *frames);
        }
        histogram
    }

    /// The same as Prometheus is told it: seconds that frames took less than, and how many of them took longer than those
    /// before; the last bound is infinity.
    pub fn bounded(&self) -> Vec<(f64, u64)> {
        let mut buckets = self.buckets.iter().peekable();
        let bounds = BOUNDS.map(|power| 1u64 << power);
        let mut bounded: Vec<(f64, u64)> = bounds
            .map(|bound| {
                let below =
                    std::iter::from_fn(|| buckets.next_if(|bucket| *bucket.nanoseconds.end() < bound));
                (bound as f64 / 1e9, below.map(|bucket| bucket.frames).sum())
            })
            .collect();
        bounded.push((f64::INFINITY, buckets.map(|bucket| bucket.frames).sum()));
        bounded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(times: &[(u64, u64)]) -> Latencies {
        let latency = Latency::default();
        for (time, frames) in times {
            latency.record(*time, *frames);
        }
        (&latency).into()
    }

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let latencies = counted(&[(2_000, 900), (50_000, 90), (7_000_000, 10)]);
        let histogram = latencies.histogram();
        for (quantile, time) in [(0.5, 2_000), (0.89, 2_000), (0.95, 50_000), (0.995, 7_000_000)] {
            let read = histogram.value_at_quantile(quantile);
            assert!(read.abs_diff(time) as f64 <= 0.03 * time as f64, "{quantile}: {read}, and not {time}");
        }
        assert_eq!((histogram.len(), latencies.frames()), (1000, 1000));
        assert_eq!(latencies.total, 900 * 2_000 + 90 * 50_000 + 10 * 7_000_000);
    }

    #[test]
    fn no_time_at_all_has_no_frames() {
        let latencies = counted(&[]);
        assert_eq!((latencies.histogram().len(), latencies.frames()), (0, 0));
        assert!(latencies.bounded().iter().all(|(_, frames)| *frames == 0));
    }

    #[test]
    fn each_frame_is_below_the_bound_that_it_counts_for() {
        let bounded =
            counted(&[(0, 1), (1023, 2), (1024, 4), (2047, 8), (1 << 27, 16), (u64::MAX, 32)]).bounded();
        assert_eq!(bounded[..3], [(1.024e-6, 3), (2.048e-6, 12), (4.096e-6, 0)]);
        assert_eq!(bounded.last(), Some(&(f64::INFINITY, 48)));
        assert_eq!(bounded.iter().map(|(_, frames)| frames).sum::<u64>(), 63);
        assert!(bounded.is_sorted_by(|a, b| a.0 < b.0));
    }
}
