//! Frame loss rate (RFC 2544, 26.3): which share is lost at full rate, at 90 % of it, and so on.

use std::time::Duration;

use crate::lab::trial::{Measured, Offered, Rate};

/// Each trial offers so much less than the one before, as a share of the first.
const STEP: f64 = 0.1;

/// Shares on the way from all to a tenth.
const POINTS: u32 = 10;

/// One trial of the curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Packets a second that were sent.
    pub rate: f64,
    /// Packets a second that arrived.
    pub forwarded: f64,
    /// Share of the packets that was lost, 0 to 1.
    pub loss: f64,
}

/// The points from the highest rate down, until two trials one after the other have lost nothing.
pub fn loss_curve(
    time: Duration,
    device: &mut impl FnMut(&Offered) -> anyhow::Result<Measured>,
) -> anyhow::Result<Vec<Point>> {
    let mut points: Vec<Point> = Vec::new();
    let mut rate = Rate::Full;
    for point in 1..=POINTS {
        let measured = device(&Offered { rate, time, packets: None })?;
        points.push(Point { rate: measured.rate(), forwarded: measured.forwarded(), loss: measured.loss() });
        if points.iter().rev().take(2).filter(|point| point.loss == 0.0).count() == 2 {
            break;
        }
        rate = Rate::Pps(points[0].rate * (1.0 - STEP * f64::from(point)));
    }
    Ok(points)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::method::simulated::Device;

    fn curve(device: &mut Device) -> Vec<Point> {
        loss_curve(Duration::from_millis(300), &mut |offered| Ok(device.trial(offered))).unwrap()
    }

    #[test]
    fn loss_falls_with_the_rate_until_nothing_is_lost() {
        let mut device = Device { source: 1_000_000.0, capacity: 650_000.0, ..Device::default() };
        let points = curve(&mut device);
        assert_eq!(points.len(), 6, "100 to 70 % lose, 60 and 50 % do not: {points:?}");
        assert!(points.iter().map(|point| -point.loss).is_sorted());
        assert!((points[0].loss - 0.35).abs() < 0.02, "{points:?}");
        for (index, point) in points.iter().enumerate() {
            let expected = 1_000_000.0 - 100_000.0 * index as f64;
            assert!((point.rate / expected - 1.0).abs() < 0.02, "{points:?}");
        }
    }

    #[test]
    fn a_device_that_always_loses_some_is_asked_ten_times() {
        let mut device = Device { constant_loss: 0.01, ..Device::default() };
        assert_eq!(curve(&mut device).len(), 10);
    }
}
