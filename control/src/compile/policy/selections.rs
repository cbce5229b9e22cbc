//! What the policies that select an endpoint make of it: programs of tiers, cut into segments that endpoints share.
//!
//! A selection is the list of the policies that select an endpoint, in the order in which they are asked. Endpoints
//! with equal selections obey the same programs. A run of policies that stands in many programs is one segment, and a
//! change of one of its rules makes that segment anew and nothing else.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use margay_flowtable::{
    IdentityId, Obeys, Policies, PolicyType, Program, ProgramId, Segment, SegmentId, Tier, TierEnd,
};

use super::interned::Interned;
use super::policies::{PolicyNo, PolicyTable};
use crate::state::policy::TierAction;

/// Rules of a segment, on average, where a run of policies has more.
const SEGMENT_RULES: u64 = 1024;
/// Rules at which a segment ends wherever that is.
const MOST_SEGMENT_RULES: u64 = 4 * SEGMENT_RULES;

pub(super) type SelectionId = u32;

/// Policies in order, each with something to say of the direction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Run {
    direction: PolicyType,
    policies: Arc<[PolicyNo]>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Selections {
    lists: Interned<Arc<[PolicyNo]>>,
    obeys: HashMap<SelectionId, Obeys>,
    programs: Interned<Run>,
    /// The segments of each program.
    parts: HashMap<u32, Vec<u32>>,
    segments: Interned<Run>,
    /// The segments that hold each policy.
    holding: HashMap<PolicyNo, BTreeSet<u32>>,
}

impl Selections {
    /// One user more for the list. Its programs are made where it is new.
    pub(super) fn hold(
        &mut self,
        policies: &Arc<[PolicyNo]>,
        table: &PolicyTable,
        out: &mut Policies,
    ) -> SelectionId {
        let (id, is_new) = self.lists.hold(policies.clone());
        if is_new {
            let obeys = self.obey(policies, table, out);
            self.obeys.insert(id, obeys);
        }
        id
    }

    pub(super) fn let_go(&mut self, id: SelectionId, out: &mut Policies) {
        if self.lists.let_go(id).is_some()
            && let Some(obeys) = self.obeys.remove(&id)
        {
            self.disobey(&obeys, out);
        }
    }

    pub(super) fn policies(&self, id: SelectionId) -> Option<&Arc<[PolicyNo]>> {
        self.lists.get(id)
    }

    pub(super) fn obeys(&self, id: SelectionId) -> Obeys {
        self.obeys[&id]
    }

    /// Makes the programs of the selections that hold a policy anew: what they say of it has changed beyond its rules.
    /// Returns those selections.
    pub(super) fn obey_anew(
        &mut self,
        policies: &BTreeSet<PolicyNo>,
        table: &PolicyTable,
        out: &mut Policies,
    ) -> BTreeSet<SelectionId> {
        let holds = |list: &[PolicyNo]| list.iter().any(|no| policies.contains(no));
        let changed = self.lists.iter().filter(|(_, list)| holds(list));
        let changed: Vec<(SelectionId, Arc<[PolicyNo]>)> =
            changed.map(|(id, list)| (id, list.clone())).collect();
        // First all of the old programs go: one that any of them still held would be taken for the new one.
        for (id, _) in &changed {
            if let Some(old) = self.obeys.remove(id) {
                self.disobey(&old, out);
            }
        }
        for (id, list) in &changed {
            let new = self.obey(list, table, out);
            self.obeys.insert(*id, new);
        }
        changed.into_iter().map(|(id, _)| id).collect()
    }

    /// Makes the segments that hold a policy anew, for its rules have changed.
    pub(super) fn rebuild_segments(
        &mut self,
        policies: &BTreeSet<PolicyNo>,
        table: &PolicyTable,
        out: &mut Policies,
    ) {
        let holding = policies.iter().filter_map(|policy| self.holding.get(policy));
        let stale: BTreeSet<u32> = holding.flatten().copied().collect();
        for id in stale {
            self.build_segment(id, table, out);
        }
    }

