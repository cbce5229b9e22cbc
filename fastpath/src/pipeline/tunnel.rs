//! Still the first pass: what is in a tunnel packet over IPv4.

use std::net::{IpAddr, Ipv4Addr};

use margay_encap::pull::{self, Inner, PullError, VxlanInner};
use margay_encap::{Headers, ethernet, ipv4, parse_ip, parse_outer, parse_plain, protocol};
use margay_flowtable::Snapshot;
use margay_flowtable::snapshot::Local;
use margay_flowtable::table::FlowTable;

use super::Turn;
use super::ingress::{Input, is_for_one_and_ipv4, is_ipv6, note, note_plain};
use super::ipv6::note6;
use super::lane::Lane;
use super::senders::{check_inner_source, check_tunnel_source};
use crate::drop::DropReason;
use crate::frame::Frame;

/// Whether the packet is for one of our tunnel ends, in one of our tunnel protocols.
#[inline]
pub(super) fn is_tunnel_packet(snapshot: &Snapshot, headers: &Headers) -> bool {
    is_of_tunnels(snapshot, headers) && is_tunnel_end(snapshot, headers.dst())
}

/// Whether the packet is in one of our tunnel protocols.
#[inline]
fn is_of_tunnels(snapshot: &Snapshot, headers: &Headers) -> bool {
    headers.protocol() == protocol::IPIP
        || headers.protocol() == protocol::UDP && headers.dport() == snapshot.local.vxlan_port
}

#[inline]
fn is_tunnel_end(snapshot: &Snapshot, address: u32) -> bool {
    // As words: compared as addresses of any family they took 13 instructions more of each packet out of a tunnel.
    let is_it = |end: &IpAddr| matches!(end, IpAddr::V4(end) if end.to_bits() == address);
    snapshot.local.tunnel_ends.iter().any(is_it)
}

/// Whether a pod would send into a tunnel: to one of our ends, or to another node's.
pub(super) fn is_tunnelled_by_pod(snapshot: &Snapshot, headers: &Headers) -> bool {
    let dst = Ipv4Addr::from_bits(headers.dst());
    is_of_tunnels(snapshot, headers)
        && (is_tunnel_end(snapshot, headers.dst()) || snapshot.tunnel_sources.contains(&IpAddr::V4(dst)))
}

/// Offset of the transport header in a frame without IP options.
const L4: usize = ethernet::HEADER_LEN + ipv4::HEADER_LEN;

