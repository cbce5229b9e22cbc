//! The first pass: what a frame is, whether its source may send it, and the flow that it asks for.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use margay_encap::ethernet::{self, ethertype};
use margay_encap::{Headers, ParseError, icmp, parse, parse_plain, parse_quoted};
use margay_flowtable::key::{FlowKey, KeyWords};
use margay_flowtable::table::{FlowAction, FlowTable};
use margay_flowtable::{PortId, PortKind, Snapshot};

use super::Turn;
use super::flows::seconds;
use super::lane::{Lane, Way};
use super::routes::TO_HOST;
use super::senders::KnownSenders;
use super::tunnel::{is_tunnel_packet, is_tunnelled_by_pod};
use crate::drop::DropReason;
use crate::frame::Frame;
use crate::umem::Umem;

/// The destination port in the word of both, which is in network order.
const DPORT: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

/// What a burst's input port means for its packets: looked up once.
#[derive(Debug)]
pub(super) struct Input<'a> {
    pub(super) port: PortId,
    /// Seconds of the turn's clock.
    pub(super) now: u32,
    pub(super) kind: Option<&'a PortKind>,
    pub(super) is_uplink: bool,
    /// The first IPv4 address of the port's pod, which nearly always is its only one. In network order.
    first: Option<u32>,
    /// Where the ports of a packet have the destination's: VXLAN's number. In network order.
    pub(super) vxlan_port: u32,
    pub(super) senders: Arc<KnownSenders>,
    /// Flags of a flow whose packets, coming in here, are forged.
    pub(super) forged: u16,
    /// These, and flags of a flow that there is more to do for than to look it up.
    pub(super) apart: u16,
    /// A fragment has come in.
    pub(super) has_fragments: Cell<bool>,
}

impl<'a> Input<'a> {
    pub(super) fn of(turn: &Turn<'a>, port: PortId, senders: &Arc<KnownSenders>) -> Self {
        let snapshot = turn.snapshot;
        let kind = snapshot.port(port).map(|port| &port.kind);
        let (first, forged) = match kind {
            Some(PortKind::Pod { addresses }) => (addresses.iter().find_map(v4_ne), 0),
            _ => (None, FlowAction::SRC_LOCAL),
        };
        let is_uplink = matches!(kind, Some(PortKind::Uplink));
        let [high, low] = snapshot.local.vxlan_port.to_be_bytes();
        let vxlan_port = u32::from_ne_bytes([0, 0, high, low]);
        senders.begin(snapshot.generation);
        let (senders, has_fragments) = (Arc::clone(senders), Cell::new(false));
        let (now, apart) = (seconds(turn.now), forged | TO_HOST);
        Self { port, now, kind, is_uplink, first, vxlan_port, senders, forged, apart, has_fragments }
    }

    /// Whether the port is there.
    pub(super) fn is_known(&self) -> bool {
        self.kind.is_some()
    }

    pub(super) fn is_pod(&self) -> bool {
        matches!(self.kind, Some(PortKind::Pod { .. }))
    }

    /// Parses a frame of a burst from this port, takes it out of its tunnel, and makes the query for its flow. The
    /// packet to forward then lies behind 14 bytes of room for its Ethernet header. `UPLINK` is whether this port is one.
    #[inline(always)]
    pub(super) fn receive<const UPLINK: bool>(
        &self,
        turn: &Turn<'_>,
        table: &FlowTable,
        frame: &mut Frame,
        lane: &mut Lane,
    ) {
        let bytes = turn.umem.bytes(frame);
        if UPLINK && self.may_be_tunnelled(bytes) {
            return self.receive_tunnelled(turn, table, frame, lane);
        }
        if is_for_one_and_ipv4(bytes)
            && let Some(headers) = parse_plain(bytes)
            && (UPLINK || headers.ports_ne() & DPORT != self.vxlan_port)
            && (UPLINK || self.first == Some(headers.addresses_ne() as u32))
        {
            note_plain(turn, table, frame, lane, headers);
        } else {
            self.receive_any(turn, table, frame, lane);
        }
    }

    /// The same for every other frame: ICMP, and what is wrong in some way.
    #[inline(never)]
    pub(super) fn receive_any(&self, turn: &Turn<'_>, table: &FlowTable, frame: &mut Frame, lane: &mut Lane) {
        if frame.is_cut {
            self.receive_cut(turn, table, frame, lane);
        } else {
            self.receive_whole(turn, table, frame, lane);
        }
    }

    /// A frame whose end is missing may be a whole packet nevertheless, with a trailer, and may be wrong in another way.
    #[cold]
    fn receive_cut(&self, turn: &Turn<'_>, table: &FlowTable, frame: &mut Frame, lane: &mut Lane) {
        self.receive_whole(turn, table, frame, lane);
        if lane.next_hop == Way::end(DropReason::BadTotalLength) {
            lane.end(DropReason::NoLargeBuffer);
        }
    }