    /// Makes up to so many segments anew whose index does not know identities below the bound. True if there was one.
    pub(super) fn refresh_indexes(
        &mut self,
        bound: IdentityId,
        most: usize,
        table: &PolicyTable,
        out: &mut Policies,
    ) -> bool {
        let knows = |segment: &Arc<Segment>| segment.known().is_none_or(|known| known >= bound);
        let held = self.segments.iter().map(|(id, _)| id);
        let stale: Vec<u32> =
            held.filter(|id| !out.segments.get(*id).is_some_and(knows)).take(most).collect();
        for id in &stale {
            self.build_segment(*id, table, out);
        }
        !stale.is_empty()
    }

    fn obey(&mut self, policies: &[PolicyNo], table: &PolicyTable, out: &mut Policies) -> Obeys {
        let enforced: Vec<PolicyNo> = policies.iter().copied().filter(|no| !table[*no].is_staged()).collect();
        let to_node = to_node(&enforced, table);
        let staged = table.as_if_enforced(policies);
        let mut program = |direction, list: &[PolicyNo]| self.program(direction, list, table, out);
        Obeys {
            egress: program(PolicyType::Egress, &enforced),
            ingress: program(PolicyType::Ingress, &enforced),
            to_node: program(PolicyType::Egress, &to_node),
            staged_egress: staged.as_ref().map(|list| program(PolicyType::Egress, list)),
            staged_ingress: staged.as_ref().map(|list| program(PolicyType::Ingress, list)),
        }
    }

    fn disobey(&mut self, obeys: &Obeys, out: &mut Policies) {
        let enforced = [obeys.egress, obeys.ingress, obeys.to_node];
        for program in enforced.into_iter().chain(obeys.staged_egress).chain(obeys.staged_ingress) {
            if program == ProgramId::NONE || self.programs.let_go(program.0).is_none() {
                continue;
            }
            out.programs.remove(program.0);
            for segment in self.parts.remove(&program.0).unwrap_or_default() {
                self.let_segment_go(segment, out);
            }
        }
    }

    fn program(
        &mut self,
        direction: PolicyType,
        list: &[PolicyNo],
        table: &PolicyTable,
        out: &mut Policies,
    ) -> ProgramId {
        let policies = list.iter().copied().filter(|no| table[*no].rules(direction).is_some()).collect();
        let run = Run { direction, policies };
        if run.policies.is_empty() {
            return ProgramId::NONE;
        }
        let (id, is_new) = self.programs.hold(run.clone());
        if is_new {
            self.build_program(id, &run, table, out);
        }
        ProgramId(id)
    }

    fn build_program(&mut self, id: u32, run: &Run, table: &PolicyTable, out: &mut Policies) {
        let in_tiers = run.policies.chunk_by(|a, b| table[*a].ir.tier == table[*b].ir.tier);
        let tiers: Vec<Tier> = in_tiers.map(|list| self.tier(run.direction, list, table, out)).collect();
        let parts = tiers.iter().flat_map(|tier| tier.segments.iter().map(|segment| segment.0)).collect();
        self.parts.insert(id, parts);
        out.programs.set(id, Arc::new(Program::new(tiers)));
    }

    fn tier(
        &mut self,
        direction: PolicyType,
        list: &[PolicyNo],
        table: &PolicyTable,
        out: &mut Policies,
    ) -> Tier {
        let first = &table[list[0]];
        // After what comes before destination NAT or connection tracking there is more to be asked, as in Felix.
        let is_early = first.ir.host.pre_dnat || first.ir.host.do_not_track;
        let end = match table.tier(&first.ir.tier).map(|tier| tier.default_action) {
            _ if is_early => TierEnd::Pass,
            Some(TierAction::Pass) => TierEnd::Pass,
            _ => TierEnd::Deny,
        };
        let segments = cut(direction, list, table);
        Tier {
            name: first.ir.tier.as_str().into(),
            segments: segments.iter().map(|run| self.segment(run, table, out)).collect(),
            end,
            end_rule: first.end_rule(direction),
        }
    }

