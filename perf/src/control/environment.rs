//! Where figures were taken.

use std::fs;

use serde::Serialize;

#[derive(Clone, Debug, Serialize)]
pub struct Environment {
    /// The processor's name.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    pub memory_bytes: u64,
    /// The operating system's release.
    pub kernel: String,
    pub margay: &'static str,
    /// Who answers: the server in this process, or one that is asked for its version.
    pub server: String,
}

impl Environment {
    pub(super) fn here(server: String) -> Self {
        let after = |file: &str, key: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
            line.trim_start_matches([' ', '\t', ':']).trim().to_owned()
        };
        let memory = after("/proc/meminfo", "MemTotal");
        let kilobytes: u64 = memory.trim_end_matches("kB").trim().parse().unwrap_or(0);
        Self {
            cpu: after("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_bytes: kilobytes * 1024,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            margay: env!("CARGO_PKG_VERSION"),
            server,
        }
    }
}
