//! One side of a packet: whose policy is asked there, and what it says.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use margay_flowtable::{Decision, Obeys, PolicyType, ProgramId, RuleId, Tuple};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::trace::{TierTrace, Trace, trace};
use super::{World, tier_of};
use crate::check::spoken;
use crate::probe::Expect;
use crate::selector::{EffectiveLabels, Origin};
use crate::state::policy::{HostUse, Policy, PolicyId};
use crate::state::{Name, Node, Pod};

/// What one end's policy says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Side {
    pub end: Ended,
    pub verdict: Expect,
    pub decided: Decided,
    pub tiers: Vec<TierTrace>,
    /// What it would say if staged policies were enforced, where there are any.
    pub staged: Option<Staged>,
    pub notes: Vec<String>,
}

/// Who is at an end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ended {
    #[schema(value_type = Option<String>)]
    pub address: Option<IpAddr>,
    /// `NAMESPACE/NAME` of the pod.
    pub pod: Option<String>,
    /// Where the pod runs, or the node whose address it is.
    pub node: Option<String>,
    /// What selectors see: own labels, and those of namespace (`pcns.`) and service account (`pcsa.`).
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Staged {
    pub verdict: Expect,
    pub decided: Decided,
    /// Whether the verdict is another than the one in force.
    pub is_change: bool,
    pub tiers: Vec<TierTrace>,
}

/// What decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Decided {
    Rule {
        tier: String,
        kind: String,
        policy: String,
        rule: u32,
    },
    /// No rule of the tier matched, and its default action did. The policy is the first of it that selects the end.
    EndOfTier {
        tier: String,
        kind: String,
        policy: String,
    },
    /// Every tier passed: the profiles allow.
    Profiles,
    /// No policy selects the end in this direction, or none that is asked.
    NoPolicy,
    /// The end is no pod whose policy is asked here.
    NoEndpoint,
    /// A pod reaches itself.
    Itself,
    /// A node reaches its own pods.
    OwnNode,
    /// A part of policy was missing.
    Broken,
}

pub(super) fn egress(world: &World<'_>, tuple: &Tuple, decision: Decision, staged: Option<Decision>) -> Side {
    let obeys = obeys(world, tuple.src);
    let is_to_node = is_own_node(world, tuple.src, tuple.dst);
    let program = obeys.map(|obeys| if is_to_node { obeys.to_node } else { obeys.egress });
    let staged = staged.and_then(|decision| Some((obeys?.staged_egress?, decision)));
    let exception = if tuple.src == tuple.dst { Some(Decided::Itself) } else { None };
    let mut side = side(world, tuple, PolicyType::Egress, (program, decision), staged, exception);
    let cuts_off = |obeys: Obeys| obeys.to_node != obeys.egress;
    if is_to_node && tuple.src != tuple.dst && obeys.is_some_and(cuts_off) {
        side.notes.push("to its own node: Kubernetes' NetworkPolicy is not asked".to_owned());
    }
    side
}

pub(super) fn ingress(
    world: &World<'_>,
    tuple: &Tuple,
    decision: Decision,
    staged: Option<Decision>,
) -> Side {
    let obeys = obeys(world, tuple.dst);
    let exception = if tuple.src == tuple.dst {
        Some(Decided::Itself)
    } else if is_own_node(world, tuple.dst, tuple.src) {
        Some(Decided::OwnNode)
    } else {
        None
    };
    let staged = staged.and_then(|decision| Some((obeys?.staged_ingress?, decision)));
    let program = obeys.map(|obeys| obeys.ingress);
    side(world, tuple, PolicyType::Ingress, (program, decision), staged, exception)
}

fn side(
    world: &World<'_>,
    tuple: &Tuple,
    direction: PolicyType,
    (program, decision): (Option<ProgramId>, Decision),
    staged: Option<(ProgramId, Decision)>,
    exception: Option<Decided>,
) -> Side {
    let address = match direction {
        PolicyType::Ingress => tuple.dst,
        PolicyType::Egress => tuple.src,
    };
    let end = Ended::of(world, address);
    let verdict = spoken(decision.verdict);
    let asked = program.filter(|_| exception.is_none());
    let enforced = asked.map(|program| traced(world, tuple, program));
    let decided = match (exception, &enforced) {
        (Some(exception), _) => exception,
        (None, None) => Decided::NoEndpoint,
        (None, Some(trace)) => Decided::of(world, decision, trace),
    };
    let staged = staged.map(|(program, decision)| {
        let trace = traced(world, tuple, program);
        let verdict_then = spoken(decision.verdict);
        Staged {
            verdict: verdict_then,
            decided: Decided::of(world, decision, &trace),
            is_change: verdict_then != verdict,
            tiers: trace.tiers,
        }
    });
    let notes = if asked.is_some() { not_in_force(world, address, direction) } else { Vec::new() };
    let tiers = enforced.map(|trace| trace.tiers).unwrap_or_default();
    Side { end, verdict, decided, tiers, staged, notes }
}

