//! What can be counted without a clock: allocations and instructions. The program `margay-perf-count` does it, apart
//! from `margay-perf`, whose times a counting allocator would change.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::{Command, Output};

use anyhow::{Context, bail, ensure};
use margay_fastpath::frame::BURST;
use serde::{Deserialize, Serialize};

use crate::rig::Case;

const PROGRAM: &str = "margay-perf-count";
/// Bursts over which allocations are counted, and over which instructions are: callgrind takes fifty times as long.
const ALLOCATION_BURSTS: u32 = 2000;
const INSTRUCTION_BURSTS: u32 = 100;

/// What `margay-perf-count` prints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Allocations {
    pub packets: u64,
    pub allocations: u64,
    /// How the flow table searched its buckets, which depends on the processor; valgrind's is one of its own.
    pub isa: String,
}

/// Instructions a packet, and how the flow table searched its buckets.
#[derive(Clone, Debug)]
pub struct Instructions {
    pub per_packet: f64,
    pub isa: String,
}

/// Allocations a packet within the packet function.
pub fn allocations(case: &Case) -> anyhow::Result<f64> {
    let mut command = Command::new(program()?);
    command.args(arguments(case, ALLOCATION_BURSTS));
    let output = run(&mut command)?;
    let counted: Allocations =
        serde_json::from_slice(&output.stdout).context("what margay-perf-count printed")?;
    Ok(counted.allocations as f64 / counted.packets as f64)
}

/// Instructions a packet within the packet function, as callgrind counts them.
pub fn instructions(case: &Case) -> anyhow::Result<Instructions> {
    let directory = tempfile::tempdir()?;
    let profile = directory.path().join("callgrind.out");
    let mut command = Command::new("valgrind");
    // Collection is on within this function alone.
    command.args(["--tool=callgrind", "--toggle-collect=*counted_process*"]);
    command.arg(format!("--callgrind-out-file={}", profile.display()));
    command.arg(program()?).args(arguments(case, INSTRUCTION_BURSTS));
    let output = run(&mut command)?;
    let Allocations { isa, .. } =
        serde_json::from_slice(&output.stdout).context("what margay-perf-count printed")?;
    let profile = fs::read_to_string(&profile).context("callgrind's profile")?;
    let total = profile.lines().find_map(|line| line.strip_prefix("totals:"));
    let total: u64 = total.context("callgrind's profile has no total")?.trim().parse()?;
    ensure!(total > 0, "callgrind saw nothing of the packet function");
    Ok(Instructions { per_packet: total as f64 / (f64::from(INSTRUCTION_BURSTS) * BURST as f64), isa })
}

fn program() -> anyhow::Result<PathBuf> {
    let program = env::current_exe()?.with_file_name(PROGRAM);
    ensure!(
        program.exists(),
        "{} is missing: `cargo build --release -p margay-perf` makes it",
        program.display()
    );
    Ok(program)
}

fn arguments(case: &Case, bursts: u32) -> Vec<String> {
    let numbers = [
        ("--flows", case.flows),
        ("--policies", case.policies),
        ("--size", case.size.into()),
        ("--bursts", bursts),
    ];
    let numbers = numbers.into_iter().flat_map(|(name, value)| [name.to_owned(), value.to_string()]);
    let flag = (!case.accounting).then(|| "--no-accounting".to_owned());
    ["--path".to_owned(), case.path.name()].into_iter().chain(numbers).chain(flag).collect()
}

fn run(command: &mut Command) -> anyhow::Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = match command.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => bail!("{name} is not installed"),
        output => output.with_context(|| format!("cannot run {name}"))?,
    };
    ensure!(
        output.status.success(),
        "{name} failed, {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(output)
}
