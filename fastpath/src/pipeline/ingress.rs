//! The first pass: what a frame is, what is in it if it came through a tunnel, and whether its source may send it.

use std::net::{IpAddr, Ipv4Addr};

use margay_encap::pull::{self, PullError};
use margay_encap::{Headers, ParseError, ethernet, icmp, parse, parse_ip, parse_quoted, protocol};
use margay_flowtable::key::FlowKey;
use margay_flowtable::{PortKind, Snapshot};

use super::Turn;
use crate::drop::DropReason;
use crate::frame::Frame;
use crate::umem::Umem;

/// Parses the frame and takes it out of its tunnel. Returns the headers of the packet to forward, which lies behind
/// 14 bytes of room for its Ethernet header; the key of its flow; and whether that key is quoted by an ICMP error.
#[inline]
pub(super) fn receive(turn: &Turn<'_>, frame: &mut Frame) -> Result<(Headers, FlowKey, bool), DropReason> {
    let bytes = turn.umem.bytes(frame);
    let headers = parse(bytes)?;
    // What the link delivered to many is not forwarded, whatever its IP destination (RFC 1812 5.3.4).
    if bytes[0] & 1 != 0 {
        return Err(DropReason::Multicast);
    }
    let tunnelled = is_tunnel_packet(turn.snapshot, &headers);
    match turn.snapshot.port(frame.port).map(|port| &port.kind) {
        Some(PortKind::Pod { .. }) if tunnelled => return Err(DropReason::TunnelFromPod),
        Some(PortKind::Pod { addresses }) if !addresses.contains(&address(headers.src)) => {
            return Err(DropReason::SourceSpoofed);
        }
        Some(_) => {}
        None => return Err(DropReason::PortGone),
    }
    let headers = if tunnelled { decapsulate(turn, frame, &headers)? } else { headers };
    // What lies behind the packet (Ethernet padding) does not leave with it (RFC 1812 4.2.2.1).
    turn.umem.truncate(frame, headers.end);
    let (key, related) = key_of(turn.umem, frame, &headers);
    Ok((headers, key, related))
}

fn address(bits: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(bits))
}

/// Whether the packet is for one of our tunnel ends, in one of our tunnel protocols.
#[inline]
fn is_tunnel_packet(snapshot: &Snapshot, headers: &Headers) -> bool {
    let local = &snapshot.local;
    (headers.protocol == protocol::IPIP
        || headers.protocol == protocol::UDP && headers.dport == local.vxlan_port)
        && local.tunnel_ends.contains(&Ipv4Addr::from_bits(headers.dst))
}

/// Cuts the outer headers off. Tunnel packets are taken from known nodes alone.
fn decapsulate(turn: &Turn<'_>, frame: &mut Frame, outer: &Headers) -> Result<Headers, DropReason> {
    if !turn.snapshot.tunnel_sources.contains(&Ipv4Addr::from_bits(outer.src)) {
        return Err(DropReason::UnknownTunnelSource);
    }
    let inner = if outer.protocol == protocol::IPIP {
        pull::ipip(outer)
    } else {
        let vxlan = pull::vxlan(turn.umem.bytes(frame), outer)?;
        let local = &turn.snapshot.local;
        if vxlan.vni != local.vni {
            return Err(DropReason::WrongVni);
        }
        if vxlan.dst_mac != local.vtep_mac {
            return Err(DropReason::InnerWrongMac);
        }
        vxlan.inner
    };
    turn.umem.truncate(frame, inner.end);
    turn.umem.pull(frame, inner.frame_start() as u32);
    let bytes = turn.umem.bytes_mut(frame);
    let mut headers = parse_ip(bytes, ethernet::HEADER_LEN as u16)?;
    if is_tunnel_packet(turn.snapshot, &headers) {
        return Err(DropReason::NestedTunnel);
    }
    pull::decapsulate_ecn(outer.tos, bytes, &mut headers).map_err(|_| DropReason::EcnNotCapable)?;
    Ok(headers)
}

/// The flow that a packet belongs to: its own, or for an ICMP error the one whose packet it quotes, if that was sent
/// by whom the error goes to.
fn key_of(umem: &Umem, frame: &Frame, headers: &Headers) -> (FlowKey, bool) {
    let own = own_key(headers);
    if !headers.is_icmp_error() {
        return (own, false);
    }
    let payload = usize::from(headers.l4) + icmp::HEADER_LEN;
    let quoted = parse_quoted(&umem.bytes(frame)[payload..headers.end as usize]);
    // Without a usable quote the key is the error's own: ports 0, which no tracked ICMP flow has.
    let key = quoted.filter(|quoted| quoted.src == headers.dst).map_or(own, |quoted| FlowKey {
        src: quoted.src,
        dst: quoted.dst,
        sport: quoted.sport,
        dport: quoted.dport,
        protocol: quoted.protocol,
    });
    (key, true)
}

/// The key of the packet's own addresses, protocol and ports.
pub(super) fn own_key(headers: &Headers) -> FlowKey {
    FlowKey {
        src: headers.src,
        dst: headers.dst,
        sport: headers.sport,
        dport: headers.dport,
        protocol: headers.protocol,
    }
}

impl From<ParseError> for DropReason {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::Runt => Self::Runt,
            ParseError::NotIp(_) => Self::NotIp,
            ParseError::Vlan => Self::Vlan,
            ParseError::Ipv6 => Self::Ipv6,
            ParseError::BadVersion => Self::BadVersion,
            ParseError::BadHeaderLength => Self::BadHeaderLength,
            ParseError::BadTotalLength => Self::BadTotalLength,
            ParseError::BadHeaderChecksum => Self::BadHeaderChecksum,
            ParseError::Options => Self::IpOptions,
            ParseError::Fragment => Self::Fragment,
            ParseError::TruncatedL4 => Self::TruncatedTransport,
        }
    }
}

impl From<PullError> for DropReason {
    fn from(error: PullError) -> Self {
        match error {
            PullError::Truncated | PullError::NoVni => Self::BadVxlanHeader,
            PullError::InnerIpv6 | PullError::InnerArp | PullError::InnerVlan | PullError::InnerNotIp(_) => {
                Self::InnerNotIpv4
            }
        }
    }
}
