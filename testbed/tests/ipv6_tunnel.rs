//! Real packets through VXLAN over IPv6: a Margay, the Linux kernel's device and another Margay as its ends. They need root.

mod common;

use std::fmt::Write as _;
use std::fs;

use common::traffic::{Place, blob, path_mtu, say, tcp_transfer, udp_echoes};
use common::{Options, TestLab, eventually, world};
use margay_testbed::netns;

/// Pods: on the gateway; on Linux nodes in its subnet and beyond the router; behind another Margay there.
const API: &str = "shop/api";
const NEAR: &str = "far/near";
const CLIENT: &str = "far/client";
const PEER: &str = "far/peer";

/// Name, number of its subnet, of its host and of its blocks, and who forwards.
type Node = (&'static str, u8, u8, u8, &'static str);

const NODES: [Node; 4] = [
    ("gw", 1, 10, 10, "margay"),
    ("a2", 1, 12, 12, "kernel"),
    ("b1", 2, 11, 21, "kernel"),
    ("b2", 2, 12, 22, "margay"),
];

const PODS: [(&str, &str, u8); 4] = [(API, "gw", 10), (NEAR, "a2", 12), (CLIENT, "b1", 21), (PEER, "b2", 22)];

/// The largest packet inside, where the links take 1500 bytes.
const OVER_IPV6: u32 = 1500 - 70;

/// Pods of two families, and pools that want VXLAN to other subnets. `has` says of which families a node has an address.
fn world(nodes: &[Node], pods: &[(&str, &str, u8)], has: impl Fn(&str, u8) -> bool) -> String {
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
    text.push_str(&world::dual_stack_pools("CrossSubnet"));
    for &(node, subnet, host, block, dataplane) in nodes {
        write!(
            text,
            "---\napiVersion: v1\nkind: Node\nmetadata:\n  name: {node}\n  annotations:\n    \
             margay.dev/dataplane: {dataplane}\n"
        )
        .unwrap();
        let of4 = format!(
            "    projectcalico.org/IPv4Address: 172.20.{subnet}.{host}/24\n    \
             projectcalico.org/IPv4VXLANTunnelAddr: 10.65.{block}.1\n"
        );
        let of6 = format!(
            "    projectcalico.org/IPv6Address: fd00:20:{subnet}::{host}/64\n    \
             projectcalico.org/IPv6VXLANTunnelAddr: 'fd00:65:0:{block}::1'\n"
        );
        text.extend(
            [(4, of4), (6, of6)].into_iter().filter(|(family, _)| has(node, *family)).map(|(_, of)| of),
        );
        text.push_str(&world::dual_stack_blocks(node, block));
    }
    for (pod, node, block) in pods {
        text.push_str(&world::dual_stack_pod(pod, node, *block));
    }
    text
}

/// Lets the client in at one port, and lets it ping.
const TO_API: &str = "\
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: api}
spec:
  selector: app == 'api'
  types: [Ingress]
  ingress:
  - {action: Allow, protocol: TCP, source: {selector: app == 'client'}, destination: {ports: [80]}}
  - {action: Allow, protocol: ICMPv6, source: {selector: app == 'client'}}
";

fn lab(zero_checksum6: bool) -> TestLab {
    let world = world(&NODES, &PODS, |_, _| true);
    let extra = vec![("world.yaml", world)];
    let lab = TestLab::own(Options { zero_checksum6, extra, ..Options::default() });
    assert_eq!(lab.notes, Vec::<String>::new());
    lab
}

/// What the gateway of this name has dropped for this reason.
fn drops(lab: &TestLab, node: &str, reason: &str) -> u64 {
    let status = lab.status(node);
    let ports = status["ports"].as_array().unwrap().iter();
    ports.filter_map(|port| port["traffic"]["drops"][reason].as_u64()).sum()
}

/// Of a namespace's UDP over IPv6: datagrams received, and refused, for whatever reason.
fn datagrams(node: &Place) -> (u64, u64) {
    let text = netns::within(&node.netns, || fs::read_to_string("/proc/thread-self/net/snmp6").unwrap());
    let text = text.unwrap();
    let value = |key: &str| -> u64 {
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(key));
        line.unwrap_or_else(|| panic!("{key}")).split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (value("Udp6InDatagrams"), value("Udp6InErrors") + value("Udp6InCsumErrors"))
}

