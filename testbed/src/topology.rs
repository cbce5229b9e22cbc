//! What stands where in a lab: segments, nodes, pods, with the names and addresses that each gets.
//!
//! A pure function of the cluster: nothing here touches the system.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::ValueEnum;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use margay_control::compile::tunnels::{Family, vtep_mac};
use margay_control::run::device_name;
use margay_control::state::{Cluster, Name, Node, Pod};
use serde::{Deserialize, Serialize};

use crate::netns;

/// Annotation of a Node: who forwards there, `margay` or `kernel` (default).
pub const DATAPLANE: &str = "margay.dev/dataplane";

/// Address of the host end of every pod's veth, and of a router port where the segment has no address to spare.
pub const POD_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const SPARE_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 1);

/// The same of IPv6. Both are link-local: pods have the one that Calico's have, the host end's MAC being
/// ee:ee:ee:ee:ee:ee there.
pub const POD_GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee);
pub const ROUTER6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// What the host ends of pods' veths are called before the hash, by Calico and by Margay's default.
const DEVICE_PREFIX: &str = "cali";

/// Bytes of an IP packet on a node's uplink, and on a pod's veth: VXLAN over IPv4 takes 50.
pub const UPLINK_MTU: u32 = 1500;
pub const POD_MTU: u32 = 1450;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    pub lab: String,
    pub segments: Vec<Segment>,
    pub nodes: BTreeMap<String, LabNode>,
    pub pods: BTreeMap<Name, LabPod>,
    pub vxlan: VxlanNumbers,
    /// What of the manifests has no place in the lab, and why; one line each.
    pub left_out: Vec<String>,
}

/// What tells Calico's VXLAN packets from others, by `FelixConfiguration` or as Calico has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VxlanNumbers {
    pub vni: u32,
    pub port: u16,
}

/// A subnet of nodes: one bridge of the router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    pub net: Ipv4Net,
    pub bridge: String,
    /// The router's address on the bridge, with the segment's prefix length; /32 where no host address is free.
    pub gateway: Ipv4Net,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Dataplane {
    Margay,
    Kernel,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabNode {
    pub name: String,
    pub netns: String,
    pub dataplane: Dataplane,
    /// Node that its label `margay.dev/gateway` names.
    pub gateway: Option<String>,
    pub address: Ipv4Net,
    pub address6: Option<Ipv6Net>,
    /// Index into `segments`.
    pub segment: usize,
    /// The router's end of `uplink0`.
    pub router_port: String,
    pub vtep: Option<Vtep>,
}

/// A node's end of VXLAN tunnels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vtep {
    pub address: Ipv4Addr,
    pub mac: [u8; 6],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabPod {
    pub netns: String,
    pub node: String,
    /// Those of IPv6 only where its node has an address of that family.
    pub addresses: Vec<IpAddr>,
    /// Host end of its veth, in the node's namespace.
    pub device: String,
}

impl VxlanNumbers {
    fn of(cluster: &Cluster) -> Self {
        let felix = cluster.felix_configurations.get("default");
        Self {
            vni: felix.and_then(|felix| felix.vni).unwrap_or(4096),
            port: felix.and_then(|felix| felix.vxlan_port).unwrap_or(4789),
        }
    }
}

impl Topology {
    /// Nodes in `dataplanes` take that dataplane, whatever their annotation.
    pub fn new(lab: &str, cluster: &Cluster, dataplanes: &BTreeMap<String, Dataplane>) -> Self {
        let mut left_out = Vec::new();
        let placed = place_nodes(&cluster.nodes, &mut left_out);
        let segments = segments(placed.values().copied());
        let nodes: BTreeMap<_, _> = placed
            .iter()
            .enumerate()
            .map(|(index, (name, address))| {
                let mut node = lab_node(lab, name, &cluster.nodes[*name], *address, &segments, index);
                node.dataplane = dataplanes.get(*name).copied().unwrap_or(node.dataplane);
                ((*name).clone(), node)
            })
            .collect();
        let pods = cluster
            .pods
            .iter()
            .filter_map(|(name, pod)| Some((name.clone(), lab_pod(lab, name, pod, &nodes, &mut left_out)?)))
            .collect();
        let vxlan = VxlanNumbers::of(cluster);
        Self { lab: lab.to_owned(), segments, nodes, pods, vxlan, left_out }
    }

    /// Namespace of the router, where all bridges stand.
    pub fn router(&self) -> String {
        netns::name(&self.lab, "router")
    }

    /// Every namespace of the lab.
    pub fn namespaces(&self) -> Vec<String> {
        std::iter::once(self.router())
            .chain(self.nodes.values().map(|node| node.netns.clone()))
            .chain(self.pods.values().map(|pod| pod.netns.clone()))
            .collect()
    }

    pub fn pods_on<'a>(&'a self, node: &'a str) -> impl Iterator<Item = (&'a Name, &'a LabPod)> {
        self.pods.iter().filter(move |(_, pod)| pod.node == node)
    }

    /// Whether anything in the lab has an address of IPv6. Where nothing has, IPv6 is off.
    pub fn has_ipv6(&self) -> bool {
        self.nodes.values().any(|node| node.address6.is_some())
    }

    /// The node whose underlay address this is.
    pub fn node_at(&self, address: IpAddr) -> Option<&LabNode> {
        self.nodes.values().find(|node| node.underlay(address.is_ipv6()) == Some(address))
    }

    /// The pod that holds this address.
    pub fn pod_at(&self, address: IpAddr) -> Option<(&Name, &LabPod)> {
        self.pods.iter().find(|(_, pod)| pod.addresses.contains(&address))
    }
}

