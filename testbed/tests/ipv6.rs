//! Real packets of IPv6 through a gateway, between dual-stack pods on it, behind it and beyond the router. They need root.

mod common;

use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

use common::traffic::{Connection, Place, blob, path_mtu, say, tcp_transfer, udp_echoes};
use common::{Options, TestLab, eventually, world};
use margay_testbed::ip;

/// Longer than an echo takes, shorter than a patient user.
const ECHO: Duration = Duration::from_secs(1);

/// Pods: on the gateway, on a node behind it, beside it on the same wire, and beyond the router.
const API: &str = "shop/api";
const WEB: &str = "shop/web";
const CLIENT: &str = "far/client";
const REMOTE: &str = "far/remote";

/// Name, number of its subnet, of its host and of its blocks, who forwards, and labels.
const NODES: [(&str, u8, u8, u8, &str, &str); 4] = [
    ("gw", 1, 10, 10, "margay", ""),
    ("a1", 1, 11, 11, "kernel", "margay.dev/gateway: gw"),
    ("a2", 1, 12, 12, "kernel", ""),
    ("b1", 2, 11, 21, "kernel", ""),
];

/// The pods and their nodes.
const PODS: [(&str, &str, u8); 4] =
    [(API, "gw", 10), (WEB, "a1", 11), (CLIENT, "a2", 12), (REMOTE, "b1", 21)];

/// Routes without tunnels in both families.
fn world() -> String {
    let mut text = "\
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Namespace
metadata: {name: far}
"
    .to_owned();
    text.push_str(&world::dual_stack_pools("Never"));
    for (node, subnet, host, block, dataplane, labels) in NODES {
        write!(
            text,
            "---\napiVersion: v1\nkind: Node\nmetadata:\n  name: {node}\n  labels: {{{labels}}}\n  annotations:\n    \
             margay.dev/dataplane: {dataplane}\n    projectcalico.org/IPv4Address: 172.20.{subnet}.{host}/24\n    \
             projectcalico.org/IPv6Address: fd00:20:{subnet}::{host}/64\n"
        )
        .unwrap();
        text.push_str(&world::dual_stack_blocks(node, block));
    }
    for (pod, node, block) in PODS {
        text.push_str(&world::dual_stack_pod(pod, node, block));
    }
    text
}

/// Lets the client of the next subnet in at the web pod's ports, as TCP.
fn to_web(ports: &[u16]) -> String {
    let ports: Vec<String> = ports.iter().map(|port| format!("{{protocol: TCP, port: {port}}}")).collect();
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: web, namespace: shop}}\n\
         spec:\n  podSelector: {{matchLabels: {{app: web}}}}\n  policyTypes: [Ingress]\n  ingress:\n  - from:\n    \
         - ipBlock: {{cidr: 'fd00:65:0:12::/64'}}\n    ports: [{}]\n",
        ports.join(", ")
    )
}

/// Lets the pod on the gateway out at one port, and lets it ping.
const API_OUT: &str = "\
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: api-out}
spec:
  selector: app == 'api'
  types: [Egress]
  egress:
  - {action: Allow, protocol: TCP, destination: {ports: [80]}}
  - {action: Allow, protocol: ICMPv6, icmp: {type: 128}}
";

fn lab() -> TestLab {
    let lab = TestLab::own(Options { extra: vec![("world.yaml", world())], ..Options::default() });
    assert_eq!(lab.notes, Vec::<String>::new());
    lab
}

/// What the gateway has dropped for this reason.
fn drops(lab: &TestLab, reason: &str) -> u64 {
    let status = lab.status("gw");
    let ports = status["ports"].as_array().unwrap().iter();
    ports.filter_map(|port| port["traffic"]["drops"][reason].as_u64()).sum()
}

#[test]
fn dual_stack_pods_reach_each_other_as_policy_lets_them() {
    let lab = lab();
    let (bytes, datagrams) = (blob(1 << 20, 1), [1, 100, 1401, 1402].map(|length| blob(length, 7)));
    let goes = |from: &Place, to: &Place| {
        assert!(eventually(|| from.pings(to)), "{from:?} to {to:?}");
        assert!(tcp_transfer(from, to, &bytes).unwrap() == bytes, "{from:?} to {to:?}");
        assert_eq!(udp_echoes(from, to, &datagrams), datagrams.len(), "{from:?} to {to:?}");
    };
    for (here, there) in [(API, CLIENT), (WEB, REMOTE), ("node:gw", API)] {
        let (here, there) = (lab.place6(here), lab.place6(there));
        goes(&here, &there);
        goes(&there, &here);
    }
    goes(&lab.place(CLIENT), &lab.place(WEB));
    lab.write("web.yaml", &to_web(&[80]));
    let [api, web, client, remote] = [API, WEB, CLIENT, REMOTE].map(|place| lab.place6(place));
    assert!(eventually(|| !client.opens(&web.at(81))), "the policy does not hold");
    assert!(client.opens(&web.at(80)));
    assert!(web.pings(&client) && web.opens(&client), "what it calls answers");
    let (client4, web4) = (lab.place(CLIENT), lab.place(WEB));
    thread::scope(|scope| {
        scope.spawn(|| assert!(!remote.opens(&web.at(80)), "it is in no block of the policy's"));
        scope.spawn(|| assert!(!client4.opens(&web4.at(80)), "no rule is of IPv4"));
        scope.spawn(|| assert!(!client.pings(&web), "no rule is of ICMPv6"));
        scope.spawn(|| assert_eq!(udp_echoes(&client, &web.at(80), &datagrams[..1]), 0));
    });
    assert!(remote.opens(&api.at(81)) && remote.pings(&api), "no policy selects the pod");
}

