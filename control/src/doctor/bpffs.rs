//! Whether a bpffs is mounted. Margay pins nothing; other programs of XDP do, and may stand on our devices then.

use super::{At, Facts, Finding, MACHINE};

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let at = At { check: "bpffs", place: MACHINE };
    vec![at.ok(if facts.has_bpffs {
        "mounted; Margay does not need it"
    } else {
        "not mounted; Margay does not need it"
    })]
}
