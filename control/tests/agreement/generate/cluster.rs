//! What policies speak of, and the ends of probes: namespaces, nodes, service accounts, network sets, services, tiers.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

use super::calico::TIERS;
use super::pods;
use super::words::{ACCOUNTS, NAMESPACES, labels, nets};
use super::{End, maybe, object};

/// Addresses that are no pod's: outside of the cluster, in a block of pods, a node's external one.
const STRANGERS: [&str; 4] = ["192.0.2.7", "fd00:9::7", "10.65.1.200", EXTERNAL];
const EXTERNAL: &str = "203.0.113.1";

/// The objects, and the ends of probes.
pub(super) fn cluster(with_calico: bool) -> BoxedStrategy<(Vec<Value>, Vec<End>)> {
    let nodes = prop::collection::vec(labels(), 2..5);
    let namespaces = prop::collection::vec(labels(), 2..=NAMESPACES.len());
    let pods = prop::collection::vec(pods::pod(), 2..10);
    let services = prop::collection::vec(service(), 0..3);
    let calico = (
        prop::collection::vec(labels(), 0..5),
        prop::collection::vec(network_set(), 0..4),
        prop::sample::subsequence(&TIERS[..], 0..=TIERS.len()).prop_flat_map(tiers),
    );
    (nodes, namespaces, pods, services, calico)
        .prop_map(move |(nodes, namespaces, pods, services, (accounts, sets, tiers))| {
            let mut objects: Vec<Value> =
                nodes.iter().enumerate().map(|(i, labels)| node(i, labels)).collect();
            let named = namespaces.iter().zip(NAMESPACES);
            objects.extend(named.map(|(labels, name)| {
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
            }));
            let pods = pods::place(pods, nodes.len());
            let mut ends = ends(nodes.len(), &pods);
            for (i, (service, slices)) in services.iter().enumerate() {
                let (written, families) = serve(i, service, slices, &pods);
                objects.extend(written);
                let name = format!("svc:{}/s{i}", text(service, "namespace"));
                ends.extend(families.map(|families| End { name, families }));
            }
            objects.extend(pods);
            if with_calico {
                objects.extend(accounts.iter().enumerate().map(|(i, labels)| account(i, labels)));
                objects.extend(sets.iter().enumerate().map(|(i, set)| named_set(i, set)));
                objects.extend(tiers);
            }
            (objects, ends)
        })
        .boxed()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().expect("a string")
}

fn node(i: usize, labels: &Value) -> Value {
    let mut addresses = vec![
        json!({"type": "InternalIP", "address": format!("172.18.0.{}", i + 1)}),
        json!({"type": "InternalIP", "address": format!("fd00:18::{}", i + 1)}),
        json!({"type": "Hostname", "address": format!("n{i}")}),
    ];
    if i == 0 {
        addresses.push(json!({"type": "ExternalIP", "address": EXTERNAL}));
    }
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": format!("n{i}"), "labels": labels},
        "status": {"addresses": addresses},
    })
}

fn ends(nodes: usize, pods: &[Value]) -> Vec<End> {
    let mut ends: Vec<_> =
        (0..nodes.min(2)).map(|i| End { name: format!("node:n{i}"), families: vec![4, 6] }).collect();
    ends.extend(pods.iter().map(|pod| {
        let metadata = &pod["metadata"];
        let name = format!("{}/{}", text(metadata, "namespace"), text(metadata, "name"));
        let is_host = pod["spec"]["hostNetwork"] == true;
        let families =
            [4, 6].into_iter().filter(|family| is_host || !pods::addresses(pod, *family).is_empty());
        End { name, families: families.collect() }
    }));
    let family = |address: &str| if address.contains(':') { 6 } else { 4 };
    ends.extend(STRANGERS.map(|name| End { name: name.to_owned(), families: vec![family(name)] }));
    ends
}

