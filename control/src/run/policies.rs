//! What policy counts and drops while it runs.

use std::time::Duration;

use margay_fastpath::Counters;
use margay_flowtable::{Policies, Publisher, RuleId, Snapshot, Trails};

use super::dataplane::Dataplane;
use super::workers::Workers;
use crate::admin::policies::{Counted, DropRow};
use crate::compile::policy::RuleIds;
use crate::policy_drops::RecentDrops;
use crate::rule_counts::RuleCounts;

#[derive(Debug, Default)]
pub(super) struct PolicyCounts {
    counts: RuleCounts,
    drops: RecentDrops,
}

impl PolicyCounts {
    /// These numbers mean other rules in what is published next.
    pub(super) fn begin(&mut self, given_again: &[RuleId], trails: &Trails, workers: &Workers) {
        self.counts.begin(given_again, trails, &counters(workers));
    }

    /// Has the next era of trails begin with what is published next, if it is time.
    pub(super) fn turn(
        &mut self,
        next: &mut Snapshot,
        trails: &Trails,
        workers: &Workers,
        publisher: &Publisher<Snapshot>,
        now: Duration,
    ) {
        if self.counts.turn(next, trails, &counters(workers), publisher, now) {
            tracing::info!(
                "flows that Log, Pass and staged rules match are judged again, to be counted by fewer trails"
            );
        }
    }

    /// Takes what the workers have dropped since.
    pub(super) fn collect(&mut self, workers: &Workers, rules: &RuleIds, policies: &Policies, now: Duration) {
        for counters in counters(workers) {
            counters.policy_drops.take().for_each(|drop| self.drops.take(&drop, rules, policies, now));
        }
    }

    pub(super) fn counted(
        &self,
        workers: &Workers,
        rules: &RuleIds,
        trails: &Trails,
        now: Duration,
    ) -> Counted {
        let (drops, drops_lost) = self.drops(workers, now);
        let counters = counters(workers);
        Counted {
            table: self.counts.table(rules, trails, &counters),
            flows_cut_short: counters.iter().map(|counters| counters.rules.flows_cut_short.get()).sum(),
            drops,
            drops_lost,
        }
    }

    /// Those of late, and how many more there were.
    pub(super) fn drops(&self, workers: &Workers, now: Duration) -> (Vec<DropRow>, u64) {
        let lost = counters(workers).iter().map(|counters| counters.policy_drops.lost.get()).sum();
        (self.drops.rows(now), lost)
    }
}

impl Dataplane {
    pub(crate) fn counted(&self) -> Counted {
        let (rules, now) = (self.compiler.rule_ids(), self.started.elapsed());
        self.policy_counts.counted(&self.workers, rules, self.table.trails(), now)
    }
}

fn counters(workers: &Workers) -> Vec<&Counters> {
    workers.iter().map(|(_, handle)| &*handle.counters).collect()
}
