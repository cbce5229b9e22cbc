//! What every rule has counted, summed over the workers, since the rule has its number.
//!
//! Numbers of rules that are gone are given to others after a rest, and the workers' counters go on: what stood there
//! when a number was given again is taken off.

mod trails;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

use margay_fastpath::Counters;
use margay_fastpath::counters::RuleCount;
use margay_flowtable::{Publisher, RuleId, Snapshot, Trails};

use self::trails::TrailCounts;
use crate::admin::policies::{Counts, RuleRow};
use crate::compile::policy::{RuleIds, RuleName};

/// Where the counts of rules begin.
#[derive(Clone, Debug, Default)]
pub struct RuleCounts {
    /// Of numbers that have been given again: what their counters said then.
    begun: HashMap<RuleId, RuleCount>,
    by_trails: TrailCounts,
}

/// Rules and what they have counted, as of one moment. Cheap to take; [`Table::rows`] is for another thread.
#[derive(Debug)]
pub struct Table {
    counted: Vec<(RuleName, RuleCount)>,
    pub beyond: Counts,
}

impl RuleCounts {
    /// These numbers mean other rules from now on.
    pub fn begin(&mut self, given_again: &[RuleId], trails: &Trails, workers: &[&Counters]) {
        let by_trails = self.by_trails.of_these(given_again, trails, workers);
        for rule in given_again {
            self.begun.insert(*rule, sum(*rule, workers, &by_trails));
        }
    }

    /// Has the next era of trails begin with the snapshot, which is published next, if it is time. True if it does.
    pub fn turn(
        &mut self,
        snapshot: &mut Snapshot,
        trails: &Trails,
        workers: &[&Counters],
        publisher: &Publisher<Snapshot>,
        now: Duration,
    ) -> bool {
        self.by_trails.turn(snapshot, trails, workers, publisher, now)
    }

    pub fn table(&self, rules: &RuleIds, trails: &Trails, workers: &[&Counters]) -> Table {
        let by_trails = self.by_trails.of_all(trails, workers);
        let of = |rule| since(sum(rule, workers, &by_trails), self.begun.get(&rule));
        let counted = rules.iter().map(|(rule, name)| (name.clone(), of(rule))).collect();
        // What is beyond has one number, the first that is not counted by itself.
        let beyond = |counters: &&Counters| counters.rules.beyond();
        let number = workers.first().map(|counters| RuleId(counters.rules.capacity()));
        let trailed = number.and_then(|number| by_trails.get(&number)).copied().unwrap_or_default();
        let beyond = workers.iter().map(beyond).fold(trailed, add);
        Table { counted, beyond: beyond.into() }
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

/// What the rule has counted itself, and by trails; nothing for one that is counted together with others.
fn sum(rule: RuleId, workers: &[&Counters], by_trails: &HashMap<RuleId, RuleCount>) -> RuleCount {
    let own: Vec<RuleCount> = workers.iter().filter_map(|counters| counters.rules.get(rule)).collect();
    let trailed = by_trails.get(&rule).filter(|_| !own.is_empty()).copied().unwrap_or_default();
    own.into_iter().fold(trailed, add)
}

fn since(now: RuleCount, then: Option<&RuleCount>) -> RuleCount {
    let Some(then) = then else { return now };
    RuleCount {
        packets: now.packets.wrapping_sub(then.packets),
        bytes: now.bytes.wrapping_sub(then.bytes),
        flows: now.flows.wrapping_sub(then.flows),
        denied: now.denied.wrapping_sub(then.denied),
    }
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