/// Packets that a device has received, those dropped and with errors among them.
fn received(node: &Place, device: &str) -> (u64, u64) {
    let said = say(node, "ip", &["-s", "-j", "link", "show", "dev", device]);
    let links: serde_json::Value = serde_json::from_str(&said).unwrap();
    let rx = &links[0]["stats64"]["rx"];
    let number = |key: &str| rx[key].as_u64().unwrap();
    (number("packets"), number("errors") + number("dropped"))
}

/// Real bytes over TCP both ways, datagrams of sizes about the limit, and pings.
fn goes_both_ways(one: &Place, other: &Place, seed: u64) {
    let bytes = blob(1 << 20, seed);
    let lengths = [1, 100, OVER_IPV6 as usize - 49, OVER_IPV6 as usize - 48, OVER_IPV6 as usize - 47];
    let datagrams = lengths.map(|length| blob(length, seed));
    for (from, to) in [(one, other), (other, one)] {
        assert!(eventually(|| from.pings(to)), "{from:?} to {to:?}");
        let arrived = tcp_transfer(from, to, &bytes).unwrap();
        assert!(arrived == bytes, "{from:?} to {to:?}: {} of {} bytes", arrived.len(), bytes.len());
        assert_eq!(udp_echoes(from, to, &datagrams), datagrams.len(), "{from:?} to {to:?}");
    }
}

#[test]
fn pods_reach_each_other_through_vxlan_over_ipv6() {
    let lab = lab(false);
    let [api, near, client, peer] = [API, NEAR, CLIENT, PEER].map(|place| lab.place6(place));
    let node = lab.place6("node:b1");
    // The kernel's end, another Margay's, and no tunnel within the subnet. The tunnels of IPv4 beside them.
    for (other, seed) in [(&client, 1), (&peer, 2), (&near, 3)] {
        goes_both_ways(&api, other, seed);
    }
    goes_both_ways(&peer, &client, 4);
    goes_both_ways(&lab.place(API), &lab.place(CLIENT), 5);
    let (packets, refused) = received(&node, "vxlan-v6.calico");
    assert!(packets > 500, "{packets} packets in the kernel's tunnel");
    assert_eq!((refused, datagrams(&node).1), (0, 0), "the kernel finds nothing wrong with checksums");
    for reason in ["tunnel-checksum", "tunnel-no-checksum", "inner-source", "inner-wrong-mac"] {
        assert_eq!((drops(&lab, "gw", reason), drops(&lab, "b2", reason)), (0, 0), "{reason}");
    }

    lab.write("api.yaml", TO_API);
    assert!(eventually(|| !client.opens(&api.at(81))), "the policy does not hold");
    assert!(client.opens(&api.at(80)) && client.pings(&api));
    assert!(!peer.opens(&api.at(80)), "it is not the client");
    assert!(api.opens(&client.at(81)), "what it calls answers");
}

#[test]
fn in_skb_mode_senders_leave_segments_and_checksums_to_the_gateway() {
    let extra = vec![("world.yaml", world(&NODES, &PODS, |_, _| true))];
    let configuration = "[xdp]\nmode = \"skb\"\n".to_owned();
    let lab = TestLab::own(Options { configuration, extra, ..Options::default() });
    let [api, client, peer] = [API, CLIENT, PEER].map(|place| lab.place6(place));
    for (other, seed) in [(&client, 1), (&peer, 2)] {
        goes_both_ways(&api, other, seed);
    }
    goes_both_ways(&lab.place(API), &lab.place(CLIENT), 3);
    let status = lab.status("gw");
    let ports = status["ports"].as_array().unwrap();
    let number = |kind: &str, key: &str| {
        let port = ports.iter().find(|port| port["kind"] == kind).unwrap();
        port["traffic"][key].as_u64().unwrap()
    };
    let (came, left) = (number("pod", "forwarded"), number("uplink", "tx"));
    assert!(left > came + 100, "{left} packets went to the nodes of {came} that the pod sent: none was cut");
    for reason in ["tunnel-checksum", "udp-gso", "no-large-buffer"] {
        assert_eq!((drops(&lab, "gw", reason), drops(&lab, "b2", reason)), (0, 0), "{reason}");
    }
}

