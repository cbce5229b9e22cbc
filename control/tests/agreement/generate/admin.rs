//! ClusterNetworkPolicy, AdminNetworkPolicy and BaselineAdminNetworkPolicy.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::words::{cidrs, label_selector, namespace_selector};
use super::{list, maybe, object};

pub(super) fn cluster_network_policy() -> BoxedStrategy<Value> {
    (select(vec!["Admin", "Baseline"]), priority(), spec(&["Accept", "Deny", "Deny", "Pass"], "protocols"))
        .prop_map(|(tier, priority, mut spec)| {
            spec["tier"] = json!(tier);
            spec["priority"] = json!(priority);
            object_of("v1alpha2", "ClusterNetworkPolicy", &spec)
        })
        .boxed()
}

pub(super) fn admin_network_policy() -> BoxedStrategy<Value> {
    (priority(), spec(&["Allow", "Deny", "Deny", "Pass"], "ports"))
        .prop_map(|(priority, mut spec)| {
            spec["priority"] = json!(priority);
            object_of("v1alpha1", "AdminNetworkPolicy", &spec)
        })
        .boxed()
}

pub(super) fn baseline_admin_network_policy() -> BoxedStrategy<Value> {
    spec(&["Allow", "Deny"], "ports")
        .prop_map(|spec| object_of("v1alpha1", "BaselineAdminNetworkPolicy", &spec))
        .boxed()
}

fn object_of(version: &str, kind: &str, spec: &Value) -> Value {
    let api = format!("policy.networking.k8s.io/{version}");
    json!({"apiVersion": api, "kind": kind, "metadata": {}, "spec": spec})
}

fn priority() -> impl Strategy<Value = u16> {
    select(vec![0, 5, 5, 10, 1000])
}

fn spec(actions: &'static [&'static str], ports: &'static str) -> BoxedStrategy<Value> {
    let ingress = list(rule(actions, ports, "from"));
    let egress = list(rule(actions, ports, "to"));
    (pods(), ingress, egress)
        .prop_map(|(subject, ingress, egress)| {
            object([("subject", Some(subject)), ("ingress", ingress), ("egress", egress)])
        })
        .boxed()
}

/// Pods of namespaces, or some pods of namespaces.
fn pods() -> BoxedStrategy<Value> {
    let some = (namespace_selector(), label_selector()).prop_map(
        |(namespaces, pods)| json!({"pods": {"namespaceSelector": namespaces, "podSelector": pods}}),
    );
    prop_oneof![namespace_selector().prop_map(|selector| json!({"namespaces": selector})), some].boxed()
}

fn rule(actions: &'static [&'static str], ports: &'static str, peers: &'static str) -> BoxedStrategy<Value> {
    // A peer without pods has no named ports, and the API refuses the two together.
    let of_pods = (some(pods()), maybe(0.4, some(port(ports, true))));
    let of_any = (some(peer(peers)), maybe(0.4, some(port(ports, false))));
    let unknown = some(Just(json!({"domainNames": ["example.com"]})).boxed());
    let unknown = (unknown, maybe(0.4, some(port(ports, false))));
    let matched = if peers == "to" {
        prop_oneof![8 => of_pods, 8 => of_any, 1 => unknown].boxed()
    } else {
        of_pods.boxed()
    };
    (select(actions), matched)
        .prop_map(move |(action, (listed, wanted))| {
            object([("action", Some(json!(action))), (peers, Some(listed)), (ports, wanted)])
        })
        .boxed()
}

fn some(item: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    prop::collection::vec(item, 1..3).prop_map(Value::from).boxed()
}

fn peer(peers: &str) -> BoxedStrategy<Value> {
    if peers == "from" {
        return pods();
    }
    let nodes = label_selector().prop_map(|selector| json!({"nodes": selector}));
    let networks = select(vec![4, 6]).prop_flat_map(cidrs).prop_map(|nets| json!({"networks": nets}));
    prop_oneof![pods(), nodes, networks].boxed()
}

/// A port in the form of the older kinds, or a protocol in that of the newer.
fn port(form: &str, with_names: bool) -> BoxedStrategy<Value> {
    let protocol = select(vec!["TCP", "UDP", "SCTP"]);
    let number = select(vec![80u16, 81, 53]);
    let named = select(vec!["web", "dns"]);
    if form == "ports" {
        let one = (protocol.clone(), number)
            .prop_map(|(protocol, port)| json!({"portNumber": {"protocol": protocol, "port": port}}));
        let range = protocol
            .prop_map(|protocol| json!({"portRange": {"protocol": protocol, "start": 80, "end": 90}}));
        let named = named.prop_map(|name| json!({"namedPort": name}));
        return either(one.boxed(), range.boxed(), named.boxed(), with_names);
    }
    let of = |protocol: &str, port: Value| json!({protocol.to_lowercase(): {"destinationPort": port}});
    let one = (protocol.clone(), number)
        .prop_map(move |(protocol, number)| of(protocol, json!({"number": number})));
    let range = protocol.prop_map(move |protocol| of(protocol, json!({"range": {"start": 80, "end": 90}})));
    let named = named.prop_map(|name| json!({"destinationNamedPort": name}));
    either(one.boxed(), range.boxed(), named.boxed(), with_names)
}

fn either(
    one: BoxedStrategy<Value>,
    range: BoxedStrategy<Value>,
    named: BoxedStrategy<Value>,
    with_names: bool,
) -> BoxedStrategy<Value> {
    if with_names { prop_oneof![one, range, named].boxed() } else { prop_oneof![one, range].boxed() }
}
