//! Runs bursts of one case for whoever counts: itself allocations, which it prints, and callgrind instructions.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use margay_fastpath::frame::BURST;
use margay_flowtable::Isa;
use margay_perf::count::Allocations;
use margay_perf::rig::{Case, Rig};
use margay_perf::traffic::Path;

/// Count the packet function's allocations; `margay-perf` runs this.
#[derive(Debug, Parser)]
#[command(name = "margay-perf-count", version)]
struct Cli {
    #[arg(long)]
    path: Path,
    #[arg(long)]
    flows: u32,
    #[arg(long)]
    policies: u32,
    #[arg(long)]
    size: u16,
    #[arg(long)]
    bursts: u32,
    #[arg(long)]
    no_accounting: bool,
}

fn main() -> ExitCode {
    let Cli { path, flows, policies, size, bursts, no_accounting } = Cli::parse();
    let mut rig = Rig::new(&Case { path, flows, policies, size, accounting: !no_accounting });
    let allocations = (0..bursts).map(|_| rig.run_burst(counted_process)).sum();
    if let Err(error) = rig.check() {
        eprintln!("margay-perf-count: {error:#}");
        return ExitCode::FAILURE;
    }
    let isa = Isa::best().name().to_owned();
    let counted = Allocations { packets: u64::from(bursts) * BURST as u64, allocations, isa };
    println!("{}", serde_json::json!(counted));
    ExitCode::SUCCESS
}

/// A function of its own, for callgrind counts within it alone.
#[inline(never)]
fn counted_process(process: &mut dyn FnMut()) -> u64 {
    allocation_counter::measure(process).count_total
}
