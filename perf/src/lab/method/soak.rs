//! A long trial below the throughput, in which flows end and new ones come: what is lost, how long packets take and how much
//! memory the gateway has, over time.

use std::time::Duration;

use crate::lab::trial::{Measured, Offered, Rate};

/// One part of the trial.
#[derive(Clone, Debug)]
pub struct Slice {
    /// From the soak's begin to this slice's end, as sent.
    pub at: Duration,
    pub measured: Measured,
    /// Resident memory of the gateway in bytes, where it has any of its own.
    pub resident: Option<u64>,
}

/// Offers `rate` in slices, one after the other. The flows of a slice are for the device to renew.
pub fn soak(
    rate: f64,
    slices: u32,
    slice: Duration,
    device: &mut impl FnMut(&Offered) -> anyhow::Result<Measured>,
    mut resident: impl FnMut() -> Option<u64>,
) -> anyhow::Result<Vec<Slice>> {
    let mut at = Duration::ZERO;
    let mut parts = Vec::new();
    for _ in 0..slices {
        let measured = device(&Offered { rate: Rate::Pps(rate), time: slice, packets: None })?;
        at += measured.time;
        parts.push(Slice { at, measured, resident: resident() });
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::method::simulated::Device;

    #[test]
    fn slices_follow_each_other_and_carry_the_memory_of_their_end() {
        let mut device = Device { capacity: 500_000.0, ..Device::default() };
        let mut bytes = 1_000_000;
        let slice = Duration::from_millis(200);
        let resident = || {
            bytes += 500;
            Some(bytes)
        };
        let parts = soak(400_000.0, 5, slice, &mut |offered| Ok(device.trial(offered)), resident).unwrap();
        assert_eq!(device.trials, 5);
        let last = parts.last().unwrap();
        assert_eq!((parts.len(), last.resident), (5, Some(1_002_500)));
        assert!((last.at.as_secs_f64() - 1.0).abs() < 0.01, "{:?}", last.at);
        assert!(parts.iter().all(|part| part.measured.loss() == 0.0));
    }
}
