//! What there is to see: rates, from what a gateway said at two moments.

use std::collections::BTreeMap;
use std::time::Duration;

use margay_fastpath::counters::LatencyBucket;

use super::Moment;
use crate::admin::workers::{Percentiles, WorkerTimes};
use crate::admin::{Port, PortState, Status, Traffic, Worker};
use crate::metrics::{Latencies, lacking};

/// Rates are a second; there are none before the second answer of one process.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    pub node: String,
    pub version: String,
    pub uptime: Duration,
    /// Why the gateway is not ready, if it is not.
    pub lacking: Vec<String>,
    pub connections: usize,
    pub capacity: usize,
    pub workers: Vec<WorkerRates>,
    /// Those that have the most packets first, and then those that are not open.
    pub ports: Vec<PortRates>,
    /// Reasons that have applied: word, rate, and packets since the start; those of late first.
    pub drops: Vec<(String, Option<f64>, u64)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct WorkerRates {
    pub index: usize,
    pub core: usize,
    pub busy: Option<f64>,
    pub packets: Option<f64>,
    pub bits: Option<f64>,
    pub dropped: Option<f64>,
    pub new_flows: Option<f64>,
    /// Between the two moments.
    pub latency: Option<Percentiles>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PortRates {
    pub name: String,
    pub state: PortState,
    /// NAMESPACE/NAME of its pod, else its kind.
    pub of: String,
    pub rx_packets: Option<f64>,
    pub rx_bits: Option<f64>,
    pub tx_packets: Option<f64>,
    pub tx_bits: Option<f64>,
    pub dropped: Option<f64>,
    pub lost: Option<f64>,
}

impl View {
    /// Of what was said last, and before that.
    pub fn of(before: Option<&Moment>, now: &Moment) -> Self {
        let span = before.and_then(|before| Span::between(before, now));
        let status = &now.status;
        Self {
            node: status.node.clone(),
            version: status.version.clone(),
            uptime: Duration::from_nanos(now.workers.uptime_nanoseconds),
            lacking: lacking(status),
            connections: status.flow_table.connections,
            capacity: status.flow_table.capacity,
            workers: workers(now, span.as_ref()),
            ports: ports(status, span.as_ref()),
            drops: drops(status, span.as_ref()),
        }
    }

    /// Packets received a second, and bits.
    pub fn received(&self) -> Option<(f64, f64)> {
        let packets: Option<f64> = self.workers.iter().map(|worker| worker.packets).sum();
        let bits: Option<f64> = self.workers.iter().map(|worker| worker.bits).sum();
        packets.zip(bits)
    }

    pub fn dropped(&self) -> Option<f64> {
        self.workers.iter().map(|worker| worker.dropped).sum()
    }
}

/// From one answer of a process to a later one.
struct Span<'a> {
    before: &'a Moment,
    seconds: f64,
}

impl<'a> Span<'a> {
    /// `None` where another process has begun meanwhile.
    fn between(before: &'a Moment, now: &Moment) -> Option<Self> {
        let nanoseconds = now.workers.uptime_nanoseconds.checked_sub(before.workers.uptime_nanoseconds)?;
        (nanoseconds > 0).then(|| Self { before, seconds: nanoseconds as f64 / 1e9 })
    }

    /// What came a second. A counter that is lower than before began anew.
    fn rate(&self, before: u64, now: u64) -> f64 {
        now.checked_sub(before).unwrap_or(now) as f64 / self.seconds
    }

    fn port(&self, name: &str) -> Option<&Traffic> {
        self.before.status.ports.iter().find(|port| port.name == name)?.traffic.as_ref()
    }
}

fn dropped(traffic: &Traffic) -> u64 {
    traffic.drops.values().sum()
}

fn workers(now: &Moment, span: Option<&Span<'_>>) -> Vec<WorkerRates> {
    let pairs = now.status.workers.iter().zip(&now.workers.workers);
    pairs.map(|(worker, times)| worker_rates(worker, times, span)).collect()
}