impl LabNode {
    /// Its underlay address of one family.
    pub fn underlay(&self, is_ipv6: bool) -> Option<IpAddr> {
        if is_ipv6 { self.address6.map(|net| net.addr().into()) } else { Some(self.address.addr().into()) }
    }
}

impl Segment {
    /// The router's address on the bridge, of one family.
    pub fn router(&self, is_ipv6: bool) -> IpAddr {
        if is_ipv6 { ROUTER6.into() } else { self.gateway.addr().into() }
    }
}

/// Nodes that have an IPv4 underlay address of their own, with it: segments are subnets of IPv4.
fn place_nodes<'a>(
    nodes: &'a BTreeMap<String, std::sync::Arc<Node>>,
    left_out: &mut Vec<String>,
) -> BTreeMap<&'a String, Ipv4Net> {
    let mut taken = BTreeSet::new();
    let mut placed = BTreeMap::new();
    for (name, node) in nodes {
        match node.ipv4 {
            Some(IpNet::V4(net)) if taken.insert(net.addr()) => {
                placed.insert(name, net);
            }
            Some(net) => left_out.push(format!("node {name}: another node has the address {}", net.addr())),
            None => left_out.push(format!(
                "node {name}: it has no IPv4 address, by which a node has its place in the lab"
            )),
        }
    }
    placed
}

/// The widest of the nodes' subnets; one inside another is the same wire.
fn segments(addresses: impl Iterator<Item = Ipv4Net> + Clone) -> Vec<Segment> {
    let taken: BTreeSet<Ipv4Addr> = addresses.clone().map(|net| net.addr()).collect();
    let nets: BTreeSet<Ipv4Net> = addresses.map(|net| net.trunc()).collect();
    nets.iter()
        .filter(|net| !nets.iter().any(|wider| wider != *net && wider.contains(*net)))
        .enumerate()
        .map(|(index, net)| Segment {
            net: *net,
            bridge: format!("br{index}"),
            gateway: gateway(*net, &taken),
        })
        .collect()
}

fn gateway(net: Ipv4Net, taken: &BTreeSet<Ipv4Addr>) -> Ipv4Net {
    let free = net.hosts().find(|host| !taken.contains(host));
    let (address, length) = free.map_or((SPARE_GATEWAY, 32), |host| (host, net.prefix_len()));
    Ipv4Net::new(address, length).unwrap_or_else(|_| Ipv4Net::from(address))
}

fn lab_node(
    lab: &str,
    name: &str,
    node: &Node,
    address: Ipv4Net,
    segments: &[Segment],
    index: usize,
) -> LabNode {
    let dataplane = match node.annotations.get(DATAPLANE).map(String::as_str) {
        Some("margay") => Dataplane::Margay,
        _ => Dataplane::Kernel,
    };
    let vtep = match node.vxlan_tunnel_v4 {
        Some(IpAddr::V4(address)) => Some(Vtep { address, mac: vtep_mac(name, Some(node), Family::V4) }),
        _ => None,
    };
    LabNode {
        name: name.to_owned(),
        netns: netns::name(lab, &format!("n.{name}")),
        dataplane,
        gateway: node.labels.get("margay.dev/gateway").cloned(),
        address,
        address6: match node.ipv6 {
            Some(IpNet::V6(net)) => Some(net),
            _ => None,
        },
        segment: segments
            .iter()
            .position(|segment| segment.net.contains(&address.addr()))
            .unwrap_or_default(),
        router_port: format!("port{index}"),
        vtep,
    }
}

