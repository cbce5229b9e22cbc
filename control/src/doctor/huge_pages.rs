//! Whether packet memory and flow table lie on huge pages.

use super::{At, Facts, Finding, MACHINE};

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let at = At { check: "huge pages", place: MACHINE };
    let pages = &facts.huge_pages;
    match pages.transparent.as_str() {
        "always" | "madvise" => {
            vec![at.ok(format!("transparent huge pages: {}; {} of 2 MiB free", pages.transparent, pages.free))]
        }
        _ if pages.free > 0 => vec![at.ok(format!("{} huge pages of 2 MiB are free", pages.free))],
        _ => vec![at.note(
            "the kernel gives no huge pages",
            "the flow table and packet memory miss the TLB at nearly each packet, where there are many connections",
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        )],
    }
}
