//! NetworkPolicy of networking.k8s.io/v1.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::words::{NAMESPACES, label_selector, namespace_selector};
use super::{maybe, object};

pub(super) fn policy() -> BoxedStrategy<Value> {
    (select(&NAMESPACES[..]), spec())
        .prop_map(|(namespace, spec)| {
            json!({
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"namespace": namespace},
                "spec": spec,
            })
        })
        .boxed()
}

pub(super) fn spec() -> BoxedStrategy<Value> {
    let types = select(vec![
        None,
        Some(json!([])),
        Some(json!(["Ingress"])),
        Some(json!(["Egress"])),
        Some(json!(["Egress", "Ingress"])),
    ]);
    (maybe(0.8, label_selector()), types, rules("from"), rules("to"))
        .prop_map(|(pods, types, ingress, egress)| {
            object([("podSelector", pods), ("policyTypes", types), ("ingress", ingress), ("egress", egress)])
        })
        .boxed()
}

fn rules(peers: &'static str) -> BoxedStrategy<Option<Value>> {
    let rule = (nullable_list(peer()), nullable_list(port()))
        .prop_map(move |(listed, ports)| object([(peers, listed), ("ports", ports)]));
    nullable_list(rule.boxed())
}

/// Missing, null, empty or some.
fn nullable_list(item: BoxedStrategy<Value>) -> BoxedStrategy<Option<Value>> {
    prop_oneof![1 => Just(Some(Value::Null)), 7 => super::list(item)].boxed()
}

fn peer() -> BoxedStrategy<Value> {
    let pods = (maybe(0.5, namespace_selector()), label_selector(), any::<bool>()).prop_map(
        |(namespaces, pods, both)| {
            let pods = (namespaces.is_none() || both).then_some(pods);
            object([("namespaceSelector", namespaces), ("podSelector", pods)])
        },
    );
    let block = select(vec![
        json!({"cidr": "10.65.0.0/16"}),
        json!({"cidr": "10.65.1.0/24", "except": ["10.65.1.0/30", "10.65.1.5/32"]}),
        json!({"cidr": "10.65.1.2/32"}),
        json!({"cidr": "0.0.0.0/0", "except": ["192.0.2.0/24"]}),
        json!({"cidr": "::/0", "except": ["fd00:65::/127", "fd00:9::/64"]}),
        json!({"cidr": "172.18.0.1/32"}),
    ]);
    prop_oneof![3 => pods, 1 => block.prop_map(|block| json!({"ipBlock": block}))].boxed()
}

fn port() -> BoxedStrategy<Value> {
    let protocol = maybe(0.7, select(vec!["TCP", "UDP", "SCTP"]));
    let port = select(vec![
        (None, None),
        (Some(json!(80)), None),
        (Some(json!(81)), None),
        (Some(json!(80)), Some(json!(90))),
        (Some(json!("web")), None),
        (Some(json!("dns")), None),
    ]);
    (protocol, port)
        .prop_map(|(protocol, (port, end))| {
            object([("protocol", protocol), ("port", port), ("endPort", end)])
        })
        .boxed()
}
