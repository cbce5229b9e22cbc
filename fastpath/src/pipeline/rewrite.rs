//! The third pass: a frame becomes what leaves: TTL, checksums, outer headers, Ethernet header, all in place.

use margay_encap::ethernet::{self, ethertype};
use margay_encap::push::{IpipTemplate, VxlanTemplate};
use margay_encap::{Headers, rewrite, vxlan};
use margay_flowtable::{Adjacency, NextHop, NextHopId, PortId, Tunnel};

use super::{Lane, Turn};
use crate::drop::DropReason;
use crate::frame::Frame;
use crate::umem::Umem;

/// Makes the frame ready for the port that it returns. On a drop the packet is unchanged, so that an ICMP error can
/// quote it.
#[inline]
pub(super) fn rewrite(
    turn: &Turn<'_>,
    frame: &mut Frame,
    lane: &Lane,
    NextHopId(id): NextHopId,
    ident: u16,
) -> Result<PortId, DropReason> {
    let (adjacency, tunnel) = match &turn.snapshot.next_hops[id as usize] {
        NextHop::Forward { adjacency, tunnel } => (adjacency, tunnel),
        NextHop::Host => return Err(DropReason::HostBound),
        NextHop::Blackhole => return Err(DropReason::Blackhole),
        NextHop::Unresolved => return Err(DropReason::NeighbourUnresolved),
    };
    if lane.headers.ttl <= 1 {
        return Err(DropReason::TtlExceeded);
    }
    if lane.headers.total_len() > payload_mtu(adjacency, tunnel.as_ref()) {
        return Err(if lane.headers.dont_fragment {
            DropReason::FragmentationNeeded
        } else {
            DropReason::TooBig
        });
    }
    let mut headers = lane.headers;
    let packet = turn.umem.bytes_mut(frame);
    rewrite::complete_checksum(packet, &headers);
    rewrite::decrement_ttl(packet, &mut headers);
    finish(turn.umem, frame, &headers, lane.hash as u32, adjacency, tunnel.as_ref(), ident)
}

/// The largest IP packet that fits through the next hop, outer headers taken off.
pub(super) fn payload_mtu(adjacency: &Adjacency, tunnel: Option<&Tunnel>) -> u16 {
    adjacency.mtu.saturating_sub(tunnel.map_or(0, Tunnel::overhead))
}

/// Puts outer headers and Ethernet header before the packet. `hash` is the flow's.
pub(super) fn finish(
    umem: &Umem,
    frame: &mut Frame,
    headers: &Headers,
    hash: u32,
    adjacency: &Adjacency,
    tunnel: Option<&Tunnel>,
    ident: u16,
) -> Result<PortId, DropReason> {
    if let Some(tunnel) = tunnel {
        if !umem.push(frame, u32::from(tunnel.overhead())) {
            return Err(DropReason::NoHeadroom);
        }
        let bytes = umem.bytes_mut(frame);
        match *tunnel {
            Tunnel::Ipip { src, dst } => {
                IpipTemplate::new(src.to_bits(), dst.to_bits()).write(bytes, headers, ident);
            }
            Tunnel::Vxlan { src, dst, vni, udp_port, inner_src_mac, inner_dst_mac } => {
                VxlanTemplate::new(src.to_bits(), dst.to_bits(), vni, udp_port, inner_src_mac, inner_dst_mac)
                    .write(bytes, headers, vxlan::source_port(hash), ident);
            }
        }
    }
    ethernet::write(umem.bytes_mut(frame), adjacency.dst_mac, adjacency.src_mac, ethertype::IPV4);
    Ok(adjacency.port)
}
