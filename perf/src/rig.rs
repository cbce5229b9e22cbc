//! One worker's pipeline without I/O: frames are laid out, `Pipeline::process` is run, frames are taken back.

use std::iter::Cycle;
use std::ops::Range;
use std::sync::Arc;

use margay_fastpath::egress::Egress;
use margay_fastpath::frame::BURST;
use margay_fastpath::pipeline::{Pipeline, Probe, Turn};
use margay_fastpath::tap::{LONGEST_SNAP, Spec, TapId, TapReader, tap};
use margay_fastpath::{Burst, Counters, FramePool, Layout, Umem};
use margay_flowtable::conntrack::Timeouts;
use margay_flowtable::{FlowTable, Snapshot};
use serde::Serialize;

use crate::gateway;
use crate::traffic::{self, Path, Template, Visits};

/// Chunks: a few bursts, as a worker has in its caches.
const CHUNKS: u32 = 256;
/// Connections that end together on the new-flow path, as a sweep ends them: so many that the slots which new ones
/// take have gone cold since.
const ENDED_AT_ONCE: u32 = 65_536;
/// The clock stands still: nothing expires.
const NOW: u64 = 1000;

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Case {
    pub path: Path,
    /// Connections in the table, all there before the first measurement.
    pub flows: u32,
    /// Policies that select the pod.
    pub policies: u32,
    /// Bytes of the inner Ethernet frame, FCS counted.
    pub size: u16,
    /// Whether the table counts what each connection carries.
    pub accounting: bool,
}

impl Case {
    /// Connections that the table is made for: it is half full.
    pub fn capacity(&self) -> u32 {
        self.flows.max(1024) * 2
    }
}

#[derive(Debug)]
pub struct Rig {
    path: Path,
    template: Template,
    order: Order,
    table: Arc<FlowTable>,
    snapshot: Snapshot,
    umem: Arc<Umem>,
    pool: FramePool,
    burst: Box<Burst>,
    egress: Egress,
    pipeline: Pipeline,
    counters: Arc<Counters>,
}

/// Which flow comes next.
#[derive(Clone, Debug)]
enum Order {
    /// While the table is filled.
    Entering(Cycle<Range<u32>>),
    Established(Visits),
    /// The connections that live are those of the numbers from `oldest` to `next`; at `full` of them some end.
    New {
        oldest: u32,
        next: u32,
        full: u32,
        ended: u32,
    },
}

impl Rig {
    /// A gateway whose table holds the flows already.
    pub fn new(case: &Case) -> Self {
        let (umem, chunks) = Umem::heap(Layout { chunk_size: 2048, chunks: CHUNKS });
        let mut pool = FramePool::with_capacity(chunks.len());
        pool.extend(chunks);
        let mut egress = Egress::default();
        egress.open(traffic::UPLINK);
        egress.open(traffic::POD);
        let counters = Arc::new(Counters::default());
        let table = FlowTable::new(case.capacity(), [1, 2, 3, 4], Timeouts::default());
        let table = Arc::new(if case.accounting { table.with_accounting() } else { table });
        // Established flows are entered by number and visited out of order; new ones come by number, and so end.
        let is_new = case.path == Path::NewFlow;
        let visits = Visits::new(case.flows);
        let order = if is_new {
            Order::Established(visits.clone())
        } else {
            Order::Entering((0..case.flows).cycle())
        };
        let mut rig = Self {
            path: case.path,
            template: Template::new(case.path, case.size.into()),
            order,
            snapshot: gateway::snapshot(case.policies),
            umem,
            pool,
            burst: Box::default(),
            egress,
            pipeline: Pipeline::new(Arc::clone(&table), Arc::clone(&counters)),
            table,
            counters,
        };
        for _ in 0..(case.flows as usize).div_ceil(BURST) {
            rig.run_burst(|process| process());
        }
        let ended = ENDED_AT_ONCE.min(case.capacity() / 4);
        let new = Order::New { oldest: 0, next: case.flows, full: case.flows + ended, ended };
        rig.order = if is_new { new } else { Order::Established(visits) };
        rig
    }

