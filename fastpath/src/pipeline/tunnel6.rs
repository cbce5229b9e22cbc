//! What is in a tunnel packet over IPv6: VXLAN alone.

use std::net::IpAddr;

use margay_encap::{Headers, addresses6, protocol, pull};
use margay_flowtable::Snapshot;
use margay_flowtable::table::FlowTable;

use super::Turn;
use super::ingress::{Input, is_ipv6};
use super::lane::Lane;
use super::senders::check_tunnel_source;
use super::tunnel::{Carrier, for_our_vtep};
use crate::drop::DropReason;
use crate::frame::Frame;

/// Whether the packet of IPv6 is for one of our tunnel ends, in VXLAN.
pub(super) fn is_tunnel_packet6(snapshot: &Snapshot, frame: &[u8], headers: &Headers) -> bool {
    is_vxlan(snapshot, headers) && {
        let [_, dst] = addresses6(frame, headers);
        snapshot.local.tunnel_ends.contains(&IpAddr::V6(dst))
    }
}

/// Whether the packet is in VXLAN.
pub(super) fn is_vxlan(snapshot: &Snapshot, headers: &Headers) -> bool {
    headers.protocol() == protocol::UDP && headers.dport() == snapshot.local.vxlan_port
}

impl Input<'_> {
    /// As `open`, of a tunnel packet over IPv6.
    pub(super) fn open6(
        &self,
        turn: &Turn<'_>,
        table: &FlowTable,
        frame: &mut Frame,
        lane: &mut Lane,
        outer: &Headers,
    ) {
        match take_out(turn, frame, outer) {
            Ok(carrier) => {
                let is_ipv6 = is_ipv6(turn.umem.bytes(frame));
                self.note_carried(turn, table, frame, lane, &carrier, is_ipv6);
                lane.came_in(protocol::UDP);
            }
            Err(reason) => lane.end(reason),
        }
    }
}

/// Cuts the frame to what the tunnel packet carries.
fn take_out(turn: &Turn<'_>, frame: &mut Frame, outer: &Headers) -> Result<Carrier, DropReason> {
    if outer.is_fragment() {
        return Err(DropReason::TunnelFragment);
    }
    let (bytes, local) = (turn.umem.bytes(frame), &turn.snapshot.local);
    let [src, _] = addresses6(bytes, outer);
    check_tunnel_source(turn.snapshot, src.into())?;
    let vxlan = pull::vxlan_over_ipv6(bytes, outer, local.zero_checksum6)?;
    let inner = for_our_vtep(local, local.vtep_mac6, &vxlan)?;
    turn.umem.narrow(frame, inner.frame_start()..inner.end as usize);
    Ok(Carrier { sender: src.into(), tos: outer.tos() })
}
