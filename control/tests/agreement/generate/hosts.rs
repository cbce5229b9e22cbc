//! Host endpoints, and what makes a policy one for them.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::words::labels;

pub(super) fn endpoint() -> BoxedStrategy<Value> {
    let spec = select(vec![
        json!({"interfaceName": "*"}),
        json!({"interfaceName": "*", "expectedIPs": ["172.18.0.1"]}),
        json!({"interfaceName": "eth0", "expectedIPs": ["172.18.0.1", "fd00:18::1"]}),
        json!({"interfaceName": "eth0"}),
        json!({"interfaceName": "eth0"}),
        json!({"interfaceName": "eth5", "expectedIPs": ["172.18.0.1"]}),
        json!({"interfaceName": "vxlan.calico"}),
        json!({"interfaceName": "tunl0", "expectedIPs": ["192.0.2.7"]}),
        json!({"expectedIPs": ["172.18.0.1"]}),
        json!({"expectedIPs": ["192.0.2.7"]}),
    ]);
    let node = select(vec!["n0", "n0", "n0", "n1"]);
    (labels(), spec, node)
        .prop_map(|(labels, mut spec, node)| {
            spec["node"] = json!(node);
            json!({
                "apiVersion": "projectcalico.org/v3",
                "kind": "HostEndpoint",
                "metadata": {"labels": labels},
                "spec": spec,
            })
        })
        .boxed()
}

pub(super) fn named(i: usize, endpoint: &Value) -> Value {
    let mut endpoint = endpoint.clone();
    endpoint["metadata"]["name"] = json!(format!("h{i}"));
    endpoint
}

pub(super) fn host_use() -> BoxedStrategy<Value> {
    prop_oneof![
        1 => Just(json!({})),
        4 => Just(json!({"applyOnForward": true})),
        3 => Just(json!({"applyOnForward": true, "doNotTrack": true})),
        2 => Just(json!({"applyOnForward": true, "preDNAT": true})),
    ]
    .boxed()
}

/// Has the policy be for this use.
pub(super) fn apply(policy: &mut Value, host_use: &Value) {
    let fields = policy["spec"].as_object_mut().expect("a spec");
    fields.retain(|key, _| !["applyOnForward", "doNotTrack", "preDNAT"].contains(&key.as_str()));
    if host_use["preDNAT"] == true {
        fields.retain(|key, _| key != "egress" && key != "types");
    }
    // Host endpoints are in no namespace and have no service account.
    fields.retain(|key, _| key != "namespaceSelector" || host_use == &json!({}));
    fields.extend(host_use.as_object().expect("fields").clone());
}
