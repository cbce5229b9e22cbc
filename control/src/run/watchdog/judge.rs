//! Whether a worker gets on, by what is seen of it at each look.

use std::time::Duration;

use super::thread_state::ThreadState;
use super::{LOOK, STUCK};

/// A look that comes so long after the one before says nothing: whoever looks did not run either.
const LATE: Duration = Duration::from_millis(LOOK.as_millis() as u64 * 4);
/// Processor time of one turn that no worker has any use for.
const OWN: Duration = Duration::from_millis(STUCK.as_millis() as u64 / 4);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    GetsOn,
    /// No turn since the look before, for so long by now.
    Still(Duration),
    /// The same for so long that it would be stuck, if it had had the processor. Told once for each such time.
    Starved(Duration),
    Stuck(Duration),
}

/// A worker that has made no turn.
#[derive(Clone, Copy, Debug)]
struct Still {
    since: Duration,
    /// Processor time that its thread had by then.
    used: Duration,
    is_told: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Worker {
    turns: Option<u64>,
    still: Option<Still>,
}

/// What was seen of the workers.
#[derive(Debug)]
pub(super) struct Judge {
    workers: Vec<Worker>,
    now: Duration,
}

impl Judge {
    pub(super) fn new(workers: usize, now: Duration) -> Self {
        Self { workers: vec![Worker::default(); workers], now }
    }

    /// A look at all of them begins.
    pub(super) fn begin(&mut self, now: Duration) {
        if now.saturating_sub(self.now) > LATE {
            self.workers.fill(Worker::default());
        }
        self.now = now;
    }

    /// What is to be said of a worker that has made so many turns.
    pub(super) fn look(
        &mut self,
        index: usize,
        turns: u64,
        state: impl FnOnce() -> Option<ThreadState>,
    ) -> Finding {
        let (now, worker) = (self.now, &mut self.workers[index]);
        if worker.turns != Some(turns) {
            *worker = Worker { turns: Some(turns), still: None };
            return Finding::GetsOn;
        }
        // A thread that is not there has ended, which is told otherwise.
        let Some(state) = state() else { return Finding::GetsOn };
        if state.is_stopped() {
            // By a debugger, for one: it is not its own fault, and over when that lets go.
            worker.still = None;
            return Finding::GetsOn;
        }
        let still = worker.still.get_or_insert(Still { since: now, used: state.used, is_told: false });
        let time = now.saturating_sub(still.since);
        if time < STUCK {
            return Finding::Still(time);
        }
        let used = state.used.saturating_sub(still.used);
        if state.is_ready() && used < OWN {
            let is_new = !std::mem::replace(&mut still.is_told, true);
            return if is_new { Finding::Starved(time) } else { Finding::Still(time) };
        }
        Finding::Stuck(time)
    }
}
