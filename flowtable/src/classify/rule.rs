//! Whether a packet matches a rule.

use std::ops::RangeInclusive;
use std::sync::Arc;

use margay_encap::protocol;

use super::Tuple;
use crate::address_set::End;
use crate::policy::{Check, IcmpMatch, IpVersion, Policy, PolicyType, Rule, Side};
use crate::{Policies, PortSetId, SetId};

/// A first packet, and who its ends are.
pub(super) struct Packet<'a> {
    pub(super) policies: &'a Policies,
    pub(super) tuple: &'a Tuple,
    pub(super) source: End,
    pub(super) destination: End,
}

impl Packet<'_> {
    /// The end that is not the one whose policy is asked.
    pub(super) fn peer(&self, policy_type: PolicyType) -> &End {
        match policy_type {
            PolicyType::Ingress => &self.source,
            PolicyType::Egress => &self.destination,
        }
    }

    /// As [`Packet::matches`]. `policies` are those whose rule it is, `peer` is the end that it is asked about.
    #[inline]
    pub(super) fn passes(&self, check: &Check, policies: &[Arc<Policy>], peer: &End) -> bool {
        let tuple = self.tuple;
        check.protocol.is_none_or(|protocol| protocol == tuple.protocol)
            && check.first_port <= tuple.dport
            && tuple.dport <= check.last_port
            && (!check.asks_port || protocol::has_ports(tuple.protocol))
            && check.peers.is_none_or(|set| self.holds(set, peer))
            && (check.is_whole || self.matches(check.rule(policies)))
    }

    fn holds(&self, set: SetId, end: &End) -> bool {
        self.policies.sets.get(set.0).is_some_and(|set| set.contains(end))
    }

    pub(super) fn matches(&self, rule: &Rule) -> bool {
        let tuple = self.tuple;
        rule.protocol.is_none_or(|protocol| protocol == tuple.protocol)
            && rule.not_protocol.is_none_or(|protocol| protocol != tuple.protocol)
            && rule.ip_version.is_none_or(|version| (version == IpVersion::V6) == tuple.src.is_ipv6())
            && rule.icmp.is_none_or(|icmp| tuple.icmp.is_some_and(|packet| is_of(packet, icmp)))
            && rule.not_icmp.is_none_or(|icmp| tuple.icmp.is_some_and(|packet| !is_of(packet, icmp)))
            && self.matches_ports(&rule.destination, &self.destination, tuple.dport)
            && self.matches_ports(&rule.source, &self.source, tuple.sport)
            && self.matches_sets(&rule.source, &self.source)
            && self.matches_sets(&rule.destination, &self.destination)
    }

    fn matches_ports(&self, side: &Side, end: &End, port: u16) -> bool {
        if !side.asks_port() {
            return true;
        }
        let named = |id: &PortSetId| {
            let set = self.policies.port_sets.get(id.0);
            set.is_some_and(|set| set.contains(end, self.tuple.protocol, port))
        };
        let is_any = side.ports.is_empty() && side.named_ports.is_empty();
        protocol::has_ports(self.tuple.protocol)
            && (is_any || is_in(&side.ports, port) || side.named_ports.iter().any(named))
            && !is_in(&side.not_ports, port)
            && !side.not_named_ports.iter().any(named)
    }

    fn matches_sets(&self, side: &Side, end: &End) -> bool {
        let holds = |id: &SetId| self.holds(*id, end);
        side.all_of.iter().all(|sets| sets.iter().any(holds)) && !side.none_of.iter().any(holds)
    }
}

fn is_of((kind, code): (u8, u8), icmp: IcmpMatch) -> bool {
    icmp.kind.is_none_or(|only| only == kind) && icmp.code.is_none_or(|only| only == code)
}

fn is_in(ranges: &[RangeInclusive<u16>], port: u16) -> bool {
    // Not `RangeInclusive::contains`, which asks besides whether the range was iterated to its end.
    ranges.iter().any(|range| *range.start() <= port && port <= *range.end())
}
