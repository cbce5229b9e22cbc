//! What every rule has counted, summed over the workers, since the rule has its number.
//!
//! Numbers of rules that are gone are given to others after a rest, and the workers' counters go on: what stood there
//! when a number was given again is taken off.

use std::cmp::Reverse;
use std::collections::HashMap;

use margay_fastpath::Counters;
use margay_fastpath::counters::RuleCount;
use margay_flowtable::RuleId;

use crate::admin::policies::{Counts, RuleRow};
use crate::compile::policy::{RuleIds, RuleName};

/// Where the counts of rules begin.
#[derive(Clone, Debug, Default)]
pub struct RuleCounts {
    /// Of numbers that have been given again: what their counters said then.
    begun: HashMap<RuleId, RuleCount>,
}

/// Rules and what they have counted, as of one moment. Cheap to take; [`Table::rows`] is for another thread.
#[derive(Debug)]
pub struct Table {
    counted: Vec<(RuleName, RuleCount)>,
    pub beyond: Counts,
}

impl RuleCounts {
    /// These numbers mean other rules from now on.
    pub fn begin(&mut self, given_again: Vec<RuleId>, workers: &[&Counters]) {
        for rule in given_again {
            self.begun.insert(rule, sum(rule, workers));
        }
    }

    pub fn table(&self, rules: &RuleIds, workers: &[&Counters]) -> Table {
        let counted = rules.iter().map(|(rule, name)| (name.clone(), self.of(rule, workers))).collect();
        let beyond = workers.iter().map(|counters| counters.rules.beyond()).fold(RuleCount::default(), add);
        Table { counted, beyond: beyond.into() }
    }

    fn of(&self, rule: RuleId, workers: &[&Counters]) -> RuleCount {
        let now = sum(rule, workers);
        let Some(then) = self.begun.get(&rule) else { return now };
        RuleCount {
            packets: now.packets.wrapping_sub(then.packets),
            bytes: now.bytes.wrapping_sub(then.bytes),
            flows: now.flows.wrapping_sub(then.flows),
            denied: now.denied.wrapping_sub(then.denied),
        }
    }
}

impl Table {
    /// The most packets first, then the most flows; what never matched comes last, in order of policies.
    pub fn rows(self) -> Vec<RuleRow> {
        let row =
            |(name, count): (RuleName, RuleCount)| RuleRow { rule: (&name).into(), counts: count.into() };
        let mut rows: Vec<RuleRow> = self.counted.into_iter().map(row).collect();
        let hits = |row: &RuleRow| (row.counts.packets, row.counts.flows, row.counts.denied);
        rows.sort_unstable_by(|a, b| {
            Reverse(hits(a)).cmp(&Reverse(hits(b))).then_with(|| a.rule.cmp(&b.rule))
        });
        rows
    }
}

fn sum(rule: RuleId, workers: &[&Counters]) -> RuleCount {
    workers.iter().filter_map(|counters| counters.rules.get(rule)).fold(RuleCount::default(), add)
}

fn add(a: RuleCount, b: RuleCount) -> RuleCount {
    RuleCount {
        packets: a.packets + b.packets,
        bytes: a.bytes + b.bytes,
        flows: a.flows + b.flows,
        denied: a.denied + b.denied,
    }
}

#[cfg(test)]
mod tests;
