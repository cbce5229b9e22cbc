//! The last pass: a frame becomes what leaves: TTL, checksums, outer headers, Ethernet header, all in place.

use std::net::{IpAddr, Ipv4Addr};

use margay_encap::tcp::{self, flags::SYN};
use margay_encap::{Headers, addresses6, ipv4, ipv6, protocol, rewrite, udp, vxlan};
use margay_flowtable::{Checksums, Entrance, NextHop, NextHopId, PortId, Rewrite, Snapshot};

use super::Turn;
use super::ipv6::rewrite6;
use super::lane::Lane;
use super::segment::is_of_fitting;
use crate::drop::DropReason;
use crate::frame::Frame;
use crate::umem::{PORT_HEADROOM, Umem};

/// Bytes of IPv4 and TCP header without options: what an MSS leaves out (RFC 6691 2).
const TCP_HEADERS: u16 = 40;

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
    if headers.ttl() <= 1 || headers.total_len() > rewrite.mtu {
        return Err(undeliverable(turn, frame, headers, rewrite.mtu));
    }
    if headers.is_special() {
        if headers.is_ipv6() {
            return rewrite6(turn, frame, lane, rewrite, ident);
        }
        prepare(turn, frame, headers, rewrite)?;
    }
    let header = push(turn.umem, frame, headers, rewrite, headers.ttl() - 1, lane.query.hash(), ident)?;
    rewrite::decrement_ttl(header, headers);
    Ok(rewrite.port)
}

/// Puts what the next hop wants before the packet, which leaves with this TTL, and returns the packet's IP header.
#[inline(always)]
pub(super) fn push<'f>(
    umem: &Umem,
    frame: &'f mut Frame,
    headers: &Headers,
    rewrite: &Rewrite,
    ttl: u8,
    hash: u64,
    ident: u16,
) -> Result<&'f mut [u8; ipv4::HEADER_LEN], DropReason> {
    let template = &rewrite.template;
    if lacks_headroom(umem, frame, rewrite) {
        return Err(DropReason::NoHeadroom);
    }
    let bytes = umem.push(frame, u32::from(template.overhead())).ok_or(DropReason::NoHeadroom)?;
    let source_port = vxlan::source_port(hash);
    Ok(if headers.is_ipv6() {
        template.write6(bytes, headers, ttl, source_port, ident)
    } else {
        template.write(bytes, headers, ttl, source_port, ident)
    })
}

/// Whether there is no room for the next hop's headers, and before them for what a port adds.
#[inline(always)]
fn lacks_headroom(umem: &Umem, frame: &Frame, rewrite: &Rewrite) -> bool {
    umem.headroom(frame) < u32::from(rewrite.template.overhead()) + PORT_HEADROOM
}

/// Does to a packet that will leave what few need: takes the sum that a local sender left to its device, unless the port
/// does, and lowers the MSS that a SYN tells. One that is several in one does not leave as it is.
#[cold]
pub(super) fn prepare(
    turn: &Turn<'_>,
    frame: &mut Frame,
    headers: &Headers,
    rewrite: &Rewrite,
) -> Result<(), DropReason> {
    if headers.is_several() {
        return Err(DropReason::TooBig);
    }
    if lacks_headroom(turn.umem, frame, rewrite) {
        return Err(DropReason::NoHeadroom);
    }
    let clamps_mss = turn.snapshot.local.clamps_mss && headers.tcp_flags() & SYN != 0;
    if headers.checksum_partial() {
        match field_for_port(turn, frame, headers, rewrite).filter(|_| !clamps_mss) {
            Some(field) => (frame.csum_start, frame.csum_offset) = field,
            None => rewrite::complete_checksum(turn.umem.bytes_mut(frame), headers),
        }
    }
    if clamps_mss {
        clamp_mss(turn, frame, headers, rewrite);
    }
    Ok(())
}

/// Where the checksum starts and its field is in the frame that will leave, if the port completes it: one of the
/// Internet's, over all that is left of the frame.
fn field_for_port(
    turn: &Turn<'_>,
    frame: &Frame,
    headers: &Headers,
    rewrite: &Rewrite,
) -> Option<(u16, u16)> {
    let takes_it = turn.snapshot.port(rewrite.port).is_some_and(|port| match port.takes_checksums {
        Checksums::None => false,
        Checksums::Outermost => rewrite.template.overhead() == 0,
        Checksums::Any => rewrite.template.may_leave_checksum(),
    });
    // What is too long will be split. Metadata is for what lies in a chunk.
    let is_too_long = frame.is_large() || headers.total_len() > rewrite.mtu;
    if !takes_it || is_too_long {
        return None;
    }
    let segment = turn.umem.bytes(frame).get(usize::from(headers.transport())..)?;
    let offset = match headers.protocol() {
        protocol::TCP => tcp::CHECKSUM_OFFSET,
        protocol::UDP if usize::from(u16::from_be_bytes([segment[4], segment[5]])) == segment.len() => {
            udp::CHECKSUM_OFFSET
        }
        _ => return None,
    };
    let is_last = frame.len() == headers.end() as usize;
    is_last.then(|| (headers.transport() + rewrite.template.overhead(), offset as u16))
}

/// Lowers the MSS to what goes to this packet's destination, and from there to its source.
fn clamp_mss(turn: &Turn<'_>, frame: &mut Frame, headers: &Headers, rewrite: &Rewrite) {
    let bytes = turn.umem.bytes_mut(frame);
    let (src, header_lens) = if headers.is_ipv6() {
        let [src, _] = addresses6(bytes, headers);
        (IpAddr::V6(src), TCP_HEADERS + ipv6::HEADER_LEN as u16 - ipv4::HEADER_LEN as u16)
    } else {
        (IpAddr::V4(Ipv4Addr::from_bits(headers.src())), TCP_HEADERS)
    };
    let snapshot = turn.snapshot;
    let back = snapshot.fib.lookup(src).and_then(|id| snapshot.next_hops.rewrite(id.0));
    let mtu = back.map_or(rewrite.mtu, |back| back.mtu.min(rewrite.mtu));
    let segment = &mut bytes[usize::from(headers.transport())..headers.end() as usize];
    tcp::clamp_mss(segment, mtu.saturating_sub(header_lens));
}

/// By what a packet leaves that goes to this next hop, and with which TTL.
#[cold]
pub(super) fn departure<'s>(
    snapshot: &'s Snapshot,
    headers: &Headers,
    next_hop: NextHopId,
) -> Result<(&'s Rewrite, u8), DropReason> {
    match snapshot.next_hops.rewrite(next_hop.0) {
        Some(rewrite) => Ok((rewrite, headers.ttl() - 1)),
        None => Ok((entrance(snapshot, next_hop)?, headers.ttl())),
    }
}

/// A packet that its next hop cannot take, while this one could take another.
#[cold]
pub(super) fn undeliverable(turn: &Turn<'_>, frame: &Frame, headers: &Headers, mtu: u16) -> DropReason {
    if headers.ttl() <= 1 {
        DropReason::TtlExceeded
    } else if headers.dont_fragment() && !is_of_fitting(turn, frame, headers, mtu) {
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
    if headers.checksum_partial() || headers.is_several() {
        prepare(turn, frame, headers, rewrite)?;
    }
    push(turn.umem, frame, headers, rewrite, headers.ttl(), lane.query.hash(), ident)?;
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
