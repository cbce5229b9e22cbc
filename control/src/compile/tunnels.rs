//! When traffic to a node is encapsulated and where the tunnel ends, by Calico's rules.

use std::net::IpAddr;

use ipnet::IpNet;
use sha1::{Digest, Sha1};

use super::routes::{ClusterRoute, RouteKind};
use crate::identity::Identity;
pub use crate::state::Family;
use crate::state::{Cluster, IpPool, Node, TunnelMode};

/// Bytes of the outer IPv4 header (RFC 2003).
const IPIP_HEADERS: u16 = 20;
/// Bytes of IP, UDP, VXLAN and the inner Ethernet header (RFC 7348 5), over IPv4 and over IPv6.
const VXLAN_HEADERS: u16 = 50;
const VXLAN_HEADERS_V6: u16 = 70;

/// The node's underlay address and the prefix of its subnet.
pub fn underlay(node: &Node, family: Family) -> Option<IpNet> {
    match family {
        Family::V4 => node.ipv4,
        Family::V6 => node.ipv6,
    }
}

/// The address of the node's VXLAN device. A node without one is no VXLAN peer.
pub fn vxlan_tunnel(node: &Node, family: Family) -> Option<IpAddr> {
    match family {
        Family::V4 => node.vxlan_tunnel_v4,
        Family::V6 => node.vxlan_tunnel_v6,
    }
}

/// MAC of the node's VXLAN device: as annotated, else as Felix derives it (`calc/vxlan_resolver.go`): 0x66 and the
/// first five bytes of SHA-1 of the name, with `-v6` appended for IPv6.
pub fn vtep_mac(name: &str, node: Option<&Node>, family: Family) -> [u8; 6] {
    let (annotated, suffix) = match family {
        Family::V4 => (node.and_then(|node| node.vxlan_mac_v4), ""),
        Family::V6 => (node.and_then(|node| node.vxlan_mac_v6), "-v6"),
    };
    annotated.unwrap_or_else(|| {
        let hash = Sha1::new().chain_update(name).chain_update(suffix).finalize();
        [0x66, hash[0], hash[1], hash[2], hash[3], hash[4]]
    })
}

/// Bytes of the headers that such a route puts before a packet whose tunnel ends there.
pub(crate) fn overhead(kind: RouteKind, tunnel_dst: Option<IpAddr>) -> u16 {
    match (kind, tunnel_dst) {
        (RouteKind::Ipip, Some(_)) => IPIP_HEADERS,
        (RouteKind::Vxlan, Some(IpAddr::V4(_))) => VXLAN_HEADERS,
        (RouteKind::Vxlan, Some(IpAddr::V6(_))) => VXLAN_HEADERS_V6,
        _ => 0,
    }
}

/// The largest packet that leaves an uplink with this MTU by such a route, tunnel headers included, where the cluster
/// bounds what is in the tunnel.
pub(super) fn mtu(route: &ClusterRoute, link: u16, identity: &Identity, cluster: &Cluster) -> u16 {
    let inside = match (route.kind, route.tunnel_dst) {
        (RouteKind::Ipip, _) => identity.ipip_mtu(cluster),
        (RouteKind::Vxlan, Some(outer)) => identity.vxlan_mtu(cluster, Family::of(&outer.into())),
        _ => None,
    };
    let headers = overhead(route.kind, route.tunnel_dst);
    inside.map_or(link, |inside| link.min(inside.saturating_add(headers)))
}

/// The family of the underlay by which a node sends to another what is of family `inner`: the same, but where one of the
/// two has no address of it, and the pool wants VXLAN, which carries both, the other.
///
/// Calico's nodes have no such way: where a family has no underlay they have no route.
pub(super) fn outer_family(pool: Option<&IpPool>, ours: &Node, theirs: &Node, inner: Family) -> Family {
    let joins = |family| underlay(ours, family).is_some() && underlay(theirs, family).is_some();
    let wants_vxlan = pool.is_some_and(|pool| pool.vxlan != TunnelMode::Never);
    let other = inner.other();
    if wants_vxlan && !joins(inner) && joins(other) { other } else { inner }
}

