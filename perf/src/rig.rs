//! One worker's pipeline without I/O: frames are laid out, `Pipeline::process` is timed, frames are taken back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use margay_fastpath::egress::Egress;
use margay_fastpath::frame::BURST;
use margay_fastpath::pipeline::{Pipeline, Turn};
use margay_fastpath::{Burst, Counters, FramePool, Layout, Umem};
use margay_flowtable::Snapshot;
use margay_flowtable::conntrack::Timeouts;
use margay_flowtable::table::FlowTable;
use serde::Serialize;

use crate::traffic::{self, Path};

/// Chunks: a few bursts, as a worker has in its caches.
const CHUNKS: u32 = 256;

#[derive(Debug)]
pub struct Rig {
    path: Path,
    frames: Vec<Vec<u8>>,
    next: usize,
    snapshot: Snapshot,
    umem: Arc<Umem>,
    pool: FramePool,
    burst: Box<Burst>,
    egress: Egress,
    pipeline: Pipeline,
    counters: Arc<Counters>,
}

/// What a run measured. Times are of `Pipeline::process` alone: what is between rx and tx.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub path: Path,
    pub flows: u32,
    /// Bytes of the inner Ethernet frame, FCS counted.
    pub size: usize,
    /// Packets of a burst.
    pub burst: usize,
    /// Of the median burst.
    pub ns_per_packet: f64,
    /// Of the burst that 99 in 100 are faster than.
    pub ns_per_packet_p99: f64,
}

impl Rig {
    /// A gateway whose table holds the flows already. `size` is that of the inner Ethernet frame.
    pub fn new(path: Path, flows: u32, size: usize) -> Self {
        let (umem, chunks) = Umem::heap(Layout { chunk_size: 2048, chunks: CHUNKS });
        let mut pool = FramePool::with_capacity(chunks.len());
        pool.extend(chunks);
        let mut egress = Egress::default();
        egress.open(traffic::UPLINK);
        egress.open(traffic::POD);
        let counters = Arc::new(Counters::default());
        let table = FlowTable::new(flows.max(1024) * 2, [1, 2, 3, 4], Timeouts::default());
        let mut rig = Self {
            path,
            frames: (0..flows).map(|number| path.frame(number, size)).collect(),
            next: 0,
            snapshot: traffic::snapshot(),
            umem,
            pool,
            burst: Box::default(),
            egress,
            pipeline: Pipeline::new(Arc::new(table), Arc::clone(&counters)),
            counters,
        };
        for _ in 0..(flows as usize).div_ceil(BURST) {
            rig.run_burst();
        }
        rig
    }

    /// Runs the next burst and returns how long the pipeline took.
    pub fn run_burst(&mut self) -> Duration {
        for _ in 0..BURST {
            let mut frame = self.pool.get().expect("every chunk comes back");
            assert!(self.umem.fill(&mut frame, &self.frames[self.next]), "fits a chunk");
            frame.port = self.path.input();
            self.burst.push(frame);
            self.next = (self.next + 1) % self.frames.len();
        }
        let turn = Turn { snapshot: &self.snapshot, umem: &self.umem, now: 1000 };
        let start = Instant::now();
        self.pipeline.process(&turn, &mut self.burst, &mut self.pool, &mut self.egress);
        let took = start.elapsed();
        self.egress.flush(|_, burst| self.pool.extend(burst.drain_front(burst.len())));
        took
    }

    /// Packets forwarded and packets received so far.
    pub fn forwarded(&self) -> (u64, u64) {
        let port = self.counters.port(self.path.input());
        (port.forwarded.get(), port.rx.get())
    }

    /// Runs for so many bursts. Fails where a packet was not forwarded: its time would say nothing.
    pub fn measure(&mut self, bursts: u32, size: usize) -> anyhow::Result<Report> {
        let mut histogram: Histogram<u64> = Histogram::new(3)?;
        for _ in 0..bursts {
            histogram.record(self.run_burst().as_nanos() as u64)?;
        }
        let (forwarded, received) = self.forwarded();
        anyhow::ensure!(forwarded == received, "{} of {received} packets were dropped", received - forwarded);
        let per_packet = |quantile| histogram.value_at_quantile(quantile) as f64 / BURST as f64;
        Ok(Report {
            path: self.path,
            flows: self.frames.len() as u32,
            size,
            burst: BURST,
            ns_per_packet: per_packet(0.5),
            ns_per_packet_p99: per_packet(0.99),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_forwards_every_packet() {
        for path in Path::ALL {
            for size in [64, 1450] {
                let report = Rig::new(path, 100, size).measure(10, size).unwrap();
                assert_eq!((report.path, report.flows, report.burst), (path, 100, 64));
            }
        }
    }
}