fn worker_rates(worker: &Worker, times: &WorkerTimes, span: Option<&Span<'_>>) -> WorkerRates {
    let then = span.and_then(|span| {
        let before = span.before.status.workers.get(worker.index)?;
        Some((span, before, span.before.workers.workers.get(worker.index)?))
    });
    let rate = |read: fn(&Worker) -> u64| then.map(|(span, before, _)| span.rate(read(before), read(worker)));
    let latency = then.map(|(_, _, before)| Percentiles::from(&since(before, times)));
    WorkerRates {
        index: worker.index,
        core: worker.core,
        // The clocks of both readings are not quite one.
        busy: then.map(|(span, _, before)| {
            (span.rate(before.busy_nanoseconds, times.busy_nanoseconds) / 1e9).min(1.0)
        }),
        packets: rate(|worker| worker.traffic.rx),
        bits: rate(|worker| 8 * worker.traffic.rx_bytes),
        dropped: rate(|worker| dropped(&worker.traffic)),
        new_flows: rate(|worker| worker.flows_inserted),
        latency: latency.filter(|latency| latency.frames > 0),
    }
}

/// What was timed between two answers.
fn since(before: &WorkerTimes, now: &WorkerTimes) -> Latencies {
    let then: BTreeMap<u64, u64> =
        before.latencies.iter().map(|count| (count.from_nanoseconds, count.frames)).collect();
    let bucket = |count: &crate::admin::workers::LatencyCount| LatencyBucket {
        nanoseconds: count.from_nanoseconds..=count.to_nanoseconds,
        frames: count.frames.saturating_sub(then.get(&count.from_nanoseconds).copied().unwrap_or(0)),
    };
    let buckets = now.latencies.iter().map(bucket).filter(|bucket| bucket.frames > 0);
    Latencies { buckets: buckets.collect(), total: 0 }
}

fn ports(status: &Status, span: Option<&Span<'_>>) -> Vec<PortRates> {
    let mut ports: Vec<PortRates> = status.ports.iter().map(|port| port_rates(port, span)).collect();
    let busiest = |port: &PortRates| port.rx_packets.unwrap_or(0.0) + port.tx_packets.unwrap_or(0.0);
    ports.sort_by(|a, b| {
        let is_closed = |port: &PortRates| port.state != PortState::Open;
        is_closed(a).cmp(&is_closed(b)).then(busiest(b).total_cmp(&busiest(a)))
    });
    ports
}

fn port_rates(port: &Port, span: Option<&Span<'_>>) -> PortRates {
    let then = span.and_then(|span| Some((span, span.port(&port.name)?, port.traffic.as_ref()?)));
    let rate = |read: fn(&Traffic) -> u64| then.map(|(span, before, now)| span.rate(read(before), read(now)));
    PortRates {
        name: port.name.clone(),
        state: port.state,
        of: port.pod.clone().unwrap_or_else(|| port.kind.clone()),
        rx_packets: rate(|traffic| traffic.rx),
        rx_bits: rate(|traffic| 8 * traffic.rx_bytes),
        tx_packets: rate(|traffic| traffic.tx),
        tx_bits: rate(|traffic| 8 * traffic.tx_bytes),
        dropped: rate(dropped),
        lost: rate(|traffic| traffic.tx_lost),
    }
}

fn drops(status: &Status, span: Option<&Span<'_>>) -> Vec<(String, Option<f64>, u64)> {
    let total = |status: &Status| {
        let mut total: BTreeMap<String, u64> = BTreeMap::new();
        for (reason, count) in status.workers.iter().flat_map(|worker| &worker.traffic.drops) {
            *total.entry(reason.clone()).or_default() += count;
        }
        total
    };
    let before = span.map(|span| total(&span.before.status));
    let rate = |reason: &str, now| {
        let then = before.as_ref()?.get(reason).copied().unwrap_or(0);
        Some(span?.rate(then, now))
    };
    let mut drops: Vec<_> =
        total(status).into_iter().map(|(reason, count)| (rate(&reason, count), reason, count)).collect();
    drops.sort_by(|a, b| b.0.unwrap_or(0.0).total_cmp(&a.0.unwrap_or(0.0)).then(b.2.cmp(&a.2)));
    drops.into_iter().map(|(rate, reason, count)| (reason, rate, count)).collect()
}
