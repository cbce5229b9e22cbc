//! This process, as Prometheus' clients tell of theirs.

use procfs::process::{self, LimitValue};
use procfs::{ProcResult, boot_time_secs, page_size, ticks_per_second};

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Process {
    /// Of all its threads, in user space and in the kernel.
    pub cpu_seconds: f64,
    pub virtual_bytes: u64,
    pub resident_bytes: u64,
    /// Since 1970, by the clock.
    pub start_seconds: f64,
    pub threads: u64,
    pub open_descriptors: u64,
    /// Where there is a limit.
    pub most_descriptors: Option<u64>,
}

impl Process {
    pub fn read() -> ProcResult<Self> {
        let process = process::Process::myself()?;
        let stat = process.stat()?;
        let ticks = ticks_per_second() as f64;
        Ok(Self {
            cpu_seconds: (stat.utime + stat.stime) as f64 / ticks,
            virtual_bytes: stat.vsize,
            resident_bytes: stat.rss * page_size(),
            start_seconds: boot_time_secs()? as f64 + stat.starttime as f64 / ticks,
            threads: stat.num_threads.try_into().unwrap_or_default(),
            open_descriptors: process.fd_count()? as u64,
            most_descriptors: match process.limits()?.max_open_files.soft_limit {
                LimitValue::Value(most) => Some(most),
                LimitValue::Unlimited => None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_of_itself() {
        let read = Process::read().unwrap();
        assert!(read.threads >= 1 && read.open_descriptors >= 3, "{read:?}");
        assert!(read.virtual_bytes > read.resident_bytes && read.resident_bytes > 0, "{read:?}");
        let now = crate::clock::wall().as_second() as f64;
        assert!(read.start_seconds <= now + 1.0, "{read:?} at {now}");
    }
}
