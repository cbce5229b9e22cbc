//! What is said on the way: errors of ICMP cross tunnels and gateways to whom they are for, under policies that let nothing
//! but their flow pass, and traceroute and tracepath find the hops and the MTU. They need root.

mod common;

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use common::traffic::{Place, blob};
use common::world::{B1, GW_A, Node, Way, manifests};
use common::{Options, TestLab, eventually};
use margay_testbed::ip::{Batch, in_netns};
use margay_testbed::lab::Lab;
use margay_testbed::netns;

/// Of pods' links, where nodes take 50 or 70 less.
const LINK: u32 = 1500;
/// Of the link to the pod behind the Linux node, once it is made narrow.
const BEYOND: u32 = 1300;

/// Lets UDP at these ports pass the gateway's pod, and nothing else, either way.
const POLICY: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: udp, namespace: x}
spec:
  podSelector: {matchLabels: {on: gw-a}}
  policyTypes: [Ingress, Egress]
  ingress: [{ports: [{protocol: UDP, port: 4000, endPort: 4100}]}]
  egress: [{ports: [{protocol: UDP, port: 4000, endPort: 4100}]}]
";

/// Long links for pods, and kernels that tell of every packet what they have to tell.
fn prepare(lab: &Lab) -> anyhow::Result<()> {
    let talkative = || -> anyhow::Result<()> {
        fs::write("/proc/sys/net/ipv4/icmp_ratelimit", "0")?;
        Ok(fs::write("/proc/sys/net/ipv6/icmp/ratelimit", "0")?)
    };
    for node in lab.topology.nodes.values() {
        netns::within(&node.netns, talkative)??;
    }
    for pod in lab.topology.pods.values() {
        netns::within(&pod.netns, talkative)??;
        let device = format!("link set {} mtu {LINK}", pod.device);
        Batch::new().extend([device]).run(Some(&lab.topology.nodes[&pod.node].netns))?;
        Batch::new().extend([format!("link set eth0 mtu {LINK}")]).run(Some(&pod.netns))?;
    }
    Ok(())
}

fn lab() -> TestLab {
    let world = manifests(&[GW_A, B1], &[Way::Vxlan]);
    TestLab::own_after(Options { extra: vec![("world.yaml", world)], ..Options::default() }, prepare)
}

fn place(lab: &TestLab, node: Node, is_ipv6: bool) -> Place {
    let pod = node.pod(Way::Vxlan);
    if is_ipv6 { lab.place6(&pod) } else { lab.place(&pod) }
}

