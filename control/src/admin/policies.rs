//! `GET /v1/policies`: what policy has counted and dropped. Counters count since the start of the process, or
//! since the rule came.

use std::net::IpAddr;

use axum::extract::State;
use axum::response::Response;
use margay_fastpath::counters::RuleCount;
use margay_flowtable::PolicyType;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Control, Refusal, apart};
use crate::compile::policy::RuleName;
use crate::rule_counts::Table;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Policies {
    /// Every rule there is: the most packets first, and at the end those that never matched, in order of their policies.
    pub rules: Vec<RuleRow>,
    /// What the rules count together that are too many to be counted each by itself (`policy.rules`). Their rows say 0.
    pub beyond: Counts,
    /// Of the drops lately, the latest first.
    pub drops: Vec<DropRow>,
    /// Flows that passed more Log, Pass and staged rules than are kept of a flow: some of these counted its first packet
    /// alone.
    pub flows_cut_short: u64,
    /// Drops that were too many to be kept: they count by their rules, and stand in no row of `drops`.
    pub drops_lost: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuleRow {
    #[serde(flatten)]
    pub rule: Rule,
    #[serde(flatten)]
    pub counts: Counts,
}

/// A rule as people find it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct Rule {
    /// Kind of the policy, where both groups' NetworkPolicy are told apart.
    pub kind: String,
    /// NAMESPACE/NAME, or NAME of a cluster-wide one.
    pub policy: String,
    pub direction: Direction,
    /// Place in the policy's list of rules of that direction, from 0. `None`: the end of the tier, where no rule
    /// matched; the policy is the tier's first that selects the endpoint.
    pub rule: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    Ingress,
    Egress,
}

/// What rules have counted, summed over the workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counts {
    /// IP packets, and their bytes without tunnel headers, of flows that the rule admitted, in both directions, and that
    /// it denied; by a Log or Pass rule or a staged one, of flows that it matched.
    pub packets: u64,
    pub bytes: u64,
    /// Flows that the rule admitted (or, by a Log or Pass rule, matched) as they began or were judged again.
    pub flows: u64,
    /// First packets that it denied, and flows that it ended; of a staged rule, those that it would deny.
    pub denied: u64,
}

/// Drops by one rule at one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DropRow {
    /// `None` where a part of policy was missing.
    pub rule: Option<Rule>,
    pub direction: Direction,
    /// NAMESPACE/NAME of the pod whose policy decided, or its address where the pod is gone.
    pub endpoint: String,
    /// First packets and flows.
    pub count: u64,
    pub last_seen_seconds_ago: u64,
    pub last: Packet,
}

/// A first packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Packet {
    #[schema(value_type = String)]
    pub src: IpAddr,
    #[schema(value_type = String)]
    pub dst: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    pub sport: u16,
    pub dport: u16,
    /// Type and code, of ICMP.
    pub icmp: Option<(u8, u8)>,
}

/// The same as the control loop takes it, which making rows of it would keep.
#[derive(Debug)]
pub struct Counted {
    pub table: Table,
    pub flows_cut_short: u64,
    pub drops: Vec<DropRow>,
    pub drops_lost: u64,
}

/// What every rule has counted, and what policy has dropped of late.
#[utoipa::path(
    get,
    path = "/v1/policies",
    responses((status = OK, description = "Rules and drops", body = Policies))
)]
pub(super) async fn policies(State(control): State<Control>) -> Result<Response, Refusal> {
    let counted = control.ask(|plane| plane.counted()).await?;
    // There may be a hundred thousand rules.
    apart(move || Ok(Policies::from(counted))).await
}

impl From<Counted> for Policies {
    fn from(Counted { table, flows_cut_short, drops, drops_lost }: Counted) -> Self {
        Self { beyond: table.beyond, rules: table.rows(), flows_cut_short, drops, drops_lost }
    }
}

impl From<&RuleName> for Rule {
    fn from(name: &RuleName) -> Self {
        Self {
            kind: name.policy.kind.to_string(),
            policy: name.policy.full_name(),
            direction: name.direction.into(),
            rule: name.index,
        }
    }
}

impl From<PolicyType> for Direction {
    fn from(policy_type: PolicyType) -> Self {
        match policy_type {
            PolicyType::Ingress => Self::Ingress,
            PolicyType::Egress => Self::Egress,
        }
    }
}

impl From<RuleCount> for Counts {
    fn from(count: RuleCount) -> Self {
        Self { packets: count.packets, bytes: count.bytes, flows: count.flows, denied: count.denied }
    }
}
