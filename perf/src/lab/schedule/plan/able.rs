//! Who is asked what: what a dataplane cannot do here is left out, and a report says why.

use crate::lab::case::{Case, Dataplane, Job};

/// Bytes of a frame that fits what Open vSwitch's `AF_XDP` ports take, in a tunnel too: its chunks are of 2 KiB.
const LONGEST_OF_OVS: u16 = 1518;

pub(super) fn is_able(case: &Case, ipip: bool) -> bool {
    let Case { job, dataplane, size, .. } = *case;
    // The others are set up for VXLAN, and so is the far end of a TCP stream.
    let has_tunnel = !ipip || matches!(dataplane, Dataplane::Margay | Dataplane::Bare) && job != Job::Tcp;
    has_tunnel
        && match dataplane {
            Dataplane::Testpmd => job == Job::L3,
            // What only swaps Ethernet addresses has no tunnel that kernels' TCP could meet in.
            Dataplane::Bare => job != Job::Tcp,
            Dataplane::Ovs => size <= LONGEST_OF_OVS,
            Dataplane::Margay | Dataplane::Kernel => true,
        }
}

/// What a reader misses beside the cases, and why.
pub(super) fn notes(cases: &[Case]) -> Vec<String> {
    let is_asked = |dataplane| cases.iter().any(|case| case.dataplane == dataplane);
    let is_long = cases.iter().any(|case| case.size > LONGEST_OF_OVS);
    let ovs = is_asked(Dataplane::Ovs) && is_long;
    let testpmd = is_asked(Dataplane::Testpmd) && cases.iter().any(|case| case.job != Job::L3);
    let notes = [
        (ovs, "ovs is not asked for jumbo frames: its AF_XDP ports take an MTU of 1650 at most"),
        (testpmd, "testpmd is asked for l3 alone: it has no tunnels and no policy"),
    ];
    notes.into_iter().filter(|(is_true, _)| *is_true).map(|(_, note)| note.to_owned()).collect()
}