/// The error that comes back to a connected socket, if one does.
fn answer(from: &Place, to: &Place) -> Option<ErrorKind> {
    let socket = netns::within(&from.netns, || UdpSocket::bind((from.address, 0)).unwrap()).unwrap();
    socket.connect((to.address, to.port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    (0..3).find_map(|_| {
        socket.send(b"is anybody there").ok()?;
        let error = socket.recv(&mut [0]).unwrap_err().kind();
        (error != ErrorKind::WouldBlock).then_some(error)
    })
}

/// Whether a datagram comes that may be sent again when its sender has learnt something.
fn arrives(from: &Place, to: &Place, datagram: &[u8]) -> bool {
    let open = |place: &Place| {
        netns::within(&place.netns, || UdpSocket::bind((place.address, place.port)).unwrap()).unwrap()
    };
    let (sender, receiver) = (open(from), open(to));
    sender.connect((to.address, to.port)).unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut buffer = [0; 2048];
    (0..3).any(|_| {
        // An error here is that of the datagram before.
        let _ = sender.send(datagram);
        receiver.recv(&mut buffer).is_ok_and(|length| buffer[..length] == *datagram)
    })
}

/// What a program that follows the way prints.
fn trace(from: &Place, program: &str, arguments: &[&str], to: IpAddr) -> String {
    let mut command = in_netns(&from.netns, program);
    let output = command.arg("-n").args(arguments).arg(to.to_string()).output().unwrap();
    assert!(output.status.success(), "{program}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The hops that traceroute prints, with what it remarks of them (`!X`).
fn hops(said: &str) -> Vec<String> {
    let hop = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let remark = words.last().filter(|word| word.starts_with('!')).copied().unwrap_or_default();
        words.get(1).map(|address| format!("{address}{remark}"))
    };
    said.lines().skip(1).filter_map(hop).collect()
}

/// What the pod's kernel holds to be the largest packet on the way.
fn path_mtu(from: &Place, to: IpAddr) -> u32 {
    let output = in_netns(&from.netns, "ip").args(["-o", "route", "get", &to.to_string()]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let mtu = said.split_once(" mtu ").and_then(|(_, rest)| rest.split_whitespace().next());
    mtu.map_or(LINK, |mtu| mtu.parse().unwrap())
}

/// Addresses of the hops between the pods of the two nodes: that of the sender's own node, then that of the other node on its
/// tunnel device, but that Margay takes the one of the underlay for IPv6.
fn expected_hops(from: Node, to: Node, is_ipv6: bool) -> [String; 3] {
    let far: IpAddr = match (is_ipv6, to.dataplane) {
        (false, _) => to.tunnel_address(Way::Vxlan).into(),
        (true, "kernel") => to.tunnel_address6().into(),
        (true, _) => to.address6().into(),
    };
    [from.underlay(is_ipv6), far, to.pod_address_of(Way::Vxlan, is_ipv6).unwrap()]
        .map(|address| address.to_string())
}

#[test]
fn who_follows_the_way_finds_hops_and_mtu() {
    let lab = lab();
    for (from, to, is_ipv6) in [(GW_A, B1, false), (B1, GW_A, false), (GW_A, B1, true), (B1, GW_A, true)] {
        let (here, there) = (place(&lab, from, is_ipv6), place(&lab, to, is_ipv6));
        let mtu = LINK - if is_ipv6 { 70 } else { 50 };
        let said = trace(&here, "tracepath", &["-m", "8"], there.address);
        assert!(said.contains(&format!("Resume: pmtu {mtu} hops 3")), "{said}");
        for method in ["--udp", "--icmp", "--tcp"] {
            let said = trace(&here, "traceroute", &[method, "-q", "1", "-w", "2", "-m", "8"], there.address);
            assert_eq!(hops(&said), expected_hops(from, to, is_ipv6), "{method}: {said}");
        }
    }
}

#[test]
fn errors_cross_with_the_flow_that_they_are_about() {
    let lab = lab();
    let probes = [(GW_A, B1, false), (B1, GW_A, false), (GW_A, B1, true), (B1, GW_A, true)];
    lab.write("policy.yaml", POLICY);
    let (here, there) = (place(&lab, GW_A, false), place(&lab, B1, false));
    assert!(eventually(|| answer(&here, &there.at(5000)).is_none()), "the policy does not hold");
    for (from, to, is_ipv6) in probes {
        let (here, there) = (place(&lab, from, is_ipv6), place(&lab, to, is_ipv6));
        assert_eq!(
            answer(&here, &there.at(4001)),
            Some(ErrorKind::ConnectionRefused),
            "{here:?} to {there:?}"
        );
        assert_eq!(answer(&here, &there.at(5000)), None, "{here:?} to {there:?}");
        // Nobody may ping; errors about the datagrams' TTL come.
        let said =
            trace(&here, "traceroute", &["-U", "-p", "4002", "-q", "1", "-w", "2", "-m", "8"], there.address);
        assert_eq!(hops(&said), expected_hops(from, to, is_ipv6), "{said}");
    }

    // Behind the Linux node the way grows narrow, and is closed for one port.
    let linux = &lab.lab.topology.nodes[B1.name];
    let (_, pod) = lab.lab.topology.pod_at(there.address).unwrap();
    Batch::new().extend([format!("link set {} mtu {BEYOND}", pod.device)]).run(Some(&linux.netns)).unwrap();
    let rules = "add table inet closed; add chain inet closed f { type filter hook forward priority 0; }; \
                 add rule inet closed f udp dport 4004 reject with icmpx type admin-prohibited";
    let closed = in_netns(&linux.netns, "nft").arg(rules).output().unwrap();
    assert!(closed.status.success(), "{closed:?}");
    for is_ipv6 in [false, true] {
        let (here, there) = (place(&lab, GW_A, is_ipv6), place(&lab, B1, is_ipv6));
        assert!(arrives(&here, &there.at(4003), &blob(1350, 9)), "in pieces, once the sender knows");
        assert_eq!(path_mtu(&here, there.address), BEYOND);
        let said =
            trace(&here, "traceroute", &["-U", "-p", "4004", "-q", "1", "-w", "2", "-m", "8"], there.address);
        let [gateway, node, _] = expected_hops(GW_A, B1, is_ipv6);
        let closed = format!("{node}!X");
        assert_eq!(hops(&said), [gateway, node, closed], "{said}");
    }
}
