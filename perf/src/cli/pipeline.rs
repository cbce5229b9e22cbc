//! `margay perf pipeline`.

use clap::{Args, ValueEnum};
use margay_perf::pipeline::{Effort, Report, measure};
use margay_perf::rig::Case;
use margay_perf::traffic::Path;

use super::Output;

/// Time the packet function on UDP flows, frames in memory, one worker
#[derive(Debug, Args)]
pub(super) struct Pipeline {
    /// Connections in the table before the first measurement.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    flows: u32,
    /// Policies that select the pod; its packets match the last.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    policies: u32,
    /// Bytes of the (inner) Ethernet frame, FCS counted.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(64..=1464))]
    size: u16,
    /// One path; all of them, in turns, where it is not given.
    #[arg(long)]
    path: Option<Path>,
    /// Whether the table counts what each connection carries; each path with and without, in turns.
    #[arg(long, value_enum, default_value_t)]
    accounting: Accounting,
    /// Bursts of 64 to run of each path.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    bursts: u32,
    /// Turns that the bursts are run in; the figures are the median turn's.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Count instructions too, by valgrind's callgrind (slow for many flows).
    #[arg(long)]
    instructions: bool,
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Accounting {
    #[default]
    On,
    Off,
    Both,
}

impl Accounting {
    fn values(self) -> &'static [bool] {
        match self {
            Self::On => &[true],
            Self::Off => &[false],
            Self::Both => &[true, false],
        }
    }
}

impl Pipeline {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let &Self { flows, policies, size, .. } = self;
        let paths = self.path.map_or(Path::ALL.to_vec(), |path| vec![path]);
        let cases = paths.into_iter().flat_map(|path| {
            let values = self.accounting.values().iter();
            values.map(move |&accounting| Case { path, flows, policies, size, accounting })
        });
        let cases: Vec<Case> = cases.collect();
        let effort = Effort { rounds: self.rounds, bursts: self.bursts, instructions: self.instructions };
        let reports = measure(&cases, &effort)?;
        self.output.print(&reports, |reports| reports.iter().map(text).collect())
    }
}

fn text(report: &Report) -> String {
    let Case { path, flows, policies, size, accounting } = report.case;
    let head = format!(
        "{:<12} {flows} flows, {policies} policies, {size} bytes{}: {:.1} cycles a packet, {:.1} ns (p99 {:.1})",
        path.name(),
        if accounting { "" } else { ", no accounting" },
        report.cycles_per_packet,
        report.ns_per_packet,
        report.ns_per_packet_p99
    );
    let instructions =
        report.instructions.map_or_else(String::new, |count| format!(", {count:.1} instructions"));
    let stages: Vec<_> =
        report.stages.iter().map(|(stage, cycles)| format!("    {stage:<10} {cycles:>6.1}\n")).collect();
    format!("{head}{instructions}, {} allocations\n{}", report.allocations_per_packet, stages.concat())
}
