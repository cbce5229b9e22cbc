//! How often the API server is written to, and how long a failure is left alone.

use std::time::Duration;

use tokio::time::Instant;

/// Bounds on what one gateway asks of the API server.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The Node's annotations follow each other no faster.
    pub gap: Duration,
    /// They are written again so often, with what has changed meanwhile.
    pub refresh: Duration,
    /// An Event waits up to so long before it is written: of many gateways that see the same, one is the first, and what is
    /// mended at once needs none.
    pub spread: Duration,
    /// Events that may be written one after the other, and how often there may be another after that.
    pub burst: u32,
    pub event: Duration,
    /// An Event on what is still so is written again after this time: the API server forgets them, after an hour as it
    /// comes.
    pub repeat: Duration,
    /// A failure is left alone for so long, and twice as long each time it fails again up to the other.
    pub retry: Duration,
    pub patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            gap: Duration::from_secs(5),
            refresh: Duration::from_secs(300),
            spread: Duration::from_secs(2),
            burst: 20,
            event: Duration::from_secs(2),
            repeat: Duration::from_secs(3600),
            retry: Duration::from_secs(1),
            patience: Duration::from_secs(120),
        }
    }
}

/// The time, or up to a tenth more: gateways that began together drift apart.
pub(super) fn jittered(time: Duration) -> Duration {
    time.mul_f64(1.0 + fastrand::f64() / 10.0)
}

/// When to try again what fails.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    until: Option<Instant>,
}

impl Backoff {
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    pub(super) fn failed(&mut self, pace: &Pace, now: Instant) {
        let longer = pace.retry.saturating_mul(1 << self.failures.min(16));
        // Anywhere in the second half of it: whom one API server refused do not come back together.
        let wait = longer.min(pace.patience).mul_f64(0.5 + fastrand::f64() / 2.0);
        self.failures += 1;
        self.until = Some(now + wait);
    }

    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_left_alone_for_longer_and_longer_up_to_a_bound() {
        let (pace, now) = (Pace::default(), Instant::now());
        let mut backoff = Backoff::default();
        for failures in 0..40 {
            backoff.failed(&pace, now);
            let whole = pace.retry.saturating_mul(1 << failures.min(16)).min(pace.patience);
            let wait = backoff.until().unwrap() - now;
            assert!(wait >= whole / 2 && wait <= whole, "{failures}: {wait:?}");
        }
        backoff.succeeded();
        assert_eq!(backoff.until(), None);
    }
}