    /// Taps every packet from here on.
    pub fn tap(&mut self) -> TapReader {
        let spec = Spec { filter: None, snap: LONGEST_SNAP, per_second: u32::MAX, waiting: 1 << 20 };
        let (tap, reader) = tap(TapId(1), spec);
        assert!(self.pipeline.tap(Box::new(tap)).is_ok(), "a pipeline has room for a tap");
        reader
    }

    /// Runs the next burst. `measure` calls what it is given, once: the packet function, and nothing else.
    pub fn run_burst<T>(&mut self, measure: impl FnOnce(&mut dyn FnMut()) -> T) -> T {
        self.load();
        let measured = measure(&mut || self.process());
        self.unload();
        measured
    }

    fn process(&mut self) {
        let turn = Turn { snapshot: &self.snapshot, umem: &self.umem, now: NOW };
        self.pipeline.process(&turn, &mut self.burst, &mut self.pool, &mut self.egress);
    }

    /// Runs the next burst, of which a probe that is made as it begins is told each pass.
    pub fn run_probed_burst<P: Probe>(&mut self, probe: impl FnOnce() -> P) -> P {
        self.load();
        let turn = Turn { snapshot: &self.snapshot, umem: &self.umem, now: NOW };
        let mut probe = probe();
        self.pipeline.process_probed(&turn, &mut self.burst, &mut self.pool, &mut self.egress, &mut probe);
        self.unload();
        probe
    }

    fn unload(&mut self) {
        self.egress.flush(|_, burst| self.pool.extend(burst.drain_front(burst.len())));
        self.end_connections();
    }

    fn load(&mut self) {
        for _ in 0..BURST {
            let number = match &mut self.order {
                Order::Entering(numbers) => numbers.next().expect("there is a flow"),
                Order::Established(visits) => visits.next().expect("visits never end"),
                Order::New { next, .. } => {
                    *next = next.wrapping_add(1);
                    next.wrapping_sub(1)
                }
            };
            let mut frame = self.pool.get().expect("every chunk comes back");
            self.template.fill(&self.umem, &mut frame, &self.path.key(number));
            frame.port = self.path.input();
            self.burst.push(frame);
        }
    }

    /// Ends the oldest connections of the new-flow path, if it is time. They were entered in an order of their own at
    /// first, so the slots that they leave do not lie in a row.
    fn end_connections(&mut self) {
        let Order::New { oldest, next, full, ended } = &mut self.order else { return };
        if next.wrapping_sub(*oldest) + BURST as u32 <= *full {
            return;
        }
        for _ in 0..*ended {
            let key = self.path.key(*oldest);
            let hit = self.table.lookup(&key, self.table.hash(&key), self.snapshot.generation);
            hit.map(|hit| self.table.remove(hit.flow));
            *oldest = oldest.wrapping_add(1);
        }
    }

    /// Fails where a packet was not forwarded, or a connection is missing: their time would say nothing.
    pub fn check(&self) -> anyhow::Result<()> {
        let port = self.counters.port(self.path.input());
        let (forwarded, received) = (port.forwarded.get(), port.rx.get());
        anyhow::ensure!(forwarded == received, "{} of {received} packets were dropped", received - forwarded);
        if let Order::New { oldest, next, .. } = self.order {
            let (live, expected) = (self.table.len(), next.wrapping_sub(oldest) as usize);
            anyhow::ensure!(live == expected, "{live} connections live, and not {expected}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_forwards_every_packet() {
        for path in Path::ALL {
            for (flows, policies, size) in [(1, 0, 64), (1000, 1, 64), (2000, 10, 1450)] {
                let mut rig = Rig::new(&Case { path, flows, policies, size, accounting: size == 64 });
                for _ in 0..100 {
                    rig.run_burst(|process| process());
                }
                rig.check().unwrap();
            }
        }
    }
}
