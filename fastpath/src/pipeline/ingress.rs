//! The first pass: what a frame is, what is in it if it came through a tunnel, and whether its source may send it.

use std::net::{IpAddr, Ipv4Addr};

use margay_encap::ethernet::{self, ethertype};
use margay_encap::pull::{self, PullError};
use margay_encap::{Headers, ParseError, icmp, parse, parse_ip, parse_plain, parse_quoted, protocol};
use margay_flowtable::key::{FlowKey, KeyWords};
use margay_flowtable::table::{FlowAction, FlowTable};
use margay_flowtable::{PortId, PortKind, Snapshot};

use super::flows::seconds;
use super::{Lane, Turn, Way};
use crate::drop::DropReason;
use crate::frame::Frame;
use crate::umem::Umem;

/// The destination port in the word of both, which is in network order.
const DPORT: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

/// What a burst's input port means for its packets: looked up once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a> {
    pub(super) port: PortId,
    /// Seconds of the turn's clock.
    pub(super) now: u32,
    kind: Option<&'a PortKind>,
    is_uplink: bool,
    /// The first IPv4 address of the port's pod, which nearly always is its only one; 0 (which no packet's source may
    /// be) where there is none. In network order.
    first: u32,
    /// Where the ports of a packet have the destination's: VXLAN's number. In network order.
    vxlan_port: u32,
    /// Flags of a flow whose packets, coming in here, are forged.
    pub(super) forged: u16,
}

impl<'a> Input<'a> {
    pub(super) fn of(turn: &Turn<'a>, port: PortId) -> Self {
        let snapshot = turn.snapshot;
        let kind = snapshot.port(port).map(|port| &port.kind);
        let (first, forged) = match kind {
            Some(PortKind::Pod { addresses }) => (addresses.iter().find_map(v4_ne).unwrap_or(0), 0),
            _ => (0, FlowAction::SRC_LOCAL),
        };
        let is_uplink = matches!(kind, Some(PortKind::Uplink));
        let [high, low] = snapshot.local.vxlan_port.to_be_bytes();
        let vxlan_port = u32::from_ne_bytes([0, 0, high, low]);
        Self { port, now: seconds(turn.now), kind, is_uplink, first, vxlan_port, forged }
    }

    pub(super) fn is_pod(&self) -> bool {
        matches!(self.kind, Some(PortKind::Pod { .. }))
    }

    /// Parses the frame, takes it out of its tunnel, and makes the query for its flow. The packet to forward then lies
    /// behind 14 bytes of room for its Ethernet header.
    #[inline(always)]
    pub(super) fn receive(&self, turn: &Turn<'_>, table: &FlowTable, frame: &mut Frame, lane: &mut Lane) {
        let bytes = turn.umem.bytes(frame);
        if let Some(headers) = parse_plain(bytes)
            && is_for_one_and_ipv4(bytes)
            && headers.ports_ne() & DPORT != self.vxlan_port
            && (self.is_uplink || self.first == headers.addresses_ne() as u32)
        {
            // What lies behind the packet (Ethernet padding) does not leave with it (RFC 1812 4.2.2.1).
            turn.umem.truncate(frame, headers.end());
            lane.query = table.query(own_words(&headers));
            lane.headers = headers;
            lane.related = false;
            lane.next_hop = Way::UNDECIDED;
        } else {
            self.receive_any(turn, table, frame, lane);
        }
    }

    /// The same for every other frame: tunnel packets, ICMP, and what is wrong in some way.
    #[inline(never)]
    fn receive_any(&self, turn: &Turn<'_>, table: &FlowTable, frame: &mut Frame, lane: &mut Lane) {
        match self.unwrap(turn, frame) {
            Ok(headers) => {
                let (key, related) = key_of(turn.umem, frame, &headers);
                lane.query = table.query(key.words());
                lane.headers = headers;
                lane.related = related;
                lane.next_hop = Way::UNDECIDED;
            }
            Err(reason) => lane.end(reason),
        }
    }

