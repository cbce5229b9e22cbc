//! Cycles, as the processor's time stamp counter counts them.

use std::hint::spin_loop;
use std::time::{Duration, Instant};

use anyhow::ensure;

/// How long the counter is held against the system's clock.
const CALIBRATION: Duration = Duration::from_millis(50);

/// The time stamp counter. It runs at one rate whatever the core's clock does, so its cycles are time in another unit.
#[derive(Clone, Debug)]
pub struct Clock {
    clock: quanta::Clock,
    /// Counts in a nanosecond.
    rate: f64,
}

impl Clock {
    /// Fails where the counter cannot be used.
    pub fn new() -> anyhow::Result<Self> {
        let clock = quanta::Clock::new();
        let (started, start) = (Instant::now(), clock.raw());
        while started.elapsed() < CALIBRATION {
            spin_loop();
        }
        let rate = (clock.raw() - start) as f64 / started.elapsed().as_nanos() as f64;
        // Without a usable counter the library counts nanoseconds instead, on x86-64. (Elsewhere a counter may really run
        // at one a nanosecond.)
        ensure!(
            !cfg!(target_arch = "x86_64") || (rate - 1.0).abs() > 0.005,
            "no time stamp counter of constant rate: cycles cannot be measured here"
        );
        Ok(Self { clock, rate })
    }

    #[inline]
    pub fn cycles(&self) -> u64 {
        self.clock.raw()
    }

    pub fn nanoseconds(&self, cycles: f64) -> f64 {
        cycles / self.rate
    }
}
