//! `margay perf compare`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use margay_perf::lab::case::{Metric, name};
use margay_perf::lab::compare::{Basis, Comparison, Difference, Verdict, compare};
use margay_perf::lab::results::Results;

use super::Output;

/// Say what has changed between two runs of the lab, and whether it is more than noise
#[derive(Debug, Args)]
pub(super) struct Compare {
    /// results.json (or results.csv) of the run before.
    a: PathBuf,
    /// And of the run after.
    b: PathBuf,
    /// Whether figures are compared, or their ratios to those of the bare forwarder in the same run.
    #[arg(long, value_enum, default_value_t)]
    basis: Basis,
    /// Exit with 1 where something got worse.
    #[arg(long)]
    fail_on_worse: bool,
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl Compare {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let (a, b) = (Results::read(&self.a)?, Results::read(&self.b)?);
        let comparison = compare(&a, &b, self.basis);
        let is_worse = comparison.count(Verdict::Worse) > 0;
        self.output.print(&[comparison], |comparisons| comparisons.iter().map(text).collect())?;
        Ok(if self.fail_on_worse && is_worse { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn text(comparison: &Comparison) -> String {
    let warnings = comparison.warnings.iter().map(|warning| format!("warning: {warning}\n"));
    let mut text = warnings.collect::<Vec<_>>().concat();
    let _ = writeln!(
        text,
        "{:<12} {:<9} {:>5} {:>8} {:>8} {:<6} {:>11} {:>11} {:>9} {:>8}  VERDICT",
        "JOB", "DATAPLANE", "SIZE", "FLOWS", "POLICIES", "METRIC", "A", "B", "CHANGE", "NOISE"
    );
    text.extend(comparison.differences.iter().map(line));
    let count = |verdict| comparison.count(verdict);
    let _ = writeln!(
        text,
        "{} figures: {} worse, {} better, {} no different, {} with too few repeats, {} in A alone, {} in B alone",
        comparison.differences.len(),
        count(Verdict::Worse),
        count(Verdict::Better),
        count(Verdict::NoDifference),
        count(Verdict::TooFewRuns),
        count(Verdict::OnlyInA),
        count(Verdict::OnlyInB)
    );
    text
}

fn line(difference: &Difference) -> String {
    let Difference { case, metric, a, b, change_percent, noise_percent, verdict, .. } = difference;
    let figure = |value: &Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
    // Of loss, percentage points.
    let unit = if *metric == Metric::Loss { "pp" } else { "%" };
    let percent =
        |value: &Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:+.1} {unit}"));
    let noise = noise_percent.map_or_else(|| "-".to_owned(), |value| format!("{value:.1} {unit}"));
    let verdict = match verdict {
        Verdict::Worse => "worse",
        Verdict::Better => "better",
        Verdict::NoDifference => "no difference",
        Verdict::TooFewRuns => "too few repeats",
        Verdict::OnlyInA => "only in A",
        Verdict::OnlyInB => "only in B",
    };
    format!(
        "{:<12} {:<9} {:>5} {:>8} {:>8} {:<6} {:>11} {:>11} {:>9} {noise:>8}  {verdict}\n",
        name(&case.job),
        name(&case.dataplane),
        case.size,
        case.flows,
        case.policies,
        name(metric),
        figure(a),
        figure(b),
        percent(change_percent)
    )
}
