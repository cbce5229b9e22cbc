//! What has become of records: counted by the thread that writes, and told by `margay status`.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where records go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sink {
    File,
    Stdout,
    Ipfix,
}

impl Sink {
    pub(super) const ALL: [Self; 3] = [Self::File, Self::Stdout, Self::Ipfix];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Stdout => "stdout",
            Self::Ipfix => "ipfix",
        }
    }
}

/// Of `[flow_log]`, since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = FlowLogStatus)]
pub struct Status {
    /// Records that were made, each for every sink.
    pub records: u64,
    /// Records that were written, by sink: `file`, `stdout`, `ipfix`.
    pub written: BTreeMap<String, u64>,
    pub lost: Lost,
    /// Why a sink takes nothing now, by sink.
    pub failing: BTreeMap<String, String>,
}

/// What was not written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = FlowLogLost)]
pub struct Lost {
    /// Flows that workers had no room to tell of.
    pub workers: u64,
    /// Ended flows that the flow table had no room to tell of.
    pub flow_table: u64,
    /// Flows that came faster than the thread that writes takes them.
    pub queue: u64,
    /// Flows that would have made more records than `flow_log.records` in an interval.
    pub interval: u64,
    /// Records that a sink did not take, by sink.
    pub records: BTreeMap<String, u64>,
}

impl Lost {
    pub fn is_nothing(&self) -> bool {
        let flows = self.workers + self.flow_table + self.queue + self.interval;
        flows == 0 && self.records.values().all(|lost| *lost == 0)
    }
}

/// Counts that both threads share.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) records: AtomicU64,
    pub(super) queue: AtomicU64,
    pub(super) interval: AtomicU64,
    written: [AtomicU64; Sink::ALL.len()],
    lost: [AtomicU64; Sink::ALL.len()],
    failing: Mutex<BTreeMap<Sink, String>>,
}

impl Counts {
    /// Takes in what became of records at a sink, and says it once where that has changed.
    pub(super) fn note(&self, sink: Sink, records: u64, outcome: &Result<(), (u64, io::Error)>) {
        let lost = outcome.as_ref().err().map_or(0, |(lost, _)| *lost);
        self.written[sink as usize].fetch_add(records.saturating_sub(lost), Relaxed);
        self.lost[sink as usize].fetch_add(lost, Relaxed);
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(()) => {
                if failing.remove(&sink).is_some() {
                    tracing::info!("flow records are written again: {}", sink.word());
                }
            }
            Err((_, error)) => {
                if failing.insert(sink, error.to_string()).is_none() {
                    tracing::error!(
                        "flow records are lost, and counted in margay status: {}: {error}",
                        sink.word()
                    );
                }
            }
        }
    }

    /// `workers` and `flow_table`: what these have lost.
    pub(super) fn status(&self, sinks: &[Sink], workers: u64, flow_table: u64) -> Status {
        let by_sink = |counts: &[AtomicU64]| {
            let count = |sink: &Sink| (sink.word().to_owned(), counts[*sink as usize].load(Relaxed));
            sinks.iter().map(count).collect()
        };
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let failing = failing.iter().map(|(sink, why)| (sink.word().to_owned(), why.clone())).collect();
        Status {
            records: self.records.load(Relaxed),
            written: by_sink(&self.written),
            lost: Lost {
                workers,
                flow_table,
                queue: self.queue.load(Relaxed),
                interval: self.interval.load(Relaxed),
                records: by_sink(&self.lost),
            },
            failing,
        }
    }
}