    #[inline]
    fn receive_whole(&self, turn: &Turn<'_>, table: &FlowTable, frame: &mut Frame, lane: &mut Lane) {
        if is_ipv6(turn.umem.bytes(frame)) {
            return self.receive6(turn, table, frame, lane);
        }
        match self.admit(turn, frame) {
            Ok(headers) if self.is_uplink && is_tunnel_packet(turn.snapshot, &headers) => {
                if headers.is_fragment() {
                    return lane.end(DropReason::TunnelFragment);
                }
                self.open(turn, table, frame, lane, &headers.without_options());
            }
            Ok(headers) => note(self, turn, table, frame, lane, headers),
            Err(reason) => lane.end(reason),
        }
    }

    /// The outermost headers of a frame that may come in here.
    fn admit(&self, turn: &Turn<'_>, frame: &Frame) -> Result<Headers, DropReason> {
        let bytes = turn.umem.bytes(frame);
        let headers = parse(bytes)?;
        // What the link delivered to many is not forwarded, whatever its IP destination (RFC 1812 5.3.4).
        if bytes[0] & 1 != 0 {
            return Err(DropReason::Multicast);
        }
        match self.kind {
            Some(PortKind::Uplink) => Ok(headers),
            Some(PortKind::Pod { .. }) if is_forbidden_tunnel(turn.snapshot, &headers) => {
                Err(DropReason::TunnelFromPod)
            }
            Some(PortKind::Pod { addresses }) if addresses.contains(&address(headers.src())) => Ok(headers),
            Some(PortKind::Pod { .. }) => Err(DropReason::SourceSpoofed),
            None => Err(DropReason::PortGone),
        }
    }
}

/// Whether a pod may not send this, for it would go into a tunnel.
fn is_forbidden_tunnel(snapshot: &Snapshot, headers: &Headers) -> bool {
    !snapshot.local.tunnels_from_pods && is_tunnelled_by_pod(snapshot, headers)
}

/// Writes down a packet whose flow is its own.
#[inline(always)]
pub(super) fn note_plain(
    turn: &Turn<'_>,
    table: &FlowTable,
    frame: &mut Frame,
    lane: &mut Lane,
    headers: Headers,
) {
    // What lies behind the packet (Ethernet padding) does not leave with it (RFC 1812 4.2.2.1).
    turn.umem.truncate(frame, headers.end());
    lane.query = table.query(own_words(&headers));
    lane.headers = headers;
    lane.next_hop = Way::UNDECIDED;
}

/// The same for any packet: it may be a fragment, which has no place in its datagram yet, and an ICMP error, which belongs to
/// the flow whose packet it quotes.
pub(super) fn note(
    input: &Input<'_>,
    turn: &Turn<'_>,
    table: &FlowTable,
    frame: &mut Frame,
    lane: &mut Lane,
    headers: Headers,
) {
    note_plain(turn, table, frame, lane, headers);
    if headers.is_fragment() {
        input.has_fragments.set(true);
    }
    if headers.is_icmp_error() {
        lane.query = table.query(quoted_key(turn.umem, frame, &headers).words());
        lane.open(false, true);
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
pub(super) fn is_for_one_and_ipv4(frame: &[u8]) -> bool {
    frame
        .first_chunk::<{ ethernet::HEADER_LEN }>()
        .is_some_and(|ethernet| ethernet[0] & 1 == 0 && ethernet[12..] == ethertype::IPV4.to_be_bytes())
}

/// Whether the Ethernet header names IPv6.
pub(super) fn is_ipv6(frame: &[u8]) -> bool {
    frame
        .first_chunk::<{ ethernet::HEADER_LEN }>()
        .is_some_and(|ethernet| ethernet[12..] == ethertype::IPV6.to_be_bytes())
}

/// The key of the packet that an ICMP error quotes, if that was sent by whom the error goes to.
#[cold]
fn quoted_key(umem: &Umem, frame: &Frame, headers: &Headers) -> FlowKey {
    let payload = usize::from(headers.transport()) + icmp::HEADER_LEN;
    let quoted = parse_quoted(&umem.bytes(frame)[payload..headers.end() as usize]);
    // Without a usable quote the key is the error's own, ports 0: it goes with what else of ICMP its ends exchange.
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
            // Packets of IPv6 are parsed by themselves.
            ParseError::NotIp(_) | ParseError::Ipv6 => Self::NotIp,
            ParseError::Vlan => Self::Vlan,
            ParseError::BadVersion => Self::BadVersion,
            ParseError::BadHeaderLength => Self::BadHeaderLength,
            ParseError::BadTotalLength => Self::BadTotalLength,
            ParseError::BadHeaderChecksum => Self::BadHeaderChecksum,
            ParseError::BadOptions => Self::BadOptions,
            ParseError::SourceRoute => Self::SourceRoute,
            ParseError::ExtensionHeaders => Self::ExtensionHeaders,
            ParseError::BadFragment => Self::BadFragment,
            ParseError::TinyFragment => Self::TinyFragment,
            ParseError::TruncatedL4 => Self::TruncatedTransport,
        }
    }
}
