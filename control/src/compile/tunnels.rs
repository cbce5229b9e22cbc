//! When traffic to a node is encapsulated and where the tunnel ends, by Calico's rules.

use std::net::IpAddr;

use ipnet::IpNet;
use sha1::{Digest, Sha1};

use super::routes::RouteKind;
use crate::identity::Identity;
pub use crate::state::Family;
use crate::state::{Cluster, IpPool, Node, TunnelMode};

/// Bytes of the outer IPv4 header (RFC 2003).
const IPIP_HEADERS: u16 = 20;
/// Bytes of IPv4, UDP, VXLAN and the inner Ethernet header (RFC 7348 5).
const VXLAN_HEADERS: u16 = 50;

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

/// The largest packet that leaves an uplink with this MTU by such a route, tunnel headers included, where the cluster
/// bounds what is in the tunnel.
pub(super) fn mtu(kind: RouteKind, link: u16, identity: &Identity, cluster: &Cluster) -> u16 {
    let (inside, headers) = match kind {
        RouteKind::Ipip => (identity.ipip_mtu(cluster), IPIP_HEADERS),
        RouteKind::Vxlan => (identity.vxlan_mtu(cluster), VXLAN_HEADERS),
        _ => (None, 0),
    };
    inside.map_or(link, |inside| link.min(inside.saturating_add(headers)))
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
    }
}
