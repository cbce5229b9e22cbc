//! What is asked of most rules, in half a cache line.

use super::{Action, Policy, PolicyType, Rule, RuleId, SetId};

/// A rule in short. It rejects no packet that the rule matches; of most rules it says all.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
pub(crate) struct Check {
    pub(crate) id: RuleId,
    pub(crate) action: Action,
    /// Whether it says all that the rule does.
    pub(crate) is_whole: bool,
    /// Whether packets without ports do not match.
    pub(crate) asks_port: bool,
    pub(crate) protocol: Option<u8>,
    pub(crate) first_port: u16,
    pub(crate) last_port: u16,
    /// The peer is in this set.
    pub(crate) peers: Option<SetId>,
    /// Where the rule stands.
    policy: u32,
    rule: u32,
}

impl Check {
    pub(super) fn of(policy_type: PolicyType, rule: &Rule, place: (u32, u32)) -> Self {
        let (peer, other) = match policy_type {
            PolicyType::Ingress => (&rule.source, &rule.destination),
            PolicyType::Egress => (&rule.destination, &rule.source),
        };
        let (peers, is_all_peers) = match &*peer.all_of {
            [] => (None, true),
            [list] if list.len() == 1 => (Some(list[0]), true),
            _ => (None, false),
        };
        let destination = &rule.destination;
        let is_by_number = destination.named_ports.is_empty();
        let (first_port, last_port) = match &*destination.ports {
            ports if ports.is_empty() || !is_by_number => (0, u16::MAX),
            ports => {
                let first = ports.iter().map(|range| *range.start()).min();
                let last = ports.iter().map(|range| *range.end()).max();
                first.zip(last).unwrap_or((0, u16::MAX))
            }
        };
        let plain_ports =
            is_by_number && destination.not_ports.is_empty() && destination.not_named_ports.is_empty();
        let no_negation = rule.not_protocol.is_none() && peer.none_of.is_empty() && other.none_of.is_empty();
        let no_rarity = rule.icmp.is_none() && rule.not_icmp.is_none() && rule.ip_version.is_none();
        Self {
            id: rule.id,
            action: rule.action,
            is_whole: is_all_peers
                && other.all_of.is_empty()
                && plain_ports
                && destination.ports.len() <= 1
                && !rule.source.asks_port()
                && no_negation
                && no_rarity,
            asks_port: rule.source.asks_port() || destination.asks_port(),
            protocol: rule.protocol,
            first_port,
            last_port,
            peers,
            policy: place.0,
            rule: place.1,
        }
    }

    /// The rule itself.
    pub(crate) fn rule<'a>(&self, policies: &'a [std::sync::Arc<Policy>]) -> &'a Rule {
        &policies[self.policy as usize].rules[self.rule as usize]
    }
}
