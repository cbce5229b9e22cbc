//! Latency (RFC 2544, 26.2, at several rates as in RFC 8219): what packets take at shares of the throughput.

use std::time::Duration;

use super::repeated;
use crate::lab::trial::{Measured, Offered, Rate};

/// What packets took at one rate.
#[derive(Clone, Debug)]
pub struct AtShare {
    /// Of the throughput.
    pub percent: u8,
    pub measured: Measured,
}

/// Offers so many percent of the rate, one after the other. A trial that loses more than `goal` is not what was asked for, and is repeated.
pub fn latency(
    rate: f64,
    percents: &[u8],
    time: Duration,
    goal: f64,
    device: &mut impl FnMut(&Offered) -> anyhow::Result<Measured>,
) -> anyhow::Result<Vec<AtShare>> {
    let mut at_shares = Vec::new();
    for &percent in percents {
        let offered = Offered { rate: Rate::Pps(rate * f64::from(percent) / 100.0), time, packets: None };
        let measured = repeated(device, &offered, |measured| measured.loss() <= goal)?;
        at_shares.push(AtShare { percent, measured });
    }
    Ok(at_shares)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::method::simulated::Device;

    #[test]
    fn packets_wait_longer_the_closer_the_rate_comes_to_the_throughput() {
        let mut device = Device { capacity: 500_000.0, noise: 0.2, ..Device::default() };
        let percents = [10, 50, 90, 150];
        let time = Duration::from_millis(500);
        let found =
            latency(500_000.0, &percents, time, 0.001, &mut |offered| Ok(device.trial(offered))).unwrap();
        let p99: Vec<u64> = found.iter().map(|at| at.measured.latency.value_at_quantile(0.99)).collect();
        assert!(p99.is_sorted() && p99[0] < p99[2] && p99[2] < p99[3], "{p99:?}");
        for (at, percent) in found.iter().zip(percents) {
            assert!((at.measured.rate() / (f64::from(percent) * 5_000.0) - 1.0).abs() < 0.02, "{percent}");
        }
        assert_eq!(device.trials, 5, "the last one lost, and was repeated");
    }
}
