//! The program `margay-perf`, also run as `margay perf`.

#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("margay-perf: {error:#}");
            ExitCode::FAILURE
        }
    }
}
