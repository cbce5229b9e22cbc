//! `margay perf tables`.

use anyhow::bail;
use clap::{Args, ValueEnum};
use margay_perf::lab::case::name;
use margay_perf::tables::{Op, Report, Selection, Structure, measure};

use super::Output;

/// Time the flow table and the FIB beside other structures, in one run
#[derive(Debug, Args)]
pub(super) struct Tables {
    /// Connections or routes in the structure [default: 1000, 100000, 1000000 and 10000000 connections; a million IPv4
    /// routes and 200,000 IPv6 routes].
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(64..=20_000_000))]
    entries: Vec<u32>,
    /// One operation or several; all where it is not given.
    #[arg(long, value_delimiter = ',')]
    op: Vec<Op>,
    /// One structure or several; all where it is not given.
    #[arg(long, value_delimiter = ',')]
    structure: Vec<Structure>,
    /// Threads that ask at once, each on a core of its own [default: 1 and 2].
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: Vec<u32>,
    /// Rounds over the structures; the figures are medians. Beyond a million entries half as many.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl Tables {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let selection = Selection {
            structures: or_all(self.structure, Structure::value_variants()),
            ops: or_all(self.op, Op::value_variants()),
            entries: self.entries,
            workers: or_all(self.workers, &[1, 2]),
            rounds: self.rounds,
        };
        let reports = measure(&selection, |structure, entries| {
            eprintln!("{} with {entries} entries", name(&structure));
        })?;
        if reports.is_empty() {
            bail!(
                "nothing to measure: a routing table has at most {} entries, and is changed by one worker alone",
                Structure::MargayFib.max_entries()
            );
        }
        self.output.print(&reports, text)
    }
}

fn or_all<T: Copy>(chosen: Vec<T>, all: &[T]) -> Vec<T> {
    if chosen.is_empty() { all.to_vec() } else { chosen }
}

fn text(reports: &[Report]) -> String {
    let head = format!(
        "{:<20} {:<18} {:>9} {:>7} {:>10} {:>9}\n",
        "STRUCTURE", "OP", "ENTRIES", "WORKERS", "NS PER OP", "MOPS"
    );
    reports.iter().fold(head, |text, report| {
        text + &format!(
            "{:<20} {:<18} {:>9} {:>7} {:>10.1} {:>9.2}\n",
            name(&report.structure),
            name(&report.op),
            report.entries,
            report.workers,
            report.ns_per_op,
            report.mops
        )
    })
}
