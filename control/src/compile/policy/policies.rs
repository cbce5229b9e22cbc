//! The policies that are in force, compiled, and the order in which they are asked.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Index;
use std::sync::Arc;

use margay_flowtable::{IdentityId, PolicyType, PortSetId, RuleId, SetId, policy as compiled};

use super::rule_ids::{RuleIds, RuleName};
use super::rules;
use super::sets::Sets;
use crate::state::Name;
use crate::state::policy::{Order, Policy, PolicyId, PolicyKind, Rule, StagedAction, TierSpec};

/// Number of a policy while it is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PolicyNo(pub(super) u32);

/// Policies by number and by name, and the tiers that they stand in.
#[derive(Clone, Debug)]
pub(super) struct PolicyTable {
    entries: Vec<Option<Entry>>,
    free: Vec<PolicyNo>,
    numbers: HashMap<Arc<PolicyId>, PolicyNo>,
    /// Policies that come before destination NAT or connection tracking. There are few.
    early: BTreeSet<PolicyNo>,
    tiers: BTreeMap<String, TierSpec>,
    rule_ids: RuleIds,
    /// One more than the last identity: what indexes that are made now know.
    pub(super) identities: IdentityId,
}

/// A policy and what was made of it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) id: Arc<PolicyId>,
    pub(super) ir: Arc<Policy>,
    /// The order of its tier; `None` where there is no such tier. Such a policy is not in force, as in Felix
    /// (`calc/policy_sorter.go`).
    tier: Option<Order>,
    ingress: Option<Half>,
    egress: Option<Half>,
}

/// What a policy says of one direction.
#[derive(Clone, Debug)]
struct Half {
    compiled: Arc<compiled::Policy>,
    uses: rules::Uses,
}

impl Default for PolicyTable {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            numbers: HashMap::new(),
            early: BTreeSet::new(),
            tiers: BTreeMap::new(),
            rule_ids: RuleIds::default(),
            identities: IdentityId(0),
        }
    }
}

impl Index<PolicyNo> for PolicyTable {
    type Output = Entry;

    fn index(&self, no: PolicyNo) -> &Entry {
        self.entries[no.0 as usize].as_ref().expect("a number is asked about while its policy is in force")
    }
}

impl Entry {
    pub(super) fn is_staged(&self) -> bool {
        self.ir.staged.is_some()
    }

    /// Whether it counts for pods, as in Felix (`calc/event_sequencer.go`): what comes before destination NAT or
    /// connection tracking is for host endpoints alone.
    pub(super) fn is_for_pods(&self) -> bool {
        self.is_in_tier() && !self.is_early()
    }

    fn is_early(&self) -> bool {
        self.ir.host.pre_dnat || self.ir.host.do_not_track
    }

    pub(super) fn is_in_tier(&self) -> bool {
        self.tier.is_some()
    }

    pub(super) fn rules(&self, direction: PolicyType) -> Option<&Arc<compiled::Policy>> {
        self.half(direction).map(|half| &half.compiled)
    }

    /// The number that decides where no rule of a tier does whose first policy this is.
    pub(super) fn end_rule(&self, direction: PolicyType) -> RuleId {
        self.half(direction).map_or(RuleId::NONE, |half| half.compiled.end)
    }

    fn half(&self, direction: PolicyType) -> Option<&Half> {
        match direction {
            PolicyType::Ingress => self.ingress.as_ref(),
            PolicyType::Egress => self.egress.as_ref(),
        }
    }
}

impl PolicyTable {
    pub(super) fn number(&self, id: &PolicyId) -> Option<PolicyNo> {
        self.numbers.get(id).copied()
    }

    pub(super) fn rule_ids(&self) -> &RuleIds {
        &self.rule_ids
    }

