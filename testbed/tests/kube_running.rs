//! A gateway as it runs, in a namespace with a stub of the API server: what the cluster is told of it from start to end.

mod common;

use std::fs;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Instant;

use common::{EVENTUALLY, margay, unique_name};
use margay_testbed::kube::Client;
use margay_testbed::kube::stub::Stub;
use margay_testbed::{ip, netns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const CONFIGURATION: &str = r#"
node.name = "gw"
source.kubernetes = "kubeconfig"
workers.idle = "poll"
umem.frames = 8192
flow_table.connections = 1000
admin.socket = "SOCKET"
calico.vxlan_tunnel_address = "10.9.0.1"
[[uplink]]
device = "uplink0"
"#;

/// A namespace with an uplink; gone with all that runs there.
struct Namespace(String);

impl Namespace {
    fn new() -> Self {
        let namespace = Self(netns::name(&unique_name(), "gw"));
        netns::create(std::slice::from_ref(&namespace.0)).unwrap();
        let links = ["link set lo up", "link add uplink0 type veth peer name beyond0", "link set beyond0 up"];
        let uplink = ["addr add 192.0.2.7/24 dev uplink0", "link set uplink0 up"];
        ip::Batch::new().extend(links).extend(uplink).run(Some(&namespace.0)).unwrap();
        namespace
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = netns::remove(std::slice::from_ref(&self.0)) {
            eprintln!("{error:#}");
        }
    }
}

fn start(namespace: &Namespace, configuration: &std::path::Path) -> Child {
    ip::in_netns(&namespace.0, margay())
        .args(["run", "--config"])
        .arg(configuration)
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

/// Asks until the answer has it.
fn until<T>(what: &str, ask: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + EVENTUALLY;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "still not: {what}");
        thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn the_cluster_is_told_of_a_gateway_from_its_start_to_its_end() {
    let namespace = Namespace::new();
    let stub = netns::within(&namespace.0, Stub::start).unwrap().unwrap();
    let objects = [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}),
        json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "gw"},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.7"}]},
        }),
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"podSelector": {}, "ingress": [{"ports": [{"port": 70000}]}]},
        }),
    ];
    for object in &objects {
        stub.put(object);
    }
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = stub.kubeconfig(directory.path(), "token").unwrap();
    let socket = directory.path().join("admin.sock");
    let configuration = directory.path().join("margay.toml");
    fs::write(&configuration, CONFIGURATION.replace("SOCKET", socket.to_str().unwrap())).unwrap();
    let client = Client::new(&kubeconfig, Some(&namespace.0)).unwrap();
    let annotations = || client.get("/api/v1/nodes/gw").unwrap()["metadata"]["annotations"].clone();
    let status = |annotations: &Value| -> Option<Value> {
        serde_json::from_str(annotations["margay.dev/status"].as_str()?).ok()
    };

    let mut gateway = start(&namespace, &configuration);
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
    let event = until("an Event", || {
        client.get("/apis/events.k8s.io/v1/events").unwrap()["items"].as_array()?.first().cloned()
    });
    assert_eq!(event["regarding"]["name"], "web");
    assert!(event["note"].as_str().unwrap().starts_with("spec.ingress[0].ports[0].port: "), "{event}");

    kill(Pid::from_raw(gateway.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(gateway.wait().unwrap().success());
    assert_eq!(status(&annotations()).unwrap()["ready"], false);
}
