//! Back-to-back frames (RFC 2544, 26.4): the longest burst at full rate of which nothing is lost.

use std::time::Duration;

use super::repeated;
use crate::lab::trial::{Measured, Offered, Rate};

/// The shortest burst tried, in packets.
const SHORTEST: u64 = 64;

/// How close a burst that passes and one that fails have to come, as a share.
const RESOLUTION: f64 = 0.05;

/// A burst that ends by this time has had time to end by its packets.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst {
    /// Packets of the longest burst without loss; 0 where each one lost some.
    pub packets: u64,
    /// Nothing was lost of the longest burst that was tried: there may be no limit.
    pub is_longest_tried: bool,
}

/// Searches the longest burst: by doubling up to `most` packets, then by halves. Takes two trials for each doubling at
/// most, and two for each of the handful of halves.
pub fn back_to_back(
    most: u64,
    device: &mut impl FnMut(&Offered) -> anyhow::Result<Measured>,
) -> anyhow::Result<Burst> {
    let mut passes = |packets: u64| -> anyhow::Result<bool> {
        let offered = Offered { rate: Rate::Full, time: PATIENCE, packets: Some(packets) };
        let is_whole = |measured: &Measured| measured.received > 0 && measured.received == measured.sent;
        Ok(is_whole(&repeated(device, &offered, is_whole)?))
    };
    let (mut passed, mut failed) = (0, SHORTEST.min(most));
    while passes(failed)? {
        passed = failed;
        if passed == most {
            return Ok(Burst { packets: passed, is_longest_tried: true });
        }
        failed = (failed * 2).min(most);
    }
    while passed > 0 && failed as f64 > passed as f64 * (1.0 + RESOLUTION) {
        let middle = passed.midpoint(failed);
        if passes(middle)? {
            passed = middle;
        } else {
            failed = middle;
        }
    }
    Ok(Burst { packets: passed, is_longest_tried: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::method::simulated::Device;

    fn found(device: &mut Device) -> Burst {
        let burst = back_to_back(500_000, &mut |offered| Ok(device.trial(offered))).unwrap();
        assert!(device.trials <= 40, "{}", device.trials);
        burst
    }

    #[test]
    fn a_burst_is_what_the_ring_holds_and_what_leaves_it_meanwhile() {
        let mut device =
            Device { source: 2_000_000.0, capacity: 500_000.0, ring: 3_000.0, ..Device::default() };
        // A quarter of what comes leaves at once.
        let burst = found(&mut device);
        assert!((3_600..=4_100).contains(&burst.packets) && !burst.is_longest_tried, "{burst:?}");
    }

    #[test]
    fn a_device_that_is_faster_than_the_source_has_no_longest_burst() {
        let mut device = Device { source: 400_000.0, capacity: 500_000.0, ..Device::default() };
        assert_eq!(found(&mut device), Burst { packets: 500_000, is_longest_tried: true });
    }

    #[test]
    fn a_device_that_forwards_nothing_has_none() {
        let mut device = Device { capacity: 0.0, ring: 0.0, ..Device::default() };
        assert_eq!(found(&mut device), Burst { packets: 0, is_longest_tried: false });
        assert_eq!(device.trials, 2);
    }
}
