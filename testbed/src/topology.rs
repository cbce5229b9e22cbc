//! What stands where in a lab: segments, nodes, pods, with the names and addresses that each gets.
//!
//! A pure function of the cluster: nothing here touches the system.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use clap::ValueEnum;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use margay_control::compile::tunnels::{Family, underlay, vtep_mac, vxlan_tunnel};
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

/// Bytes of an IP packet on a node's uplink, and on a pod's veth: VXLAN takes 50 over IPv4, and over IPv6 70, of which pods
/// have to be told.
pub const UPLINK_MTU: u32 = 1500;
pub const POD_MTU: u32 = 1450;
pub const VXLAN_MTU: u32 = UPLINK_MTU - 50;
pub const VXLAN_MTU6: u32 = UPLINK_MTU - 70;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    pub lab: String,
    pub segments: Vec<Segment>,
    pub nodes: BTreeMap<String, LabNode>,
    pub pods: BTreeMap<Name, LabPod>,
    pub vxlan: VxlanNumbers,
    /// Whether VXLAN over IPv6 does without UDP checksums.
    pub zero_checksum6: bool,
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
    /// Of IPv4, if any of its nodes has that.
    pub net: IpNet,
    pub bridge: String,
    /// The router's address of IPv4 on the bridge, with the segment's prefix length; /32 where no host address is free.
    pub gateway: Option<Ipv4Net>,
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
    pub address4: Option<Ipv4Net>,
    pub address6: Option<Ipv6Net>,
    /// Index into `segments`.
    pub segment: usize,
    /// The router's end of `uplink0`.
    pub router_port: String,
    pub vtep4: Option<Vtep>,
    pub vtep6: Option<Vtep>,
}

/// A node's end of VXLAN tunnels over one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vtep {
    /// Of its tunnel device.
    pub address: IpAddr,
    pub mac: [u8; 6],
    /// The node's own, which outer packets are sent to.
    pub outer: IpAddr,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabPod {
    pub netns: String,
    pub node: String,
    /// Those of families that its node carries: a Linux node those that it has an address of.
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
            .map(|(index, (name, place))| {
                let mut node = lab_node(lab, name, &cluster.nodes[*name], *place, &segments, index);
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
        Self { lab: lab.to_owned(), segments, nodes, pods, vxlan, zero_checksum6: false, left_out }
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
        let of_pods = || self.pods.values().flat_map(|pod| &pod.addresses).any(IpAddr::is_ipv6);
        self.nodes.values().any(|node| node.address6.is_some()) || of_pods()
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
        if is_ipv6 {
            self.address6.map(|net| net.addr().into())
        } else {
            self.address4.map(|net| net.addr().into())
        }
    }

    /// Its end of VXLAN tunnels over one family.
    pub fn vtep(&self, is_ipv6: bool) -> Option<Vtep> {
        if is_ipv6 { self.vtep6 } else { self.vtep4 }
    }

    /// Whether it forwards packets of a family: Margay does so by tunnels over the other one, too.
    fn carries(&self, is_ipv6: bool) -> bool {
        self.underlay(is_ipv6).is_some() || self.dataplane == Dataplane::Margay
    }
}

impl Segment {
    /// The router's address on the bridge, of one family.
    pub fn router(&self, is_ipv6: bool) -> Option<IpAddr> {
        if is_ipv6 { Some(ROUTER6.into()) } else { self.gateway.map(|net| net.addr().into()) }
    }
}

/// Nodes that have underlay addresses of their own, with the one that gives them their place: of IPv4, or that of a node
/// with both families in whose subnet of IPv6 they are.
fn place_nodes<'a>(
    nodes: &'a BTreeMap<String, Arc<Node>>,
    left_out: &mut Vec<String>,
) -> BTreeMap<&'a String, IpNet> {
    let beside = |net: IpNet| {
        let both = nodes.values().filter_map(|node| Some((node.ipv4?, node.ipv6?)));
        both.into_iter().find(|(_, six)| six.contains(&net.addr())).map_or(net, |(four, _)| four)
    };
    let (mut taken, mut placed) = (BTreeSet::new(), BTreeMap::new());
    for (name, node) in nodes {
        let own: Vec<IpNet> = [node.ipv4, node.ipv6].into_iter().flatten().collect();
        let again = own.iter().find(|net| !taken.insert(net.addr()));
        match (node.ipv4.or(node.ipv6.map(beside)), again) {
            (Some(_), Some(net)) => {
                left_out.push(format!("node {name}: another node has the address {}", net.addr()));
            }
            (Some(place), None) => drop(placed.insert(name, place)),
            (None, _) => left_out.push(format!("node {name}: it has no address")),
        }
    }
    placed
}

