//! What is this node itself: its addresses, the tunnels that end at it, and who may send into them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use margay_flowtable::snapshot::Local;

use super::tunnels::{Family, vtep_mac};
use crate::identity::Identity;
use crate::state::{Cluster, Kernel, Node};

/// Addresses of a node as its object gives them: its own and those of its tunnel devices.
pub(super) fn addresses(node: &Node) -> impl Iterator<Item = IpAddr> {
    let underlay = [node.ipv4, node.ipv6].into_iter().flatten().map(|net| net.addr());
    let tunnels = [node.ipip_tunnel, node.vxlan_tunnel_v4, node.vxlan_tunnel_v6].into_iter().flatten();
    node.addresses.iter().copied().chain(underlay).chain(tunnels)
}

/// Tunnels end at the node's underlay address: there, and only there, other nodes send tunnel packets. The pods are left
/// out.
pub(super) fn local(cluster: &Cluster, kernel: &Kernel, identity: &Identity) -> Local {
    let node = cluster.nodes.get(&identity.node).map(|node| &**node);
    let underlay = node.and_then(underlay4);
    let by_object = node.into_iter().flat_map(addresses);
    let by_kernel = kernel.addresses.iter().map(|(_, net)| net.addr());
    Local {
        tunnel_ends: underlay.into_iter().map(IpAddr::V4).collect(),
        addresses: by_object.chain(by_kernel).filter(|a| Some(*a) != underlay.map(IpAddr::V4)).collect(),
        icmp_source: underlay,
        icmp6_source: node.and_then(|node| underlay6(node).or_else(|| v6(node.vxlan_tunnel_v6?))),
        icmp_source_in_ipip: node.and_then(|node| v4(node.ipip_tunnel?)),
        icmp_source_in_vxlan: node.and_then(|node| v4(node.vxlan_tunnel_v4?)),
        answers_unreachable: identity.answers_unreachable,
        clamps_mss: identity.clamps_mss,
        tunnels_from_pods: identity.tunnels_from_pods,
        vni: identity.vni(cluster),
        vxlan_port: identity.vxlan_port(cluster),
        vtep_mac: vtep_mac(&identity.node, node, Family::V4),
        ..Local::default()
    }
}

/// Underlay addresses of the nodes that may send us tunnel packets, and to which no pod may: all but our own.
pub(super) fn tunnel_sources(cluster: &Cluster, identity: &Identity) -> impl Iterator<Item = IpAddr> {
    let others = cluster.nodes.iter().filter(|(name, _)| **name != identity.node);
    others.flat_map(|(_, node)| [node.ipv4, node.ipv6].into_iter().flatten()).map(|net| net.addr())
}

fn underlay4(node: &Node) -> Option<Ipv4Addr> {
    v4(node.ipv4?.addr())
}

fn underlay6(node: &Node) -> Option<Ipv6Addr> {
    v6(node.ipv6?.addr())
}

pub(super) fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

fn v6(address: IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V6(address) => Some(address),
        IpAddr::V4(_) => None,
    }
}
