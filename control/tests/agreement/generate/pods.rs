//! Pods: of both families or one, finished, going, on one address, on their node's network.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::words::{ACCOUNTS, NAMESPACES, labels};
use super::{maybe, object};

/// A pod without name and addresses, and with the number of its node. Its status says which families it is of, and which
/// other pod it has its addresses from.
pub(super) fn pod() -> BoxedStrategy<Value> {
    let phase = prop_oneof![11 => Just("Running"), 1 => Just("Succeeded")];
    let addresses = (select(vec![46, 46, 46, 46, 4, 6]), prop::option::weighted(0.2, 0..4u8));
    let status = (phase, addresses)
        .prop_map(|(phase, (families, share))| json!({"phase": phase, "families": families, "share": share}));
    (metadata(), spec(), status)
        .prop_map(|(metadata, spec, status)| {
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status})
        })
        .boxed()
}

fn metadata() -> BoxedStrategy<Value> {
    let created = select(vec!["2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z"]);
    (select(&NAMESPACES[..]), labels(), created, maybe(0.1, Just("2026-01-02T00:00:00Z")))
        .prop_map(|(namespace, labels, created, deleted)| {
            object([
                ("namespace", Some(json!(namespace))),
                ("labels", Some(labels)),
                ("creationTimestamp", Some(json!(created))),
                ("deletionTimestamp", deleted),
            ])
        })
        .boxed()
}

fn spec() -> BoxedStrategy<Value> {
    let ports = select(vec![
        json!([{"name": "web", "containerPort": 80}]),
        json!([{"name": "web", "containerPort": 81}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}]),
        json!([{"name": "dns", "containerPort": 80, "protocol": "SCTP"}, {"name": "web", "containerPort": 90}]),
        Value::Null,
    ]);
    let containers = ports.prop_map(|ports| json!([{"name": "c", "ports": ports}]));
    // The first of these goes on running beside the others, and its ports count.
    let before = select(vec![
        json!([{"name": "i", "restartPolicy": "Always", "ports": [{"name": "dns", "containerPort": 8080}]}]),
        json!([{"name": "i", "ports": [{"name": "web", "containerPort": 8080}]}]),
    ]);
    (0..4u8, containers, maybe(0.3, before), maybe(0.8, select(&ACCOUNTS[..])), maybe(0.07, Just(true)))
        .prop_map(|(node, containers, before, account, host)| {
            object([
                ("nodeName", Some(json!(node))),
                ("containers", Some(containers)),
                ("initContainers", before),
                ("serviceAccountName", account),
                ("hostNetwork", host),
            ])
        })
        .boxed()
}

/// Gives the pods names, nodes and addresses.
pub(super) fn place(mut pods: Vec<Value>, nodes: usize) -> Vec<Value> {
    for (i, pod) in pods.iter_mut().enumerate() {
        let node = pod["spec"]["nodeName"].as_u64().expect("a node") as usize % nodes;
        let families = pod["status"]["families"].as_u64().expect("families");
        let owner = pod["status"]["share"].as_u64().map_or(i, |other| other as usize);
        let (v4, v6) = if pod["spec"]["hostNetwork"] == true {
            (format!("172.18.0.{}", node + 1), format!("fd00:18::{}", node + 1))
        } else {
            let block = owner % 2;
            (format!("10.65.{block}.{}", owner + 1), format!("fd00:65:{block}::{}", owner + 1))
        };
        let addresses = [(v4, 6), (v6, 4)].into_iter().filter(|(_, without)| families != *without);
        let addresses: Vec<_> = addresses.map(|(ip, _)| json!({"ip": ip})).collect();
        pod["metadata"]["name"] = json!(format!("p{i}"));
        pod["spec"]["nodeName"] = json!(format!("n{node}"));
        pod["status"] = json!({"phase": pod["status"]["phase"], "podIPs": addresses});
    }
    pods
}

pub(super) fn addresses(pod: &Value, family: u8) -> Vec<&str> {
    let listed = pod["status"]["podIPs"].as_array().expect("addresses");
    let addresses = listed.iter().map(|entry| entry["ip"].as_str().expect("an address"));
    addresses.filter(|address| address.contains(':') == (family == 6)).collect()
}
