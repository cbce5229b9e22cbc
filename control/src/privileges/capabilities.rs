//! Capabilities of the calling thread, which threads that it starts then have too.

use caps::errors::CapsError;
use caps::{CapSet, Capability, CapsHashSet};

/// Needed as long as ports come and go: links, routes, neighbours and XDP; `AF_XDP` sockets; BPF maps; packet memory that is
/// not counted against the limit of locked memory.
pub const RUNNING: [Capability; 4] =
    [Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW, Capability::CAP_BPF, Capability::CAP_IPC_LOCK];

/// Needed until the first ports are open: to load programs that compute with pointers, and, where it is there, to take over
/// the programs that an earlier run has left on devices, for which the kernel wants `CAP_SYS_ADMIN`.
pub const STARTING: [Capability; 2] = [Capability::CAP_PERFMON, Capability::CAP_SYS_ADMIN];

/// Drops all but these. What is not there is not missed: what needs it will say so.
pub(super) fn keep(needed: &[Capability]) -> Result<(), CapsError> {
    let needed: CapsHashSet = needed.iter().copied().collect();
    let has = |set| caps::read(None, set);
    // First: that takes a capability itself.
    if has(CapSet::Effective)?.contains(&Capability::CAP_SETPCAP) {
        for beyond in has(CapSet::Bounding)?.difference(&needed) {
            caps::drop(None, CapSet::Bounding, *beyond)?;
        }
    }
    caps::clear(None, CapSet::Ambient)?;
    for set in [CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        let kept = has(set)?.intersection(&needed).copied().collect();
        caps::set(None, set, &kept)?;
    }
    Ok(())
}
