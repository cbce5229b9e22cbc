//! Policies of host endpoints for what a gateway forwards, and `margay explain` beside the packets. They need root.

mod common;

use std::process::Command;
use std::time::Duration;

use common::traffic::{Connection, Place, blob, udp_echoes};
use common::{Options, TestLab, eventually, margay};
use margay_testbed::daemon;
use serde_json::{Value, json};

/// Longer than an echo takes, shorter than a patient user.
const ECHO: Duration = Duration::from_secs(1);

/// On the gateway, and on a node behind it, which the uplink leads to. No policy selects either.
const PODS: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: visitor, namespace: shop, labels: {app: visitor}}
spec: {nodeName: gw-a, containers: [{name: main, image: none}]}
status: {phase: Running, podIPs: [{ip: 10.65.10.9}]}
---
apiVersion: v1
kind: Pod
metadata: {name: guest, namespace: shop, labels: {app: guest}}
spec: {nodeName: a1, containers: [{name: main, image: none}]}
status: {phase: Running, podIPs: [{ip: 10.65.11.9}]}
";

const VISITOR: &str = "shop/visitor";
const GUEST: &str = "shop/guest";
/// In the other zone, behind a tunnel.
const CLIENT: &str = "far/client";

const UPLINK: &str = "uplink0";

fn host_endpoint(interface: &str) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {{name: edge, labels: {{role: edge}}}}\n\
         spec: {{node: gw-a, interfaceName: '{interface}'}}\n"
    )
}

/// A policy of the gateway's host endpoint, with the fields of `spec` on one line.
fn policy(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{name: {name}}}\n\
         spec: {{selector: role == 'edge', applyOnForward: true, {spec}}}\n"
    )
}

fn global(name: &str, spec: &str) -> String {
    policy("GlobalNetworkPolicy", name, spec)
}

fn to(action: &str, protocol: &str, ports: &[u16]) -> String {
    format!("{{action: {action}, protocol: {protocol}, destination: {{ports: {ports:?}}}}}")
}

struct Edge {
    lab: TestLab,
    visitor: Place,
    guest: Place,
    client: Place,
}

impl Edge {
    fn new() -> Self {
        let lab = TestLab::two_zones(Options {
            extra: vec![("pods-more.yaml", PODS.into())],
            ..Options::default()
        });
        let [visitor, guest, client] = [VISITOR, GUEST, CLIENT].map(|place| lab.place(place));
        Self { lab, visitor, guest, client }
    }

    fn place(&self, name: &str) -> &Place {
        match name {
            VISITOR => &self.visitor,
            GUEST => &self.guest,
            _ => &self.client,
        }
    }

    fn set(&self, interface: &str, policies: &[String]) {
        self.lab.write("edge.yaml", &(host_endpoint(interface) + &policies.concat()));
    }

    fn ask(&self, arguments: &[&str]) -> Value {
        let socket = daemon::socket(self.lab.name(), "gw-a");
        let mut command = Command::new(margay());
        command.arg(arguments[0]).args(["-o", "json", "--socket"]).arg(socket).args(&arguments[1..]);
        let output = command.output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }

    fn passes(&self, from: &str, to: &str, protocol: &str, port: u16) -> bool {
        let (from, to) = (self.place(from), self.place(to).at(port));
        match protocol {
            "tcp" => from.opens(&to),
            _ => udp_echoes(from, &to, &[blob(100, u64::from(port))]) == 1,
        }
    }

    /// Holds packets, and what the gateway says of them, against what is expected: who decides, on which side and when.
    fn assert_fares(
        &self,
        (from, to, protocol, port): (&str, &str, &str, u16),
        passes: bool,
        by: Option<[&str; 3]>,
    ) {
        let what = format!("{from} -> {to} {protocol} {port}");
        assert_eq!(self.passes(from, to, protocol, port), passes, "{what}");
        let answer = self.ask(&["explain", from, to, protocol, &port.to_string()]);
        assert_eq!(answer["verdict"], if passes { "allow" } else { "deny" }, "{what}: {answer:#}");
        let host = &answer["packets"][0]["host"];
        let Some([side, policy, stage]) = by else {
            for side in ["entry", "exit"] {
                assert_eq!(host[side]["decided_at"], Value::Null, "{what}: {host:#}");
            }
            return;
        };
        let side = &host[side];
        assert_eq!(
            (&side["endpoint"], &side["decided"]["policy"]),
            (&json!("edge"), &json!(policy)),
            "{what}"
        );
        assert_eq!(side["decided_at"], stage, "{what}");
    }

