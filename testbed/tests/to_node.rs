//! What a pod sends to its own node, and the node to its pod, under policies of Calico's kinds. They need root.

mod common;

use std::process::Command;
use std::time::Duration;

use common::traffic::{Connection, Place, blob, tcp_transfer, udp_echoes};
use common::{Options, TestLab, eventually};
use margay_testbed::{daemon, netns};
use nix::sys::signal::Signal;

/// Longer than an echo takes, shorter than a patient user.
const ECHO: Duration = Duration::from_secs(1);

const VISITOR: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: visitor, namespace: shop, labels: {app: visitor}}
spec: {nodeName: gw-a, containers: [{name: main, image: none}]}
status: {phase: Running, podIPs: [{ip: 10.65.10.9}]}
";

/// Lets the visitor out to these destinations alone.
fn allow(destinations: &[&str]) -> String {
    let rules: Vec<String> = destinations.iter().map(|rule| format!("{{action: Allow, {rule}}}")).collect();
    format!(
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{name: visitor-out}}\n\
         spec:\n  selector: app == 'visitor'\n  types: [Egress]\n  egress: [{}]\n",
        rules.join(", ")
    )
}

const WEB: &str = "protocol: TCP, destination: {ports: [80]}";
const DNS: &str = "protocol: UDP, destination: {ports: [53]}";
const PING: &str = "protocol: ICMP, icmp: {type: 8}";

/// Egress of Kubernetes' kind, to nowhere.
const NOWHERE: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: nowhere, namespace: shop}
spec:
  podSelector: {matchLabels: {app: visitor}}
  policyTypes: [Egress]
";

/// A lab with a pod on the gateway, that, and the gateway's node.
fn with_visitor() -> (TestLab, Place, Place) {
    let lab =
        TestLab::two_zones(Options { extra: vec![("visitor.yaml", VISITOR.into())], ..Options::default() });
    let (visitor, node) = (lab.place("shop/visitor"), lab.place("node:gw-a"));
    (lab, visitor, node)
}

/// Whether the node has the devices by which policed packets enter it.
fn has_pair(node: &Place) -> bool {
    let mut ip = Command::new("ip");
    ip.args(["link", "show", "margay0"]);
    netns::within(&node.netns, move || ip.output().unwrap().status.success()).unwrap()
}

/// What the status of the gateway counts at a port of this kind, or of this pod.
fn counted(lab: &TestLab, is_port: impl Fn(&serde_json::Value) -> bool, what: &str) -> u64 {
    let status = lab.status("gw-a");
    let port = status["ports"].as_array().unwrap().iter().find(|port| is_port(port)).cloned();
    port.and_then(|port| port["traffic"].pointer(what)?.as_u64()).unwrap_or(0)
}

#[test]
fn calico_egress_holds_for_packets_to_the_own_node_and_not_for_what_the_node_begins() {
    let (lab, visitor, node) = with_visitor();
    assert!(visitor.opens(&node.at(81)), "no policy selects the pod");
    assert!(!has_pair(&node), "and its packets go straight to the kernel");
    lab.write("out.yaml", &allow(&[WEB, DNS]));
    assert!(eventually(|| !visitor.opens(&node.at(81))), "the policy does not hold");

    let (bytes, datagrams) = (blob(3 << 20, 1), [blob(1, 2), blob(500, 3), blob(1200, 4)]);
    assert!(tcp_transfer(&visitor, &node.at(80), &bytes).unwrap() == bytes);
    assert_eq!(udp_echoes(&visitor, &node.at(53), &datagrams), datagrams.len());
    assert_eq!(udp_echoes(&visitor, &node.at(54), &datagrams[..1]), 0);
    assert!(!visitor.pings(&node));
    let is_visitor = |port: &serde_json::Value| port["pod"] == "shop/visitor";
    assert!(counted(&lab, is_visitor, "/drops/policy-deny") > 0);
    assert!(counted(&lab, |port| port["kind"] == "host", "/tx") > 2000);

    assert!(tcp_transfer(&node, &visitor.at(81), &bytes).unwrap() == bytes);
    assert_eq!(udp_echoes(&node, &visitor.at(54), &datagrams), datagrams.len());
    assert!(node.pings(&visitor), "a node reaches its pods");

    lab.write("out.yaml", &allow(&[PING]));
    assert!(eventually(|| visitor.pings(&node)), "the change does not hold");
    assert!(node.pings(&visitor));
    assert!(!visitor.opens(&node.at(80)));
    lab.remove("out.yaml");
    assert!(eventually(|| visitor.opens(&node.at(81))), "the policy holds on");
}

