//! Classification: each condition of a rule, whose programs are asked, and the index against the rules in turn.

mod conditions;
mod index;
mod programs;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::*;
use crate::{
    AddressSet, Endpoint, EndpointId, IdentityId, Policy, PolicyType, Program, Rule, SegmentId, SetId, Side,
    Tier,
};

fn v4(bits: u32) -> IpAddr {
    Ipv4Addr::from_bits(bits).into()
}

fn v6(bits: u128) -> IpAddr {
    Ipv6Addr::from_bits(bits).into()
}

/// A TCP packet.
fn tuple(src: IpAddr, dst: IpAddr, dport: u16) -> Tuple {
    Tuple { src, dst, protocol: 6, sport: 40_000, dport, icmp: None }
}

fn policy(rules: Vec<Rule>) -> Arc<Policy> {
    Arc::new(Policy { name: "ns/policy".into(), rules, end: RuleId::NONE })
}

fn segment(policies: &Policies, policy_type: PolicyType, rules: &[Rule], known: u32) -> Segment {
    let list = rules.chunks(7).map(|rules| policy(rules.to_vec())).collect();
    Segment::new(policy_type, list, &policies.sets, &policies.port_sets, IdentityId(known))
}

/// Asks the rules in turn, as they are written.
fn in_turn(
    segment: &Segment,
    packet: &Packet<'_>,
    log: &mut impl FnMut(RuleId),
) -> Option<(TierEnd, RuleId)> {
    let rules = segment.policies().iter().flat_map(|policy| &policy.rules);
    for rule in rules.filter(|rule| packet.matches(rule)) {
        match rule.action {
            Action::Allow => return Some((TierEnd::Allow, rule.id)),
            Action::Deny => return Some((TierEnd::Deny, rule.id)),
            Action::Pass => return Some((TierEnd::Pass, rule.id)),
            Action::Log => log(rule.id),
        }
    }
    None
}
