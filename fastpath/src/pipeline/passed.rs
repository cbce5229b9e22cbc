//! What a flow passes on its way to a verdict and what counts it beside the rules that decide: Log and Pass rules, rules of
//! staged policies, and the rule of a host endpoint beside a pod's.

use arrayvec::ArrayVec;
use margay_flowtable::{
    Classification, Decision, HostClassification, PolicyType, RuleId, Staged, TrailEra, TrailId, Trails,
};

use crate::counters::RuleCounters;

/// The ends of a flow, by which its two trails are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Destination,
}

impl End {
    pub(super) const BOTH: [Self; 2] = [Self::Source, Self::Destination];

    /// The pod whose policy of this direction is asked.
    #[inline]
    pub(super) fn of_pod(way: PolicyType) -> Self {
        match way {
            PolicyType::Egress => Self::Source,
            PolicyType::Ingress => Self::Destination,
        }
    }

    /// The end on the other side of a host endpoint's interface: what comes in by it comes from the source.
    #[inline]
    pub(super) fn of_host(way: PolicyType) -> Self {
        match way {
            PolicyType::Ingress => Self::Source,
            PolicyType::Egress => Self::Destination,
        }
    }
}

/// Rules that are kept of an end: those beyond count first packets alone.
const MOST: usize = 16;

/// Rules in the order in which they matched, by end.
#[derive(Debug, Default)]
pub(super) struct Passed {
    ends: [ArrayVec<RuleId, MOST>; 2],
    is_cut_short: bool,
}

impl Passed {
    /// False where the rule has been passed already: what is enforced is asked again with what is staged, and of one rule
    /// that is written several can come.
    pub(super) fn add(&mut self, end: End, rule: RuleId) -> bool {
        let rules = &mut self.ends[end as usize];
        if rule == RuleId::NONE || rules.contains(&rule) {
            return false;
        }
        self.is_cut_short |= rules.try_push(rule).is_err();
        true
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.ends.iter().all(ArrayVec::is_empty)
    }

    /// The trails of a flow that these rules decided, after it passed the others. An end's that finds no place is the rule
    /// alone.
    #[inline]
    pub(super) fn trails(
        &self,
        decided: [RuleId; 2],
        counters: &RuleCounters,
        trails: &Trails,
        era: TrailEra,
    ) -> [TrailId; 2] {
        let alone = decided.map(|rule| counters.counted(rule).into());
        if self.is_empty() { alone } else { self.extend(alone, counters, trails, era) }
    }

    #[inline(never)]
    fn extend(
        &self,
        mut ends: [TrailId; 2],
        counters: &RuleCounters,
        trails: &Trails,
        era: TrailEra,
    ) -> [TrailId; 2] {
        let mut is_cut_short = self.is_cut_short;
        for (end, rules) in ends.iter_mut().zip(&self.ends) {
            let mut rules = rules.iter().map(|rule| counters.counted(*rule));
            match rules.try_fold(*end, |trail, rule| trails.extend(era, trail, rule)) {
                Some(trail) => *end = trail,
                None => is_cut_short = true,
            }
        }
        counters.flows_cut_short.add(is_cut_short.into());
        ends
    }
}

/// Gives `pass` what staged policies would decide by another rule than what is enforced, on egress and ingress: a rule of
/// both counts once.
#[inline]
pub(super) fn pass_differing(
    staged: Staged,
    decided: [Decision; 2],
    mut pass: impl FnMut(PolicyType, Decision),
) {
    let [egress, ingress] = decided;
    let ways = [(PolicyType::Egress, staged.egress, egress), (PolicyType::Ingress, staged.ingress, ingress)];
    for (way, staged, decided) in ways {
        if let Some(staged) = staged
            && staged.rule != decided.rule
        {
            pass(way, staged);
        }
    }
}

/// The rules that let a flow pass: those that decide, and those beside them. Where an end is no pod's the rule of the host
/// endpoint there takes its place.
#[inline]
pub(super) fn admitting(
    host: Option<&HostClassification>,
    decided: &Classification,
) -> ([RuleId; 2], Option<[RuleId; 2]>) {
    let Some(host) = host else { return ([decided.egress.rule, decided.ingress.rule], None) };
    let ends = [(decided.egress, host.ingress), (decided.ingress, host.egress)];
    let rules = ends.map(|(pod, host)| match pod.rule {
        RuleId::NONE => (host.rule, RuleId::NONE),
        rule => (rule, host.rule),
    });
    (rules.map(|(decides, _)| decides), Some(rules.map(|(_, beside)| beside)))
}
