//! The cluster of a case as Kubernetes' and Calico's objects.

use anyhow::{Context, Result};
use ipnet::Ipv4Net;
use serde_json::{Value, json};

use crate::lab::case::{Case, Job};
use crate::lab::dataplane::cluster::{self, Allowed, Node, OWN_VTEP, REMOTE_BLOCK};
use crate::lab::site::POD_NAME;
use crate::lab::world::{self, Beyond, GATEWAY_NAME, POD};

/// Files for Margay's directory of manifests: names and contents.
pub(super) fn files(case: &Case, ipip: bool) -> Result<[(&'static str, String); 2]> {
    let list = |items: Vec<Value>| {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
        serde_json::to_string(&list).context("cannot write manifests as JSON")
    };
    Ok([("cluster.json", list(cluster_objects(case.job, ipip))?), ("policies.json", list(policies(case))?)])
}

fn cluster_objects(job: Job, ipip: bool) -> Vec<Value> {
    let nodes = cluster::nodes(job);
    let behind = nodes.iter().find(|node| node.side == cluster::pod_side(job));
    let own = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": GATEWAY_NAME,
            "annotations": {
                "projectcalico.org/IPv4Address": format!("{}/24", cluster::own_address(job)),
                "projectcalico.org/IPv4VXLANTunnelAddr": OWN_VTEP.to_string(),
            },
        },
    });
    let [namespace, pod] = POD_NAME;
    let mut objects = vec![
        own,
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } }),
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "namespace": namespace, "name": pod, "labels": { "app": pod } },
            "spec": { "nodeName": behind.map_or(GATEWAY_NAME, |node| node.name), "containers": [{ "name": "main", "image": "none" }] },
            "status": { "phase": "Running", "podIPs": [{ "ip": POD.to_string() }] },
        }),
    ];
    objects.extend(pools(job, ipip));
    objects.extend(nodes.iter().map(|node| node_object(node, behind)));
    objects.extend(nodes.iter().map(|node| block(node.name, node.block)));
    objects.extend(behind.is_none().then(|| block(GATEWAY_NAME, cluster::pod_block())));
    objects
}

/// A node behind the gateway, which serves its pods, or beyond it.
fn node_object(node: &Node, behind: Option<&Node>) -> Value {
    let is_behind = behind.is_some_and(|behind| behind.name == node.name);
    let labels = if is_behind { json!({ "margay.dev/gateway": GATEWAY_NAME }) } else { json!({}) };
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": node.name,
            "labels": labels,
            "annotations": {
                "projectcalico.org/IPv4Address": format!("{}/24", node.address),
                "projectcalico.org/IPv4VXLANTunnelAddr": node.vtep.to_string(),
            },
        },
    })
}

/// The pod's pool, and that of the far ends: in tunnels where a side of the job is.
fn pools(job: Job, ipip: bool) -> [Value; 2] {
    let is_plain = [world::Side::Source, world::Side::Sink]
        .map(|side| world::beyond(job, side))
        .contains(&Beyond::Plain);
    let (ipip, vxlan) = match (is_plain, ipip) {
        (true, _) => ("Never", "Never"),
        (false, true) => ("Always", "Never"),
        (false, false) => ("Never", "Always"),
    };
    let pool = |name: &str, cidr: &str, size: u8| {
        json!({
            "apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": { "name": name },
            "spec": { "cidr": cidr, "blockSize": size, "ipipMode": ipip, "vxlanMode": vxlan },
        })
    };
    [pool("pods", "10.65.0.0/16", 26), pool("far-ends", "10.66.0.0/16", REMOTE_BLOCK)]
}

fn block(node: &str, cidr: Ipv4Net) -> Value {
    json!({
        "apiVersion": "crd.projectcalico.org/v1", "kind": "BlockAffinity", "metadata": { "name": node },
        "spec": { "cidr": cidr.to_string(), "node": node, "state": "confirmed", "deleted": "false" },
    })
}

fn policies(case: &Case) -> Vec<Value> {
    let [namespace, pod] = POD_NAME;
    let (kind, rules, peers) = match case.job.way() {
        Job::VxlanDecap => ("Ingress", "ingress", "from"),
        _ => ("Egress", "egress", "to"),
    };
    let policy = |(number, Allowed { peer, port }): (usize, Allowed)| {
        let of = |protocol| json!({ "protocol": protocol, "port": port });
        let rule =
            json!({ peers: [{ "ipBlock": { "cidr": peer.to_string() } }], "ports": [of("UDP"), of("TCP")] });
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": { "namespace": namespace, "name": format!("policy-{number:05}") },
            "spec": { "podSelector": { "matchLabels": { "app": pod } }, "policyTypes": [kind], rules: [rule] },
        })
    };
    cluster::allowed(case.policies).enumerate().map(policy).collect()
}
