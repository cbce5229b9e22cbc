//! The programs of traffic control that note who began what a node and its pods exchange: attached as filters of a
//! device's clsact qdisc. They outlive the process as the XDP program does, and the next start's take their place.

use std::os::fd::BorrowedFd;

use libbpf_rs::{TC_EGRESS, TC_INGRESS, TcHook};

use super::SetupError;
use super::attach::explain;

/// What tells our filter from those of others, at the priority that is asked first: it lets all others be asked too.
const HANDLE: u32 = u32::from_be_bytes(*b"mrgy");
const PRIORITY: u32 = 1;

/// Packets that a device sends, or that it has received.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    Sent,
    Received,
}

/// Attaches the program, in the place of one that an earlier run has left.
pub(super) fn attach(
    program: BorrowedFd<'_>,
    ifindex: u32,
    way: Way,
    device: &str,
) -> Result<(), SetupError> {
    let mut hook = hook(program, ifindex, way);
    let attached = hook.create().and_then(|mut hook| hook.replace(true).attach());
    // libbpf warns of a qdisc that is there already, which is no error.
    let said = explain("");
    attached
        .map(drop)
        .map_err(|error| SetupError::Watch { device: device.to_owned(), reason: format!("{error}{said}") })
}

/// Takes the filter off. Where device or filter are gone there is nothing to do. The qdisc stays: others may use it,
/// and an empty one does nothing.
pub(super) fn detach(program: BorrowedFd<'_>, ifindex: u32, way: Way) {
    let _ = hook(program, ifindex, way).detach();
    explain("");
}

fn hook(program: BorrowedFd<'_>, ifindex: u32, way: Way) -> TcHook {
    let mut hook = TcHook::new(program);
    let point = match way {
        Way::Sent => TC_EGRESS,
        Way::Received => TC_INGRESS,
    };
    hook.ifindex(ifindex.cast_signed()).attach_point(point).handle(HANDLE).priority(PRIORITY);
    hook
}
