//! Where a route leads: the next hop, the Ethernet rewrite of its adjacency and the tunnel it may enter.

use std::net::Ipv4Addr;

/// A port's number: dense, assigned by control, stable while the port exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(pub u16);

/// Index into [`Snapshot::next_hops`](crate::Snapshot::next_hops). Valid in that snapshot only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NextHopId(pub u32);

/// What becomes of a packet whose destination matched a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextHop {
    /// Out of `adjacency.port`, inside `tunnel` if there is one.
    Forward { adjacency: Adjacency, tunnel: Option<Tunnel> },
    /// An address of this node: the kernel's, not ours.
    Host,
    /// The rest of a local block: an address that no pod holds.
    Blackhole,
    /// The route is known, but the kernel has not resolved its neighbour (or its device is gone).
    Unresolved,
}

/// The Ethernet header of a neighbour on a port, and the largest IP packet that may leave there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Adjacency {
    pub port: PortId,
    pub dst_mac: [u8; 6],
    pub src_mac: [u8; 6],
    /// MTU of the link in bytes of IP packet, outer headers included where there is a tunnel.
    pub mtu: u16,
}

/// A tunnel's outer addresses (IPv4 outer).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tunnel {
    Ipip {
        src: Ipv4Addr,
        dst: Ipv4Addr,
    },
    Vxlan {
        src: Ipv4Addr,
        dst: Ipv4Addr,
        vni: u32,
        udp_port: u16,
        inner_src_mac: [u8; 6],
        inner_dst_mac: [u8; 6],
    },
}

impl Tunnel {
    /// Bytes of IP packet that the tunnel adds: RFC 2003 3 (20), RFC 7348 5 (20 + 8 + 8 + 14).
    #[must_use]
    pub const fn overhead(&self) -> u16 {
        match self {
            Self::Ipip { .. } => 20,
            Self::Vxlan { .. } => 50,
        }
    }
}
