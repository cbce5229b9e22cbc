//! Host endpoints: what they are asked about a packet that this node forwards, and what a flow remembers for that.

use std::net::IpAddr;

use margay_flowtable::table::{FlowAction, Hit};
use margay_flowtable::{
    Direction, HostClassification, Interface, Key, Passage, PolicyType, ProgramId, RuleId, Snapshot, Staged,
    Tuple, WayOut, classify_host, classify_host_staged,
};

use super::ingress::Input;
use super::lane::Lane;

/// The high byte of a flow's flags is the interface that its first packet came in by.
const ENTRY_SHIFT: u32 = 8;
/// Ports numbered below this may be uplinks: a flow's flags tell so many apart, and more.
pub const MAX_UPLINKS: usize = 64;

/// By what a packet came in.
pub(super) fn entry(input: &Input<'_>, lane: &Lane) -> Interface {
    match lane.tunnel() {
        Some(tunnel) => tunnel,
        None if input.is_uplink => Interface::Uplink(input.port),
        None => Interface::Pod,
    }
}

/// The action of a flow whose first packet came in by `entry`.
pub(super) fn remember(action: FlowAction, entry: Interface) -> FlowAction {
    let code = u8::try_from(entry.code()).unwrap_or(u8::MAX);
    FlowAction { flags: action.flags | u16::from(code) << ENTRY_SHIFT, ..action }
}

/// By what the first packet of the hit's flow came in.
pub(super) fn entry_of(hit: &Hit) -> Interface {
    Interface::from_code(hit.action.flags >> ENTRY_SHIFT)
}

/// Whether no change of host endpoints touched the flow since the hit was judged or confirmed. Where it leaves is where
/// its destination's route leads now: a flow that only takes another way is not judged again, as in Felix.
#[inline]
pub(super) fn is_current(snapshot: &Snapshot, key: &impl Key, hit: &Hit) -> bool {
    let (epochs, generation) = (&snapshot.epochs, hit.action.generation);
    epochs.are_interfaces_current(generation) || {
        let dst = if hit.direction == Direction::Original { key.dst() } else { key.src() };
        epochs.is_current_at(entry_of(hit), generation)
            && match snapshot.way_out(dst) {
                WayOut::By(exit) => epochs.is_current_at(exit, generation),
                WayOut::Here => true,
                WayOut::Unknown => false,
            }
    }
}

/// Whether it can be told what host endpoints say of packets to there. Where it cannot, there is no way to there.
pub(super) fn is_decidable(snapshot: &Snapshot, dst: IpAddr) -> bool {
    snapshot.policies.host.is_empty() || snapshot.way_out(dst) != WayOut::Unknown
}

/// What is said of a first packet that came in by `entry`, or need not be asked about where it did. `None` where there
/// are no host endpoints.
#[inline]
pub(super) fn ask(
    snapshot: &Snapshot,
    entry: Option<Interface>,
    tuple: &Tuple,
    log: &mut dyn FnMut(PolicyType, RuleId),
) -> Option<HostClassification> {
    (!snapshot.policies.host.is_empty()).then(|| ask_all(snapshot, entry, tuple, log))
}

#[inline(never)]
fn ask_all(
    snapshot: &Snapshot,
    entry: Option<Interface>,
    tuple: &Tuple,
    log: &mut dyn FnMut(PolicyType, RuleId),
) -> HostClassification {
    classify_host(&snapshot.policies, passage(snapshot, entry, tuple), tuple, log)
}

/// What would be said if staged policies were enforced.
#[inline]
pub(super) fn ask_staged(
    snapshot: &Snapshot,
    entry: Option<Interface>,
    tuple: &Tuple,
    log: &mut dyn FnMut(PolicyType, RuleId),
) -> Staged {
    if snapshot.policies.host.is_staged() {
        ask_all_staged(snapshot, entry, tuple, log)
    } else {
        Staged::default()
    }
}

#[inline(never)]
fn ask_all_staged(
    snapshot: &Snapshot,
    entry: Option<Interface>,
    tuple: &Tuple,
    log: &mut dyn FnMut(PolicyType, RuleId),
) -> Staged {
    classify_host_staged(&snapshot.policies, passage(snapshot, entry, tuple), tuple, log)
}

fn passage(snapshot: &Snapshot, entry: Option<Interface>, tuple: &Tuple) -> Passage {
    let exit = match snapshot.way_out(tuple.dst) {
        WayOut::By(exit) => Some(exit),
        WayOut::Here | WayOut::Unknown => None,
    };
    Passage { entry, exit }
}

/// Whether packets that come in by the port, or by a tunnel there, are asked about before they are tracked.
pub(super) fn asks_untracked(snapshot: &Snapshot, input: &Input<'_>) -> bool {
    let host = &snapshot.policies.host;
    let asks = |interface| host.at(interface).untracked != ProgramId::NONE;
    !host.is_empty()
        && input.is_uplink
        && [Interface::Uplink(input.port), Interface::Ipip, Interface::Vxlan].into_iter().any(asks)
}
