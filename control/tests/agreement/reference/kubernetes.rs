//! NetworkPolicy of networking.k8s.io/v1.

use std::net::IpAddr;

use serde_json::Value;

use super::selector::selects;
use super::tiers::{Action, Policy};
use super::world::{self, Pod};
use super::{Direction, Packet, World, items, text, transport};

pub(crate) fn applies(policy: &Policy, pod: &Pod, direction: Direction) -> bool {
    let has_egress = items(&policy.spec, "egress").next().is_some();
    let mut types = items(&policy.spec, "policyTypes").filter_map(Value::as_str).peekable();
    let is_typed = match (types.peek(), direction) {
        (None, Direction::Ingress) => true,
        (None, Direction::Egress) => has_egress,
        (Some(_), Direction::Ingress) => types.any(|direction| direction == "Ingress"),
        (Some(_), Direction::Egress) => types.any(|direction| direction == "Egress"),
    };
    is_typed && policy.namespace == pod.namespace && selects_pod(&policy.spec["podSelector"], pod)
}

pub(crate) fn selects_pod(selector: &Value, pod: &Pod) -> bool {
    selects(selector, |key| pod.labels.get(key).cloned())
}

pub(crate) fn selects_namespace(selector: &Value, world: &World, namespace: &str) -> bool {
    let labels = world.namespace_labels(namespace);
    selects(selector, |key| labels.get(key).cloned())
}

/// Rules only ever allow.
pub(crate) fn decide(
    policy: &Policy,
    world: &World,
    packet: &Packet,
    direction: Direction,
) -> Option<Action> {
    let (section, peers, peer) = match direction {
        Direction::Ingress => ("ingress", "from", packet.src),
        Direction::Egress => ("egress", "to", packet.dst),
    };
    let matches = |rule: &Value| {
        let (mut peers, mut ports) = (items(rule, peers), items(rule, "ports"));
        let from_anyone = peers.clone().next().is_none();
        let to_any_port = ports.clone().next().is_none();
        (from_anyone || peers.any(|written| is_peer(world, policy, written, peer)))
            && (to_any_port || ports.any(|port| is_port(world, port, packet)))
    };
    items(&policy.spec, section).any(matches).then_some(Action::Allow)
}

fn is_peer(world: &World, policy: &Policy, peer: &Value, address: IpAddr) -> bool {
    let block = &peer["ipBlock"];
    if !block.is_null() {
        let holds = |net: &Value| world::net(net.as_str().expect("a block")).contains(&address);
        return holds(&block["cidr"]) && !items(block, "except").any(holds);
    }
    let Some(pod) = world.pod_at(address) else { return false };
    let is_namespace = match &peer["namespaceSelector"] {
        Value::Null => pod.namespace == policy.namespace,
        selector => selects_namespace(selector, world, &pod.namespace),
    };
    is_namespace && selects_pod(&peer["podSelector"], pod)
}

fn is_port(world: &World, port: &Value, packet: &Packet) -> bool {
    if transport(port) != packet.protocol {
        return false;
    }
    match &port["port"] {
        Value::Null => true,
        Value::String(_) => {
            world.has_named_port(packet.dst, text(port, "port"), packet.protocol, packet.dport)
        }
        number => {
            let first = number.as_u64().expect("a port");
            let last = port["endPort"].as_u64().unwrap_or(first);
            (first..=last).contains(&u64::from(packet.dport))
        }
    }
}
