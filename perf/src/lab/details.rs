//! What a run has shown beside the rows of `results`: curves, distributions, what each gateway was and what failed. It is
//! written as `details.json`, and the report is drawn of it.

use std::path::Path;

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::case::{Case, Dataplane, Job};
use super::file;
use super::results::rounded;

/// Rates are in million packets a second, `_us` are microseconds, `_s` seconds, `_percent` of a hundred.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Details {
    /// How it was run, as one would type it.
    pub command: String,
    pub throughput: Vec<Throughput>,
    pub loss: Vec<LossCurve>,
    pub latency: Vec<LatencyAt>,
    pub bursts: Vec<BackToBack>,
    pub soaks: Vec<Soak>,
    pub stages: Vec<Stages>,
    pub gateways: Vec<Gateway>,
    pub failures: Vec<Failure>,
    /// What a reader has to know of this run.
    pub notes: Vec<String>,
}

/// The rates that a search found, of every repeat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Throughput {
    #[serde(flatten)]
    pub case: Case,
    /// The highest rate without any loss (RFC 2544 26.1).
    pub no_drop: Vec<f64>,
    /// The highest rate of which at most a thousandth is lost; the rows' `mpps`.
    pub lossy: Vec<f64>,
    /// Whether it was the source that sent no faster: the gateway may forward more.
    #[serde(default)]
    pub is_source_limit: bool,
    /// Of the trials that gave `lossy`: packets sent, arrivals of one that had arrived before, and packets that arrived after
    /// one that was sent later.
    #[serde(default)]
    pub sent: u64,
    #[serde(default)]
    pub duplicates: u64,
    #[serde(default)]
    pub reordered: u64,
}

/// What is lost at which rate (RFC 2544 26.3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossCurve {
    #[serde(flatten)]
    pub case: Case,
    pub points: Vec<LossPoint>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossPoint {
    pub offered: f64,
    pub forwarded: f64,
    pub loss_percent: f64,
}

/// How long packets took at a part of the gateway's own throughput.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyAt {
    #[serde(flatten)]
    pub case: Case,
    /// Of the rate at which a thousandth is lost.
    pub load_percent: u8,
    pub offered: f64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
    /// Ascending: so many microseconds, and the share of the packets (0 to 1) that took no longer.
    pub cdf: Vec<(f64, f64)>,
}

/// The longest burst at the source's full rate of which nothing is lost (RFC 9004).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackToBack {
    #[serde(flatten)]
    pub case: Case,
    /// Frames, of every repeat.
    pub frames: Vec<u64>,
    /// Whether no longer burst was tried, so that more may fit.
    pub at_least: bool,
}

/// A steady rate for long, while flows come and go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Soak {
    #[serde(flatten)]
    pub case: Case,
    pub offered: f64,
    pub new_flows_a_second: f64,
    pub moments: Vec<Moment>,
}

/// What was between the last moment and this one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// Since the soak began.
    pub at_s: f64,
    pub forwarded: f64,
    pub loss_percent: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    /// Of the gateway's processes, where it has any.
    #[serde(default)]
    pub resident_bytes: Option<u64>,
}

/// Where the cycles of Margay's packet function go, without I/O (`margay perf pipeline`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stages {
    pub path: String,
    pub flows: u32,
    pub policies: u32,
    pub cycles_per_packet: f64,
    pub ns_per_packet: f64,
    pub allocations_per_packet: f64,
    /// Cycles a packet of each pass over the burst, in their order.
    pub stages: Vec<(String, f64)>,
}

/// What stood in the gateway's place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gateway {
    pub dataplane: Dataplane,
    /// Jobs that this is said of; of all where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<Job>,
    pub version: String,
    /// Which core does what.
    pub arrangement: String,
    /// Modes, offloads and table sizes that were chosen, a line each.
    #[serde(default)]
    pub settings: Vec<String>,
}

/// A measurement that gave nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    #[serde(flatten)]
    pub case: Case,
    /// What was measured: `throughput`, `back-to-back`...
    pub what: String,
    pub reason: String,
}

impl LatencyAt {
    /// Of the nanoseconds that packets took. None of no packets.
    #[must_use]
    pub fn of(case: &Case, load_percent: u8, offered: f64, latency: &Histogram<u64>) -> Option<Self> {
        let us = |nanoseconds: u64| rounded(nanoseconds as f64 / 1e3);
        let at = |quantile| us(latency.value_at_quantile(quantile));
        (!latency.is_empty()).then(|| Self {
            case: *case,
            load_percent,
            offered,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: us(latency.max()),
            cdf: cdf(latency),
        })
    }
}

/// Buckets within a hundredth of each other are one point, which no plot shows finer.
fn cdf(latency: &Histogram<u64>) -> Vec<(f64, f64)> {
    let all = latency.len() as f64;
    let (mut seen, mut first, mut points) = (0, 0.0, Vec::new());
    for bucket in latency.iter_recorded() {
        seen += bucket.count_since_last_iteration();
        let point = (rounded(bucket.value_iterated_to() as f64 / 1e3), rounded(seen as f64 / all));
        match points.last_mut() {
            Some(last) if point.0 < first * 1.01 => *last = point,
            _ => {
                first = point.0;
                points.push(point);
            }
        }
    }
    points
}

impl Details {
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let text = file::read(file)?;
        let mut reader = serde_json::Deserializer::from_str(&text);
        serde_path_to_error::deserialize(&mut reader)
            .with_context(|| format!("{} is not what margay perf lab writes", file.display()))
    }

    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        file::write(file, &text)
    }
}
