//! Latencies as the sink of BPF counts them, in buckets of at most 1.6 % width, and as reports have them.

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

/// As in `bpf/sink.bpf.c`: 64 buckets for each power of two, up to 2^36 ns.
const STEPS: u32 = 6;
const MOST_POWER: u32 = 35;
pub(super) const BUCKETS: usize = ((MOST_POWER - STEPS + 2) as usize) << STEPS;

/// A histogram of nanoseconds, to 68 s.
pub fn latencies() -> Histogram<u64> {
    let mut histogram =
        Histogram::new_with_bounds(1, 1 << (MOST_POWER + 1), 3).expect("bounds that it takes");
    // What is longer, or a clock that is wrong, counts as its end.
    histogram.auto(false);
    histogram
}

/// Adds what is in the buckets, as their middles.
pub(super) fn add(histogram: &mut Histogram<u64>, buckets: impl Iterator<Item = u64>) -> Result<()> {
    for (bucket, count) in (0..BUCKETS as u32).zip(buckets) {
        if count != 0 {
            histogram.record_n(middle(bucket), count).context("a latency beyond the histogram")?;
        }
    }
    Ok(())
}

fn middle(bucket: u32) -> u64 {
    let Some(shift) = (bucket >> STEPS).checked_sub(1) else {
        return u64::from(bucket);
    };
    let step = u64::from(bucket & ((1 << STEPS) - 1)) + (1 << STEPS);
    (step << shift) + (1 << shift >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the program does it.
    fn bucket(time: u64) -> u32 {
        match time.checked_ilog2() {
            Some(power) if power > MOST_POWER => BUCKETS as u32 - 1,
            Some(power) if power >= STEPS => {
                (power - STEPS + 1) << STEPS | (time >> (power - STEPS)) as u32 & ((1 << STEPS) - 1)
            }
            _ => time as u32,
        }
    }

    #[test]
    fn the_middle_of_a_bucket_is_near_all_that_is_in_it() {
        for time in (0..200).chain((6..36).flat_map(|power| [1 << power, (1 << power) + 1, (2 << power) - 1]))
        {
            let middle = middle(bucket(time));
            assert_eq!(bucket(middle), bucket(time), "{time}");
            assert!(middle.abs_diff(time) as f64 <= 0.008 * time as f64, "{time} counts as {middle}");
        }
    }

    #[test]
    fn the_longest_latency_is_counted() {
        let mut histogram = latencies();
        add(&mut histogram, (0..BUCKETS as u64).map(|_| 1)).unwrap();
        assert_eq!(histogram.len(), BUCKETS as u64);
        assert_eq!(bucket(u64::MAX) as usize, BUCKETS - 1);
    }
}