/// How a node whose underlay subnet is `local` sends to a block of `pool` by way of the underlay address `remote`:
/// direct, IP-in-IP or VXLAN.
///
/// A pool with both modes set is invalid; should one come this far VXLAN is taken, as by Felix. IP-in-IP carries IPv4
/// alone. For `CrossSubnet` only the local prefix length counts: the remote node's own says nothing of what is on our
/// link.
pub(super) fn encapsulation(pool: Option<&IpPool>, local: Option<IpNet>, remote: IpAddr) -> RouteKind {
    let Some(pool) = pool else { return RouteKind::Direct };
    let (tunnel, mode) = match (pool.vxlan, pool.ipip) {
        (TunnelMode::Never, _) if remote.is_ipv6() => return RouteKind::Direct,
        (TunnelMode::Never, mode) => (RouteKind::Ipip, mode),
        (mode, _) => (RouteKind::Vxlan, mode),
    };
    let same_subnet = local.is_some_and(|subnet| subnet.contains(&remote));
    match mode {
        TunnelMode::Never => RouteKind::Direct,
        TunnelMode::CrossSubnet if same_subnet => RouteKind::Direct,
        TunnelMode::CrossSubnet | TunnelMode::Always => tunnel,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derives_the_mac_that_felix_derives() {
        assert_eq!(vtep_mac("remotehostname", None, Family::V4), [0x66, 0x3e, 0xca, 0xa4, 0xdb, 0x65]);
        assert_ne!(
            vtep_mac("remotehostname", None, Family::V6),
            vtep_mac("remotehostname", None, Family::V4)
        );
        let node = Node { vxlan_mac_v4: Some([2, 0, 0, 0, 0, 9]), ..Node::default() };
        assert_eq!(vtep_mac("remotehostname", Some(&node), Family::V4), [2, 0, 0, 0, 0, 9]);
        assert_eq!(vtep_mac("remotehostname", Some(&node), Family::V6)[0], 0x66);
    }

    #[test]
    fn the_pool_and_the_local_prefix_decide() {
        use RouteKind::{Direct, Ipip, Vxlan};
        use TunnelMode::{Always, CrossSubnet, Never};
        let cases = [
            (Never, Never, "10.0.1.9", Direct),
            (Always, Never, "10.0.0.9", Ipip),
            (Never, Always, "10.0.0.9", Vxlan),
            (CrossSubnet, Never, "10.0.0.9", Direct),
            (CrossSubnet, Never, "10.0.1.9", Ipip),
            (Never, CrossSubnet, "10.0.0.9", Direct),
            (Never, CrossSubnet, "10.0.1.9", Vxlan),
            // Invalid, and refused when loaded: as Felix, VXLAN.
            (Always, CrossSubnet, "10.0.0.9", Direct),
            (Always, Always, "10.0.0.9", Vxlan),
            (Always, Never, "2001:db8::9", Direct),
            (Never, Always, "2001:db8::9", Vxlan),
        ];
        let local = Some("10.0.0.1/24".parse().unwrap());
        for (ipip, vxlan, remote, expected) in cases {
            let pool = IpPool { cidr: "10.9.0.0/16".parse().unwrap(), ipip, vxlan, disabled: false };
            let kind = encapsulation(Some(&pool), local, remote.parse().unwrap());
            assert_eq!(kind, expected, "ipip {ipip:?} vxlan {vxlan:?} to {remote}");
        }
        assert_eq!(encapsulation(None, local, "10.0.1.9".parse().unwrap()), Direct);
        let local = Some("2001:db8:1::1/64".parse().unwrap());
        for (vxlan, remote, expected) in [
            (CrossSubnet, "2001:db8:1::9", Direct),
            (CrossSubnet, "2001:db8:2::9", Vxlan),
            (Always, "2001:db8:1::9", Vxlan),
            (Never, "2001:db8:2::9", Direct),
        ] {
            let pool = IpPool { cidr: "fd00::/48".parse().unwrap(), ipip: Never, vxlan, disabled: false };
            let kind = encapsulation(Some(&pool), local, remote.parse().unwrap());
            assert_eq!(kind, expected, "vxlan {vxlan:?} to {remote}");
        }
    }
}
