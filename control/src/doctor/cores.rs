//! Whether the workers have cores of their own.

use super::{At, Facts, Finding, MACHINE};
use crate::config::Idle;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let at = At { check: "cores", place: MACHINE };
    let configured = &facts.config.workers.cores;
    let missing: Vec<String> =
        configured.iter().filter(|core| !facts.cores.contains(core)).map(ToString::to_string).collect();
    if !missing.is_empty() {
        return vec![at.error(
            format!("workers.cores names {}, and this process may use {:?}", missing.join(", "), facts.cores),
            "the gateway does not start",
            "name cores of those in workers.cores, or give the process more: AllowedCPUs= of the unit, the pod's cpuset",
        )];
    }
    if facts.config.workers.idle == Idle::Spin && facts.workers() >= facts.cores.len() {
        return vec![at.warning(
            format!("{} workers spin on {} cores", facts.workers(), facts.cores.len()),
            "nothing is left for the control thread and the kernel's own work, which packets wait for",
            "workers.idle = \"poll\", or fewer cores in workers.cores",
        )];
    }
    vec![at.ok(format!("{} workers, {} cores", facts.workers(), facts.cores.len()))]
}
