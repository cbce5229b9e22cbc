//! Probes as real connections between a lab's namespaces: what `margay-lab probe` does.
//!
//! The file, and what policy says of each probe, are `margay_control`'s; here is what the network does.

mod attempt;
mod listen;
mod make;
mod plan;
mod report;
mod token;

use std::path::Path;

use anyhow::{Context, Result};
use margay_control::probe::{self, Expect, Probe};

use crate::lab::Lab;
use attempt::Seen;
use plan::{Plan, Planner};
pub use report::{Outcome, Report, Verdict};

/// Makes the probes of a file. Errors are bad input, or a machine that refuses.
pub fn run(lab: &Lab, file: &Path) -> Result<Report> {
    probes(lab, &probe::load(file)?).with_context(|| file.display().to_string())
}

/// Makes the probes, many at once; the report has them in their order.
pub fn probes(lab: &Lab, probes: &[Probe]) -> Result<Report> {
    let planner = Planner::new(lab, probes)?;
    let mut attempts = Vec::new();
    let plans: Vec<Plan> = probes
        .iter()
        .enumerate()
        .map(|(position, probe)| planner.plan(position, probe, &mut attempts))
        .collect();
    let mut seen = make::all(&attempts)?.into_iter();
    let outcomes = probes.iter().zip(plans).map(|(probe, plan)| {
        let (verdict, reason) = match plan.skip {
            Some(reason) => (Verdict::Skip, Some(reason)),
            None => match seen.next().context("a probe has no outcome")? {
                Ok(Seen::Answer) => (Verdict::Allow, None),
                Ok(Seen::NoAnswer(reason)) => (Verdict::Deny, Some(reason)),
                Err(error) => (Verdict::Skip, Some(format!("{error:#}"))),
            },
        };
        Ok(Outcome::new(probe, verdict, reason, plan.answer))
    });
    Ok(Report { outcomes: outcomes.collect::<Result<_>>()? })
}

/// Whether a probe is to fail for lack of an answer.
fn denial_expected(probe: &Probe) -> bool {
    probe.expect == Some(Expect::Deny)
}
