//! What this process uses: the control side's threads told apart from those that make the load.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Context;

/// How the names of threads begin that make load, look up verdicts and answer as a server. All others but the first
/// thread are the control side's.
pub(super) const LOAD: &str = "load-";

#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    pub(super) at: Instant,
    /// Of the control side, since it began.
    pub(super) cpu: Duration,
    /// Resident memory of the process, in bytes.
    pub(super) resident: u64,
}

impl Usage {
    pub(super) fn now() -> anyhow::Result<Self> {
        let mut cpu = Duration::ZERO;
        let threads = fs::read_dir("/proc/self/task").context("cannot list this process's threads")?;
        for thread in threads.flatten() {
            let read = |file| fs::read_to_string(thread.path().join(file));
            // A thread that has ended meanwhile has nothing more to tell.
            let Ok(name) = read("comm") else { continue };
            let is_first = thread.file_name().to_str() == Some(&std::process::id().to_string());
            if is_first || name.starts_with(LOAD) {
                continue;
            }
            let Ok(times) = read("schedstat") else { continue };
            let nanoseconds = times.split_whitespace().next().and_then(|first| first.parse().ok());
            cpu +=
                Duration::from_nanos(nanoseconds.context("/proc/self/task/*/schedstat has no times here")?);
        }
        Ok(Self { at: Instant::now(), cpu, resident: memory("VmRSS:")? })
    }

    /// Which share of one core was used since then.
    pub(super) fn share_since(&self, before: &Self) -> f64 {
        let used = self.cpu.saturating_sub(before.cpu);
        used.as_secs_f64() / self.at.duration_since(before.at).as_secs_f64().max(f64::EPSILON)
    }
}

/// The most memory that this process has had resident, in bytes.
pub(super) fn peak() -> anyhow::Result<u64> {
    memory("VmHWM:")
}

fn memory(field: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix(field)).and_then(|rest| {
        let number = rest.trim().trim_end_matches("kB").trim();
        number.parse::<u64>().ok()
    });
    Ok(kilobytes.with_context(|| format!("/proc/self/status has no {field}"))? * 1024)
}
