//! What policy counts and drops while it runs.

use std::time::Duration;

use margay_fastpath::Counters;
use margay_flowtable::{Policies, RuleId};

use super::workers::Workers;
use crate::admin::policies::Counted;
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
    pub(super) fn begin(&mut self, given_again: Vec<RuleId>, workers: &Workers) {
        self.counts.begin(given_again, &counters(workers));
    }

    /// Takes what the workers have dropped since.
    pub(super) fn collect(&mut self, workers: &Workers, rules: &RuleIds, policies: &Policies, now: Duration) {
        for counters in counters(workers) {
            counters.policy_drops.take().for_each(|drop| self.drops.take(&drop, rules, policies, now));
        }
    }

    pub(super) fn counted(&self, workers: &Workers, rules: &RuleIds, now: Duration) -> Counted {
        let counters = counters(workers);
        Counted {
            table: self.counts.table(rules, &counters),
            drops: self.drops.rows(now),
            drops_lost: counters.iter().map(|counters| counters.policy_drops.lost.get()).sum(),
        }
    }
}

fn counters(workers: &Workers) -> Vec<&Counters> {
    workers.iter().map(|(_, handle)| &*handle.counters).collect()
}