impl Input<'_> {
    /// Whether a frame looks like a tunnel packet: by its port alone it may be none.
    #[inline(always)]
    pub(super) fn may_be_tunnelled(&self, frame: &[u8]) -> bool {
        let Some(bytes) = frame.first_chunk::<{ L4 + 4 }>() else { return false };
        let ports = u32::from_ne_bytes([0, 0, bytes[L4 + 2], bytes[L4 + 3]]);
        ports == self.vxlan_port || bytes[L4 - 11] == protocol::IPIP
    }

    /// As `receive`, of a frame that looks like a tunnel packet.
    #[inline(never)]
    pub(super) fn receive_tunnelled(
        &self,
        turn: &Turn<'_>,
        table: &FlowTable,
        frame: &mut Frame,
        lane: &mut Lane,
    ) {
        let bytes = turn.umem.bytes(frame);
        match parse_outer(bytes) {
            Some(outer)
                if is_for_one_and_ipv4(bytes)
                    && matches!(outer.protocol(), protocol::UDP | protocol::IPIP)
                    && is_tunnel_end(turn.snapshot, outer.dst()) =>
            {
                self.open(turn, table, frame, lane, &outer);
            }
            _ => self.receive_any(turn, table, frame, lane),
        }
    }

    /// Takes a tunnel packet with these outer headers out of its tunnel, and makes the query for the flow of what it
    /// holds.
    #[inline(always)]
    pub(super) fn open(
        &self,
        turn: &Turn<'_>,
        table: &FlowTable,
        frame: &mut Frame,
        lane: &mut Lane,
        outer: &Headers,
    ) {
        let bytes = turn.umem.bytes(frame);
        let inner = match inner(turn.snapshot, bytes, outer) {
            Ok(inner) => inner.frame_start()..inner.end as usize,
            Err(reason) => {
                let unknown = check_tunnel_source(turn.snapshot, sender(outer)).err();
                return lane.end(unknown.unwrap_or(reason));
            }
        };
        let headers = parse_plain(&bytes[inner.clone()]);
        turn.umem.narrow(frame, inner);
        if let Some(headers) = headers
            && self.senders.know(outer, &headers)
            && !is_tunnel_packet(turn.snapshot, &headers)
            && !pull::is_marked(outer.tos())
        {
            note_plain(turn, table, frame, lane, headers);
            lane.came_in(outer.protocol());
        } else {
            self.note_inner(turn, table, frame, lane, outer);
            lane.came_in(outer.protocol());
        }
    }

    /// The same for an inner packet that is not plain, is the first from there, has to take over a congestion mark, or must
    /// not be there.
    #[inline(never)]
    fn note_inner(
        &self,
        turn: &Turn<'_>,
        table: &FlowTable,
        frame: &mut Frame,
        lane: &mut Lane,
        outer: &Headers,
    ) {
        // Tunnel packets are taken from known nodes alone.
        if let Err(reason) = check_tunnel_source(turn.snapshot, sender(outer)) {
            return lane.end(reason);
        }
        let carrier = Carrier { sender: sender(outer), tos: outer.tos() };
        // In VXLAN the inner packet has an Ethernet header of its own.
        let is_ipv6 = outer.protocol() == protocol::UDP && is_ipv6(turn.umem.bytes(frame));
        self.note_carried(turn, table, frame, lane, &carrier, is_ipv6);
    }

    /// Makes the query for the flow of what a known node's tunnel packet carried, if that may come in here.
    pub(super) fn note_carried(
        &self,
        turn: &Turn<'_>,
        table: &FlowTable,
        frame: &mut Frame,
        lane: &mut Lane,
        carrier: &Carrier,
        is_ipv6: bool,
    ) {
        match if is_ipv6 {
            self.admit_inner6(turn, frame, carrier)
        } else {
            self.admit_inner(turn, frame, carrier)
        } {
            Ok(headers) if is_ipv6 => note6(self, turn, table, frame, lane, headers),
            Ok(headers) => note(self, turn, table, frame, lane, headers),
            Err(reason) => lane.end(reason),
        }
    }

    /// The headers of an inner packet that may come in here, its congestion mark taken over.
    fn admit_inner(
        &self,
        turn: &Turn<'_>,
        frame: &mut Frame,
        carrier: &Carrier,
    ) -> Result<Headers, DropReason> {
        let bytes = turn.umem.bytes_mut(frame);
        let headers = parse_ip(bytes, ethernet::HEADER_LEN as u16)?;
        if is_tunnel_packet(turn.snapshot, &headers) {
            return Err(DropReason::NestedTunnel);
        }
        check_inner_source(turn.snapshot, self, carrier.sender, &headers)?;
        pull::decapsulate_ecn(carrier.tos, bytes, headers).map_err(|_| DropReason::EcnNotCapable)
    }
}

/// What of the outer header counts for the inner packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Carrier {
    pub(super) sender: IpAddr,
    pub(super) tos: u8,
}

/// Who sent a tunnel packet over IPv4.
fn sender(outer: &Headers) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(outer.src()))
}

/// Where in a tunnel packet the inner one lies.
#[inline(always)]
fn inner(snapshot: &Snapshot, frame: &[u8], outer: &Headers) -> Result<Inner, DropReason> {
    if outer.protocol() == protocol::IPIP {
        return Ok(pull::ipip(outer));
    }
    for_our_vtep(&snapshot.local, snapshot.local.vtep_mac, &pull::vxlan(frame, outer)?)
}

/// What VXLAN brought, if it is of our network and for our VTEP, which has this MAC.
#[inline(always)]
pub(super) fn for_our_vtep(local: &Local, mac: [u8; 6], vxlan: &VxlanInner) -> Result<Inner, DropReason> {
    if vxlan.vni != local.vni {
        return Err(DropReason::WrongVni);
    }
    if vxlan.dst_mac != mac && vxlan.dst_mac != ethernet::BROADCAST {
        return Err(DropReason::InnerWrongMac);
    }
    Ok(vxlan.inner)
}

impl From<PullError> for DropReason {
    fn from(error: PullError) -> Self {
        match error {
            PullError::Truncated | PullError::NoVni => Self::BadVxlanHeader,
            PullError::BadChecksum => Self::TunnelChecksum,
            PullError::NoChecksum => Self::TunnelNoChecksum,
            PullError::InnerArp => Self::InnerArp,
            PullError::InnerVlan => Self::InnerVlan,
            PullError::InnerNotIp(_) => Self::InnerNotIp,
        }
    }
}
