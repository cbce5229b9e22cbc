//! A NetworkPolicy: what [`world::policy`] is in Kubernetes' words.

use serde_json::{Value, json};

use super::{CREATED, MADE_HERE, managed};
use crate::world::{self, APPS, SYSTEM, Size};

pub(super) const VARIABLES: &[&str] =
    &["name", "namespace", "uid", "version", "app", "peer", "team", "block"];

pub(super) fn policy() -> Value {
    let port = |port: u16| json!([{"protocol": "TCP", "port": port}]);
    let app = |app: &str| json!({"matchLabels": {"app": app}});
    json!({
        "metadata": {
            "name": "<name>",
            "namespace": "<namespace>",
            "uid": "<uid>",
            "resourceVersion": "<version>",
            "generation": 1,
            "creationTimestamp": CREATED,
            "labels": {MADE_HERE: "true"},
            "managedFields": [managed("kubectl-client-side-apply", "", &json!({
                "f:spec": {"f:egress": {}, "f:ingress": {}, "f:podSelector": {}, "f:policyTypes": {}}
            }))]
        },
        "spec": {
            "podSelector": app("<app>"),
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {"from": [{"podSelector": app("<peer>")}], "ports": port(80)},
                {"from": [{"namespaceSelector": {"matchLabels": {"team": "<team>"}}}], "ports": port(8080)},
                {"from": [{"ipBlock": {"cidr": "<block>.0/24", "except": ["<block>.0/28"]}}], "ports": port(443)}
            ],
            "egress": [
                {
                    "to": [{
                        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": SYSTEM}},
                        "podSelector": app("app-0")
                    }],
                    "ports": port(53)
                },
                {"to": [{"podSelector": {}}], "ports": port(80)}
            ]
        }
    })
}

pub(super) fn values(number: u32, size: Size, uid: String, version: String) -> [String; VARIABLES.len()] {
    let [a, b, c, _] = world::policy_block(number).octets();
    [
        format!("policy-{number}"),
        world::namespace(number % size.namespaces),
        uid,
        version,
        format!("app-{}", world::app_of_policy(number)),
        format!("app-{}", (number + 1) % APPS),
        format!("team-{}", number % world::TEAMS),
        format!("{a}.{b}.{c}"),
    ]
}
