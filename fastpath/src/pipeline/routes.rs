//! What a snapshot says of a flow before policy does: where its packets go, whether an end is here, whose share it takes.

use std::net::IpAddr;

use margay_flowtable::table::FlowAction;
use margay_flowtable::{Interface, Key, NextHop, NextHopId, Snapshot};

use super::host;
use super::ingress::Input;
use super::martian::is_own;
use crate::drop::DropReason;

/// Next hop of a half whose destination has no route in the snapshot that it was judged under.
pub(super) const NO_ROUTE: u32 = FlowAction::NEXT_HOPS - 1;
/// Next hop of both halves of a connection that a change of policy has ended. What is below it is a next hop.
pub const DENIED: u32 = FlowAction::NEXT_HOPS - 2;

/// Flag of the direction in which packets enter this node's own kernel. It answers by the pod's own device: workers
/// do not see the other direction.
pub(super) const TO_HOST: u16 = 2;

/// Whose share of the table a connection counts in: that of the pod that opens it, else of the one that it leads to.
/// (A flood from outside comes from sources without number: what it spends is the share of the pod that it is for.)
pub(super) fn owner(snapshot: &Snapshot, key: &impl Key) -> u32 {
    let sender = snapshot.policies.addresses.get(key.src());
    let is_served = sender.is_some_and(|sender| sender.endpoint.is_some());
    match if is_served { key.src() } else { key.dst() } {
        IpAddr::V4(address) => address.to_bits(),
        // The low bits alone would be the same of the first pod of every node.
        IpAddr::V6(address) => address
            .segments()
            .chunks(2)
            .fold(0, |sum, pair| sum.rotate_left(7) ^ (u32::from(pair[0]) << 16 | u32::from(pair[1]))),
    }
}

/// What to do with packets of this key, whether they come from here, and whether to here. The connection began at
/// `entry`.
pub(super) fn action(snapshot: &Snapshot, key: &impl Key, entry: Interface) -> FlowAction {
    action_by(snapshot, key, route_word(snapshot, key.dst()), entry)
}

/// The same, where the next hop is known.
pub(super) fn action_by(snapshot: &Snapshot, key: &impl Key, next_hop: u32, entry: Interface) -> FlowAction {
    let (src, local) = (key.src(), &snapshot.local);
    let is_from_here = local.pods.contains(&src) || is_own(local, src);
    let mut flags = if is_from_here { FlowAction::SRC_LOCAL } else { 0 };
    if is_host(snapshot, next_hop) {
        flags |= TO_HOST;
    }
    host::remember(FlowAction { next_hop, generation: snapshot.generation, flags }, entry)
}

/// The next hop of what came in here, or why it has none.
pub(super) fn next_hop(snapshot: &Snapshot, input: &Input<'_>, word: u32) -> Result<NextHopId, DropReason> {
    match word {
        NO_ROUTE => Err(DropReason::NoRoute),
        word if !input.is_pod() && is_host(snapshot, word) => Err(DropReason::HostBound),
        word => Ok(NextHopId(word)),
    }
}

pub(super) fn route_word(snapshot: &Snapshot, dst: IpAddr) -> u32 {
    snapshot.fib.lookup(dst).map_or(NO_ROUTE, |id| id.0)
}

/// Whether this next hop is the node itself.
pub(super) fn is_host(snapshot: &Snapshot, word: u32) -> bool {
    matches!(snapshot.next_hops.get(word as usize), Some(NextHop::Host))
}
