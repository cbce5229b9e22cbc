//! ClusterNetworkPolicy, AdminNetworkPolicy and BaselineAdminNetworkPolicy of policy.networking.k8s.io.

use std::net::IpAddr;

use serde_json::Value;

use super::kubernetes::{selects_namespace, selects_pod};
use super::selector::selects;
use super::tiers::{Action, Policy};
use super::world::{self, Pod};
use super::{Direction, Packet, World, items, protocol, text, transport};

/// A policy without rules for a direction leaves that alone.
pub(crate) fn applies(policy: &Policy, world: &World, pod: &Pod, direction: Direction) -> bool {
    items(&policy.spec, section(direction)).next().is_some() && is_among(&policy.spec["subject"], world, pod)
}

pub(crate) fn decide(
    policy: &Policy,
    world: &World,
    packet: &Packet,
    direction: Direction,
) -> Option<Action> {
    items(&policy.spec, section(direction)).find_map(|rule| decide_by(rule, world, packet, direction))
}

fn section(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

/// By pods of selected namespaces, or selected pods of selected namespaces.
fn is_among(written: &Value, world: &World, pod: &Pod) -> bool {
    let (namespaces, pods) = (&written["namespaces"], &written["pods"]);
    if !namespaces.is_null() {
        return selects_namespace(namespaces, world, &pod.namespace);
    }
    selects_namespace(&pods["namespaceSelector"], world, &pod.namespace)
        && selects_pod(&pods["podSelector"], pod)
}

fn decide_by(rule: &Value, world: &World, packet: &Packet, direction: Direction) -> Option<Action> {
    let action = match text(rule, "action") {
        "Allow" | "Accept" => Action::Allow,
        "Deny" => Action::Deny,
        "Pass" => Action::Pass,
        other => panic!("action {other}"),
    };
    let (key, address, known): (_, _, &[&str]) = match direction {
        Direction::Ingress => ("from", packet.src, &["namespaces", "pods"]),
        Direction::Egress => ("to", packet.dst, &["namespaces", "pods", "nodes", "networks"]),
    };
    let mut peers = items(rule, key);
    // A peer that cannot be understood makes an allowing rule match nothing and any other deny everything.
    let is_known = |peer: &Value| known.iter().any(|field| !peer[field].is_null());
    if !peers.clone().all(is_known) {
        return (action != Action::Allow).then_some(Action::Deny);
    }
    let matches = peers.any(|peer| is_peer(world, peer, address)) && is_wanted_port(world, rule, packet);
    matches.then_some(action)
}

fn is_peer(world: &World, peer: &Value, address: IpAddr) -> bool {
    if !peer["nodes"].is_null() {
        return world.nodes.values().any(|node| {
            node.addresses.contains(&address) && selects(&peer["nodes"], |key| node.labels.get(key).cloned())
        });
    }
    if !peer["networks"].is_null() {
        return items(peer, "networks")
            .any(|net| world::net(net.as_str().expect("a net")).contains(&address));
    }
    world.pod_at(address).is_some_and(|pod| is_among(peer, world, pod))
}

/// By `ports` of the older kinds or `protocols` of the newer; without either, each packet.
fn is_wanted_port(world: &World, rule: &Value, packet: &Packet) -> bool {
    let mut wanted = items(rule, "ports").chain(items(rule, "protocols")).peekable();
    wanted.peek().is_none() || wanted.any(|port| is_port(world, port, packet))
}

fn is_port(world: &World, port: &Value, packet: &Packet) -> bool {
    let within = |range: &Value| {
        let bound = |key: &str| range[key].as_u64().expect("a port");
        (bound("start")..=bound("end")).contains(&u64::from(packet.dport))
    };
    for key in ["namedPort", "destinationNamedPort"] {
        if let Some(name) = port[key].as_str() {
            return world.has_named_port(packet.dst, name, packet.protocol, packet.dport);
        }
    }
    if let Some(number) = port.get("portNumber") {
        return transport(number) == packet.protocol && number["port"] == packet.dport;
    }
    if let Some(range) = port.get("portRange") {
        return transport(range) == packet.protocol && within(range);
    }
    let (name, written) = port.as_object().and_then(|fields| fields.iter().next()).expect("a protocol");
    let destination = &written["destinationPort"];
    protocol(&name.as_str().into()) == packet.protocol
        && match (&destination["number"], &destination["range"]) {
            (Value::Null, Value::Null) => true,
            (Value::Null, range) => within(range),
            (number, _) => *number == packet.dport,
        }
}
