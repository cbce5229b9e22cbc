//! The command line.

mod compare;
mod control;
mod gate;
mod lab;
mod pipeline;
mod policy;
mod smoke;
mod tables;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use serde::Serialize;

/// How fast Margay is on this machine.
#[derive(Debug, Parser)]
#[command(name = "margay-perf", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Pipeline(pipeline::Pipeline),
    Policy(policy::Policy),
    Tables(tables::Tables),
    Control(control::Control),
    Compare(compare::Compare),
    Gate(gate::Gate),
    Lab(lab::Lab),
    Smoke(smoke::Smoke),
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Output {
    /// A table for people.
    #[default]
    Table,
    Json,
}

impl Output {
    /// Writes results to stdout, as JSON or as `text` tells them. A reader that has gone (`| head`) has what it wanted.
    fn print<T: Serialize>(self, results: &[T], text: impl FnOnce(&[T]) -> String) -> anyhow::Result<()> {
        let text = match self {
            Self::Json => serde_json::to_string_pretty(results)? + "\n",
            Self::Table => text(results),
        };
        match io::stdout().lock().write_all(text.as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written.context("cannot write to stdout"),
        }
    }
}

pub(crate) fn run() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Pipeline(command) => command.run().map(|()| ExitCode::SUCCESS),
        Command::Policy(command) => command.run().map(|()| ExitCode::SUCCESS),
        Command::Tables(command) => command.run().map(|()| ExitCode::SUCCESS),
        Command::Control(command) => command.run().map(|()| ExitCode::SUCCESS),
        Command::Compare(command) => command.run(),
        Command::Gate(command) => command.run(),
        Command::Lab(command) => command.run(),
        Command::Smoke(_) => smoke::Smoke::run(),
    }
}
