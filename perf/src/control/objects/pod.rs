//! A Pod of a Deployment, running.

use serde_json::{Value, json};

use super::{CREATED, MADE_HERE, condition, managed};
use crate::world::{self, Size};

pub(super) const VARIABLES: &[&str] = &["name", "namespace", "uid", "version", "node", "host", "address"];

/// Of this app.
pub(super) fn pod(app: u32) -> Value {
    let mut labels = world::labels_of_app(app);
    labels.insert(MADE_HERE.to_owned(), "true".to_owned());
    json!({
        "metadata": {
            "name": "<name>",
            "generateName": format!("app-{app}-"),
            "namespace": "<namespace>",
            "uid": "<uid>",
            "resourceVersion": "<version>",
            "creationTimestamp": CREATED,
            "labels": labels,
            "annotations": {
                "cni.projectcalico.org/containerID": CONTAINER,
                "cni.projectcalico.org/podIP": "<address>/32",
                "cni.projectcalico.org/podIPs": "<address>/32",
                "prometheus.io/port": "9090",
                "prometheus.io/scrape": "true"
            },
            "ownerReferences": [{
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "name": format!("app-{app}"),
                "uid": "9c0d4c6e-5a0a-4b0e-8f55-3b8b4e4f6d01",
                "controller": true,
                "blockOwnerDeletion": true
            }],
            "managedFields": managed_fields()
        },
        "spec": spec(app),
        "status": status(app)
    })
}

pub(super) fn values(number: u32, size: Size, uid: String, version: String) -> [String; VARIABLES.len()] {
    let (name, node) = (size.pod_name(number), size.node_of(number));
    [
        name.name,
        name.namespace,
        uid,
        version,
        world::node_name(node),
        world::node_address(node).to_string(),
        size.pod_address(number).to_string(),
    ]
}

const CONTAINER: &str = "6b1d0c4f8e7a4f53b0a9d2c1e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718";

fn managed_fields() -> Value {
    let container = json!({
        ".": {}, "f:env": {".": {}, "k:{\"name\":\"LISTEN\"}": {".": {}, "f:name": {}, "f:value": {}}}, "f:image": {},
        "f:imagePullPolicy": {}, "f:livenessProbe": {".": {}, "f:failureThreshold": {}, "f:httpGet": {".": {}, "f:path": {}, "f:port": {}}},
        "f:name": {}, "f:ports": {".": {}, "k:{\"containerPort\":8080,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}, "f:name": {}}},
        "f:resources": {".": {}, "f:limits": {".": {}, "f:memory": {}}, "f:requests": {".": {}, "f:cpu": {}, "f:memory": {}}}
    });
    let condition =
        json!({".": {}, "f:lastProbeTime": {}, "f:lastTransitionTime": {}, "f:status": {}, "f:type": {}});
    json!([
        managed(
            "kube-controller-manager",
            "",
            &json!({
                "f:metadata": {
                    "f:generateName": {},
                    "f:labels": {".": {}, "f:app": {}, "f:pod-template-hash": {}, "f:tier": {}},
                    "f:ownerReferences": {".": {}, "k:{\"uid\":\"9c0d4c6e-5a0a-4b0e-8f55-3b8b4e4f6d01\"}": {}}
                },
                "f:spec": {"f:containers": {"k:{\"name\":\"app\"}": container}, "f:restartPolicy": {}, "f:schedulerName": {}}
            })
        ),
        managed(
            "calico",
            "",
            &json!({"f:metadata": {"f:annotations": {
                "f:cni.projectcalico.org/containerID": {}, "f:cni.projectcalico.org/podIP": {}, "f:cni.projectcalico.org/podIPs": {}
            }}})
        ),
        managed(
            "kubelet",
            "status",
            &json!({"f:status": {
                "f:conditions": {
                    "k:{\"type\":\"ContainersReady\"}": condition, "k:{\"type\":\"Initialized\"}": condition, "k:{\"type\":\"Ready\"}": condition
                },
                "f:containerStatuses": {}, "f:hostIP": {}, "f:phase": {}, "f:podIP": {}, "f:podIPs": {}, "f:startTime": {}
            }})
        )
    ])
}

fn spec(app: u32) -> Value {
    json!({
        "containers": [{
            "name": "app",
            "image": image(app),
            "imagePullPolicy": "IfNotPresent",
            "env": [{"name": "LISTEN", "value": "0.0.0.0:8080"}],
            "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
            "resources": {"limits": {"memory": "512Mi"}, "requests": {"cpu": "100m", "memory": "256Mi"}},
            "livenessProbe": {
                "httpGet": {"path": "/healthz", "port": "http", "scheme": "HTTP"},
                "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3
            },
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
            "volumeMounts": [{
                "name": "kube-api-access", "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"
            }]
        }],
        "volumes": [{"name": "kube-api-access", "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}
        ]}}],
        "nodeName": "<node>",
        "serviceAccountName": "default",
        "serviceAccount": "default",
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
        "enableServiceLinks": true,
        "securityContext": {},
        "tolerations": [
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
            {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
        ]
    })
}

fn status(app: u32) -> Value {
    let conditions: Vec<Value> = ["Initialized", "Ready", "ContainersReady", "PodScheduled"]
        .iter()
        .map(|kind| condition(kind, "True", "", ""))
        .collect();
    json!({
        "phase": "Running",
        "conditions": conditions,
        "hostIP": "<host>",
        "podIP": "<address>",
        "podIPs": [{"ip": "<address>"}],
        "startTime": CREATED,
        "containerStatuses": [{
            "name": "app",
            "state": {"running": {"startedAt": CREATED}},
            "lastState": {},
            "ready": true,
            "started": true,
            "restartCount": 0,
            "image": image(app),
            "imageID": format!("registry.example.com/shop/app-{app}@sha256:{CONTAINER}"),
            "containerID": format!("containerd://{CONTAINER}")
        }],
        "qosClass": "Burstable"
    })
}

fn image(app: u32) -> String {
    format!("registry.example.com/shop/app-{app}:v1.4.2")
}