    /// What a rule has counted; no number is the end of its tier.
    fn counted(&self, policy: &str, direction: &str, rule: Option<u32>) -> [u64; 3] {
        let answer = self.ask(&["policies"]);
        let is_it = |row: &&Value| {
            row["policy"] == policy && row["direction"] == direction && row["rule"] == json!(rule)
        };
        let row = answer["rules"].as_array().unwrap().iter().find(is_it).cloned();
        let row = row.unwrap_or_else(|| panic!("{policy} {direction} {rule:?} is not in {answer:#}"));
        ["packets", "flows", "denied"].map(|key| row[key].as_u64().unwrap())
    }

    /// Panics unless the last that the policy has dropped was a packet to this port.
    fn assert_dropped(&self, policy: &str, direction: &str, port: u16) {
        let is_it = |row: &Value| {
            row["rule"]["policy"] == policy && row["direction"] == direction && row["last"]["dport"] == port
        };
        let is_told = || self.ask(&["policies"])["drops"].as_array().unwrap().iter().any(is_it);
        assert!(
            eventually(is_told),
            "no drop by {policy} to port {port} in {:#}",
            self.ask(&["policies"])["drops"]
        );
    }
}

#[test]
fn what_comes_in_by_an_uplink_and_leaves_by_it_obeys_its_host_endpoint() {
    let edge = Edge::new();
    let (inward, outward) = ((GUEST, VISITOR), (VISITOR, GUEST));
    let packet = |(from, to): (&'static str, &'static str), protocol, port| (from, to, protocol, port);
    edge.assert_fares(packet(inward, "tcp", 81), true, None);
    let ingress = format!("ingress: [{}, {}]", to("Allow", "TCP", &[80]), to("Allow", "UDP", &[53]));
    let staged = policy(
        "StagedGlobalNetworkPolicy",
        "stricter",
        &format!("order: 1, ingress: [{}]", to("Deny", "TCP", &[80])),
    );
    edge.set(UPLINK, &[global("in", &ingress), staged]);
    assert!(eventually(|| !edge.passes(GUEST, VISITOR, "tcp", 81)), "the policy does not hold");

    let forwarded = |policy| Some(["entry", policy, "applyOnForward"]);
    edge.assert_fares(packet(inward, "tcp", 80), true, forwarded("in"));
    edge.assert_fares(packet(inward, "udp", 53), true, forwarded("in"));
    edge.assert_fares(packet(inward, "tcp", 81), false, forwarded("in"));
    edge.assert_fares(packet(inward, "udp", 54), false, forwarded("in"));
    // No failsafe port is of use to what is forwarded.
    edge.assert_fares(packet(inward, "tcp", 22), false, forwarded("in"));
    // Answers come back in, and what lies in a tunnel comes in by that.
    edge.assert_fares(packet(outward, "tcp", 81), true, None);
    edge.assert_fares((CLIENT, VISITOR, "tcp", 81), true, None);
    let [packets, flows, denied] = edge.counted("in", "ingress", Some(0));
    assert!(packets > flows && flows > 0 && denied == 0, "{packets} {flows} {denied}");
    assert!(edge.counted("in", "ingress", None)[2] >= 3);
    edge.assert_dropped("in", "ingress", 22);
    assert!(edge.counted("stricter", "ingress", Some(0))[2] > 0, "what is staged counts, and denies nothing");
    let answer = edge.ask(&["explain", GUEST, VISITOR, "tcp", "80"]);
    let staged = &answer["packets"][0]["host"]["entry"]["staged"];
    assert_eq!((&staged["verdict"], &staged["is_change"]), (&json!("deny"), &json!(true)));

    edge.set(UPLINK, &[global("out", &format!("egress: [{}]", to("Allow", "TCP", &[80])))]);
    assert!(eventually(|| edge.passes(GUEST, VISITOR, "tcp", 81)), "the policy holds on");
    edge.assert_fares(packet(outward, "tcp", 80), true, Some(["exit", "out", "applyOnForward"]));
    edge.assert_fares(packet(outward, "tcp", 81), false, Some(["exit", "out", "applyOnForward"]));
    edge.assert_dropped("out", "egress", 81);

    edge.set("*", &[global("in", &format!("ingress: [{}, {{action: Allow}}]", to("Deny", "TCP", &[81])))]);
    assert!(eventually(|| edge.passes(VISITOR, GUEST, "udp", 54)), "the policy holds on");
    edge.assert_fares((CLIENT, VISITOR, "tcp", 81), false, forwarded("in"));
}

