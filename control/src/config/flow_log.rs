//! `[flow_log]`: records of what becomes of connections, and where they are written.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::read;

/// `[flow_log]`: records of connections that begin, end and are denied (docs/flow-logs.md). Nothing is written, and workers tell
/// nothing, where none of `file`, `stdout` and `ipfix` is given.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlowLog {
    /// File that JSON lines are appended to. Its directory must be there.
    pub file: Option<PathBuf>,
    /// When the file is so long, in bytes, it is moved to FILE.1 and begun anew. Default 100,000,000.
    #[serde(deserialize_with = "read::file_bytes")]
    pub file_bytes: u64,
    /// Files that are kept beside the one that is written, FILE.1 the newest. Default 5.
    #[serde(deserialize_with = "read::files")]
    pub files: u32,
    /// JSON lines to standard output. Default false.
    pub stdout: bool,
    /// Address and UDP port of a collector of IPFIX, as `"192.0.2.7:4739"` or `"[2001:db8::7]:4739"`.
    pub ipfix: Option<SocketAddr>,
    /// Largest IP packet to send it, in bytes. Default 1280.
    #[serde(deserialize_with = "read::whole_mtu")]
    pub ipfix_mtu: u16,
    /// Which events make records. Default all: `["start", "end", "denial"]`.
    #[serde(deserialize_with = "read::flow_events")]
    pub events: Vec<FlowEvent>,
    /// What makes one record: `"pods"` (the default) adds up flows of the same ends, protocol, destination port, verdict and
    /// rules, whatever their source port, `"flow"` keeps source ports apart.
    pub aggregate: Aggregate,
    /// How long flows are added up before their records are written. Default 10s.
    #[serde(deserialize_with = "read::timeout")]
    pub interval: Duration,
    /// Records of one interval at most; flows that would make more are counted, and not written. Default 10,000.
    #[serde(deserialize_with = "read::positive")]
    pub records: u32,
}

impl Default for FlowLog {
    fn default() -> Self {
        Self {
            file: None,
            file_bytes: 100_000_000,
            files: 5,
            stdout: false,
            ipfix: None,
            ipfix_mtu: 1280,
            events: FlowEvent::ALL.to_vec(),
            aggregate: Aggregate::default(),
            interval: Duration::from_secs(10),
            records: 10_000,
        }
    }
}

impl FlowLog {
    /// Whether records go anywhere.
    pub fn is_wanted(&self) -> bool {
        self.file.is_some() || self.stdout || self.ipfix.is_some()
    }
}

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlowEvent {
    Start,
    End,
    /// Policy did not let it begin.
    Denial,
}

impl FlowEvent {
    pub const ALL: [Self; 3] = [Self::Start, Self::End, Self::Denial];
}

/// Which flows one record stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Aggregate {
    /// Those that differ in their source ports alone.
    #[default]
    Pods,
    /// Each for itself.
    Flow,
}
