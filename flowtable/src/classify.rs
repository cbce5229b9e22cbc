//! The verdict of a flow's first packet: the sender's egress policy, then the receiver's ingress policy.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::endpoint::Endpoints;
use crate::policy::{Action, Index, Policy, Program, Rule, Tier};

/// What policy sees of a first packet, in the direction that it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub protocol: u8,
    pub sport: u16,
    pub dport: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    Deny,
}

/// A verdict and what decided it: no policy where a profile or a rule of the dataplane did; no rule where the end of
/// a tier did (the policy is then the tier's first that selects the endpoint).
#[derive(Clone, Copy, Debug)]
pub struct Decision<'a> {
    pub verdict: Verdict,
    pub policy: Option<&'a Policy>,
    pub rule: Option<u32>,
}

impl Decision<'_> {
    const ALLOW: Self = Self { verdict: Verdict::Allow, policy: None, rule: None };
}

/// Both halves of a verdict. The packet passes if both allow.
#[derive(Clone, Copy, Debug)]
pub struct Classification<'a> {
    pub egress: Decision<'a>,
    pub ingress: Decision<'a>,
}

impl Classification<'_> {
    pub fn verdict(&self) -> Verdict {
        if self.egress.verdict == Verdict::Allow && self.ingress.verdict == Verdict::Allow {
            Verdict::Allow
        } else {
            Verdict::Deny
        }
    }
}

/// Asks both ends' programs. An address that is no endpoint has no policy. A pod always reaches itself, and a node its
/// own pods.
pub fn classify<'a>(endpoints: &'a Endpoints, tuple: &Tuple) -> Classification<'a> {
    let allow = Classification { egress: Decision::ALLOW, ingress: Decision::ALLOW };
    if tuple.src == tuple.dst {
        return allow;
    }
    let sender = endpoints.get(tuple.src);
    let receiver = endpoints.get(tuple.dst);
    let to_own_node = sender.is_some_and(|e| e.node_addresses.contains(&tuple.dst));
    let from_own_node = receiver.is_some_and(|e| e.node_addresses.contains(&tuple.src));
    let egress = match sender {
        Some(endpoint) if !to_own_node => evaluate(&endpoint.egress, tuple, tuple.dst),
        _ => Decision::ALLOW,
    };
    let ingress = match receiver {
        Some(endpoint) if !from_own_node => evaluate(&endpoint.ingress, tuple, tuple.src),
        _ => Decision::ALLOW,
    };
    Classification { egress, ingress }
}

fn evaluate<'a>(program: &'a Program, tuple: &Tuple, peer: IpAddr) -> Decision<'a> {
    match program.index() {
        Some(index) => evaluate_indexed(program, index, tuple, peer),
        None => evaluate_linear(program, tuple, peer),
    }
}

fn evaluate_linear<'a>(program: &'a Program, tuple: &Tuple, peer: IpAddr) -> Decision<'a> {
    decide(program, |_, tier| {
        tier.policies.iter().find_map(|policy| {
            policy.rules.iter().find(|rule| matches(rule, tuple, peer)).map(|rule| (&**policy, rule))
        })
    })
}

fn evaluate_indexed<'a>(program: &'a Program, index: &Index, tuple: &Tuple, peer: IpAddr) -> Decision<'a> {
    let mut candidates = index.candidates(tuple.protocol, tuple.dport, peer);
    decide(program, |number, tier| {
        let mut positions = index.tier(number);
        while let Some(position) = candidates.first_in(positions.clone()) {
            let (policy, rule) = index.rule(tier, position);
            if matches(rule, tuple, peer) {
                return Some((policy, rule));
            }
            positions.start = position + 1;
        }
        None
    })
}

/// Asks the tiers in turn; `first_match` finds a tier's first rule that matches.
fn decide<'a>(
    program: &'a Program,
    mut first_match: impl FnMut(usize, &'a Tier) -> Option<(&'a Policy, &'a Rule)>,
) -> Decision<'a> {
    for (number, tier) in program.tiers().iter().enumerate() {
        let (action, policy, rule) = match first_match(number, tier) {
            Some((policy, rule)) => (rule.action, Some(policy), Some(rule.index)),
            None => (tier.end, tier.policies.first().map(|policy| &**policy), None),
        };
        match action {
            Action::Allow => return Decision { verdict: Verdict::Allow, policy, rule },
            Action::Deny => return Decision { verdict: Verdict::Deny, policy, rule },
            Action::Pass => {}
        }
    }
    Decision::ALLOW
}

fn matches(rule: &Rule, tuple: &Tuple, peer: IpAddr) -> bool {
    rule.protocol.is_none_or(|protocol| protocol == tuple.protocol)
        && matches_port(rule, tuple)
        && (rule.peers.is_empty() || rule.peers.iter().any(|set| set.contains(peer)))
}

fn matches_port(rule: &Rule, tuple: &Tuple) -> bool {
    // Not `RangeInclusive::contains`, which asks besides whether the range was iterated to its end.
    let in_range = |range: &RangeInclusive<u16>| *range.start() <= tuple.dport && tuple.dport <= *range.end();
    if rule.named_ports.is_empty() {
        return rule.ports.is_empty() || rule.ports.iter().any(in_range);
    }
    rule.ports.iter().any(in_range) || matches_named_port(rule, tuple)
}

/// Apart, to keep the loop over rules with plain ports small.
#[cold]
fn matches_named_port(rule: &Rule, tuple: &Tuple) -> bool {
    rule.named_ports.iter().any(|set| set.contains(tuple.dst, tuple.protocol, tuple.dport))
}

#[cfg(test)]
mod tests;
