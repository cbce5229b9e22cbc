//! What changes while packets flow: policies, pods, the gateway itself. They need root.

mod common;

use std::time::Duration;

use common::traffic::{Connection, Place};
use common::{Options, TestLab, eventually};
use margay_testbed::daemon;
use nix::sys::signal::Signal;

/// Longer than an echo takes, shorter than a patient user.
const ECHO: Duration = Duration::from_secs(1);

const CLOSE_BENCH: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: bench-from-far, namespace: shop}
spec:
  podSelector: {matchLabels: {app: bench}}
  policyTypes: [Ingress]
";

const VISITOR: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: visitor, namespace: shop, labels: {app: visitor}}
spec: {nodeName: gw-a, containers: [{name: main, image: none}]}
status: {phase: Running, podIPs: [{ip: 10.65.10.9}]}
";

const GUARD: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: guard, namespace: shop}
spec:
  podSelector: {matchLabels: {app: visitor}}
  policyTypes: [Ingress, Egress]
";

/// A lab with a pod on the gateway that no policy selects, and a connection to it from the other zone.
fn with_visitor() -> (TestLab, Place, Place) {
    let lab =
        TestLab::two_zones(Options { extra: vec![("visitor.yaml", VISITOR.into())], ..Options::default() });
    let (client, visitor) = (lab.place("far/client"), lab.place("shop/visitor"));
    (lab, client, visitor)
}

#[test]
fn a_policy_holds_for_living_connections_and_lets_go_of_them() {
    let (lab, client, visitor) = with_visitor();
    for (from, to) in [(&client, &visitor), (&visitor, &client)] {
        let mut connection = Connection::open(from, to).unwrap();
        connection.exchange(ECHO).unwrap();
        let mut other = Connection::open(&client, &lab.place("shop/bench")).unwrap();
        lab.write("guard.yaml", GUARD);
        assert!(eventually(|| connection.exchange(ECHO).is_err()), "the policy does not hold");
        other.exchange(ECHO).expect("a connection that no policy affects");
        lab.remove("guard.yaml");
        assert!(eventually(|| connection.exchange(ECHO).is_ok()), "the policy holds on");
    }
}

#[test]
fn a_manifest_that_does_not_parse_changes_nothing() {
    let (lab, client, visitor) = with_visitor();
    lab.write("guard.yaml", GUARD);
    let mut connection = Connection::open(&client, &lab.place("shop/bench")).unwrap();
    let closed = || Connection::open(&client, &visitor).is_err();
    assert!(eventually(closed), "the policy does not hold");
    lab.write("guard.yaml", "spec: [");
    assert!(eventually(|| lab.log("gw-a").contains("guard.yaml")), "nobody names the file");
    assert!(closed(), "the last good version is gone");
    connection.exchange(ECHO).unwrap();
}

#[test]
fn a_pod_that_is_removed_is_reached_no_more() {
    let (lab, client, visitor) = with_visitor();
    let mut connection = Connection::open(&client, &visitor).unwrap();
    connection.exchange(ECHO).unwrap();
    let mut other = Connection::open(&client, &lab.place("shop/api")).unwrap();
    lab.remove("visitor.yaml");
    assert!(eventually(|| connection.exchange(ECHO).is_err()), "the pod is still reached");
    other.exchange(ECHO).expect("a connection to another pod of the gateway");
}

#[test]
fn connections_outlive_a_gateway_that_is_killed() {
    let (lab, client, visitor) = with_visitor();
    let gateway = lab.lab.node("gw-a").unwrap();
    let mut connections = [
        Connection::open(&client, &lab.place("shop/bench")).unwrap(),
        Connection::open(&client, &visitor).unwrap(),
        Connection::open(&lab.place("shop/bench"), &client).unwrap(),
    ];
    for connection in &mut connections {
        connection.exchange(ECHO).unwrap();
    }
    daemon::end(&lab.lab.state, gateway, Signal::SIGKILL).unwrap();
    for connection in &mut connections {
        connection.exchange(ECHO).expect_err("nobody forwards here but Margay");
    }
    // What changed meanwhile holds from the first packet on.
    lab.write("policies.yaml", CLOSE_BENCH);
    daemon::start(&lab.lab.state, gateway).unwrap();
    daemon::wait_ready(&lab.lab.state, gateway).unwrap();
    let [to_bench, to_visitor, from_bench] = &mut connections;
    assert!(eventually(|| to_visitor.exchange(ECHO).is_ok()), "the connection does not resume");
    assert!(eventually(|| from_bench.exchange(ECHO).is_ok()), "the pod's own connection does not resume");
    to_bench.exchange(ECHO).expect_err("the policy does not hold");
}

#[test]
fn a_gateway_that_is_told_to_stop_stops_and_starts_again() {
    let (lab, client, visitor) = with_visitor();
    let gateway = lab.lab.node("gw-a").unwrap();
    let mut connection = Connection::open(&client, &visitor).unwrap();
    daemon::end(&lab.lab.state, gateway, Signal::SIGTERM).unwrap();
    daemon::start(&lab.lab.state, gateway).unwrap();
    daemon::wait_ready(&lab.lab.state, gateway).unwrap();
    assert!(eventually(|| connection.exchange(ECHO).is_ok()), "the connection does not resume");
}
