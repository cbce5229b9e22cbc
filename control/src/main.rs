//! The program `margay`: reads the command line and hands over to the command.

#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("margay: {error:#}");
            ExitCode::from(cli::BAD_INPUT)
        }
    }
}
