//! What rules have counted by trails, and when the next era of trails begins.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use margay_fastpath::Counters;
use margay_fastpath::counters::RuleCount;
use margay_flowtable::{Publisher, RuleId, Snapshot, TrailId, Trails};

use super::{add, since};

/// An era lasts at least so long. What is in force may need more trails than an era has, and then a new era helps nobody
/// and has flows judged again: there it happens seldom, and flows are cut short meanwhile.
const ERA: Duration = Duration::from_secs(600);
/// The next era begins when so many trails of this one are in use.
const MANY: u32 = Trails::ERA / 2;

#[derive(Clone, Debug, Default)]
pub(super) struct TrailCounts {
    /// What the counters of trails said when these last gave way.
    begun: HashMap<TrailId, RuleCount>,
    /// What rules had counted by trails that have given way.
    given_way: HashMap<RuleId, RuleCount>,
    /// Number of the first snapshot of this era, and when that was published. `None`: the first era.
    era: Option<(u64, Duration)>,
}

impl TrailCounts {
    /// What each rule has counted by trails that hold it.
    pub(super) fn of_all(&self, trails: &Trails, workers: &[&Counters]) -> HashMap<RuleId, RuleCount> {
        self.sum(trails, workers, |_| true)
    }

    /// The same of these rules alone, which reads the counters of few trails.
    pub(super) fn of_these(
        &self,
        rules: &[RuleId],
        trails: &Trails,
        workers: &[&Counters],
    ) -> HashMap<RuleId, RuleCount> {
        let rules: HashSet<RuleId> = rules.iter().copied().collect();
        if rules.is_empty() {
            HashMap::new()
        } else {
            self.sum(trails, workers, |rule| rules.contains(&rule))
        }
    }

    fn sum(
        &self,
        trails: &Trails,
        workers: &[&Counters],
        is_wanted: impl Fn(RuleId) -> bool,
    ) -> HashMap<RuleId, RuleCount> {
        let given_way = self.given_way.iter().filter(|(rule, _)| is_wanted(**rule));
        let mut sums: HashMap<RuleId, RuleCount> = given_way.map(|(rule, count)| (*rule, *count)).collect();
        for trail in trails.iter().filter(|trail| trails.rules(*trail).any(&is_wanted)) {
            let count = since(sum(trail, workers), self.begun.get(&trail));
            for rule in trails.rules(trail).filter(|rule| is_wanted(*rule)) {
                let sum = sums.entry(rule).or_default();
                *sum = add(*sum, count);
            }
        }
        sums
    }

    /// Has the next era begin with the snapshot, which is published next, where this one has many trails. Rules and what
    /// they match change for years, and no trail is ever taken out by itself. The trails that give way are those of the era
    /// before this one: no flow is counted by them any more, once all workers have taken a snapshot of this one.
    pub(super) fn turn(
        &mut self,
        snapshot: &mut Snapshot,
        trails: &Trails,
        workers: &[&Counters],
        publisher: &Publisher<Snapshot>,
        now: Duration,
    ) -> bool {
        let may_end = |(number, at)| publisher.is_taken(number) && now.saturating_sub(at) >= ERA;
        if trails.used(snapshot.trails) < MANY || !self.era.is_none_or(may_end) {
            return false;
        }
        for trail in trails.before(snapshot.trails) {
            let count = sum(trail, workers);
            let counted = since(count, self.begun.get(&trail));
            for rule in trails.rules(trail) {
                let sum = self.given_way.entry(rule).or_default();
                *sum = add(*sum, counted);
            }
            self.begun.insert(trail, count);
        }
        trails.make_room(snapshot.trails);
        snapshot.begin_trails();
        self.era = Some((publisher.number() + 1, now));
        true
    }
}

fn sum(trail: TrailId, workers: &[&Counters]) -> RuleCount {
    workers.iter().map(|counters| counters.rules.by_trail(trail)).fold(RuleCount::default(), add)
}
