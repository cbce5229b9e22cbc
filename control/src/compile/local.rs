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

/// What errors to pods come from where the node has no address of the family: of IPv4 the one that stands for nobody
/// (RFC 7600), of IPv6 the one by which Calico's pods know their gateway.
const NO_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);
const PODS_GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee);

/// Tunnels end at the node's underlay addresses: there, and only there, other nodes send tunnel packets. The pods are left
/// out.
pub(super) fn local(cluster: &Cluster, kernel: &Kernel, identity: &Identity) -> Local {
    let node = cluster.nodes.get(&identity.node).map(|node| &**node);
    let underlay = node.map_or([None; 2], |node| [node.ipv4, node.ipv6]);
    let tunnel_ends: Vec<IpAddr> = underlay.into_iter().flatten().map(|net| net.addr()).collect();
    let by_object = node.into_iter().flat_map(addresses);
    let by_kernel = kernel.addresses.iter().map(|(_, net)| net.addr());
    Local {
        addresses: by_object.chain(by_kernel).filter(|address| !tunnel_ends.contains(address)).collect(),
        tunnel_ends,
        icmp_source: node.map(|node| {
            let own = node.ipv4.map(|net| net.addr()).or(node.vxlan_tunnel_v4);
            own.and_then(v4).unwrap_or(NO_ADDRESS)
        }),
        icmp6_source: node.map(|node| {
            let own = node.ipv6.map(|net| net.addr()).or(node.vxlan_tunnel_v6);
            own.and_then(v6).unwrap_or(PODS_GATEWAY)
        }),
        icmp_source_in_ipip: node.and_then(|node| v4(node.ipip_tunnel?)),
        icmp_source_in_vxlan: node.and_then(|node| v4(node.vxlan_tunnel_v4?)),
        answers_unreachable: identity.answers_unreachable,
        clamps_mss: identity.clamps_mss,
        tunnels_from_pods: identity.tunnels_from_pods,
        vni: identity.vni(cluster),
        vxlan_port: identity.vxlan_port(cluster),
        vtep_mac: vtep_mac(&identity.node, node, Family::V4),
        vtep_mac6: vtep_mac(&identity.node, node, Family::V6),
        zero_checksum6: identity.zero_checksum6,
        ..Local::default()
    }
}

/// Underlay addresses of the nodes that may send us tunnel packets, and to which no pod may: all but our own.
pub(super) fn tunnel_sources(cluster: &Cluster, identity: &Identity) -> impl Iterator<Item = IpAddr> {
    let others = cluster.nodes.iter().filter(|(name, _)| **name != identity.node);
    others.flat_map(|(_, node)| [node.ipv4, node.ipv6].into_iter().flatten()).map(|net| net.addr())
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