/// A service and which pods are behind it, with whether they are ready.
fn service() -> BoxedStrategy<(Value, Vec<(Index, bool)>)> {
    let ports = select(vec![
        json!([{"name": "web", "port": 80}]),
        json!([{"name": "web", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]),
    ]);
    let backends = prop::collection::vec((any::<Index>(), prop::bool::weighted(0.8)), 0..4);
    (select(&NAMESPACES[..2]), ports, backends)
        .prop_map(|(namespace, ports, backends)| (json!({"namespace": namespace, "ports": ports}), backends))
        .boxed()
}

/// The objects of a service, and its families as the end of probes.
fn serve(
    i: usize,
    service: &Value,
    backends: &[(Index, bool)],
    pods: &[Value],
) -> (Vec<Value>, Option<Vec<u8>>) {
    let metadata = json!({"name": format!("s{i}"), "namespace": service["namespace"]});
    let spec = json!({"ports": service["ports"]});
    let mut objects =
        vec![json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})];
    let mut families = Vec::new();
    for family in [4, 6] {
        let endpoints: Vec<_> = backends
            .iter()
            .map(|(index, ready)| (pods::addresses(index.get(pods), family), ready))
            .filter(|(addresses, _)| !addresses.is_empty())
            .map(|(addresses, ready)| json!({"addresses": addresses, "conditions": {"ready": ready}}))
            .collect();
        if endpoints.is_empty() {
            continue;
        }
        families.push(family);
        // The pods serve on other ports than the service has.
        let ports = json!([{"name": "web", "port": 81}, {"name": "dns", "port": 53, "protocol": "UDP"}]);
        objects.push(json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "addressType": format!("IPv{family}"),
            "metadata": {
                "name": format!("s{i}-{family}"),
                "namespace": service["namespace"],
                "labels": {"kubernetes.io/service-name": format!("s{i}")},
            },
            "ports": ports,
            "endpoints": endpoints,
        }));
    }
    (objects, Some(families).filter(|families| !families.is_empty()))
}

fn account(i: usize, labels: &Value) -> Value {
    let metadata = json!({"name": ACCOUNTS[i % 2], "namespace": NAMESPACES[i / 2], "labels": labels});
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
}

fn network_set() -> BoxedStrategy<Value> {
    let all_nets = (maybe(0.8, nets(4)), maybe(0.4, nets(6))).prop_map(|(v4, v6)| {
        let nets = [v4, v6].into_iter().flatten().flat_map(|nets| nets.as_array().expect("a list").clone());
        json!(nets.collect::<Vec<_>>())
    });
    (maybe(0.5, select(&NAMESPACES[..])), labels(), all_nets)
        .prop_map(|(namespace, labels, nets)| {
            let kind = if namespace.is_some() { "NetworkSet" } else { "GlobalNetworkSet" };
            let metadata = object([("namespace", namespace), ("labels", Some(labels))]);
            json!({"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": metadata, "spec": {"nets": nets}})
        })
        .boxed()
}

fn named_set(i: usize, set: &Value) -> Value {
    let mut set = set.clone();
    set["metadata"]["name"] = json!(format!("set{i}"));
    set
}

/// Orders that tie with those of the tiers that are always there, among others.
fn tiers(names: Vec<&'static str>) -> BoxedStrategy<Vec<Value>> {
    let order = || maybe(0.8, select(vec![10.0, 1_000.0, 1_000_000.0, 10_000_001.0, -1.0, 0.5]));
    let spec = (order(), maybe(0.6, select(vec!["Deny", "Pass"])))
        .prop_map(|(order, action)| object([("order", order), ("defaultAction", action)]));
    prop::collection::vec(spec, names.len())
        .prop_map(move |specs| {
            let tiers = names.iter().zip(specs).map(|(name, spec)| {
                json!({"apiVersion": "projectcalico.org/v3", "kind": "Tier", "metadata": {"name": name}, "spec": spec})
            });
            tiers.collect()
        })
        .boxed()
}
