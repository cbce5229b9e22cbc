//! NetworkPolicy and GlobalNetworkPolicy of projectcalico.org/v3.

use std::net::IpAddr;

use serde_json::Value;

use super::selector::holds;
use super::tiers::{Action, Policy};
use super::world::{self, Inherited, Item};
use super::{Direction, Packet, World, items, protocol, text, transport};

pub(crate) fn applies(policy: &Policy, world: &World, address: IpAddr, direction: Direction) -> bool {
    let spec = &policy.spec;
    // These two are for host endpoints alone.
    let is_for_hosts = spec["doNotTrack"] == true || spec["preDNAT"] == true;
    let is_subject = |item: &Item| selects(policy, item);
    !is_for_hosts && has_type(spec, direction) && world.pod_item_at(address).is_some_and(is_subject)
}

/// Whether the policy is for an endpoint.
pub(crate) fn selects(policy: &Policy, item: &Item) -> bool {
    let spec = &policy.spec;
    let namespaces = Inherited { item, prefix: "pcns.", all: "projectcalico.org/namespace" };
    let accounts = Inherited { item, prefix: "pcsa.", all: "projectcalico.org/serviceaccount" };
    (policy.namespace.is_empty() || is_in_namespace(item, &policy.namespace))
        && holds(text(spec, "selector"), item)
        && is_empty_or(text(spec, "namespaceSelector"), |text| holds(text, &namespaces))
        && is_empty_or(text(spec, "serviceAccountSelector"), |text| holds(text, &accounts))
}

/// Without `types`: ingress, unless there are rules for egress alone; egress, if there are rules for it.
pub(crate) fn has_type(spec: &Value, direction: Direction) -> bool {
    let has = |section: &str| items(spec, section).next().is_some();
    let mut types = items(spec, "types").filter_map(Value::as_str).peekable();
    match (types.peek(), direction) {
        (None, Direction::Ingress) => has("ingress") || !has("egress"),
        (None, Direction::Egress) => has("egress"),
        (Some(_), Direction::Ingress) => types.any(|direction| direction == "Ingress"),
        (Some(_), Direction::Egress) => types.any(|direction| direction == "Egress"),
    }
}

pub(crate) fn decide(
    policy: &Policy,
    world: &World,
    packet: &Packet,
    direction: Direction,
) -> Option<Action> {
    let section = match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    };
    let decides = |rule: &Value| {
        let action = match text(rule, "action") {
            "Allow" => Action::Allow,
            "Deny" => Action::Deny,
            "Pass" => Action::Pass,
            "Log" => return None,
            other => panic!("action {other}"),
        };
        matches(policy, rule, world, packet).then_some(action)
    };
    items(&policy.spec, section).find_map(decides)
}

fn matches(policy: &Policy, rule: &Value, world: &World, packet: &Packet) -> bool {
    let version = if packet.src.is_ipv4() { 4 } else { 6 };
    let is_protocol = |written: &Value| protocol(written) == packet.protocol;
    let source = End { address: packet.src, port: packet.sport, is_destination: false };
    let destination = End { address: packet.dst, port: packet.dport, is_destination: true };
    is_null_or(&rule["ipVersion"], |written| *written == version)
        && is_null_or(&rule["protocol"], is_protocol)
        && is_null_or(&rule["notProtocol"], |written| !is_protocol(written))
        && (says_nothing(&rule["icmp"]) || is_icmp(&rule["icmp"], packet))
        && (says_nothing(&rule["notICMP"]) || !is_icmp(&rule["notICMP"], packet))
        && is_of_family(rule, packet)
        && source.is(policy, &rule["source"], world, packet)
        && destination.is(policy, &rule["destination"], world, packet)
}

/// A rule is only of the families that each of its lists of networks has something of, those that it excludes too.
fn is_of_family(rule: &Value, packet: &Packet) -> bool {
    let is_same = |net: &Value| {
        let is_v6 = net.as_str().expect("a net").contains(':');
        is_v6 == packet.src.is_ipv6()
    };
    let lists =
        ["source", "destination"].into_iter().flat_map(|side| ["nets", "notNets"].map(|key| (side, key)));
    let mut lists = lists.map(|(side, key)| items(&rule[side], key).peekable());
    lists.all(|mut nets| nets.peek().is_none() || nets.any(is_same))
}

/// A field without a type says nothing.
fn says_nothing(written: &Value) -> bool {
    written["type"].is_null()
}

fn is_icmp(written: &Value, packet: &Packet) -> bool {
    let (kind, code) = packet.icmp;
    matches!(packet.protocol, 1 | 58)
        && written["type"] == kind
        && is_null_or(&written["code"], |written| *written == code)
}

/// One end of a packet.
struct End {
    address: IpAddr,
    port: u16,
    is_destination: bool,
}

