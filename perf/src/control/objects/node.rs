//! A Node as a kubelet and Calico's node agent keep it.

use serde_json::{Value, json};

use super::{CREATED, MADE_HERE, condition, managed};

pub(super) const VARIABLES: &[&str] = &["name", "uid", "version", "address", "block", "gateway"];

pub(super) fn node() -> Value {
    json!({
        "metadata": {
            "name": "<name>",
            "uid": "<uid>",
            "resourceVersion": "<version>",
            "creationTimestamp": CREATED,
            "labels": {
                "kubernetes.io/hostname": "<name>",
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "node.kubernetes.io/instance-type": "m5.4xlarge",
                "topology.kubernetes.io/zone": "zone-a",
                "margay.dev/gateway": "<gateway>",
                MADE_HERE: "true"
            },
            "annotations": {
                "node.alpha.kubernetes.io/ttl": "0",
                "projectcalico.org/IPv4Address": "<address>/24",
                "volumes.kubernetes.io/controller-managed-attach-detach": "true"
            },
            "managedFields": [
                managed("kubelet", "", &json!({"f:metadata": {
                    "f:annotations": {".": {}, "f:volumes.kubernetes.io/controller-managed-attach-detach": {}},
                    "f:labels": {".": {}, "f:kubernetes.io/arch": {}, "f:kubernetes.io/hostname": {}, "f:kubernetes.io/os": {}}
                }})),
                managed("calico-node", "status", &json!({"f:status": {"f:conditions": {
                    "k:{\"type\":\"NetworkUnavailable\"}": {".": {}, "f:message": {}, "f:reason": {}, "f:status": {}}
                }}}))
            ]
        },
        "spec": {"podCIDR": "<block>", "podCIDRs": ["<block>"]},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": "<address>"},
                {"type": "Hostname", "address": "<name>"}
            ],
            "capacity": {"cpu": "16", "memory": "65806916Ki", "pods": "250", "ephemeral-storage": "101430960Ki"},
            "allocatable": {"cpu": "15890m", "memory": "62879428Ki", "pods": "250", "ephemeral-storage": "93478772582"},
            "conditions": [
                condition("NetworkUnavailable", "False", "CalicoIsUp", "Calico is running on this node"),
                condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
                condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
                condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
                condition("Ready", "True", "KubeletReady", "kubelet is posting ready status")
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "images": (0..20).map(image).collect::<Vec<_>>(),
            "nodeInfo": {
                "architecture": "amd64",
                "bootID": "2e1a4b0e-6f0c-4f0e-9f46-7ad8a1c1b0e5",
                "containerRuntimeVersion": "containerd://1.7.24",
                "kernelVersion": "6.8.0-45-generic",
                "kubeProxyVersion": "v1.33.2",
                "kubeletVersion": "v1.33.2",
                "machineID": "8f2c3d6b1c1c4a44a1b9f5c9a6d0f7e2",
                "operatingSystem": "linux",
                "osImage": "Ubuntu 24.04 LTS",
                "systemUUID": "ec2a1f3e-9d4b-3a8a-52b1-0c6d0b7e4f11"
            }
        }
    })
}

fn image(number: u32) -> Value {
    let digest = format!("{:064x}", u128::from(number) << 64 | 0x9e37_79b9_7f4a_7c15);
    let name = format!("registry.example.com/shop/component-{number}");
    json!({"names": [format!("{name}@sha256:{digest}"), format!("{name}:v1.{number}.0")], "sizeBytes": 41_000_000 + number})
}
