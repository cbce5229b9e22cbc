//! What Margay is to reach beside the others in one run, and whether it did.

use crate::lab::case::{Case, Dataplane, Job, Metric};
use crate::lab::results::{Results, Row};

/// The case that goals are of.
pub(super) const SIZE: u16 = 64;
pub(super) const FLOWS: u32 = 10_000;
pub(super) const POLICIES: u32 = 1;
/// And the one that many policies are tried with.
const MANY_POLICIES: u32 = 10_000;

/// What Margay's figure is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// That of another dataplane.
    Other(Dataplane),
    /// Its own with one policy: the figure is that with many.
    OnePolicy,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bound {
    AtLeast(f64),
    AtMost(f64),
    /// Shown, and no goal.
    None,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Goal {
    pub job: Job,
    pub metric: Metric,
    pub over: Over,
    pub bound: Bound,
}

/// A goal, and what came of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    pub goal: Goal,
    pub ratio: Option<Ratio>,
}

/// Margay's median over the other's, and the lowest and highest quotient of a turn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ratio {
    pub value: f64,
    pub lowest: f64,
    pub highest: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Met,
    Missed,
    /// Missed, but some turn met it.
    MissedWithinSpread,
    NoGoal,
    NotMeasured,
}

const FORWARDING: [Job; 4] = [Job::VxlanEncap, Job::VxlanDecap, Job::VxlanBoth, Job::L3];

/// All goals, in the order of the report.
pub(super) fn all() -> impl Iterator<Item = Goal> {
    use Bound::{AtLeast, AtMost};
    use Dataplane::{Bare, Kernel, Ovs};
    let tunnelled = |job, least| if job == Job::L3 { Bound::None } else { AtLeast(least) };
    let of_job = move |over| {
        FORWARDING.map(|job| {
            let bound = match over {
                Over::Other(Kernel) => tunnelled(job, 1.8),
                Over::Other(Ovs) => tunnelled(job, 1.4),
                Over::Other(_) => AtLeast(0.95),
                Over::OnePolicy => AtLeast(0.98),
            };
            Goal { job, metric: Metric::Mpps, over, bound }
        })
    };
    let overs = [Over::Other(Bare), Over::Other(Kernel), Over::Other(Ovs), Over::OnePolicy];
    let forwarding = overs.into_iter().flat_map(of_job);
    let others = [
        (Job::Cps, Metric::Cps, Kernel, AtLeast(2.0)),
        (Job::Latency, Metric::P99, Kernel, AtMost(1.0)),
        (Job::Tcp, Metric::Gbps, Kernel, Bound::None),
    ];
    forwarding.chain(others.map(|(job, metric, over, bound)| Goal {
        job,
        metric,
        over: Over::Other(over),
        bound,
    }))
}

/// Each goal beside what was measured.
pub(super) fn outcomes(results: &Results) -> Vec<Outcome> {
    all()
        .map(|goal| Outcome { goal, ratio: goal.rows(results).map(|[own, other]| Ratio::of(own, other)) })
        .collect()
}

impl Goal {
    /// Margay's row and the one that it is divided by: of equal size, flows and policies.
    fn rows(self, results: &Results) -> Option<[&Row; 2]> {
        let Self { job, metric, over, .. } = self;
        let policies = if over == Over::OnePolicy { MANY_POLICIES } else { POLICIES };
        let asked = |row: &&Row| {
            row.dataplane == Dataplane::Margay
                && row.job == job
                && row.metric == metric
                && row.policies == policies
        };
        // iperf3 has one flow, and segments of any size.
        let is_of_goals = |row: &&Row| job == Job::Tcp || (row.size, row.flows) == (SIZE, FLOWS);
        let own = results.results.iter().filter(asked).find(is_of_goals)?;
        let other = match over {
            Over::Other(dataplane) => Case { dataplane, ..own.case() },
            Over::OnePolicy => Case { policies: POLICIES, ..own.case() },
        };
        Some([own, results.find(&other, metric)?])
    }
}

