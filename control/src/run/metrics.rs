//! What the control thread knows, for who asks for figures.

use super::dataplane::Dataplane;
use super::report;
use crate::metrics::{Figures, Request, WorkerTime};

impl Dataplane {
    pub(super) fn measure(&self, request: Request) {
        // Whoever asked may have gone.
        drop(request.send(self.figures()));
    }

    /// Each worker's core, and what its time went into.
    pub(crate) fn worker_times(&self) -> Vec<(usize, WorkerTime)> {
        let time = |counters: &margay_fastpath::Counters| WorkerTime {
            busy_nanoseconds: counters.busy_nanoseconds.get(),
            latencies: (&counters.latency).into(),
        };
        self.workers.iter().map(|(core, handle)| (core, time(&handle.counters))).collect()
    }

    fn figures(&self) -> Figures {
        let counters = || self.workers.iter().map(|(_, handle)| &handle.counters);
        Figures {
            status: self.status(),
            published: self.published.map(|at| report::ago(at.elapsed())),
            times: self.worker_times().into_iter().map(|(_, time)| time).collect(),
            policy_drops_lost: counters().map(|counters| counters.policy_drops.lost.get()).sum(),
            flows_cut_short: counters().map(|counters| counters.rules.flows_cut_short.get()).sum(),
        }
    }
}