fn lab_pod(
    lab: &str,
    name: &Name,
    pod: &Pod,
    nodes: &BTreeMap<String, LabNode>,
    left_out: &mut Vec<String>,
) -> Option<LabPod> {
    if !pod.is_endpoint() {
        return None;
    }
    let Some(node) = nodes.get(&pod.node) else {
        left_out.push(format!("pod {name}: its node {:?} is not in the lab", pod.node));
        return None;
    };
    let has_place = |address: &&IpAddr| node.underlay(address.is_ipv6()).is_some();
    let addresses: Vec<IpAddr> = pod.addresses.iter().filter(has_place).copied().collect();
    if addresses.is_empty() {
        left_out.push(format!("pod {name}: it has no address of a family that its node has"));
        return None;
    }
    Some(LabPod {
        netns: netns::name(lab, &format!("p.{}.{}", name.namespace, name.name)),
        node: pod.node.clone(),
        addresses,
        device: device_name(DEVICE_PREFIX, name),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn cluster(nodes: &[(&str, &str)]) -> Cluster {
        let mut cluster = Cluster::default();
        for (name, address) in nodes {
            let node = Node { ipv4: Some(address.parse().unwrap()), ..Node::default() };
            cluster.nodes.insert((*name).to_owned(), Arc::new(node));
        }
        cluster
    }

    /// Each case: nodes, then the segments as "net gateway".
    #[test]
    fn nodes_of_one_subnet_share_a_segment() {
        type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);
        let cases: [Case<'_>; 4] = [
            (&[("a", "172.20.1.10/24"), ("b", "172.20.1.11/24")], &["172.20.1.0/24 172.20.1.1/24"]),
            (
                &[("a", "172.20.1.1/24"), ("b", "172.20.2.2/24")],
                &["172.20.1.0/24 172.20.1.2/24", "172.20.2.0/24 172.20.2.1/24"],
            ),
            (&[("a", "172.20.1.10/24"), ("b", "172.20.1.11/32")], &["172.20.1.0/24 172.20.1.1/24"]),
            (
                &[("a", "172.18.0.11/32"), ("b", "172.18.0.12/32")],
                &["172.18.0.11/32 169.254.0.1/32", "172.18.0.12/32 169.254.0.1/32"],
            ),
        ];
        for (nodes, expected) in cases {
            let topology = Topology::new("t", &cluster(nodes), &BTreeMap::new());
            let segments: Vec<String> = topology
                .segments
                .iter()
                .map(|segment| format!("{} {}", segment.net, segment.gateway))
                .collect();
            assert_eq!(segments, expected, "{nodes:?}");
        }
    }

    #[test]
    fn pods_without_a_place_are_named() {
        let mut cluster = cluster(&[("a", "172.20.1.10/24"), ("both", "172.20.1.11/24")]);
        let node = Arc::make_mut(cluster.nodes.get_mut("both").unwrap());
        node.ipv6 = Some("fd00:1::11/64".parse().unwrap());
        let pod = |node: &str, address: &str| {
            Arc::new(Pod { node: node.into(), addresses: vec![address.parse().unwrap()], ..Pod::default() })
        };
        cluster.pods.insert(Name::new("x", "here"), pod("a", "10.0.0.1"));
        cluster.pods.insert(Name::new("x", "gone"), pod("b", "10.0.0.2"));
        cluster.pods.insert(Name::new("x", "six"), pod("a", "fd00::1"));
        cluster.pods.insert(Name::new("x", "sixth"), pod("both", "fd00::2"));
        let topology = Topology::new("t", &cluster, &BTreeMap::new());
        assert_eq!(topology.pods.keys().map(ToString::to_string).collect::<Vec<_>>(), ["x/here", "x/sixth"]);
        assert_eq!(topology.left_out.len(), 2, "{:?}", topology.left_out);
    }
}
