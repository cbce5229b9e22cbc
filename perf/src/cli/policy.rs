//! `margay perf policy`.

use clap::Args;
use margay_perf::policy::{Report, Selection, measure};

use super::Output;

/// Time the first packet of a flow, and each kind of change of policy and pods, at scale
#[derive(Debug, Args)]
pub(super) struct Policy {
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    policies: u32,
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(2_000..=1_000_000))]
    endpoints: u32,
    /// Changes of each kind.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    changes: u32,
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl Policy {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Self { policies, endpoints, changes, output } = self;
        let selection = Selection { policies, endpoints, changes };
        let reports = measure(selection, |case| eprintln!("{case}"))?;
        output.print(&reports, text)
    }
}

fn text(reports: &[Report]) -> String {
    let head = format!(
        "{:<32} {:>8} {:>9} {:>12} {:>12} {:>12} {:>12}\n",
        "CASE", "POLICIES", "ENDPOINTS", "P50 US", "P99 US", "MAX US", "RESIDENT MB"
    );
    reports.iter().fold(head, |text, report| {
        let us = |ns: f64| ns / 1e3;
        text + &format!(
            "{:<32} {:>8} {:>9} {:>12.3} {:>12.3} {:>12.3} {:>12}\n",
            report.case,
            report.policies,
            report.endpoints,
            us(report.p50_ns),
            us(report.p99_ns),
            us(report.max_ns),
            report.resident / 1_000_000
        )
    })
}