#[test]
fn policies_before_destination_nat_and_before_connection_tracking_are_asked_first() {
    let edge = Edge::new();
    let packet = |protocol, port| (GUEST, VISITOR, protocol, port);
    let forwarded = global("in", &format!("ingress: [{}]", to("Allow", "TCP", &[80])));
    let shield = format!(
        "preDNAT: true, ingress: [{}, {}]",
        to("Allow", "TCP", &[82]),
        to("Deny", "TCP", &[22, 80, 81])
    );
    edge.set(UPLINK, &[forwarded.clone(), global("shield", &shield)]);
    assert!(eventually(|| !edge.passes(GUEST, VISITOR, "tcp", 80)), "the policy does not hold");
    edge.assert_fares(packet("tcp", 80), false, Some(["entry", "shield", "preDNAT"]));
    edge.assert_fares(packet("tcp", 82), true, Some(["entry", "shield", "preDNAT"]));
    // A failsafe port, which `shield` is not asked about, and the next policy is.
    edge.assert_fares(packet("tcp", 22), false, Some(["entry", "in", "applyOnForward"]));
    edge.assert_dropped("shield", "ingress", 80);
    edge.assert_dropped("in", "ingress", 22);

    let raw =
        format!("doNotTrack: true, ingress: [{}, {}]", to("Allow", "UDP", &[53]), to("Deny", "TCP", &[80]));
    edge.set(UPLINK, &[forwarded, global("raw", &raw)]);
    assert!(eventually(|| edge.passes(GUEST, VISITOR, "udp", 53)), "the policy does not hold");
    edge.assert_fares(packet("udp", 53), true, Some(["entry", "raw", "doNotTrack"]));
    edge.assert_fares(packet("tcp", 80), false, Some(["entry", "raw", "doNotTrack"]));
    edge.assert_fares(packet("udp", 54), false, Some(["entry", "in", "applyOnForward"]));
    let [before, ..] = edge.counted("raw", "ingress", Some(0));
    let datagrams = [1, 2, 3].map(|seed| blob(200, seed));
    assert_eq!(udp_echoes(&edge.guest, &edge.visitor.at(53), &datagrams), datagrams.len());
    let [after, flows, _] = edge.counted("raw", "ingress", Some(0));
    assert!(
        after >= before + 3 && flows == 0,
        "each packet counts, and none is a flow's: {before} {after} {flows}"
    );
}

#[test]
fn a_change_cuts_the_flows_that_it_denies_and_no_others() {
    let edge = Edge::new();
    let allow = |ports: &[u16]| [global("in", &format!("ingress: [{}]", to("Allow", "TCP", ports)))];
    edge.set(UPLINK, &allow(&[80, 82, 443]));
    assert!(eventually(|| !edge.passes(GUEST, VISITOR, "tcp", 81)), "the policy does not hold");
    let mut cut = Connection::open(&edge.guest, &edge.visitor.at(80)).unwrap();
    let mut kept = Connection::open(&edge.guest, &edge.visitor.at(443)).unwrap();
    let mut outward = Connection::open(&edge.visitor, &edge.guest.at(80)).unwrap();
    for connection in [&mut cut, &mut kept, &mut outward] {
        connection.exchange(ECHO).unwrap();
    }
    edge.set(UPLINK, &allow(&[443]));
    assert!(eventually(|| cut.exchange(ECHO).is_err()), "the change does not hold");
    kept.exchange(ECHO).unwrap();
    outward.exchange(ECHO).unwrap();
    edge.assert_dropped("in", "ingress", 80);
    edge.assert_fares((GUEST, VISITOR, "tcp", 82), false, Some(["entry", "in", "applyOnForward"]));
    edge.set(UPLINK, &allow(&[80]));
    assert!(eventually(|| cut.exchange(ECHO).is_ok()), "the policy holds on");
}
