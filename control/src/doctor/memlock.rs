//! Whether the packet memory may be locked: once for each queue of each port.

use super::{At, Facts, Finding, Locked, MACHINE};

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let at = At { check: "memlock", place: MACHINE };
    let umem = u64::from(facts.config.umem.frames) * u64::from(facts.config.umem.frame_size);
    let queues: u64 = facts.devices().map(|(_, device)| u64::from(device.queues)).sum();
    let needed = umem * queues.max(1);
    match facts.locked {
        Locked::Unlimited => vec![at.ok("locked memory is not limited")],
        Locked::Bytes(_) if facts.capabilities.contains("CAP_IPC_LOCK") => {
            vec![at.ok("locked memory is not counted: CAP_IPC_LOCK")]
        }
        Locked::Bytes(limit) if limit < needed => vec![at.error(
            format!("the limit of locked memory is {limit} bytes; {queues} queues lock {needed}"),
            "each queue locks the whole packet memory, and is refused with ENOBUFS beyond the limit",
            "LimitMEMLOCK=infinity in the unit, `ulimit -l unlimited`, or CAP_IPC_LOCK",
        )],
        Locked::Bytes(limit) => vec![at.ok(format!("{limit} bytes may be locked, {needed} are needed"))],
    }
}