/// The widest of the nodes' subnets; one inside another is the same wire.
fn segments(places: impl Iterator<Item = IpNet> + Clone) -> Vec<Segment> {
    let taken: BTreeSet<IpAddr> = places.clone().map(|net| net.addr()).collect();
    let nets: BTreeSet<IpNet> = places.map(|net| net.trunc()).collect();
    nets.iter()
        .filter(|net| !nets.iter().any(|wider| wider != *net && wider.contains(*net)))
        .enumerate()
        .map(|(index, net)| Segment {
            net: *net,
            bridge: format!("br{index}"),
            gateway: match net {
                IpNet::V4(net) => Some(gateway(*net, &taken)),
                IpNet::V6(_) => None,
            },
        })
        .collect()
}

fn gateway(net: Ipv4Net, taken: &BTreeSet<IpAddr>) -> Ipv4Net {
    let free = net.hosts().find(|host| !taken.contains(&IpAddr::V4(*host)));
    let (address, length) = free.map_or((SPARE_GATEWAY, 32), |host| (host, net.prefix_len()));
    Ipv4Net::new(address, length).unwrap_or_else(|_| Ipv4Net::from(address))
}

fn lab_node(lab: &str, name: &str, node: &Node, place: IpNet, segments: &[Segment], index: usize) -> LabNode {
    let dataplane = match node.annotations.get(DATAPLANE).map(String::as_str) {
        Some("margay") => Dataplane::Margay,
        _ => Dataplane::Kernel,
    };
    let vtep = |family| {
        let (address, outer) = (vxlan_tunnel(node, family)?, underlay(node, family)?.addr());
        Some(Vtep { address, mac: vtep_mac(name, Some(node), family), outer })
    };
    LabNode {
        name: name.to_owned(),
        netns: netns::name(lab, &format!("n.{name}")),
        dataplane,
        gateway: node.labels.get("margay.dev/gateway").cloned(),
        address4: match node.ipv4 {
            Some(IpNet::V4(net)) => Some(net),
            _ => None,
        },
        address6: match node.ipv6 {
            Some(IpNet::V6(net)) => Some(net),
            _ => None,
        },
        segment: segments.iter().position(|segment| segment.net.contains(&place.addr())).unwrap_or_default(),
        router_port: format!("port{index}"),
        vtep4: vtep(Family::V4),
        vtep6: vtep(Family::V6),
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
    let has_place = |address: &&IpAddr| node.carries(address.is_ipv6());
    let addresses: Vec<IpAddr> = pod.addresses.iter().filter(has_place).copied().collect();
    if addresses.is_empty() {
        left_out.push(format!("pod {name}: it has no address of a family that its node carries"));
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
    use super::*;

    /// Of nodes with these addresses, one of each family at most.
    fn cluster(nodes: &[(&str, &str)]) -> Cluster {
        let mut cluster = Cluster::default();
        for (name, addresses) in nodes {
            let of = |v4: bool| {
                addresses
                    .split(' ')
                    .map(|net| net.parse().unwrap())
                    .find(|net: &IpNet| net.addr().is_ipv4() == v4)
            };
            let node = Node { ipv4: of(true), ipv6: of(false), ..Node::default() };
            cluster.nodes.insert((*name).to_owned(), Arc::new(node));
        }
        cluster
    }

    /// Each case: nodes, then the segments as "net gateway".
    #[test]
    fn nodes_of_one_subnet_share_a_segment() {
        type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);
        let cases: [Case<'_>; 5] = [
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
            (
                &[("a", "172.20.1.10/24 fd00:1::10/64"), ("b", "fd00:1::11/64"), ("c", "fd00:2::11/64")],
                &["172.20.1.0/24 172.20.1.1/24", "fd00:2::/64 -"],
            ),
        ];
        for (nodes, expected) in cases {
            let topology = Topology::new("t", &cluster(nodes), &BTreeMap::new());
            let segments: Vec<String> = topology
                .segments
                .iter()
                .map(|Segment { net, gateway, .. }| {
                    format!("{net} {}", gateway.map_or("-".into(), |net| net.to_string()))
                })
                .collect();
            assert_eq!(segments, expected, "{nodes:?}");
        }
    }

    #[test]
    fn pods_without_a_place_are_named() {
        let mut cluster = cluster(&[("a", "172.20.1.10/24"), ("both", "172.20.1.11/24 fd00:1::11/64")]);
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
