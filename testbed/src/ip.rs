//! Batches for iproute2's `ip` and `bridge`: many changes in one process, each line an argument list of the program.

use std::env;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// A command that is also looked for where Debian keeps programs for root, which a user's `PATH` under sudo leaves out.
pub fn command(program: &str) -> Command {
    let path = env::var("PATH").unwrap_or_default();
    let mut command = Command::new(program);
    command.env("PATH", path + ":/usr/sbin:/sbin:/usr/bin:/bin");
    command
}

/// A command in a namespace, with the namespace's own /sys.
pub fn in_netns(netns: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = command("ip");
    command.args(["netns", "exec", netns]).arg(program);
    command
}

/// Lines for one run of `ip -batch` or `bridge -batch`.
#[derive(Debug, Default)]
pub struct Batch {
    lines: String,
}

impl Batch {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one line.
    pub fn line(&mut self, line: impl AsRef<str>) -> &mut Self {
        // Writing to a String cannot fail.
        let _ = writeln!(self.lines, "{}", line.as_ref());
        self
    }

    /// Adds lines.
    pub fn lines(&mut self, lines: impl IntoIterator<Item = impl AsRef<str>>) {
        for line in lines {
            self.line(line);
        }
    }

    /// The batch with these lines at its end.
    #[must_use]
    pub fn extend(mut self, lines: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.lines(lines);
        self
    }

    /// Adds the lines of another batch.
    pub fn append(&mut self, other: &Self) {
        self.lines.push_str(&other.lines);
    }

    /// Runs the lines with `ip`, in the named namespace where one is given.
    pub fn run(&self, netns: Option<&str>) -> Result<()> {
        self.run_with("ip", &[], netns)
    }

    /// The same where a line does not say by itself that it is of IPv6.
    pub fn run_ipv6(&self, netns: Option<&str>) -> Result<()> {
        self.run_with("ip", &["-6"], netns)
    }

    /// Runs the lines with `bridge`.
    pub fn run_bridge(&self, netns: Option<&str>) -> Result<()> {
        self.run_with("bridge", &[], netns)
    }

    fn run_with(&self, program: &str, options: &[&str], netns: Option<&str>) -> Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let mut command = command(program);
        if let Some(netns) = netns {
            command.args(["-n", netns]);
        }
        let mut child = command
            .args(options)
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run `{program}`: install the package iproute2"))?;
        // `ip` stops at the first line that fails and closes its end: its message says more than our EPIPE.
        let written = child.stdin.take().map(|mut stdin| stdin.write_all(self.lines.as_bytes()));
        let output = child.wait_with_output().with_context(|| format!("cannot wait for `{program}`"))?;
        if !output.status.success() {
            bail!("{}", self.failure(program, netns, &String::from_utf8_lossy(&output.stderr)));
        }
        written.transpose().with_context(|| format!("cannot write to `{program} -batch`"))?;
        Ok(())
    }

    /// What the program said, with the line that it speaks of ("Command failed -:LINE").
    fn failure(&self, program: &str, netns: Option<&str>, stderr: &str) -> String {
        let line = stderr
            .rsplit_once("-:")
            .and_then(|(_, rest)| rest.trim().parse::<usize>().ok())
            .and_then(|number| self.lines.lines().nth(number.checked_sub(1)?))
            .unwrap_or("?");
        let place = netns.unwrap_or("the host");
        format!("`{program} {line}` in {place} failed: {}", stderr.lines().next().unwrap_or("no message"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_its_line() {
        let batch = Batch::new().extend(["link set lo up", "link set none up"]);
        let text = batch.failure("ip", Some("x"), "Cannot find device \"none\"\nCommand failed -:2\n");
        assert_eq!(text, "`ip link set none up` in x failed: Cannot find device \"none\"");
    }
}