#[test]
fn a_change_of_policy_cuts_what_the_pod_began_and_nothing_that_the_node_did() {
    let (lab, visitor, node) = with_visitor();
    // Older than the first policy.
    let mut from_node = Connection::open(&node, &visitor.at(80)).unwrap();
    from_node.exchange(ECHO).unwrap();
    lab.write("out.yaml", &allow(&[WEB]));
    assert!(eventually(|| !visitor.opens(&node.at(81))), "the policy does not hold");
    let mut from_pod = Connection::open(&visitor, &node.at(80)).unwrap();
    from_pod.exchange(ECHO).unwrap();
    assert!(eventually(|| from_node.exchange(ECHO).is_ok()), "the node's connection is cut");

    lab.write("out.yaml", &allow(&[]));
    assert!(eventually(|| from_pod.exchange(ECHO).is_err()), "the policy does not hold");
    from_node.exchange(ECHO).unwrap();
    lab.write("out.yaml", &allow(&[WEB]));
    assert!(eventually(|| from_pod.exchange(ECHO).is_ok()), "the policy holds on");
}

#[test]
fn a_policy_of_kubernetes_does_not_cut_a_pod_off_from_its_node() {
    let (lab, visitor, node) = with_visitor();
    lab.write("nowhere.yaml", NOWHERE);
    assert!(eventually(|| !visitor.opens(&lab.place("shop/bench"))), "the policy does not hold");
    assert!(visitor.opens(&node) && visitor.pings(&node));
    assert!(!has_pair(&node));
    lab.write("out.yaml", &allow(&[WEB]));
    assert!(eventually(|| !visitor.opens(&node.at(81))), "the policy does not hold");
    assert!(visitor.opens(&node.at(80)), "Kubernetes' kind has no say beside Calico's");
}

#[test]
fn pods_and_node_stay_in_touch_when_margay_is_killed_and_policy_holds_again_after() {
    let (lab, visitor, node) = with_visitor();
    let gateway = lab.lab.node("gw-a").unwrap();
    lab.write("out.yaml", &allow(&[WEB]));
    assert!(eventually(|| !visitor.opens(&node.at(81))), "the policy does not hold");
    let mut from_pod = Connection::open(&visitor, &node.at(80)).unwrap();
    let mut from_node = Connection::open(&node, &visitor.at(81)).unwrap();
    let both = |a: &mut Connection, b: &mut Connection| a.exchange(ECHO).is_ok() && b.exchange(ECHO).is_ok();
    assert!(both(&mut from_pod, &mut from_node));
    daemon::end(&lab.lab.state, gateway, Signal::SIGKILL).unwrap();
    assert!(both(&mut from_pod, &mut from_node), "on_failure = pass: they go to the kernel");
    assert!(visitor.opens(&node.at(81)));

    daemon::start(&lab.lab.state, gateway).unwrap();
    daemon::wait_ready(&lab.lab.state, gateway).unwrap();
    assert!(eventually(|| !visitor.opens(&node.at(82))), "the policy does not hold again");
    assert!(eventually(|| from_pod.exchange(ECHO).is_ok()), "the pod's connection does not resume");
    assert!(eventually(|| from_node.exchange(ECHO).is_ok()), "the node's connection does not resume");
    lab.write("out.yaml", &allow(&[]));
    assert!(eventually(|| from_pod.exchange(ECHO).is_err()), "the policy does not hold for what is older");
    from_node.exchange(ECHO).unwrap();

    assert!(has_pair(&node));
    daemon::end(&lab.lab.state, gateway, Signal::SIGTERM).unwrap();
    assert!(!has_pair(&node), "what it made is gone");
    assert!(both(&mut from_pod, &mut from_node));
}