    pub(super) fn take_rules_given_again(&mut self) -> Vec<RuleId> {
        self.rule_ids.take_given_again()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (PolicyNo, &Entry)> {
        (0..).map(PolicyNo).zip(&self.entries).filter_map(|(no, entry)| Some((no, entry.as_ref()?)))
    }

    pub(super) fn tier(&self, name: &str) -> Option<TierSpec> {
        self.tiers.get(name).copied().or_else(|| TierSpec::implied(name))
    }

    /// Sets or removes a tier's object. True where that changes something.
    pub(super) fn set_tier(&mut self, name: &str, tier: Option<TierSpec>) -> bool {
        let before = self.tier(name);
        match tier {
            Some(tier) => self.tiers.insert(name.to_owned(), tier),
            None => self.tiers.remove(name),
        };
        let after = self.tier(name);
        for entry in self.entries.iter_mut().flatten().filter(|entry| entry.ir.tier == name) {
            entry.tier = after.map(|tier| tier.order);
        }
        before != after
    }

    pub(super) fn users_of_set(&self, id: SetId) -> Vec<PolicyNo> {
        self.users(|uses| uses.sets.contains(&id))
    }

    pub(super) fn users_of_port_set(&self, id: PortSetId) -> Vec<PolicyNo> {
        self.users(|uses| uses.port_sets.contains(&id))
    }

    fn users(&self, uses: impl Fn(&rules::Uses) -> bool) -> Vec<PolicyNo> {
        let halves = |entry: &Entry| {
            [&entry.ingress, &entry.egress].into_iter().flatten().any(|half| uses(&half.uses))
        };
        self.iter().filter(|(_, entry)| halves(entry)).map(|(no, _)| no).collect()
    }

    pub(super) fn without_tier(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().flatten().filter(|entry| entry.tier.is_none())
    }

    /// Those that are in force before destination NAT or connection tracking.
    pub(super) fn early(&self) -> impl Iterator<Item = &Entry> {
        self.early.iter().map(|no| &self[*no]).filter(|entry| entry.is_in_tier())
    }

    pub(super) fn in_tier(&self, name: &str) -> BTreeSet<PolicyNo> {
        self.iter().filter(|(_, entry)| entry.ir.tier == name).map(|(no, _)| no).collect()
    }

    /// Takes a policy in under a new number.
    pub(super) fn insert(&mut self, id: &PolicyId, ir: Arc<Policy>, sets: &mut Sets) -> PolicyNo {
        let id = Arc::new(id.clone());
        let (ingress, egress) = {
            let mut half = |direction, rules: &Option<Vec<Rule>>| {
                let rules = rules.as_deref()?;
                let end = self.rule_ids.give(RuleName { policy: id.clone(), direction, index: None });
                Some(self.half(&id, direction, rules, end, &BTreeMap::new(), sets))
            };
            (half(PolicyType::Ingress, &ir.ingress), half(PolicyType::Egress, &ir.egress))
        };
        let tier = self.tier(&ir.tier).map(|tier| tier.order);
        let entry = Entry { id: id.clone(), ir, tier, ingress, egress };
        let is_early = entry.is_early();
        let no = if let Some(no) = self.free.pop() {
            self.entries[no.0 as usize] = Some(entry);
            no
        } else {
            self.entries.push(Some(entry));
            PolicyNo(self.entries.len() as u32 - 1)
        };
        if is_early {
            self.early.insert(no);
        }
        self.numbers.insert(id, no);
        no
    }

    /// The policy says the same of another subject.
    pub(super) fn set_ir(&mut self, no: PolicyNo, ir: Arc<Policy>) {
        if let Some(entry) = &mut self.entries[no.0 as usize] {
            entry.ir = ir;
        }
    }

    /// Gives the policy other rules. Those that say what they said keep their numbers, and so their counters.
    pub(super) fn set_rules(&mut self, no: PolicyNo, ir: Arc<Policy>, sets: &mut Sets) {
        let Some(mut entry) = self.entries[no.0 as usize].take() else { return };
        let before = std::mem::replace(&mut entry.ir, ir);
        let halves = [
            (PolicyType::Ingress, &before.ingress, &entry.ir.ingress, &mut entry.ingress),
            (PolicyType::Egress, &before.egress, &entry.ir.egress, &mut entry.egress),
        ];
        for (direction, before, after, half) in halves {
            let (Some(before), Some(after), Some(old)) = (before, after, half.take()) else { continue };
            let kept = kept(before, after, &old.compiled);
            let new = self.half(&entry.id, direction, after, old.compiled.end, &kept, sets);
            let is_kept = |id: &RuleId| kept.values().any(|kept| kept == id);
            for id in written(&old.compiled).filter(|id| !is_kept(id)).collect::<BTreeSet<_>>() {
                self.rule_ids.take_back(id);
            }
            sets.let_go(old.uses);
            *half = Some(new);
        }
        self.entries[no.0 as usize] = Some(entry);
    }

    /// Takes the policy out of the names; its number stands until it is [released](Self::release).
    pub(super) fn unname(&mut self, no: PolicyNo) {
        let id = self[no].id.clone();
        self.early.remove(&no);
        if self.numbers.get(&id) == Some(&no) {
            self.numbers.remove(&id);
        }
    }

    /// Frees the number, when nothing refers to it any more.
    pub(super) fn release(&mut self, no: PolicyNo, sets: &mut Sets) {
        let Some(entry) = self.entries[no.0 as usize].take() else { return };
        for half in [entry.ingress, entry.egress].into_iter().flatten() {
            for id in written(&half.compiled).chain([half.compiled.end]).collect::<BTreeSet<_>>() {
                self.rule_ids.take_back(id);
            }
            sets.let_go(half.uses);
        }
        self.free.push(no);
    }

    fn half(
        &mut self,
        id: &Arc<PolicyId>,
        direction: PolicyType,
        rules: &[Rule],
        end: RuleId,
        kept: &BTreeMap<u32, RuleId>,
        sets: &mut Sets,
    ) -> Half {
        let mut uses = rules::Uses::default();
        let mut numbers = kept.clone();
        let compiled = rules.iter().map(|rule| {
            let name = || RuleName { policy: id.clone(), direction, index: Some(rule.index) };
            let number = *numbers.entry(rule.index).or_insert_with(|| self.rule_ids.give(name()));
            rules::compile(rule, number, sets, &mut uses)
        });
        let compiled = compiled::Policy { name: id.full_name().into(), rules: compiled.collect(), end };
        Half { compiled: Arc::new(compiled), uses }
    }

    /// The order in which two policies are asked: that of their tiers, then their own.
    pub(super) fn compare(&self, a: PolicyNo, b: PolicyNo) -> Ordering {
        let (a, b) = (&self[a], &self[b]);
        (a.tier.cmp(&b.tier))
            .then_with(|| a.ir.tier.cmp(&b.ir.tier))
            .then_with(|| a.ir.order.cmp(&b.ir.order))
            .then_with(|| tie_key(&a.id).cmp(tie_key(&b.id)))
    }

    /// The policies of a selection as they would be if what is staged were enforced; `None` where nothing is staged.
    pub(super) fn as_if_enforced(&self, policies: &[PolicyNo]) -> Option<Vec<PolicyNo>> {
        let would_be = |no: &PolicyNo| {
            let entry = &self[*no];
            match entry.ir.staged {
                Some(StagedAction::Set | StagedAction::Learn) => true,
                Some(StagedAction::Delete | StagedAction::Ignore) => false,
                None => !self.is_superseded(&entry.id),
            }
        };
        let differs = |no: &PolicyNo| would_be(no) == self[*no].is_staged();
        policies.iter().any(differs).then(|| policies.iter().copied().filter(would_be).collect())
    }

    /// The policy that a staged one would take the place of.
    pub(super) fn target(&self, no: PolicyNo) -> Option<PolicyNo> {
        let id = &self[no].id;
        self.number(&PolicyId { kind: id.kind.staged_target()?, name: id.name.clone() })
    }

    /// Whether a staged policy would replace or delete the one of this name.
    fn is_superseded(&self, id: &PolicyId) -> bool {
        let Some(kind) = id.kind.staged_by() else { return false };
        let staged = self.number(&PolicyId { kind, name: id.name.clone() });
        staged.is_some_and(|no| self[no].ir.staged != Some(StagedAction::Ignore))
    }
}

/// What decides between policies of one order: name, namespace and kind in one text, as in Felix
/// (`calc/policy_sorter.go`, `PolKVLess`).
fn tie_key(id: &PolicyId) -> impl Iterator<Item = u8> + '_ {
    let Name { namespace, name } = &id.name;
    let parts = [name.as_str(), "/", namespace, "/", calico_kind(id.kind)];
    parts.into_iter().flat_map(str::bytes)
}

