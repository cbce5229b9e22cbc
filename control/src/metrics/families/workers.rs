//! Metrics of the workers, which are as many as cores are configured.

use super::{Family, Kind, Tell, Value};
use crate::admin::Worker;
use crate::metrics::{Scrape, WorkerTime};

const WORKER: &[&str] = &["worker"];
const SECONDS: &str = "seconds";

pub(super) const FAMILIES: &[Family] = &[
    Family::new(
        Kind::Info,
        "margay_worker",
        &["worker", "core"],
        "A worker and the core that it runs on",
        |scrape, tell| {
            for worker in &scrape.figures.status.workers {
                tell(&[&worker.index.to_string(), &worker.core.to_string()], Value::Info);
            }
        },
    ),
    Family::new(
        Kind::Counter,
        "margay_worker_busy",
        WORKER,
        "Time in turns of its loop that moved frames: its rate is the share of the core that packets take",
        |scrape, tell| times(scrape, tell, |time| (time.busy_nanoseconds as f64 / 1e9).into()),
    )
    .of(SECONDS),
    Family::new(
        Kind::Counter,
        "margay_worker_turns",
        WORKER,
        "Turns of its loop",
        |scrape, tell| each(scrape, tell, |worker| worker.turns),
    ),
    Family::new(
        Kind::Counter,
        "margay_worker_busy_turns",
        WORKER,
        "Turns that moved frames",
        |scrape, tell| each(scrape, tell, |worker| worker.busy_turns),
    ),
    Family::new(
        Kind::Counter,
        "margay_worker_starved",
        WORKER,
        "Times that it made no turn for 800 ms because it got no processor",
        |scrape, tell| each(scrape, tell, |worker| worker.starved),
    ),
    Family::new(
        Kind::Counter,
        "margay_worker_receive_packets",
        WORKER,
        "Frames that it received",
        |scrape, tell| each(scrape, tell, |worker| worker.traffic.rx),
    ),
    Family::new(
        Kind::Counter,
        "margay_worker_receive",
        WORKER,
        "Their bytes",
        |scrape, tell| each(scrape, tell, |worker| worker.traffic.rx_bytes),
    )
    .of("bytes"),
    Family::new(
        Kind::Counter,
        "margay_worker_forwarded_packets",
        WORKER,
        "Frames that it received and handed to an output port",
        |scrape, tell| each(scrape, tell, |worker| worker.traffic.forwarded),
    ),
    Family::new(
        Kind::Counter,
        "margay_worker_dropped_packets",
        WORKER,
        "Frames that it received and dropped",
        |scrape, tell| each(scrape, tell, |worker| worker.traffic.drops.values().sum()),
    ),
    Family::new(
        Kind::Counter,
        "margay_worker_flows_inserted",
        WORKER,
        "Connections that it entered into the flow table",
        |scrape, tell| each(scrape, tell, |worker| worker.flows_inserted),
    ),
    Family::new(
        Kind::Counter,
        "margay_worker_flows_expired",
        WORKER,
        "Connections that it took out when they had expired",
        |scrape, tell| each(scrape, tell, |worker| worker.flows_expired),
    ),
    Family::new(
        Kind::Counter,
        "margay_worker_flows_reclassified",
        WORKER,
        "Flows that a change touched and that it judged again",
        |scrape, tell| each(scrape, tell, |worker| worker.flows_reclassified),
    ),
    Family::new(
        Kind::Gauge,
        "margay_worker_pool_frames",
        WORKER,
        "Free frames in its pool",
        |scrape, tell| each(scrape, tell, |worker| worker.pool),
    ),
    Family::new(
        Kind::Histogram,
        "margay_gateway_latency",
        WORKER,
        "Time from when a frame's burst was taken from its port until its frames were handed to the kernel, or to the \
         worker who has the port; of one burst in 32",
        |scrape, tell| times(scrape, tell, |time| Value::Histogram(time.latencies.clone())),
    )
    .of(SECONDS),
];

fn each(scrape: &Scrape, tell: &mut Tell<'_>, counter: fn(&Worker) -> u64) {
    for worker in &scrape.figures.status.workers {
        tell(&[&worker.index.to_string()], counter(worker).into());
    }
}

fn times(scrape: &Scrape, tell: &mut Tell<'_>, value: fn(&WorkerTime) -> Value) {
    for (worker, time) in scrape.figures.status.workers.iter().zip(&scrape.figures.times) {
        tell(&[&worker.index.to_string()], value(time));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_says_how_few_bursts_are_timed() {
        let sampled = format!("one burst in {}", margay_fastpath::worker::BURSTS_PER_SAMPLE);
        assert!(
            FAMILIES.iter().any(|family| family.kind == Kind::Histogram && family.help.ends_with(&sampled))
        );
    }
}