#[test]
fn a_change_of_policy_cuts_a_connection_of_ipv6() {
    let lab = lab();
    let [web, client] = [WEB, CLIENT].map(|place| lab.place6(place));
    lab.write("web.yaml", &to_web(&[80, 443]));
    assert!(eventually(|| !client.opens(&web.at(81))), "the policy does not hold");
    let mut cut = Connection::open(&client, &web.at(80)).unwrap();
    let mut kept = Connection::open(&client, &web.at(443)).unwrap();
    cut.exchange(ECHO).unwrap();
    lab.write("web.yaml", &to_web(&[443]));
    assert!(eventually(|| cut.exchange(ECHO).is_err()), "the change does not hold");
    kept.exchange(ECHO).unwrap();
    lab.write("web.yaml", &to_web(&[80]));
    assert!(eventually(|| cut.exchange(ECHO).is_ok()), "the policy holds on");
}

#[test]
fn a_pod_and_its_node_find_each_other_and_policy_stands_between() {
    let lab = lab();
    let (api, client, node) = (lab.place6(API), lab.place6(CLIENT), lab.place6("node:gw"));
    assert!(eventually(|| api.opens(&node.at(81))), "no policy selects the pod");
    let each_finds_the_others = || {
        for place in [&api, &node, &client] {
            say(place, "ip", &["-6", "neigh", "flush", "all"]);
            assert!(eventually(|| api.opens(&client.at(80)) && client.opens(&api.at(80))), "{place:?}");
            assert!(node.opens(&api.at(80)) && api.opens(&node.at(80)), "{place:?}");
        }
    };
    each_finds_the_others();
    lab.write("out.yaml", API_OUT);
    assert!(eventually(|| !api.opens(&node.at(81))), "the policy does not hold");
    assert!(api.pings(&node), "{}", lab.status("gw"));
    let bytes = blob(1 << 20, 5);
    assert!(tcp_transfer(&api, &node.at(80), &bytes).unwrap() == bytes);
    assert_eq!(udp_echoes(&api, &node.at(80), &[blob(100, 6)]), 0);
    assert!(tcp_transfer(&node, &api.at(81), &bytes).unwrap() == bytes, "a node reaches its pods");
    assert!(node.pings(&api));
    each_finds_the_others();
}

#[test]
fn what_cannot_go_on_is_answered_by_the_gateway() {
    let lab = lab();
    let [api, web, client] = [API, WEB, CLIENT].map(|place| lab.place6(place));
    let gateway = lab.place6("node:gw");
    for (from, to, hops) in [(&api, &client, "1"), (&client, &api, "2"), (&client, &web, "2")] {
        assert!(eventually(|| from.pings(to)));
        let to = to.address.to_string();
        let said = say(from, "ping", &["-n", "-c", "1", "-W", "2", "-t", hops, &to]);
        let from_gateway = format!("From {} ", gateway.address);
        assert!(said.contains(&from_gateway) && said.contains("Time exceeded"), "{from:?} to {to}: {said}");
    }
    assert!(drops(&lab, "ttl-exceeded") > 0);

    // The way to the pod on the gateway grows narrow; what the pod itself thinks of its link stays.
    let device = &lab.lab.topology.pods.values().find(|pod| pod.node == "gw").unwrap().device;
    let narrow = ip::Batch::new().extend([format!("link set {device} mtu 1400")]);
    narrow.run(Some(&gateway.netns)).unwrap();
    let is_narrow = || {
        let said =
            say(&client, "ping", &["-n", "-c", "1", "-W", "1", "-s", "1402", &api.address.to_string()]);
        said.contains("Packet too big: mtu=1400") || path_mtu(&client, api.address) == Some(1400)
    };
    assert!(eventually(is_narrow), "{:?}", path_mtu(&client, api.address));
    let remote = lab.place6(REMOTE);
    assert_eq!(path_mtu(&remote, api.address), None);
    let bytes = blob(2 << 20, 3);
    assert!(tcp_transfer(&remote, &api, &bytes).unwrap() == bytes);
    assert_eq!(path_mtu(&remote, api.address), Some(1400), "TCP has learnt it");
    assert!(drops(&lab, "fragmentation-needed") > 1);
}
