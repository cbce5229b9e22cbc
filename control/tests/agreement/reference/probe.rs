//! Probes: from whom to whom, and the packets that they stand for.

use std::net::IpAddr;

use serde_json::Value;

use super::world::Pod;
use super::{Packet, Verdict, World, items, protocol, text, transport};

/// What both ends say of a probe: of its packets, the first that is denied speaks; without any nothing is delivered.
pub(crate) fn verdict(world: &World, probe: &Value) -> Verdict {
    let verdicts: Vec<_> = packets(world, probe).iter().map(|packet| world.verdict(packet)).collect();
    let denied = verdicts.iter().find(|verdict| !verdict.allows());
    denied.or(verdicts.first()).copied().unwrap_or(Verdict::UNDELIVERED)
}

pub(crate) fn packets(world: &World, probe: &Value) -> Vec<Packet> {
    let protocol = protocol(&probe["proto"]);
    let port = |value: &Value| match value {
        Value::String(text) => text.parse().ok(),
        value => value.as_u64().map(|number| number as u16),
    };
    let dport = port(&probe["port"]);
    let family = match probe["family"].as_u64() {
        None if protocol == 58 => Some(6),
        family => family,
    };
    let is_of_family = |address: &IpAddr| family.is_none_or(|family| (family == 4) == address.is_ipv4());
    let sources = addresses(world, text(probe, "from"));
    let destinations = match text(probe, "to").strip_prefix("svc:") {
        Some(service) => backends(world, service, protocol, dport),
        None => addresses(world, text(probe, "to")).into_iter().map(|address| (address, dport)).collect(),
    };
    let is_service = text(probe, "to").starts_with("svc:");
    let echo_request = if protocol == 58 { 128 } else { 8 };
    let icmp = |key: &str| probe[key].as_u64().map(|number| number as u8);
    for is_v4 in [true, false] {
        let fits = |address: &IpAddr| address.is_ipv4() == is_v4 && is_of_family(address);
        let Some(src) = sources.iter().copied().find(fits) else { continue };
        let fitting = destinations.iter().filter(|(address, _)| fits(address));
        let packets = fitting.take(if is_service { usize::MAX } else { 1 }).map(|(dst, dport)| Packet {
            src,
            dst: *dst,
            protocol,
            sport: dport.map_or(0, |_| port(&probe["sport"]).unwrap_or(49152)),
            dport: dport.unwrap_or(0),
            icmp: (icmp("icmp_type").unwrap_or(echo_request), icmp("icmp_code").unwrap_or(0)),
        });
        let packets: Vec<_> = packets.collect();
        if !packets.is_empty() {
            return packets;
        }
    }
    Vec::new()
}

/// The addresses of an end that is no service. A finished pod has none; a host-network pod's are its node's.
fn addresses(world: &World, end: &str) -> Vec<IpAddr> {
    if let Some(node) = end.strip_prefix("node:") {
        return world.nodes[node].addresses.clone();
    }
    if let Ok(address) = end.parse() {
        return vec![address];
    }
    let (namespace, name) = end.split_once('/').expect("NAMESPACE/POD");
    let is_named = |pod: &&Pod| pod.namespace == namespace && pod.name == name;
    let pod = world.pods.iter().find(is_named).expect("a pod of the world");
    if pod.is_finished {
        return Vec::new();
    }
    match world.nodes.get(&pod.node).filter(|_| pod.is_host_network) {
        Some(node) => node.addresses.iter().chain(&pod.addresses).copied().collect(),
        None => pod.addresses.clone(),
    }
}

/// Address and port of each ready endpoint behind a port of a service.
fn backends(world: &World, service: &str, proto: u8, port: Option<u16>) -> Vec<(IpAddr, Option<u16>)> {
    let (namespace, name) = service.split_once('/').expect("NAMESPACE/SERVICE");
    let is_protocol = |value: &Value| transport(value) == proto;
    let is_service = |service: &&Value| {
        let metadata = &service["metadata"];
        text(metadata, "namespace") == namespace && text(metadata, "name") == name
    };
    let service = world.services.iter().find(is_service).expect("a service of the world");
    let is_asked_for = |value: &&Value| is_protocol(value) && value["port"].as_u64() == port.map(u64::from);
    let Some(asked) = items(&service["spec"], "ports").find(is_asked_for) else { return Vec::new() };
    let mut backends = Vec::new();
    for slice in &world.slices {
        let metadata = &slice["metadata"];
        let of_service = metadata["labels"]["kubernetes.io/service-name"] == name;
        let is_same = |value: &&Value| is_protocol(value) && text(value, "name") == text(asked, "name");
        let Some(serving) = items(slice, "ports")
            .find(is_same)
            .filter(|_| of_service && text(metadata, "namespace") == namespace)
        else {
            continue;
        };
        let number = serving["port"].as_u64().map_or(port, |number| Some(number as u16));
        let ready = items(slice, "endpoints").filter(|endpoint| endpoint["conditions"]["ready"] != false);
        let listed = ready.flat_map(|endpoint| items(endpoint, "addresses")).filter_map(Value::as_str);
        backends.extend(listed.map(|address| (address.parse().expect("an address"), number)));
    }
    backends
}
