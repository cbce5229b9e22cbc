//! A program asked rule by rule.

use margay_flowtable::{Action, Policy, PolicyType, Program, Rule, RuleId, Segment, Tier, TierEnd, Tuple};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::matching::{Condition, unmet};
use super::{World, tier_of};
use crate::compile::policy::RuleName;

/// A tier and the policies in it that select the endpoint, in the order in which they are asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TierTrace {
    pub tier: String,
    pub order: Option<f64>,
    /// What becomes of what none of its rules decides.
    pub default_action: Spoken,
    pub policies: Vec<PolicyTrace>,
    /// What came of it; none where something before it had decided, or it is not asked.
    pub outcome: Option<Outcome>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PolicyTrace {
    pub kind: String,
    /// `NAMESPACE/NAME`, or `NAME` of one that is cluster-wide.
    pub policy: String,
    pub order: Option<f64>,
    /// Whom it is for, in Calico's grammar.
    pub selector: String,
    pub rules: Vec<RuleTrace>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RuleTrace {
    /// Position in the policy's ingress or egress list.
    pub rule: u32,
    pub name: Option<String>,
    pub action: Spoken,
    /// `None` where the tier had decided, and the rule was not asked.
    pub matches: Option<bool>,
    /// Why it does not match.
    pub unmet: Vec<Condition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Spoken {
    Allow,
    Deny,
    Pass,
    Log,
}

/// How a tier ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Outcome {
    pub action: Spoken,
    /// No rule matched: the tier's default action.
    pub is_default: bool,
}

impl Spoken {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Pass => "pass",
            Self::Log => "log",
        }
    }
}

impl From<Action> for Spoken {
    fn from(action: Action) -> Self {
        match action {
            Action::Allow => Self::Allow,
            Action::Deny => Self::Deny,
            Action::Pass => Self::Pass,
            Action::Log => Self::Log,
        }
    }
}

impl From<TierEnd> for Spoken {
    fn from(end: TierEnd) -> Self {
        match end {
            TierEnd::Allow => Self::Allow,
            TierEnd::Deny => Self::Deny,
            TierEnd::Pass => Self::Pass,
        }
    }
}

/// What a program made of a packet.
pub(super) struct Trace {
    pub(super) tiers: Vec<TierTrace>,
    /// The rule, or the end of a tier, that decided, and its tier; none where every tier passed.
    pub(super) decided: Option<(RuleId, String)>,
}

/// What the program makes of the packet, or what there is in it where it is not asked.
pub(super) fn trace(world: &World<'_>, tuple: &Tuple, program: &Program, is_asked: bool) -> Trace {
    let mut all = Trace { tiers: Vec::new(), decided: None };
    for tier in program.tiers() {
        let is_reached = is_asked && all.decided.is_none();
        let (traced, rule) = trace_tier(world, tuple, tier, is_reached);
        if traced.outcome.is_some_and(|outcome| outcome.action != Spoken::Pass) {
            all.decided = Some((rule, traced.tier.clone()));
        }
        all.tiers.push(traced);
    }
    all
}

/// The tier, and what decided there.
fn trace_tier(world: &World<'_>, tuple: &Tuple, tier: &Tier, is_reached: bool) -> (TierTrace, RuleId) {
    let mut found = None;
    let segments = tier.segments.iter().filter_map(|id| world.policies.segments.get(id.0));
    let policies = segments.flat_map(|segment| Segment::policies(segment));
    let policies =
        policies.map(|policy| trace_policy(world, tuple, policy, is_reached, &mut found)).collect();
    let (action, rule) = found.unwrap_or((tier.end.into(), tier.end_rule));
    let traced = TierTrace {
        tier: tier.name.to_string(),
        order: tier_of(world.cluster, &tier.name).and_then(|spec| spec.order.get()),
        default_action: tier.end.into(),
        policies,
        outcome: is_reached.then_some(Outcome { action, is_default: found.is_none() }),
    };
    (traced, rule)
}

fn trace_policy(
    world: &World<'_>,
    tuple: &Tuple,
    policy: &Policy,
    is_reached: bool,
    found: &mut Option<(Spoken, RuleId)>,
) -> PolicyTrace {
    let id = world.compiler.rule_ids().name(policy.end).map(|name| name.policy.clone());
    let written = id.as_ref().and_then(|id| world.cluster.policies.get(id));
    let rules = policy.rules.chunk_by(|a, b| a.id == b.id);
    PolicyTrace {
        kind: id.as_ref().map(|id| id.kind.to_string()).unwrap_or_default(),
        policy: policy.name.to_string(),
        order: written.and_then(|policy| policy.order.get()),
        selector: written.map(|policy| policy.subject.to_string()).unwrap_or_default(),
        rules: rules.map(|rules| trace_rule(world, tuple, rules, is_reached, found)).collect(),
    }
}

/// What came of one written rule stands side by side, and matches where one of it does.
fn trace_rule(
    world: &World<'_>,
    tuple: &Tuple,
    rules: &[Rule],
    is_reached: bool,
    found: &mut Option<(Spoken, RuleId)>,
) -> RuleTrace {
    let (id, action) = (rules[0].id, Spoken::from(rules[0].action));
    let name = world.compiler.rule_ids().name(id);
    let is_asked = is_reached && found.is_none();
    let unmet = if is_asked {
        let unmet = rules.iter().map(|rule| unmet(world.policies, tuple, rule));
        unmet.min_by_key(Vec::len).unwrap_or_default()
    } else {
        Vec::new()
    };
    let matches = is_asked.then_some(unmet.is_empty());
    if matches == Some(true) && action != Spoken::Log {
        *found = Some((action, id));
    }
    RuleTrace {
        rule: name.and_then(|name| name.index).unwrap_or_default(),
        name: name.and_then(|name| written_name(world, name)),
        action,
        matches,
        unmet,
    }
}

/// The name that the rule's author gave it.
fn written_name(world: &World<'_>, name: &RuleName) -> Option<String> {
    let policy = world.cluster.policies.get(&*name.policy)?;
    let rules = match name.direction {
        PolicyType::Ingress => policy.ingress.as_ref()?,
        PolicyType::Egress => policy.egress.as_ref()?,
    };
    rules.iter().find(|rule| Some(rule.index) == name.index)?.name.clone()
}
