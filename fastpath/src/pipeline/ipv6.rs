//! What the passes do otherwise for IPv6: the first, which reads the packet, and the last, which rewrites it. Between them
//! packets of both families go the same way.

use std::net::IpAddr;

use margay_encap::{Headers, addresses6, ethernet, icmp, parse_ip6, parse_quoted6, pull, rewrite};
use margay_flowtable::table::FlowTable;
use margay_flowtable::{FlowKey6, PortId, PortKind, Rewrite, Snapshot};

use super::Turn;
use super::ingress::Input;
use super::lane::{Keys, Lane};
use super::martian::is_own;
use super::rewrite::{prepare, push, undeliverable};
use super::senders::check_sender_of;
use super::tunnel::Carrier;
use super::tunnel6::{is_tunnel_packet6, is_vxlan};
use crate::drop::DropReason;
use crate::frame::Frame;
use crate::umem::Umem;

impl Input<'_> {
    /// As `receive`, of a frame whose `EtherType` is that of IPv6.
    pub(super) fn receive6(&self, turn: &Turn<'_>, table: &FlowTable, frame: &mut Frame, lane: &mut Lane) {
        match self.admit6(turn, frame) {
            Ok(headers)
                if self.is_uplink && is_tunnel_packet6(turn.snapshot, turn.umem.bytes(frame), &headers) =>
            {
                self.open6(turn, table, frame, lane, &headers);
            }
            Ok(headers) => note6(self, turn, table, frame, lane, headers),
            Err(reason) => lane.end(reason),
        }
    }

    fn admit6(&self, turn: &Turn<'_>, frame: &Frame) -> Result<Headers, DropReason> {
        let bytes = turn.umem.bytes(frame);
        let headers = parse_ip6(bytes, ethernet::HEADER_LEN as u16)?;
        let [src, dst] = addresses6(bytes, &headers);
        if bytes[0] & 1 != 0 {
            return Err(DropReason::Multicast);
        }
        match self.kind {
            Some(PortKind::Uplink) => Ok(headers),
            Some(PortKind::Pod { .. }) if is_forbidden_tunnel6(turn.snapshot, &headers, dst.into()) => {
                Err(DropReason::TunnelFromPod)
            }
            Some(PortKind::Pod { addresses }) if addresses.contains(&IpAddr::V6(src)) => Ok(headers),
            Some(PortKind::Pod { .. }) => Err(DropReason::SourceSpoofed),
            None => Err(DropReason::PortGone),
        }
    }
}

/// Whether a pod may not send this: VXLAN to this node or to another, whose kernels take it from anyone.
fn is_forbidden_tunnel6(snapshot: &Snapshot, headers: &Headers, dst: IpAddr) -> bool {
    let to_node = || is_own(&snapshot.local, dst) || snapshot.tunnel_sources.contains(&dst);
    is_vxlan(snapshot, headers) && !snapshot.local.tunnels_from_pods && to_node()
}

impl Input<'_> {
    /// The headers of a packet inside a tunnel that may come in here, its congestion mark taken over.
    pub(super) fn admit_inner6(
        &self,
        turn: &Turn<'_>,
        frame: &mut Frame,
        carrier: &Carrier,
    ) -> Result<Headers, DropReason> {
        let bytes = turn.umem.bytes(frame);
        let headers = parse_ip6(bytes, ethernet::HEADER_LEN as u16)?;
        if is_tunnel_packet6(turn.snapshot, bytes, &headers) {
            return Err(DropReason::NestedTunnel);
        }
        let own = own_key6(turn.umem, frame, &headers);
        check_sender_of(turn.snapshot, self, carrier.sender, &own)?;
        let bytes = turn.umem.bytes_mut(frame);
        pull::decapsulate_ecn(carrier.tos, bytes, headers).map_err(|_| DropReason::EcnNotCapable)
    }
}

/// Writes down a packet, which may be an ICMPv6 error and then belongs to the flow whose packet it quotes, and may be a fragment.
pub(super) fn note6(
    input: &Input<'_>,
    turn: &Turn<'_>,
    table: &FlowTable,
    frame: &mut Frame,
    lane: &mut Lane,
    headers: Headers,
) {
    turn.umem.truncate(frame, headers.end());
    let flow = flow_key6(turn.umem, frame, &headers);
    lane.query = table.query_key(&flow);
    lane.headers = headers;
    lane.open(true, headers.is_icmp_error());
    if headers.is_fragment() {
        input.has_fragments.set(true);
    }
}

/// The keys of a packet that `note6` has written down.
pub(super) fn keys6(umem: &Umem, frame: &Frame, headers: &Headers) -> Keys {
    Keys { own: own_key6(umem, frame, headers).into(), flow: flow_key6(umem, frame, headers).into() }
}

fn own_key6(umem: &Umem, frame: &Frame, headers: &Headers) -> FlowKey6 {
    let [src, dst] = addresses6(umem.bytes(frame), headers);
    FlowKey6 { src, dst, sport: headers.sport(), dport: headers.dport(), protocol: headers.protocol() }
}

/// The key of the flow that the packet belongs to. Of an error without a usable quote it is the error's own.
fn flow_key6(umem: &Umem, frame: &Frame, headers: &Headers) -> FlowKey6 {
    let own = own_key6(umem, frame, headers);
    if !headers.is_icmp_error() || headers.is_later_fragment() {
        return own;
    }
    let payload = usize::from(headers.transport()) + icmp::HEADER_LEN;
    let quoted = umem.bytes(frame).get(payload..headers.end() as usize).and_then(parse_quoted6);
    quoted.filter(|quoted| quoted.src == own.dst).map_or(own, |quoted| FlowKey6 {
        src: quoted.src,
        dst: quoted.dst,
        sport: quoted.sport,
        dport: quoted.dport,
        protocol: quoted.protocol,
    })
}

/// Makes the frame ready for the port that it returns. On a drop the packet is unchanged.
#[inline(never)]
pub(super) fn rewrite6(
    turn: &Turn<'_>,
    frame: &mut Frame,
    lane: &Lane,
    rewrite: &Rewrite,
    ident: u16,
) -> Result<PortId, DropReason> {
    let headers = &lane.headers;
    if headers.ttl() <= 1 || headers.total_len() > rewrite.mtu {
        return Err(undeliverable(turn, frame, headers, rewrite.mtu));
    }
    prepare(turn, frame, headers, rewrite)?;
    let header = push(turn.umem, frame, headers, rewrite, headers.ttl() - 1, lane.query.hash(), ident)?;
    rewrite::decrement_hop_limit(header, headers);
    Ok(rewrite.port)
}