fn traced(world: &World<'_>, tuple: &Tuple, program: ProgramId) -> Trace {
    match world.policies.programs.get(program.0) {
        Some(program) => trace(world, tuple, program, true),
        None => Trace { tiers: Vec::new(), decided: None },
    }
}

/// What the endpoint at the address obeys; `None` where there is none whose policy is asked.
pub(super) fn obeys(world: &World<'_>, address: IpAddr) -> Option<Obeys> {
    let policies = world.policies;
    policies.endpoint(address)?;
    let holder = policies.addresses.get(address)?;
    Some(policies.obeys.get(holder.identity.0).copied().unwrap_or_default())
}

/// Whether `other` is an address of the node of the endpoint at `address`.
fn is_own_node(world: &World<'_>, address: IpAddr, other: IpAddr) -> bool {
    world.policies.endpoint(address).is_some_and(|endpoint| endpoint.node_addresses.contains(&other))
}

/// Policies that select the endpoint and are not asked: those whose tier is not there, or that are for host endpoints.
fn not_in_force(world: &World<'_>, address: IpAddr, direction: PolicyType) -> Vec<String> {
    let holder = world.policies.addresses.get(address);
    let Some(labels) = holder.and_then(|holder| world.compiler.labels_of(holder.identity)) else {
        return Vec::new();
    };
    let selecting = world.cluster.policies.iter().filter(|(_, policy)| {
        let says = match direction {
            PolicyType::Ingress => policy.ingress.is_some(),
            PolicyType::Egress => policy.egress.is_some(),
        };
        says && policy.subject.matches(labels)
    });
    let note = |(id, policy): (&PolicyId, &Arc<Policy>)| match policy.host {
        _ if tier_of(world.cluster, &policy.tier).is_none() => {
            Some(format!("{id} selects it and is not in force: there is no Tier {}", policy.tier))
        }
        HostUse { pre_dnat: true, .. } => {
            Some(format!("{id} selects it and is for host endpoints alone: spec.preDNAT"))
        }
        HostUse { do_not_track: true, .. } => {
            Some(format!("{id} selects it and is for host endpoints alone: spec.doNotTrack"))
        }
        HostUse { .. } => None,
    };
    selecting.filter_map(note).collect()
}

impl Decided {
    pub(super) fn of(world: &World<'_>, decision: Decision, trace: &Trace) -> Self {
        if decision.rule == RuleId::NONE {
            return match (spoken(decision.verdict), trace.tiers.is_empty()) {
                (Expect::Deny, _) => Self::Broken,
                (Expect::Allow, true) => Self::NoPolicy,
                (Expect::Allow, false) => Self::Profiles,
            };
        }
        let Some(name) = world.compiler.rule_ids().name(decision.rule) else { return Self::Broken };
        let traced = trace.decided.as_ref().filter(|(rule, _)| *rule == decision.rule);
        let tier = traced.map(|(_, tier)| tier.clone()).unwrap_or_default();
        let (kind, policy) = (name.policy.kind.to_string(), name.policy.full_name());
        match name.index {
            Some(rule) => Self::Rule { tier, kind, policy, rule },
            None => Self::EndOfTier { tier, kind, policy },
        }
    }
}

impl Ended {
    fn of(world: &World<'_>, address: IpAddr) -> Self {
        let holder = world.policies.addresses.get(address);
        let labels = holder.and_then(|holder| world.compiler.labels_of(holder.identity));
        let labels = labels.into_iter().flat_map(EffectiveLabels::iter);
        let labels: BTreeMap<String, String> = labels.map(shown).collect();
        let owner = owner(world, address);
        let has_it = |node: &(&String, &Arc<Node>)| node.1.addresses.contains(&address);
        let node = match owner {
            Some((_, pod)) => Some(pod.node.clone()),
            None => world.cluster.nodes.iter().find(has_it).map(|(name, _)| name.clone()),
        };
        let pod = owner.map(|(name, _)| name.to_string());
        Self { address: Some(address), pod, node, labels }
    }
}

/// The pod that holds the address: of several that claim it the one whose policy is asked.
fn owner<'a>(world: &World<'a>, address: IpAddr) -> Option<(&'a Name, &'a Arc<Pod>)> {
    let served = world.policies.endpoint(address);
    let name = served.and_then(|endpoint| endpoint.name.split_once('/'));
    let served =
        name.and_then(|(namespace, name)| world.cluster.pods.get_key_value(&Name::new(namespace, name)));
    let claims = |pod: &Pod| pod.is_endpoint() && pod.addresses.contains(&address);
    served.or_else(|| world.cluster.pods.iter().find(|(_, pod)| claims(pod)))
}

fn shown((origin, key, value): (Origin, &str, &str)) -> (String, String) {
    (format!("{}{key}", origin.prefix()), value.to_owned())
}
