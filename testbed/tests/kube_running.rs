//! A gateway as it runs, in a namespace with a stub of the API server: what the cluster is told of it from start to end.

mod common;
mod gateway;

use gateway::{Gateway, Namespace, until};
use margay_testbed::kube::CALICO;
use margay_testbed::kube::Client;
use margay_testbed::kube::stub::Stub;
use margay_testbed::netns;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A stub in a gateway's namespace, with a Node for it.
struct World {
    namespace: Namespace,
    stub: Stub,
    directory: TempDir,
    client: Client,
}

impl World {
    fn new() -> Self {
        let namespace = Namespace::new();
        let stub = netns::within(&namespace.0, Stub::start).unwrap().unwrap();
        stub.serve(CALICO);
        stub.put(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}));
        stub.put(&json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "gw"},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.7"}]},
        }));
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = stub.kubeconfig(directory.path(), "token").unwrap();
        let client = Client::new(&kubeconfig, Some(&namespace.0)).unwrap();
        Self { namespace, stub, directory, client }
    }

    fn start(&self) -> Gateway {
        let kubeconfig = self.directory.path().join("kubeconfig");
        let source = format!(
            "source.kubernetes = '{}'\ncalico.vxlan_tunnel_address = \"10.9.0.1\"",
            kubeconfig.display()
        );
        Gateway::start(&self.namespace, &source)
    }

    fn events(&self) -> Vec<Value> {
        let list = self.client.get("/apis/events.k8s.io/v1/events").unwrap();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// Waits for an Event on the object of this name and UID, and gives what it says.
    fn note(&self, name: &str, uid: &str) -> String {
        until(&format!("an Event on {name}"), || {
            let events = self.events();
            let of = |event: &&Value| event["regarding"]["name"] == name && event["regarding"]["uid"] == uid;
            Some(events.iter().find(of)?["note"].as_str()?.to_owned())
        })
    }
}

#[test]
fn the_cluster_is_told_of_a_gateway_from_its_start_to_its_end() {
    let world = World::new();
    world.stub.put(&json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"podSelector": {}, "ingress": [{"ports": [{"port": 70000}]}]},
    }));
    let annotations = || world.client.get("/api/v1/nodes/gw").unwrap()["metadata"]["annotations"].clone();
    let status = |annotations: &Value| -> Option<Value> {
        serde_json::from_str(annotations["margay.dev/status"].as_str()?).ok()
    };

    let mut gateway = world.start();
    let ready = until("ready", || {
        let annotations = annotations();
        let is_ready = status(&annotations)?["ready"] == true;
        (is_ready && annotations["projectcalico.org/VXLANTunnelMACAddr"].is_string()).then_some(annotations)
    });
    assert_eq!(ready["projectcalico.org/IPv4Address"], "192.0.2.7/24");
    assert_eq!(ready["projectcalico.org/IPv4VXLANTunnelAddr"], "10.9.0.1");
    let said = status(&ready).unwrap();
    assert_eq!(said["problems"], 1);
    assert!(said["snapshot"]["generation"].is_number(), "{said}");
    let event = until("an Event", || world.events().first().cloned());
    assert_eq!(event["regarding"]["name"], "web");
    assert!(event["note"].as_str().unwrap().starts_with("spec.ingress[0].ports[0].port: "), "{event}");

    let process = gateway.process.child();
    kill(Pid::from_raw(process.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(process.wait().unwrap().success());
    assert_eq!(status(&annotations()).unwrap()["ready"], false);
}

/// Policies that are valid, and that nobody is asked about.
#[test]
fn the_cluster_is_told_of_policies_that_count_for_nobody() {
    let global = |name: &str, spec: Value| {
        json!({
            "apiVersion": "crd.projectcalico.org/v1", "kind": "GlobalNetworkPolicy",
            "metadata": {"name": name}, "spec": spec,
        })
    };
    let tierless =
        global("early.web", json!({"tier": "early", "selector": "all()", "ingress": [{"action": "Deny"}]}));
    let unasked = global(
        "edge",
        json!({"selector": "all()", "preDNAT": true, "applyOnForward": true, "ingress": [{"action": "Deny"}]}),
    );
    let world = World::new();
    world.stub.put(&tierless);
    world.stub.put(&unasked);
    let uid = |object: &Value| {
        let name = object["metadata"]["name"].as_str().unwrap();
        let path = format!("/apis/crd.projectcalico.org/v1/globalnetworkpolicies/{name}");
        world.client.get(&path).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned()
    };
    let gateway = world.start();
    gateway.wait_ready();
    let note = world.note("early.web", &uid(&tierless));
    assert_eq!(note, "spec.tier: there is no Tier \"early\": the policy is not in force until there is");
    let note = world.note("edge", &uid(&unasked));
    assert!(note.starts_with("spec.preDNAT: the policy is for host endpoints alone"), "{note}");

    // Made anew as it was, it is another object, and the Event is for that one.
    let first = uid(&unasked);
    world.stub.delete(&unasked);
    world.stub.put(&unasked);
    assert_ne!(uid(&unasked), first);
    world.note("edge", &uid(&unasked));

    // With its tier a policy is in force, and nothing is the matter any more.
    world.stub.put(&json!({
        "apiVersion": "crd.projectcalico.org/v1", "kind": "Tier", "metadata": {"name": "early"},
        "spec": {"order": 10},
    }));
    gateway.until("one problem", |status| {
        status["source"]["problems"].as_array().is_some_and(|all| all.len() == 1)
    });
    assert_eq!(world.events().len(), 3);
}
