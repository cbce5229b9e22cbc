//! The program `margay-perf`, also run as `margay perf`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use margay_perf::rig::{Report, Rig};
use margay_perf::traffic::Path;

/// How fast Margay is on this machine.
#[derive(Debug, Parser)]
#[command(name = "margay-perf", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Pipeline(Pipeline),
}

/// Time the packet function on established UDP flows, frames in memory, one worker
#[derive(Debug, Args)]
struct Pipeline {
    /// Flows, all in the table before the first measurement.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    flows: u32,
    /// Bytes of the (inner) Ethernet frame, FCS counted.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(64..=1464))]
    size: u16,
    /// One path; all of them where it is not given.
    #[arg(long)]
    path: Option<Path>,
    /// Bursts of 64 to run.
    #[arg(long, default_value_t = 20_000)]
    bursts: u32,
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Output {
    /// A table for people.
    #[default]
    Table,
    Json,
}

fn main() -> ExitCode {
    let Command::Pipeline(command) = Cli::parse().command;
    match command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("margay-perf: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Pipeline {
    fn run(&self) -> anyhow::Result<()> {
        let size = usize::from(self.size);
        let paths = self.path.map_or(Path::ALL.to_vec(), |path| vec![path]);
        let measured =
            paths.into_iter().map(|path| Rig::new(path, self.flows, size).measure(self.bursts, size));
        let reports = measured.collect::<anyhow::Result<Vec<_>>>()?;
        match self.output {
            Output::Json => println!("{}", serde_json::to_string_pretty(&reports)?),
            Output::Table => reports.iter().for_each(print),
        }
        Ok(())
    }
}

fn print(report: &Report) {
    let path = report.path.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
    println!(
        "{path:<12} {} flows, {} bytes: {:.1} ns a packet (p99 {:.1})",
        report.flows, report.size, report.ns_per_packet, report.ns_per_packet_p99
    );
}
