//! Still the first pass: what is in a tunnel packet.

use std::net::{IpAddr, Ipv4Addr};

use margay_encap::pull::{self, Inner, PullError};
use margay_encap::{Headers, ethernet, ipv4, parse_ip, parse_outer, parse_plain, protocol};
use margay_flowtable::Snapshot;
use margay_flowtable::table::FlowTable;

use super::Turn;
use super::ingress::{Input, is_for_one_and_ipv4, note, note_plain};
use super::lane::Lane;
use crate::drop::DropReason;
use crate::frame::Frame;

/// Whether the packet is for one of our tunnel ends, in one of our tunnel protocols.
#[inline]
pub(super) fn is_tunnel_packet(snapshot: &Snapshot, headers: &Headers) -> bool {
    (headers.protocol() == protocol::IPIP
        || headers.protocol() == protocol::UDP && headers.dport() == snapshot.local.vxlan_port)
        && is_tunnel_end(snapshot, headers.dst())
}

#[inline]
fn is_tunnel_end(snapshot: &Snapshot, address: u32) -> bool {
    snapshot.local.tunnel_ends.contains(&IpAddr::V4(Ipv4Addr::from_bits(address)))
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
        let inner = match self.inner(turn.snapshot, bytes, outer) {
            Ok(inner) => inner.frame_start()..inner.end as usize,
            Err(reason) => return lane.end(reason),
        };
        let headers = parse_plain(&bytes[inner.clone()]);
        turn.umem.narrow(frame, inner);
        if let Some(headers) = headers
            && !is_tunnel_packet(turn.snapshot, &headers)
            && !pull::is_marked(outer.tos())
        {
            note_plain(turn, table, frame, lane, headers);
            lane.came_in(outer.protocol());
        } else {
            note_inner(self, turn, table, frame, lane, outer.tos());
            lane.came_in(outer.protocol());
        }
    }

    /// Where in a tunnel packet the inner one lies. Tunnel packets are taken from known nodes alone.
    #[inline(always)]
    fn inner(&self, snapshot: &Snapshot, frame: &[u8], outer: &Headers) -> Result<Inner, DropReason> {
        if self.known_source.get() != Some(outer.src()) {
            if !snapshot.tunnel_sources.contains(&IpAddr::V4(Ipv4Addr::from_bits(outer.src()))) {
                return Err(DropReason::UnknownTunnelSource);
            }
            self.known_source.set(Some(outer.src()));
        }
        if outer.protocol() == protocol::IPIP {
            return Ok(pull::ipip(outer));
        }
        let vxlan = pull::vxlan(frame, outer)?;
        if vxlan.vni != snapshot.local.vni {
            return Err(DropReason::WrongVni);
        }
        if vxlan.dst_mac != snapshot.local.vtep_mac {
            return Err(DropReason::InnerWrongMac);
        }
        Ok(vxlan.inner)
    }
}

/// The same for an inner packet that is not plain, has to take over a congestion mark, or must not be there.
#[inline(never)]
fn note_inner(
    input: &Input<'_>,
    turn: &Turn<'_>,
    table: &FlowTable,
    frame: &mut Frame,
    lane: &mut Lane,
    outer_tos: u8,
) {
    let bytes = turn.umem.bytes_mut(frame);
    let headers =
        parse_ip(bytes, ethernet::HEADER_LEN as u16).map_err(DropReason::from).and_then(|headers| {
            if is_tunnel_packet(turn.snapshot, &headers) {
                return Err(DropReason::NestedTunnel);
            }
            pull::decapsulate_ecn(outer_tos, bytes, headers).map_err(|_| DropReason::EcnNotCapable)
        });
    match headers {
        Ok(headers) => note(input, turn, table, frame, lane, headers),
        Err(reason) => lane.end(reason),
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
