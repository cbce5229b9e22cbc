//! The headers in front of a packet that leaves, which are those of its next hop.

use std::net::{IpAddr, Ipv4Addr};

use margay_flowtable::{Adjacency, DontFragment, Dscp, Outer, Ttl, Tunnel};

use super::{ethertype, is_same_family, packet};
use crate::view::{Sum, View, be16};

/// Bytes of IP packet that the tunnel adds.
pub fn overhead(tunnel: Option<&Tunnel>) -> u16 {
    match tunnel {
        None => 0,
        Some(Tunnel::Ipip { .. }) => 20,
        Some(Tunnel::Vxlan { .. }) => 50,
        Some(Tunnel::Vxlan6 { .. }) => 70,
    }
}

/// The packet behind the headers. `None` where one of them is not what it has to be.
pub fn open<'f>(adjacency: &Adjacency, tunnel: Option<&Tunnel>, frame: &'f [u8]) -> Option<&'f [u8]> {
    let addresses = [adjacency.dst_mac, adjacency.src_mac].concat();
    let outermost = packet(frame)?;
    if frame[..12] != addresses || outermost.len() + 14 != frame.len() {
        return None;
    }
    let Some(tunnel) = tunnel else { return Some(outermost) };
    let outer = View::of(outermost)?;
    let payload = outer.segment(outermost);
    let (ends, inner, policy) = match *tunnel {
        Tunnel::Ipip { src, dst, outer: policy } => (pair(src, dst), ipip(&outer, payload)?, policy),
        Tunnel::Vxlan { src, dst, vni, udp_port, inner_src_mac, inner_dst_mac, outer: policy } => {
            let inner = vxlan(payload, vni, udp_port, [inner_dst_mac, inner_src_mac])?;
            let is_unsummed = outer.sum(outermost) == Sum::Absent;
            (pair(src, dst), is_unsummed.then_some(inner)?, policy)
        }
        Tunnel::Vxlan6 {
            src,
            dst,
            vni,
            udp_port,
            inner_src_mac,
            inner_dst_mac,
            outer: policy,
            udp_checksum,
        } => {
            let inner = vxlan(payload, vni, udp_port, [inner_dst_mac, inner_src_mac])?;
            let sum = if udp_checksum { Sum::Right } else { Sum::Absent };
            let ends = [IpAddr::from(src), dst.into()];
            (ends, (outer.sum(outermost) == sum).then_some(inner)?, policy)
        }
    };
    let is_between = [outer.src, outer.dst] == ends;
    let is_whole = outer.part.is_none() && outer.header_sum_holds(outermost);
    let view = View::of(inner).filter(|view| view.end == inner.len())?;
    (is_between && is_whole && follows(policy, &outer, &view)).then_some(inner)
}

fn pair(src: Ipv4Addr, dst: Ipv4Addr) -> [IpAddr; 2] {
    [src.into(), dst.into()]
}

fn ipip<'p>(outer: &View, payload: &'p [u8]) -> Option<&'p [u8]> {
    let protocol = if payload.first()? >> 4 == 6 { 41 } else { 4 };
    (outer.protocol == protocol).then_some(payload)
}

fn vxlan(payload: &[u8], vni: u32, udp_port: u16, macs: [[u8; 6]; 2]) -> Option<&[u8]> {
    let (udp, vxlan) = payload.split_at_checked(8)?;
    let (header, frame) = vxlan.split_at_checked(8)?;
    let [_, a, b, c] = vni.to_be_bytes();
    let inner = frame.get(14..)?;
    let is_sound = be16(udp, 0) >= 0xc000
        && be16(udp, 2) == udp_port
        && usize::from(be16(udp, 4)) == payload.len()
        && header == [8, 0, 0, 0, a, b, c, 0]
        && frame[..12] == macs.concat()
        && frame[12..14] == ethertype(inner.first()? >> 4 == 6);
    is_sound.then_some(inner)
}

/// Whether the outer header has what it takes over of the inner one as that leaves, and what is its own.
fn follows(policy: Outer, outer: &View, inner: &View) -> bool {
    let dscp = match policy.dscp {
        Dscp::Fixed(dscp) => dscp,
        Dscp::Copy => inner.tos >> 2,
    };
    let ttl = match policy.ttl {
        Ttl::Fixed(ttl) => ttl,
        Ttl::Inherit => inner.ttl,
    };
    let dont_fragment = match policy.dont_fragment {
        DontFragment::Clear => false,
        DontFragment::Set => true,
        DontFragment::Copy => inner.dont_fragment,
    };
    let is_df_right = outer.is_ipv6() || outer.dont_fragment == dont_fragment;
    outer.tos == dscp << 2 | inner.tos & 3
        && outer.ttl == ttl
        && is_df_right
        && is_same_family(outer.src, outer.dst)
}
