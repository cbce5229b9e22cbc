//! Where a route leads: the next hop, the Ethernet rewrite of its adjacency and the tunnel it may enter.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Deref;
use std::sync::Arc;

use margay_encap::Outer;
use margay_encap::push::{Template, Vteps};

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

/// A tunnel's outer addresses, and what else its outer header is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tunnel {
    Ipip {
        src: Ipv4Addr,
        dst: Ipv4Addr,
        outer: Outer,
    },
    Vxlan {
        src: Ipv4Addr,
        dst: Ipv4Addr,
        vni: u32,
        udp_port: u16,
        inner_src_mac: [u8; 6],
        inner_dst_mac: [u8; 6],
        outer: Outer,
    },
    /// VXLAN over IPv6.
    Vxlan6 {
        src: Ipv6Addr,
        dst: Ipv6Addr,
        vni: u32,
        udp_port: u16,
        inner_src_mac: [u8; 6],
        inner_dst_mac: [u8; 6],
        /// There is no DF.
        outer: Outer,
        /// Whether its packets have a UDP checksum, without which receivers refuse them unless told otherwise (RFC 6936).
        udp_checksum: bool,
    },
}

/// The next hops of a snapshot, and ready beside each what a packet on its way there needs. A clone shares them.
#[derive(Clone, Debug, Default)]
pub struct NextHops {
    all: Arc<[NextHop]>,
    rewrites: Arc<[Option<Rewrite>]>,
}

/// What makes a packet into the frame that leaves: two cache lines, the bytes to copy in the first.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Rewrite {
    pub template: Template,
    /// The largest IP packet that fits, the tunnel's overhead taken off the link's MTU.
    pub mtu: u16,
    pub port: PortId,
}

const _: () = assert!(size_of::<Option<Rewrite>>() == 128);

impl NextHops {
    /// `None` where nothing is forwarded to: the next hop says why, or there is none of that number.
    #[inline]
    pub fn rewrite(&self, id: u32) -> Option<&Rewrite> {
        self.rewrites.get(id as usize)?.as_ref()
    }
}

impl From<Vec<NextHop>> for NextHops {
    fn from(all: Vec<NextHop>) -> Self {
        Self { rewrites: all.iter().map(Rewrite::of).collect(), all: all.into() }
    }
}

impl Deref for NextHops {
    type Target = [NextHop];

    fn deref(&self) -> &[NextHop] {
        &self.all
    }
}

impl PartialEq for NextHops {
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
    }
}

impl Rewrite {
    /// Of a neighbour, without a tunnel.
    pub fn to(adjacency: &Adjacency) -> Self {
        let template = Template::plain(adjacency.dst_mac, adjacency.src_mac);
        Self { template, mtu: adjacency.mtu, port: adjacency.port }
    }

    fn of(next_hop: &NextHop) -> Option<Self> {
        let NextHop::Forward { adjacency, tunnel } = next_hop else { return None };
        let plain = Template::plain(adjacency.dst_mac, adjacency.src_mac);
        let template = match *tunnel {
            None => plain,
            Some(Tunnel::Ipip { src, dst, outer }) => plain.ipip(src.to_bits(), dst.to_bits(), outer),
            Some(Tunnel::Vxlan { src, dst, vni, udp_port, inner_src_mac, inner_dst_mac, outer }) => {
                let vteps = Vteps { vni, udp_port, src_mac: inner_src_mac, dst_mac: inner_dst_mac };
                plain.vxlan(src.to_bits(), dst.to_bits(), &vteps, outer)
            }
            Some(Tunnel::Vxlan6 {
                src,
                dst,
                vni,
                udp_port,
                inner_src_mac,
                inner_dst_mac,
                outer,
                udp_checksum,
            }) => {
                let vteps = Vteps { vni, udp_port, src_mac: inner_src_mac, dst_mac: inner_dst_mac };
                plain.vxlan_over_ipv6(src, dst, &vteps, outer, udp_checksum)
            }
        };
        let mtu = adjacency.mtu.saturating_sub(template.overhead());
        Some(Self { template, mtu, port: adjacency.port })
    }
}
