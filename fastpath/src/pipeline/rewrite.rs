//! The last pass: a frame becomes what leaves: TTL, checksums, outer headers, Ethernet header, all in place.

use margay_encap::{Headers, ipv4, rewrite, vxlan};
use margay_flowtable::{Entrance, NextHop, NextHopId, PortId, Rewrite, Snapshot};

use super::Turn;
use super::ipv6::rewrite6;
use super::lane::Lane;
use crate::drop::DropReason;
use crate::frame::Frame;
use crate::umem::Umem;

/// Makes the frame ready for the port that it returns. On a drop the packet is unchanged, so that an ICMP error can
/// quote it. `ident` is an IP identification for the outer header.
#[inline(always)]
pub(super) fn rewrite(
    turn: &Turn<'_>,
    frame: &mut Frame,
    lane: &Lane,
    next_hop: NextHopId,
    ident: u16,
) -> Result<PortId, DropReason> {
    let headers = &lane.headers;
    let Some(rewrite) = turn.snapshot.next_hops.rewrite(next_hop.0) else {
        return enter_host(turn, frame, lane, next_hop, ident);
    };
    if headers.is_ipv6() {
        return rewrite6(turn, frame, lane, rewrite, ident);
    }
    if headers.ttl() <= 1 || headers.total_len() > rewrite.mtu {
        return Err(undeliverable(headers));
    }
    if headers.checksum_partial() {
        complete_checksum(turn.umem, frame, headers, rewrite)?;
    }
    let header = push(turn.umem, frame, headers, rewrite, lane.query.hash(), ident)?;
    rewrite::decrement_ttl(header, headers);
    Ok(rewrite.port)
}

/// Puts what the next hop wants before the packet, and returns the packet's IP header.
#[inline(always)]
pub(super) fn push<'f>(
    umem: &Umem,
    frame: &'f mut Frame,
    headers: &Headers,
    rewrite: &Rewrite,
    hash: u64,
    ident: u16,
) -> Result<&'f mut [u8; ipv4::HEADER_LEN], DropReason> {
    let template = &rewrite.template;
    let bytes = umem.push(frame, u32::from(template.overhead())).ok_or(DropReason::NoHeadroom)?;
    let source_port = vxlan::source_port(hash);
    Ok(if headers.is_ipv6() {
        template.write6(bytes, headers, source_port, ident)
    } else {
        template.write(bytes, headers, source_port, ident)
    })
}

/// Takes the sum that a local sender left to its device, if the packet will leave.
#[cold]
pub(super) fn complete_checksum(
    umem: &Umem,
    frame: &mut Frame,
    headers: &Headers,
    rewrite: &Rewrite,
) -> Result<(), DropReason> {
    if umem.headroom(frame) < u32::from(rewrite.template.overhead()) {
        return Err(DropReason::NoHeadroom);
    }
    rewrite::complete_checksum(umem.bytes_mut(frame), headers);
    Ok(())
}

/// A packet that its next hop cannot take, while this one could take another.
#[cold]
pub(super) fn undeliverable(headers: &Headers) -> DropReason {
    if headers.ttl() <= 1 {
        DropReason::TtlExceeded
    } else if headers.dont_fragment() {
        DropReason::FragmentationNeeded
    } else {
        DropReason::TooBig
    }
}

/// Makes the frame ready for the port by which it enters this node's own kernel. No router passes it on there: its TTL
/// stays.
#[cold]
fn enter_host(
    turn: &Turn<'_>,
    frame: &mut Frame,
    lane: &Lane,
    next_hop: NextHopId,
    ident: u16,
) -> Result<PortId, DropReason> {
    let (headers, rewrite) = (&lane.headers, entrance(turn.snapshot, next_hop)?);
    if headers.total_len() > rewrite.mtu {
        return Err(DropReason::TooBig);
    }
    if headers.checksum_partial() {
        complete_checksum(turn.umem, frame, headers, rewrite)?;
    }
    push(turn.umem, frame, headers, rewrite, lane.query.hash(), ident)?;
    Ok(rewrite.port)
}

/// Where this next hop leads, to which nothing is forwarded: into this node's own kernel, or nowhere.
#[cold]
pub(super) fn entrance(snapshot: &Snapshot, NextHopId(id): NextHopId) -> Result<&Rewrite, DropReason> {
    match (&snapshot.next_hops[id as usize], &snapshot.entrance) {
        (NextHop::Host, Entrance::Open(rewrite)) => Ok(rewrite),
        (NextHop::Host, Entrance::Closed) => Err(DropReason::EndpointToHost),
        (NextHop::Host, Entrance::None) => Err(DropReason::HostBound),
        (NextHop::Blackhole, _) => Err(DropReason::Blackhole),
        (NextHop::Unresolved | NextHop::Forward { .. }, _) => Err(DropReason::NeighbourUnresolved),
    }
}
