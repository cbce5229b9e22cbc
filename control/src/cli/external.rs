//! Commands that are programs of their own, found beside `margay` or on the PATH, as git does with its own.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};

const PROGRAMS: [&str; 2] = ["lab", "perf"];

/// Becomes `margay-NAME` with the words after the name. Returns only if that fails.
pub(crate) fn run(words: &[OsString]) -> anyhow::Result<ExitCode> {
    let Some((name, arguments)) = words.split_first() else { bail!("no command given: try --help") };
    let Some(name) = PROGRAMS.into_iter().find(|program| name == program) else {
        bail!("no command {}: try --help", name.display());
    };
    let program = format!("margay-{name}");
    let beside = env::current_exe().ok().map(|own| own.with_file_name(&program)).filter(|path| path.exists());
    let error = Command::new(beside.unwrap_or_else(|| program.clone().into())).args(arguments).exec();
    match error.kind() {
        io::ErrorKind::NotFound => {
            bail!("{program} is neither beside margay nor on the PATH: build it with `cargo build --release`")
        }
        _ => Err(error).with_context(|| format!("cannot run {program}")),
    }
}
