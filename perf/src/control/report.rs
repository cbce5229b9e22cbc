//! What a run has shown.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::churn::Kind;
use super::environment::Environment;
use super::usage::Usage;
use super::verdicts::{Measured, Phase};

/// Bytes are bytes, `_s` seconds, `_ms` milliseconds; a share is of one core.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub environment: Environment,
    pub nodes: u32,
    pub pods: u32,
    pub namespaces: u32,
    pub policies: u32,
    pub start: Start,
    pub churn: Churn,
    pub timeline: Vec<Moment>,
}

/// From the source's start to the first snapshot.
#[derive(Clone, Debug, Serialize)]
pub struct Start {
    pub wall_s: f64,
    /// Of the control side alone.
    pub cpu_s: f64,
    /// Of the whole process before the source was started: what the load side brings.
    pub resident_before_bytes: u64,
    pub resident_bytes: u64,
    pub resident_peak_bytes: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Churn {
    pub seconds: f64,
    pub changes: u64,
    /// Asked for, and acknowledged by the server.
    pub rate_asked: u32,
    pub rate: f64,
    pub latency: Latency,
    pub latency_by_kind: Vec<OfKind>,
    pub phases: Vec<OfPhase>,
    /// The control side's, over the whole churn.
    pub core_share: f64,
    pub resident_bytes: u64,
    /// What the source said that it could not do.
    pub trouble: Vec<String>,
}

/// From the acknowledgement to the verdict in force.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

#[derive(Clone, Debug, Serialize)]
pub struct OfKind {
    pub kind: Kind,
    pub changes: u64,
    #[serde(flatten)]
    pub latency: Latency,
}

/// How much of the latency is of one phase.
#[derive(Clone, Debug, Serialize)]
pub struct OfPhase {
    pub phase: Phase,
    #[serde(flatten)]
    pub latency: Latency,
    /// The mean of the slowest hundredth of all changes.
    pub slowest_ms: f64,
}

/// What was between the last moment and this one.
#[derive(Clone, Debug, Serialize)]
pub struct Moment {
    /// Since the source was started.
    pub at_s: f64,
    pub core_share: f64,
    pub resident_bytes: u64,
    /// Of the changes acknowledged in this time.
    pub latency: Option<Latency>,
}

impl Latency {
    /// `None` of no samples.
    fn of(times: impl Iterator<Item = Duration>) -> anyhow::Result<Option<Self>> {
        let mut samples = Histogram::<u64>::new(3)?;
        for time in times {
            samples.record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))?;
        }
        let ms = |nanoseconds: u64| nanoseconds as f64 / 1e6;
        Ok((!samples.is_empty()).then(|| Self {
            p50_ms: ms(samples.value_at_quantile(0.5)),
            p90_ms: ms(samples.value_at_quantile(0.9)),
            p99_ms: ms(samples.value_at_quantile(0.99)),
            max_ms: ms(samples.max()),
        }))
    }

    /// `None` of no changes.
    pub(super) fn of_all<'a>(measured: impl Iterator<Item = &'a Measured>) -> anyhow::Result<Option<Self>> {
        Self::of(measured.map(|measured| measured.latency))
    }

    pub(super) fn by_kind(measured: &[Measured]) -> anyhow::Result<Vec<OfKind>> {
        let of = |kind: Kind| {
            let its = || measured.iter().filter(move |measured| measured.kind == kind);
            let latency = Self::of_all(its())?;
            Ok(latency.map(|latency| OfKind { kind, changes: its().count() as u64, latency }))
        };
        Kind::ALL.into_iter().filter_map(|kind| of(kind).transpose()).collect()
    }
}

impl OfPhase {
    pub(super) fn all(measured: &[Measured]) -> anyhow::Result<Vec<Self>> {
        let mut slowest: Vec<&Measured> = measured.iter().collect();
        slowest.sort_unstable_by_key(|measured| std::cmp::Reverse(measured.latency));
        slowest.truncate(measured.len().div_ceil(100));
        let of = |(index, phase): (usize, Phase)| {
            let latency = Latency::of(measured.iter().map(|measured| measured.phases[index]))?;
            let sum: Duration = slowest.iter().map(|measured| measured.phases[index]).sum();
            let slowest_ms = sum.as_secs_f64() * 1e3 / slowest.len() as f64;
            Ok(latency.map(|latency| Self { phase, latency, slowest_ms }))
        };
        Phase::ALL.into_iter().enumerate().filter_map(|phase| of(phase).transpose()).collect()
    }
}

/// What was between each sample and the one before it.
pub(super) fn timeline(
    started: Instant,
    samples: &[Usage],
    measured: &[Measured],
) -> anyhow::Result<Vec<Moment>> {
    let moment = |pair: &[Usage]| {
        let [before, now] = pair else { unreachable!("windows of two") };
        let between = measured.iter().filter(|m| m.acknowledged > before.at && m.acknowledged <= now.at);
        Ok(Moment {
            at_s: seconds(now.at.saturating_duration_since(started)),
            core_share: now.share_since(before),
            resident_bytes: now.resident,
            latency: Latency::of_all(between)?,
        })
    };
    samples.windows(2).map(moment).collect()
}

/// Milliseconds are enough.
pub(super) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e3).round() / 1e3
}