impl Ratio {
    /// Turns are compared one by one where both had as many: what slows the machine slows both.
    fn of(own: &Row, other: &Row) -> Self {
        let quotients: Vec<f64> = if own.runs.len() == other.runs.len() {
            own.runs.iter().zip(&other.runs).map(|(own, other)| own / other).collect()
        } else {
            own.runs.iter().flat_map(|own| other.runs.iter().map(move |other| own / other)).collect()
        };
        Self {
            value: own.value / other.value,
            lowest: quotients.iter().copied().fold(f64::INFINITY, f64::min),
            highest: quotients.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }
}

impl Outcome {
    pub(super) fn verdict(&self) -> Verdict {
        let Some(Ratio { value, lowest, highest }) = self.ratio else { return Verdict::NotMeasured };
        let (met, best_met) = match self.goal.bound {
            Bound::AtLeast(least) => (value >= least, highest >= least),
            Bound::AtMost(most) => (value <= most, lowest <= most),
            Bound::None => return Verdict::NoGoal,
        };
        match (met, best_met) {
            (true, _) => Verdict::Met,
            (false, true) => Verdict::MissedWithinSpread,
            (false, false) => Verdict::Missed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(job: Job, dataplane: Dataplane, policies: u32, metric: Metric, runs: &[f64]) -> Row {
        Row::new(&Case { job, dataplane, size: SIZE, flows: FLOWS, policies }, metric, runs.to_vec())
    }

    #[test]
    fn goals_are_met_missed_or_not_measured() {
        use Dataplane::{Bare, Kernel, Margay, Ovs};
        use Job::{Cps, Latency, VxlanEncap};
        use Metric::{Mpps, P99};
        let results = vec![
            row(VxlanEncap, Margay, 1, Mpps, &[0.95, 0.98, 0.96]),
            row(VxlanEncap, Bare, 1, Mpps, &[1.0, 1.0, 1.0]),
            row(VxlanEncap, Kernel, 1, Mpps, &[0.7, 0.72, 0.6]),
            row(VxlanEncap, Ovs, 1, Mpps, &[0.66, 0.75, 0.70]),
            row(VxlanEncap, Margay, 10_000, Mpps, &[0.96, 0.97, 0.95]),
            row(Latency, Margay, 1, P99, &[20.0, 22.0, 24.0]),
            row(Latency, Kernel, 1, P99, &[30.0, 22.0]),
            row(Cps, Margay, 1, Metric::Cps, &[50_000.0]),
        ];
        let results = Results { results, ..Results::default() };
        let expected = [
            (VxlanEncap, Over::Other(Bare), Verdict::Met),
            (VxlanEncap, Over::Other(Kernel), Verdict::Missed),
            (VxlanEncap, Over::Other(Ovs), Verdict::MissedWithinSpread),
            (VxlanEncap, Over::OnePolicy, Verdict::Met),
            (Job::L3, Over::Other(Bare), Verdict::NotMeasured),
            (Latency, Over::Other(Kernel), Verdict::Met),
            (Cps, Over::Other(Kernel), Verdict::NotMeasured),
        ];
        let outcomes = outcomes(&results);
        for (job, over, verdict) in expected {
            let found = outcomes.iter().find(|each| each.goal.job == job && each.goal.over == over).unwrap();
            assert_eq!(found.verdict(), verdict, "{job:?} {over:?}: {found:?}");
        }
        let over_bare = outcomes[0].ratio.unwrap();
        assert_eq!((over_bare.value, over_bare.lowest, over_bare.highest), (0.96, 0.95, 0.98));
    }

    #[test]
    fn goals_look_at_the_case_that_they_are_of() {
        let of_size = |dataplane, size| {
            let case = Case { job: Job::VxlanEncap, dataplane, size, flows: FLOWS, policies: POLICIES };
            Row::new(&case, Metric::Mpps, vec![1.0])
        };
        let results = vec![of_size(Dataplane::Margay, 1518), of_size(Dataplane::Bare, 1518)];
        assert!(outcomes(&Results { results, ..Results::default() }).iter().all(|each| each.ratio.is_none()));
    }
}
