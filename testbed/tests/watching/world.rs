//! A small cluster in the stub: a namespace, a node, pods from `a` to `e`, a policy.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use margay_testbed::kube::stub::Stub;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{EVENTUALLY, Watching};

/// What every cluster has, and is watched.
pub const KINDS: [&str; 7] =
    ["namespaces", "nodes", "pods", "services", "serviceaccounts", "endpointslices", "networkpolicies"];

pub struct World {
    pub stub: Stub,
    pub directory: TempDir,
}

pub fn pod(name: &str, address: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "x", "labels": {"app": name}},
        "spec": {"nodeName": "n", "containers": [{"name": "main", "image": "none"}]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    })
}

/// A pod that stands for a change.
pub fn news(number: usize) -> Value {
    pod(&format!("new-{number}"), &format!("10.0.1.{number}"))
}

pub fn policy(name: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": "x"},
        "spec": {"podSelector": {"matchLabels": {"app": "a"}}, "policyTypes": ["Ingress"]},
    })
}

impl World {
    pub fn new() -> Self {
        let stub = Stub::start().unwrap();
        stub.put(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}}));
        stub.put(&json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"},
            "status": {"addresses": [{"type": "InternalIP", "address": "172.20.1.1"}]},
        }));
        for (index, name) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
            stub.put(&pod(name, &format!("10.0.0.{}", index + 1)));
        }
        stub.put(&policy("p"));
        Self { stub, directory: TempDir::new().unwrap() }
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.stub.kubeconfig(self.directory.path(), "first").unwrap()
    }

    /// A source that has not delivered yet.
    pub fn watch(&self) -> Watching {
        Watching::start(&self.kubeconfig())
    }

    /// A source that has, and watches.
    pub fn watched(&self) -> Watching {
        self.settled(self.watch())
    }

    /// The source, once it has delivered and watches.
    pub fn settled(&self, watching: Watching) -> Watching {
        watching.wait("the first state", |told| told.is_whole);
        self.settle();
        watching
    }

    /// Waits until pods are watched.
    pub fn settle(&self) {
        let deadline = Instant::now() + EVENTUALLY;
        while self.stub.watches("pods") == 0 {
            assert!(Instant::now() < deadline, "nobody watches pods");
            thread::sleep(Duration::from_millis(5));
        }
    }
}
