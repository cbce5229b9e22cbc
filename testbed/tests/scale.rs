//! Many pods behind one gateway, and more workers than one. They need root.

mod common;

use std::fmt::Write as _;
use std::thread;

use common::traffic::{blob, tcp_transfer, udp_echoes};
use common::{Options, TestLab, assert_agree};

/// Pods on the gateway's own node, and on the Linux node behind it.
const ON_GATEWAY: usize = 80;
const BEHIND: usize = 20;

/// Gateway gw with node n behind it in one subnet, node far in another; every third pod closed by policy.
fn hundred_pods() -> String {
    let mut manifests = "\
apiVersion: v1
kind: Namespace
metadata: {name: x}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: pool}
spec: {cidr: 10.80.0.0/16, vxlanMode: CrossSubnet, ipipMode: Never}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: x}
spec:
  podSelector: {matchLabels: {closed: 'true'}}
  policyTypes: [Ingress]
"
    .to_owned();
    for (node, address, block, labels) in [
        ("gw", "172.21.1.10", 0, ""),
        ("n", "172.21.1.11", 1, "margay.dev/gateway: gw"),
        ("far", "172.21.2.10", 2, ""),
    ] {
        let dataplane = if node == "gw" { "margay" } else { "kernel" };
        let _ = write!(
            manifests,
            "---\napiVersion: v1\nkind: Node\nmetadata:\n  name: {node}\n  labels: {{{labels}}}\n  annotations:\n    \
             margay.dev/dataplane: {dataplane}\n    projectcalico.org/IPv4Address: {address}/24\n    \
             projectcalico.org/IPv4VXLANTunnelAddr: 10.80.{block}.1\n\
             ---\napiVersion: crd.projectcalico.org/v1\nkind: BlockAffinity\nmetadata: {{name: {node}}}\n\
             spec: {{cidr: 10.80.{block}.0/24, node: {node}, state: confirmed, deleted: 'false'}}\n"
        );
    }
    let on_gateway = (0..ON_GATEWAY).map(|number| ("gw", 0, number));
    let behind = (ON_GATEWAY..ON_GATEWAY + BEHIND).map(|number| ("n", 1, number));
    for (node, block, number) in on_gateway.chain(behind).chain([("far", 2, 200)]) {
        let _ = write!(
            manifests,
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{number}, namespace: x, labels: {{closed: '{}'}}}}\n\
             spec: {{nodeName: {node}, containers: [{{name: main, image: none}}]}}\n\
             status: {{phase: Running, podIPs: [{{ip: 10.80.{block}.{}}}]}}\n",
            is_closed(number),
            number + 10
        );
    }
    manifests
}

fn is_closed(number: usize) -> bool {
    number.is_multiple_of(3)
}

#[test]
fn a_hundred_pods_behind_one_gateway() {
    let lab = TestLab::own(Options { extra: vec![("all.yaml", hundred_pods())], ..Options::default() });
    let mut probes = String::new();
    for number in 0..ON_GATEWAY + BEHIND {
        let expect = if is_closed(number) { "deny" } else { "allow" };
        for proto in ["TCP", "UDP"] {
            let _ = writeln!(
                probes,
                "- {{from: x/p200, to: x/p{number}, proto: {proto}, port: 80, expect: {expect}}}"
            );
            let _ = writeln!(
                probes,
                "- {{from: x/p{number}, to: x/p200, proto: {proto}, port: 80, expect: allow}}"
            );
        }
        // A neighbour, on the same node or not: p200 is open, so is every pod that is not a third.
        let neighbour = (number + 7) % ON_GATEWAY;
        let expect = if is_closed(neighbour) { "deny" } else { "allow" };
        let _ = writeln!(
            probes,
            "- {{from: x/p{number}, to: x/p{neighbour}, proto: TCP, port: 81, expect: {expect}}}"
        );
    }
    assert_agree(&lab.probe(&probes), &[]);
}

#[test]
fn two_workers_on_two_queues() {
    let lab = TestLab::two_zones(Options { queues: Some(2), cores: vec![0, 1], ..Options::default() });
    let pairs = [("far/client", "shop/bench"), ("far/client", "shop/api"), ("shop/cache", "far/audit")];
    let pairs: Vec<_> = pairs.iter().map(|(a, b)| (lab.place(a), lab.place(b))).collect();
    // Several connections at once: they hash to both queues, and their two directions need not meet on one.
    thread::scope(|scope| {
        let transfers: Vec<_> = (0..12_u64)
            .map(|number| {
                let (here, there) = &pairs[number as usize % pairs.len()];
                scope.spawn(move || {
                    let stream = blob(1 << 20, number);
                    assert!(tcp_transfer(here, there, &stream).unwrap() == stream, "{here:?} to {there:?}");
                    let datagrams: Vec<_> = (0..20).map(|seed| blob(1200, number * 100 + seed)).collect();
                    assert_eq!(udp_echoes(here, there, &datagrams), datagrams.len(), "{here:?} to {there:?}");
                })
            })
            .collect();
        for transfer in transfers {
            transfer.join().unwrap();
        }
    });
    let status = lab.status("gw-a");
    let received: Vec<_> = (0..2).map(|worker| status["workers"][worker]["traffic"]["rx"].as_u64()).collect();
    assert!(received.iter().all(|packets| packets.is_some_and(|packets| packets > 0)), "{status:#}");
}