    fn segment(&mut self, run: &Run, table: &PolicyTable, out: &mut Policies) -> SegmentId {
        let (id, is_new) = self.segments.hold(run.clone());
        if is_new {
            for policy in &*run.policies {
                self.holding.entry(*policy).or_default().insert(id);
            }
            self.build_segment(id, table, out);
        }
        SegmentId(id)
    }

    fn build_segment(&self, id: u32, table: &PolicyTable, out: &mut Policies) {
        let Some(run) = self.segments.get(id) else { return };
        let rules = run.policies.iter().filter_map(|no| table[*no].rules(run.direction).cloned());
        let segment =
            Segment::new(run.direction, rules.collect(), &out.sets, &out.port_sets, table.identities);
        out.segments.set(id, Arc::new(segment));
    }

    fn let_segment_go(&mut self, id: u32, out: &mut Policies) {
        let Some(run) = self.segments.let_go(id) else { return };
        out.segments.remove(id);
        for policy in &*run.policies {
            if let Some(holding) = self.holding.get_mut(policy) {
                holding.remove(&id);
                if holding.is_empty() {
                    self.holding.remove(policy);
                }
            }
        }
    }
}

/// The policies that are asked of packets to the pod's own node. Where NetworkPolicy selects the pod, that these pass is its
/// last word: the tiers behind it are for pods that it does not select.
fn to_node(enforced: &[PolicyNo], table: &PolicyTable) -> Vec<PolicyNo> {
    let spares = |no: &PolicyNo| table[*no].id.kind.spares_own_node();
    let selects = |no: &PolicyNo| spares(no) && table[*no].rules(PolicyType::Egress).is_some();
    let last_tier = enforced.iter().copied().find(selects).map(|no| table[no].ir.tier.as_str());
    let in_last = |no: &PolicyNo| last_tier == Some(table[*no].ir.tier.as_str());
    let end = enforced.iter().rposition(in_last).map_or(enforced.len(), |last| last + 1);
    enforced[..end].iter().copied().filter(|no| !spares(no)).collect()
}

/// Cuts a tier's policies into segments. Namespaced policies never share one with cluster-wide ones, for these stand in
/// the programs of all namespaces. Where a long run is cut hangs on its policies alone, so that runs that are equal in
/// part are cut alike there, and share segments.
fn cut(direction: PolicyType, list: &[PolicyNo], table: &PolicyTable) -> Vec<Run> {
    let is_namespaced = |no: &PolicyNo| table[*no].id.kind.is_namespaced();
    let mut runs = Vec::new();
    for scope in list.chunk_by(|a, b| is_namespaced(a) == is_namespaced(b)) {
        let (mut start, mut rules) = (0, 0);
        for (position, no) in scope.iter().enumerate() {
            let of_policy = table[*no].rules(direction).map_or(0, |policy| policy.rules.len() as u64);
            rules += of_policy;
            let is_last = position + 1 == scope.len();
            if is_last || rules >= MOST_SEGMENT_RULES || ends_segment(&table[*no].id, of_policy) {
                runs.push(Run { direction, policies: scope[start..=position].into() });
                (start, rules) = (position + 1, 0);
            }
        }
    }
    runs
}

/// One in [`SEGMENT_RULES`] rules ends a segment, with its policy.
fn ends_segment(policy: &impl Hash, rules: u64) -> bool {
    // Its keys are fixed: equal policies are cut alike.
    let mut hasher = DefaultHasher::new();
    policy.hash(&mut hasher);
    hasher.finish() < (u64::MAX / SEGMENT_RULES).saturating_mul(rules)
}
