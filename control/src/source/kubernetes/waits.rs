//! How long to wait after a failure: longer after each, and as long as chance says. Gateways that lost one server do not
//! come back to it in step.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use super::request::Failure;

/// The waits after failures in a row: from half a second, doubled each time up to 10 seconds, and up to as much again.
#[derive(Debug)]
pub(super) struct Waits {
    times: ExponentialBackoff,
    has_answered: bool,
}

const SHORTEST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(10);

impl Default for Waits {
    fn default() -> Self {
        Self { times: times(), has_answered: true }
    }
}

impl Waits {
    pub(super) fn next(&mut self, failure: &Failure) -> Duration {
        // A server that is back, though it does not do as it is asked yet, is soon ready.
        let has_answered = matches!(failure, Failure::Answer(_));
        if has_answered && !self.has_answered {
            self.times = times();
        }
        self.has_answered = has_answered;
        let wait = self.times.next().unwrap_or(LONGEST);
        wait.max(Duration::from_secs(failure.retry_after().into()))
    }
}

fn times() -> ExponentialBackoff {
    let times = ExponentialBuilder::default().with_min_delay(SHORTEST).with_max_delay(LONGEST);
    times.with_jitter().without_max_times().build()
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn waits_grow_to_their_longest_and_begin_anew_when_the_server_is_back() {
        let gone = Failure::Connection("refused".to_owned());
        let busy = |seconds| {
            let mut status = Status::failure("busy", "").with_code(503);
            status.details =
                serde_json::from_value(serde_json::json!({"retryAfterSeconds": seconds})).unwrap();
            Failure::Answer(status.boxed())
        };
        let mut waits = Waits::default();
        for least in [500, 1000, 2000, 4000, 8000, 10_000, 10_000] {
            let least = Duration::from_millis(least);
            let wait = waits.next(&gone);
            assert!(wait >= least && wait <= least * 2, "{wait:?} for {least:?}");
        }
        assert!(waits.next(&busy(0)) <= SHORTEST * 2);
        assert!(waits.next(&busy(0)) >= SHORTEST * 2);
        assert_eq!(waits.next(&busy(60)), Duration::from_secs(60));
    }
}
