//! Whether this process may do what a gateway does.

use caps::Capability;

use super::{At, Facts, Finding, MACHINE};
use crate::privileges::{RUNNING, STARTING};

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let at = At { check: "capabilities", place: MACHINE };
    let lacks = |name: &String| !facts.capabilities.contains(name);
    // Where memory may be locked without CAP_IPC_LOCK is another check.
    let needed =
        RUNNING.iter().chain([&Capability::CAP_PERFMON]).filter(|one| **one != Capability::CAP_IPC_LOCK);
    let needed = needed.map(ToString::to_string);
    let lacking: Vec<String> = needed.filter(lacks).collect();
    let take_over =
        STARTING.iter().map(ToString::to_string).filter(lacks).any(|name| name == "CAP_SYS_ADMIN");
    if !lacking.is_empty() {
        return vec![at.error(
            format!("{} missing", lacking.join(", ")),
            "the gateway does not start without them",
            "run as root, or add them: AmbientCapabilities= of the unit, securityContext.capabilities of the pod",
        )];
    }
    if take_over {
        return vec![at.note(
            "all that the gateway needs, but for CAP_SYS_ADMIN",
            "a program that a killed gateway has left on a device cannot be told from another's, and so is not replaced",
            "after a kill, take it off: `ip link set dev DEVICE xdp off`",
        )];
    }
    vec![at.ok("all that the gateway needs")]
}
