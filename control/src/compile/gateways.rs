//! Which node a route leads to: the destination's own, or the gateway that stands before it or before us.
//!
//! A node is behind the gateway that its label [`GATEWAY`] names. A label that names the node itself, or is empty,
//! means none. A label that names no known node leaves the node unreachable and without routes to others: to go around
//! the gateway would go around its policy.

use super::routes::Unreachable;
use crate::state::{Cluster, Pod};

/// Label of a Node: name of the node that is its gateway.
pub const GATEWAY: &str = "margay.dev/gateway";

/// The gateway that `node` names, known or not.
pub fn gateway_of<'a>(cluster: &'a Cluster, node: &str) -> Option<&'a str> {
    let gateway = cluster.nodes.get(node)?.labels.get(GATEWAY)?.as_str();
    (!gateway.is_empty() && gateway != node).then_some(gateway)
}

/// Whether the gateway `gateway` enforces the policy of `pod`: the pod is on that node, or on one behind it.
pub fn serves(cluster: &Cluster, gateway: &str, pod: &Pod) -> bool {
    pod.node == gateway || gateway_of(cluster, &pod.node) == Some(gateway)
}

/// The node that `local` sends to for what lives on the other node `destination`.
pub(super) fn next_node<'a>(
    cluster: &'a Cluster,
    local: &str,
    destination: &'a str,
) -> Result<&'a str, Unreachable> {
    let theirs = gateway_of(cluster, destination);
    // A gateway's own nodes come first: were it itself behind a gateway, they would send to each other for ever.
    if theirs == Some(local) {
        return Ok(destination);
    }
    if let Some(ours) = gateway_of(cluster, local) {
        return known_gateway(cluster, local, ours);
    }
    match theirs {
        Some(theirs) => known_gateway(cluster, destination, theirs),
        None => Ok(destination),
    }
}

fn known_gateway<'a>(cluster: &Cluster, node: &str, gateway: &'a str) -> Result<&'a str, Unreachable> {
    if !cluster.nodes.contains_key(gateway) {
        return Err(Unreachable::UnknownGateway { node: node.into(), gateway: gateway.into() });
    }
    // Gateways may stand behind gateways, but not in a ring: packets would run around it.
    let mut at = gateway;
    for _ in 0..cluster.nodes.len() {
        match gateway_of(cluster, at) {
            Some(next) if next == node => {
                return Err(Unreachable::GatewayRing { node: node.into(), gateway: gateway.into() });
            }
            Some(next) => at = next,
            None => break,
        }
    }
    Ok(gateway)
}
