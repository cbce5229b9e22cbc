//! What the passes of Margay's packet function cost, without I/O, beside what it forwards with it.

use margay_fastpath::pipeline::Stage;

use super::details::Stages;
use crate::pipeline::{self, Effort, Report, measure};
use crate::rig::Case;
use crate::traffic::Path;

/// As the goals have it.
const FLOWS: u32 = 10_000;
const POLICIES: u32 = 1;
const SIZE: u16 = 64;

const PATHS: [Path; 4] = [Path::L3, Path::VxlanEncap, Path::VxlanDecap, Path::NewFlow];

/// A few seconds.
const EFFORT: Effort = Effort { rounds: 5, bursts: 5_000, instructions: false };

pub fn stages() -> anyhow::Result<Vec<Stages>> {
    let cases =
        PATHS.map(|path| Case { path, flows: FLOWS, policies: POLICIES, size: SIZE, accounting: true });
    Ok(measure(&cases, &EFFORT)?.iter().map(of).collect())
}

fn of(report: &Report) -> Stages {
    let order = Stage::ALL.map(pipeline::name);
    let stages = order.iter().filter_map(|name| Some(((*name).to_owned(), *report.stages.get(name)?)));
    Stages {
        path: report.case.path.name(),
        flows: report.case.flows,
        policies: report.case.policies,
        cycles_per_packet: report.cycles_per_packet,
        ns_per_packet: report.ns_per_packet,
        allocations_per_packet: report.allocations_per_packet,
        stages: stages.collect(),
    }
}
