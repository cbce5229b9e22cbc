//! `margay perf gate`.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};
use clap::Args;
use margay_perf::gate::{Record, TOLERANCE, count};

/// Count the packet function's instructions by callgrind, and fail where a case takes more than is recorded
#[derive(Debug, Args)]
pub(super) struct Gate {
    /// The record.
    #[arg(long, default_value = "perf/instructions.toml")]
    file: PathBuf,
    /// Record what is counted.
    #[arg(long)]
    accept: bool,
}

impl Gate {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let recorded = Record::read(&self.file);
        if !self.accept {
            recorded
                .as_ref()
                .map_err(|error| anyhow::anyhow!("{error:#}; `make bench-gate ACCEPT=1` writes it"))?;
        }
        let counted = count(rustc()?, |case| eprintln!("counting {case}"))?;
        let differences = recorded.as_ref().map_or(Vec::new(), |recorded| recorded.differences(&counted));
        for difference in &differences {
            println!("{difference}");
        }
        if self.accept {
            counted.write(&self.file)?;
            println!("recorded in {}", self.file.display());
            return Ok(ExitCode::SUCCESS);
        }
        let recorded = recorded?;
        let failed = differences.iter().filter(|difference| difference.fails()).count();
        if failed == 0 {
            println!("{} cases within {} % of the record", counted.instructions.len(), TOLERANCE * 100.0);
            return Ok(ExitCode::SUCCESS);
        }
        println!("{failed} over the record by more than {} %, or not in it", TOLERANCE * 100.0);
        for (recorded, counted) in [(recorded.rustc, counted.rustc), (recorded.isa, counted.isa)] {
            if recorded != counted {
                println!("the record is of {recorded}, and this of {counted}");
            }
        }
        println!("if that is meant: make bench-gate ACCEPT=1, and say why in the commit");
        Ok(ExitCode::FAILURE)
    }
}

/// The compiler that `cargo` has just built with.
fn rustc() -> anyhow::Result<String> {
    let output = Command::new("rustc").arg("--version").output().context("cannot run rustc")?;
    ensure!(output.status.success(), "rustc --version failed");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