    #[inline]
    fn unwrap(&self, turn: &Turn<'_>, frame: &mut Frame) -> Result<Headers, DropReason> {
        let bytes = turn.umem.bytes(frame);
        let headers = parse(bytes)?;
        // What the link delivered to many is not forwarded, whatever its IP destination (RFC 1812 5.3.4).
        if bytes[0] & 1 != 0 {
            return Err(DropReason::Multicast);
        }
        let tunnelled = is_tunnel_packet(turn.snapshot, &headers);
        self.admit(&headers, tunnelled)?;
        let headers = if tunnelled { decapsulate(turn, frame, &headers)? } else { headers };
        turn.umem.truncate(frame, headers.end());
        Ok(headers)
    }

    /// Whether a packet with these outermost headers may come in here.
    #[inline]
    fn admit(&self, headers: &Headers, tunnelled: bool) -> Result<(), DropReason> {
        match self.kind {
            Some(PortKind::Uplink) => Ok(()),
            Some(PortKind::Pod { .. }) if tunnelled => Err(DropReason::TunnelFromPod),
            Some(PortKind::Pod { addresses }) if addresses.contains(&address(headers.src())) => Ok(()),
            Some(PortKind::Pod { .. }) => Err(DropReason::SourceSpoofed),
            None => Err(DropReason::PortGone),
        }
    }
}

fn v4_ne(address: &IpAddr) -> Option<u32> {
    match address {
        IpAddr::V4(address) => Some(u32::from_ne_bytes(address.octets())),
        IpAddr::V6(_) => None,
    }
}

fn address(bits: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(bits))
}

/// Whether the Ethernet header is for one station and names IPv4.
#[inline]
fn is_for_one_and_ipv4(frame: &[u8]) -> bool {
    frame
        .first_chunk::<{ ethernet::HEADER_LEN }>()
        .is_some_and(|ethernet| ethernet[0] & 1 == 0 && ethernet[12..] == ethertype::IPV4.to_be_bytes())
}

/// Whether the packet is for one of our tunnel ends, in one of our tunnel protocols.
#[inline]
fn is_tunnel_packet(snapshot: &Snapshot, headers: &Headers) -> bool {
    let local = &snapshot.local;
    (headers.protocol() == protocol::IPIP
        || headers.protocol() == protocol::UDP && headers.dport() == local.vxlan_port)
        && local.tunnel_ends.contains(&Ipv4Addr::from_bits(headers.dst()))
}

/// Cuts the outer headers off. Tunnel packets are taken from known nodes alone.
fn decapsulate(turn: &Turn<'_>, frame: &mut Frame, outer: &Headers) -> Result<Headers, DropReason> {
    if !turn.snapshot.tunnel_sources.contains(&Ipv4Addr::from_bits(outer.src())) {
        return Err(DropReason::UnknownTunnelSource);
    }
    let inner = if outer.protocol() == protocol::IPIP {
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
    pull::decapsulate_ecn(outer.tos(), bytes, &mut headers).map_err(|_| DropReason::EcnNotCapable)?;
    Ok(headers)
}

/// The flow that a packet belongs to, and whether it is not its own: that of an ICMP error is the one whose packet it
/// quotes, if that was sent by whom the error goes to.
#[inline]
fn key_of(umem: &Umem, frame: &Frame, headers: &Headers) -> (FlowKey, bool) {
    if headers.is_icmp_error() { (quoted_key(umem, frame, headers), true) } else { (own_key(headers), false) }
}

#[cold]
fn quoted_key(umem: &Umem, frame: &Frame, headers: &Headers) -> FlowKey {
    let payload = usize::from(headers.l4()) + icmp::HEADER_LEN;
    let quoted = parse_quoted(&umem.bytes(frame)[payload..headers.end() as usize]);
    // Without a usable quote the key is the error's own: ports 0, which no tracked ICMP flow has.
    quoted.filter(|quoted| quoted.src == headers.dst()).map_or(own_key(headers), |quoted| FlowKey {
        src: quoted.src,
        dst: quoted.dst,
        sport: quoted.sport,
        dport: quoted.dport,
        protocol: quoted.protocol,
    })
}

/// The key of the packet's own addresses, protocol and ports.
#[inline]
fn own_words(headers: &Headers) -> KeyWords {
    KeyWords::new(headers.addresses_ne(), headers.ports_ne(), headers.protocol())
}

/// The same, as policy wants it.
pub(super) fn own_key(headers: &Headers) -> FlowKey {
    own_words(headers).into()
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