/// The name of a kind among Calico's.
fn calico_kind(kind: PolicyKind) -> &'static str {
    match kind {
        PolicyKind::NetworkPolicy => "KubernetesNetworkPolicy",
        PolicyKind::ClusterNetworkPolicy => "KubernetesClusterNetworkPolicy",
        PolicyKind::AdminNetworkPolicy => "KubernetesAdminNetworkPolicy",
        PolicyKind::BaselineAdminNetworkPolicy => "KubernetesBaselineAdminNetworkPolicy",
        PolicyKind::CalicoNetworkPolicy => "NetworkPolicy",
        PolicyKind::GlobalNetworkPolicy => "GlobalNetworkPolicy",
        PolicyKind::StagedNetworkPolicy => "StagedNetworkPolicy",
        PolicyKind::StagedGlobalNetworkPolicy => "StagedGlobalNetworkPolicy",
        PolicyKind::StagedKubernetesNetworkPolicy => "StagedKubernetesNetworkPolicy",
    }
}

/// Numbers of the written rules that say after a change what they said before. Several rules can come of one that was
/// written.
fn kept(before: &[Rule], after: &[Rule], compiled: &compiled::Policy) -> BTreeMap<u32, RuleId> {
    let of = |rules: &[Rule]| {
        let mut written: BTreeMap<u32, Vec<Rule>> = BTreeMap::new();
        for rule in rules {
            written.entry(rule.index).or_default().push(rule.clone());
        }
        written
    };
    let (before_written, after) = (of(before), of(after));
    let numbers: BTreeMap<u32, RuleId> =
        before.iter().zip(&compiled.rules).map(|(rule, compiled)| (rule.index, compiled.id)).collect();
    let same = after.into_iter().filter(|(index, rules)| before_written.get(index) == Some(rules));
    same.filter_map(|(index, _)| Some((index, *numbers.get(&index)?))).collect()
}

fn written(policy: &compiled::Policy) -> impl Iterator<Item = RuleId> + '_ {
    policy.rules.iter().map(|rule| rule.id)
}
