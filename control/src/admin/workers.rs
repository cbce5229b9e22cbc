//! `GET /v1/workers`: what each worker's time goes into.

use axum::Json;
use axum::extract::State;
use margay_fastpath::worker::BURSTS_PER_SAMPLE;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Control, Refusal};
use crate::metrics::{Latencies, WorkerTime};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Workers {
    /// Since Margay started: of two answers the difference is the time between.
    pub uptime_nanoseconds: u64,
    /// Of so many bursts one is timed.
    pub bursts_per_sample: u32,
    pub workers: Vec<WorkerTimes>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerTimes {
    pub index: usize,
    pub core: usize,
    /// In turns of its loop that moved frames.
    pub busy_nanoseconds: u64,
    /// How long frames were in its hands, of the bursts that it has timed.
    pub latency: Percentiles,
    /// The same by time, the shortest first.
    pub latencies: Vec<LatencyCount>,
}

/// Times that so many in a hundred frames took at most; 0 where none was timed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Percentiles {
    /// Frames that were timed.
    pub frames: u64,
    pub p50_nanoseconds: u64,
    pub p99_nanoseconds: u64,
    pub p999_nanoseconds: u64,
    pub longest_nanoseconds: u64,
}

/// Frames that took from so long to so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LatencyCount {
    pub from_nanoseconds: u64,
    pub to_nanoseconds: u64,
    pub frames: u64,
}

impl From<&Latencies> for Percentiles {
    fn from(latencies: &Latencies) -> Self {
        let histogram = latencies.histogram();
        Self {
            frames: histogram.len(),
            p50_nanoseconds: histogram.value_at_quantile(0.5),
            p99_nanoseconds: histogram.value_at_quantile(0.99),
            p999_nanoseconds: histogram.value_at_quantile(0.999),
            longest_nanoseconds: histogram.max(),
        }
    }
}

impl WorkerTimes {
    fn new(index: usize, core: usize, time: &WorkerTime) -> Self {
        let count = |bucket: &margay_fastpath::counters::LatencyBucket| LatencyCount {
            from_nanoseconds: *bucket.nanoseconds.start(),
            to_nanoseconds: *bucket.nanoseconds.end(),
            frames: bucket.frames,
        };
        Self {
            index,
            core,
            busy_nanoseconds: time.busy_nanoseconds,
            latency: (&time.latencies).into(),
            latencies: time.latencies.buckets.iter().map(count).collect(),
        }
    }
}

/// What each worker's time goes into, and how long frames are in its hands.
#[utoipa::path(
    get,
    path = "/v1/workers",
    responses((status = OK, description = "All workers", body = Workers))
)]
pub(super) async fn workers(State(control): State<Control>) -> Result<Json<Workers>, Refusal> {
    let (uptime, times) = control.ask(|plane| (plane.identify().1, plane.worker_times())).await?;
    let workers = times.iter().enumerate().map(|(index, (core, time))| WorkerTimes::new(index, *core, time));
    Ok(Json(Workers {
        uptime_nanoseconds: u64::try_from(uptime.as_nanos()).unwrap_or(u64::MAX),
        bursts_per_sample: BURSTS_PER_SAMPLE,
        workers: workers.collect(),
    }))
}