impl End {
    fn is(&self, policy: &Policy, entity: &Value, world: &World, packet: &Packet) -> bool {
        let any = |key: &str, is: &dyn Fn(&Value) -> bool| items(entity, key).any(is);
        let none_given = |key: &str| items(entity, key).next().is_none();
        let is_net = |net: &Value| world::net(net.as_str().expect("a net")).contains(&self.address);
        let is_port = |port: &Value| self.is_port(port, world, packet);
        let is_item = |item: &Item| holds(text(entity, "notSelector"), item);
        (none_given("nets") || any("nets", &is_net))
            && !any("notNets", &is_net)
            && (none_given("ports") || any("ports", &is_port))
            && !any("notPorts", &is_port)
            && self.is_selected(policy, entity, world)
            && (text(entity, "notSelector").is_empty() || !world.items_at(self.address).any(is_item))
            && is_null_or(&entity["services"], |service| self.is_service(policy, service, world, packet))
    }

    /// By all selectors that are written together; a policy of a namespace that has one of them but none for
    /// namespaces means its own. Without any, each address.
    fn is_selected(&self, policy: &Policy, entity: &Value, world: &World) -> bool {
        let accounts = &entity["serviceAccounts"];
        let (selector, namespaces) = (text(entity, "selector"), text(entity, "namespaceSelector"));
        let by_account = !text(accounts, "selector").is_empty() || items(accounts, "names").next().is_some();
        let is_restricted = !selector.is_empty() || !namespaces.is_empty() || by_account;
        let is_scoped = is_restricted || !text(entity, "notSelector").is_empty();
        let own_namespace = if namespaces.is_empty() && is_scoped { policy.namespace.as_str() } else { "" };
        if !is_restricted && own_namespace.is_empty() {
            return true;
        }
        world.items_at(self.address).any(|item| {
            let of_namespace = Inherited { item, prefix: "pcns.", all: "projectcalico.org/namespace" };
            is_empty_or(own_namespace, |namespace| is_in_namespace(item, namespace))
                && is_empty_or(namespaces, |text| holds(text, &of_namespace))
                && is_empty_or(selector, |text| holds(text, item))
                && is_account(accounts, item)
        })
    }

    fn is_port(&self, port: &Value, world: &World, packet: &Packet) -> bool {
        if let Some(number) = port.as_u64() {
            return number == u64::from(self.port);
        }
        let written = port.as_str().expect("a port");
        let bounds = match written.split_once(':') {
            Some((first, last)) => (first.parse::<u16>(), last.parse::<u16>()),
            None => (written.parse(), written.parse()),
        };
        match bounds {
            (Ok(first), Ok(last)) => (first..=last).contains(&self.port),
            _ => world.has_named_port(self.address, written, packet.protocol, self.port),
        }
    }

    /// As a source by address; as a destination by the port that the endpoint serves too.
    fn is_service(&self, policy: &Policy, service: &Value, world: &World, packet: &Packet) -> bool {
        let namespace = match text(service, "namespace") {
            "" => policy.namespace.as_str(),
            namespace => namespace,
        };
        let is_slice = |slice: &&Value| {
            let metadata = &slice["metadata"];
            text(metadata, "namespace") == namespace
                && metadata["labels"]["kubernetes.io/service-name"] == service["name"]
        };
        let serves = |slice: &Value| {
            let is_port = |port: &Value| transport(port) == packet.protocol && port["port"] == self.port;
            let mut addresses = items(slice, "endpoints").flat_map(|endpoint| items(endpoint, "addresses"));
            addresses.any(|address| address.as_str().and_then(|text| text.parse().ok()) == Some(self.address))
                && (!self.is_destination || items(slice, "ports").any(is_port))
        };
        world.slices.iter().filter(is_slice).any(serves)
    }
}

fn is_account(accounts: &Value, item: &Item) -> bool {
    let of_account = Inherited { item, prefix: "pcsa.", all: "" };
    let name = item.labels.get("projectcalico.org/serviceaccount").map(String::as_str);
    let mut names = items(accounts, "names").peekable();
    let is_named = names.peek().is_none() || names.any(|wanted| name.is_some() && wanted.as_str() == name);
    is_named && is_empty_or(text(accounts, "selector"), |text| holds(text, &of_account))
}

fn is_in_namespace(item: &Item, namespace: &str) -> bool {
    item.labels.get("projectcalico.org/namespace").is_some_and(|own| own == namespace)
}

fn is_empty_or(written: &str, is: impl Fn(&str) -> bool) -> bool {
    written.is_empty() || is(written)
}

fn is_null_or(written: &Value, is: impl Fn(&Value) -> bool) -> bool {
    written.is_null() || is(written)
}
