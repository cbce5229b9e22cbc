//! The programs of a gateway: found, started in its namespace with a log, asked, ended.

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use margay_testbed::measure::Running;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a program may take to begin its work.
const START: Duration = Duration::from_secs(60);
/// How long it may take to end by itself.
const END: Duration = Duration::from_secs(3);
/// Lines of a log that an error shows.
const TAIL: usize = 10;

/// Refuses to begin where a program is missing, and says which package of Debian's brings it.
pub(super) fn require(programs: &[(&str, &str)]) -> Result<()> {
    let path = env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin:/usr/bin:/bin";
    let is_there = |program: &str| env::split_paths(&path).any(|folder| folder.join(program).is_file());
    match programs.iter().find(|(program, _)| !is_there(program)) {
        Some((program, package)) => bail!("the program {program} is missing: install the package {package}"),
        None => Ok(()),
    }
}

/// A program in the gateway's namespace. Dropped, it ends.
#[derive(Debug)]
pub(super) struct Process {
    running: Running,
    name: &'static str,
    log: PathBuf,
}

impl Process {
    /// Starts a command of [`margay_testbed::ip::in_netns`], with all that it writes in `log`.
    pub(super) fn start(command: &mut Command, name: &'static str, log: PathBuf) -> Result<Self> {
        let file = File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        let output = file.try_clone().context("cannot share a log's descriptor")?;
        let running = Running::start(command.stdin(Stdio::null()).stdout(output).stderr(file))?;
        Ok(Self { running, name, log })
    }

    /// Waits until `is_ready`; that the program ends first, or takes too long, is an error with what it wrote last.
    pub(super) fn wait(&mut self, mut is_ready: impl FnMut() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + START;
        while !is_ready()? {
            let ended = self.running.child().try_wait().context("cannot ask for a process's state")?;
            if let Some(status) = ended {
                bail!("{} ended at its start ({status}); its log ends:\n{}", self.name, self.tail());
            }
            if Instant::now() > deadline {
                bail!(
                    "{} is not ready after {} s; its log ends:\n{}",
                    self.name,
                    START.as_secs(),
                    self.tail()
                );
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The last lines that it wrote.
    pub(super) fn tail(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }
}

impl Drop for Process {
    /// In its own order, so that it takes its programs off the devices; `Running` kills what is left.
    fn drop(&mut self) {
        let child = self.running.child();
        let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
        let deadline = Instant::now() + END;
        while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Runs a command to its end: what it printed.
pub(super) fn run(command: &mut Command) -> Result<String> {
    run_with(command, "")
}

/// The same for one that reads `input`.
pub(super) fn run_with(command: &mut Command, input: &str) -> Result<String> {
    let name = command.get_args().filter_map(|word| word.to_str()).collect::<Vec<_>>().join(" ");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{name}`"))?;
    // What a program says when it stops reading is worth more than our EPIPE.
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().with_context(|| format!("cannot wait for `{name}`"))?;
    if !output.status.success() {
        bail!("`{name}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    written.transpose().with_context(|| format!("cannot write to `{name}`"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        require(&[("sh", "dash")]).unwrap();
        let error = require(&[("sh", "dash"), ("no-such-program", "a-package")]).unwrap_err().to_string();
        assert_eq!(error, "the program no-such-program is missing: install the package a-package");
    }
}