#[test]
fn what_does_not_fit_into_vxlan_over_ipv6_is_told_and_sent_again() {
    let lab = lab(false);
    let [api, client, peer] = [API, CLIENT, PEER].map(|place| lab.place6(place));
    let forget = || {
        for place in [&api, &client, &peer] {
            say(place, "ip", &["-6", "route", "flush", "cache"]);
        }
    };
    for (from, to) in [(&api, &client), (&client, &api), (&peer, &api)] {
        assert!(eventually(|| from.pings(to)));
        // Headers of IPv6 and ICMPv6.
        for payload in OVER_IPV6 - 48 - 2..=OVER_IPV6 - 48 + 2 {
            forget();
            let (size, to) = (payload.to_string(), to.address.to_string());
            let said = say(from, "ping", &["-n", "-c", "1", "-W", "2", "-M", "do", "-s", &size, &to]);
            if payload + 48 <= OVER_IPV6 {
                assert!(said.contains(" 1 received"), "{from:?}, {payload}: {said}");
            } else {
                assert!(said.contains(&format!("mtu={OVER_IPV6}")), "{from:?}, {payload}: {said}");
            }
        }
        // The other end too: what it knows is in the MSS that it tells.
        forget();
        assert_eq!(path_mtu(from, to.address), None);
        let bytes = blob(2 << 20, 7);
        assert!(tcp_transfer(from, to, &bytes).unwrap() == bytes, "{from:?}");
        assert_eq!(path_mtu(from, to.address), Some(OVER_IPV6), "TCP has learnt it: {from:?}");
    }
    assert!(drops(&lab, "gw", "fragmentation-needed") > 0);
}

#[test]
fn checksums_are_left_out_where_all_nodes_are_told_so() {
    let lab = lab(true);
    let [api, client, peer] = [API, CLIENT, PEER].map(|place| lab.place6(place));
    let node = lab.place6("node:b1");
    goes_both_ways(&api, &client, 1);
    goes_both_ways(&api, &peer, 2);
    assert_eq!((received(&node, "vxlan-v6.calico").1, datagrams(&node).1), (0, 0));

    // A kernel that is not told takes none of them, which shows that there are none.
    let before = datagrams(&node).1;
    lab.lab.remake_tunnels_with(false).unwrap();
    assert!(!api.pings(&client), "the kernel has taken packets without checksums");
    assert!(datagrams(&node).1 > before);
    assert!(drops(&lab, "gw", "tunnel-no-checksum") == 0);
}

#[test]
fn a_family_without_an_underlay_goes_over_the_other() {
    let nodes = [("both", 1, 10, 10, "margay"), ("four", 2, 11, 21, "margay"), ("six", 3, 11, 31, "margay")];
    let pods = [(API, "both", 10), (CLIENT, "four", 21), (PEER, "six", 31)];
    let text = world(&nodes, &pods, |node, family| match node {
        "four" => family == 4,
        "six" => family == 6,
        _ => true,
    });
    let lab = TestLab::own(Options { extra: vec![("world.yaml", text)], ..Options::default() });
    for (other, is_ipv6) in [(CLIENT, false), (CLIENT, true), (PEER, false), (PEER, true)] {
        let place = |name| if is_ipv6 { lab.place6(name) } else { lab.place(name) };
        goes_both_ways(&place(API), &place(other), 1);
    }
    for (node, reason) in [("both", "inner-source"), ("four", "inner-wrong-mac"), ("six", "inner-wrong-mac")]
    {
        assert_eq!(drops(&lab, node, reason), 0, "{node} {reason}");
    }
    // Over IPv6 less fits, of IPv4 too, and a node that has no address of IPv4 says so.
    let (peer, api) = (lab.place(PEER), lab.place(API));
    let said = say(&peer, "ping", &["-n", "-c", "1", "-W", "2", "-M", "do", "-s", "1403", "10.65.10.5"]);
    assert!(said.contains("mtu=1430") || said.contains("mtu = 1430"), "{said}");
    assert!(peer.pings_with(&api, 1402));
}
