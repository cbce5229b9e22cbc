//! Kubernetes' own policies: NetworkPolicy, AdminNetworkPolicy, BaselineAdminNetworkPolicy, ClusterNetworkPolicy.
//!
//! All of them write rules the same way: peers, of which one must hold, and ports, of which one must hold.

mod admin;
mod admin_rule;
mod label_selector;
mod network_policy;
mod one_of;

use std::collections::BTreeMap;

pub(super) use admin::{admin_network_policy, baseline_admin_network_policy, cluster_network_policy};
pub(super) use network_policy::{network_policy, staged_network_policy};

use crate::state::Protocol;
use crate::state::policy::{Peer, PortMatch, Rule};

/// Which of a policy's two lists a rule stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    fn list_key(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }

    fn peers_key(self) -> &'static str {
        match self {
            Self::Ingress => "from",
            Self::Egress => "to",
        }
    }
}

/// Destination ports as written: those of one protocol, or of any.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Port {
    protocol: Option<Protocol>,
    /// `None`: every port.
    port: Option<PortMatch>,
}

/// The rule with its conditions on peers and ports: one for each protocol that the ports name. `None` where the rule has
/// no such condition.
fn with_conditions(
    mut rule: Rule,
    direction: Direction,
    peers: Option<Vec<Peer>>,
    ports: Option<Vec<Port>>,
) -> Vec<Rule> {
    let side = match direction {
        Direction::Ingress => &mut rule.source,
        Direction::Egress => &mut rule.destination,
    };
    side.all_of.extend(peers);
    let Some(ports) = ports else { return vec![rule] };
    let mut by_protocol: BTreeMap<Option<Protocol>, Option<Vec<PortMatch>>> = BTreeMap::new();
    for Port { protocol, port } in ports {
        let matches = by_protocol.entry(protocol).or_insert_with(|| Some(Vec::new()));
        match port {
            Some(port) => matches.iter_mut().for_each(|matches| matches.push(port.clone())),
            None => *matches = None,
        }
    }
    let of_protocol = |(protocol, ports): (Option<Protocol>, Option<Vec<PortMatch>>)| {
        let mut rule = rule.clone();
        rule.protocol = protocol;
        rule.destination.ports = ports.unwrap_or_default();
        rule
    };
    by_protocol.into_iter().map(of_protocol).collect()
}

/// Position in a list as rules carry it.
fn position(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
