//! Runs a script: two workers' pipelines over the same tables, and after each step everything that holds whatever came in.

use std::sync::Arc;

use margay_fastpath::egress::Egress;
use margay_fastpath::frame::BURST;
use margay_fastpath::pipeline::{Expiry, FRAGMENT_TIMEOUT, Pipeline, Turn};
use margay_fastpath::{Burst, Counters, Frame, FramePool, Gso, Layout, Umem};
use margay_flowtable::conntrack::Timeouts;
use margay_flowtable::table::FlowTable;
use margay_flowtable::{Fragments, PortId};

use crate::checksum;
use crate::frame::{FrameSpec, Received, Told};
use crate::oracle::{self, Arrival, Sent};
use crate::script::{Script, Step, Worker};
use crate::view::View;
use crate::world::{COMPLETING, Change, PORTS, World};

const LAYOUT: Layout = Layout { chunk_size: 2048, chunks: 256 };
/// What an input of a few kilobytes needs to say something.
const MOST_STEPS: usize = 48;
const MOST_SPECS: usize = 16;

/// What is the same for every script: tables begin anew, memory and counters do not.
pub struct Rig {
    umem: Arc<Umem>,
    pool: FramePool,
    egress: Egress,
    counters: Arc<Counters>,
}

impl Default for Rig {
    fn default() -> Self {
        let (umem, frames) = Umem::heap(LAYOUT);
        let mut pool = FramePool::with_capacity(frames.len());
        pool.extend(frames);
        let mut egress = Egress::default();
        PORTS.into_iter().for_each(|port| egress.open(port));
        Self { umem, pool, egress, counters: Arc::default() }
    }
}

impl Rig {
    /// Panics where something does not hold.
    pub fn run(&mut self, script: Script) {
        let mut gateway = Gateway::new(self, &script);
        let steps = script.steps.into_iter().take(MOST_STEPS);
        steps.for_each(|step| gateway.step(step));
        gateway.end();
    }
}

struct Gateway<'r> {
    rig: &'r mut Rig,
    world: World,
    workers: [Pipeline; 2],
    expiry: Expiry,
    now: u64,
    spare: usize,
    /// Ports whose rings are full, and how many of the frames that wait for each port have been looked at.
    stalled: [bool; PORTS.len()],
    looked_at: [usize; PORTS.len()],
    /// Fragments that may still wait.
    early: Vec<Arrival>,
    /// Packets that came in and left.
    seen: Vec<Vec<u8>>,
    before: Totals,
    sent: Totals,
}

/// Of all ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    frames: u64,
    bytes: u64,
}

impl<'r> Gateway<'r> {
    fn new(rig: &'r mut Rig, script: &Script) -> Self {
        let mut table = FlowTable::new(script.connections, [1, 2, 3, 4], Timeouts::default()).with_ipv6();
        if let Some(share) = script.share {
            table = table.with_share(share);
        }
        let (table, fragments) =
            (Arc::new(table), Arc::new(Fragments::new(script.datagrams, [0; 2], FRAGMENT_TIMEOUT)));
        let worker = || {
            let pipeline = Pipeline::new(Arc::clone(&table), Arc::clone(&rig.counters));
            let pipeline = pipeline.with_fragments(Arc::clone(&fragments)).with_mid_flow(script.mid_flow);
            pipeline.with_established(script.established)
        };
        Self {
            world: World::new(script.config.clone()),
            workers: [worker(), worker()],
            expiry: Expiry::default(),
            now: 1_000_000,
            spare: script.spare,
            stalled: [false; PORTS.len()],
            looked_at: [0; PORTS.len()],
            early: Vec::new(),
            seen: Vec::new(),
            before: transmitted(&rig.counters),
            sent: Totals::default(),
            rig,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Burst { worker, port, frames } => {
                let frames = frames.iter().take(MOST_SPECS).flat_map(|spec| self.frames_of(spec));
                let frames: Vec<_> = frames.map(|(way_in, frame)| (port.unwrap_or(way_in), frame)).collect();
                for burst in frames.chunk_by(|one, next| one.0 == next.0) {
                    let frames = burst.iter().take(BURST).map(|(_, frame)| frame.clone());
                    self.burst(worker, burst[0].0, frames.collect());
                }
            }
            Step::Wait(time) => {
                self.now += u64::from(time);
                while self.expiry.run(&self.workers[0], self.now, self.world.snapshot.generation) {}
                self.burst(false, PORTS[0], Vec::new());
            }
            Step::Change(change) => self.change(change),
            Step::Stall(port) => {
                self.stalled[usize::from(port.0)] ^= true;
                self.settle(&[]);
            }
        }
    }

    fn frames_of(&self, spec: &FrameSpec) -> Vec<(PortId, Received)> {
        spec.frames(self.world.config.mtus[0], &self.seen)
    }

    /// Has the frames come in by the port, and what waits go on.
    fn burst(&mut self, worker: Worker, port: PortId, frames: Vec<Received>) {
        let Self { rig: Rig { umem, pool, egress, .. }, world, now, .. } = self;
        let turn = Turn { snapshot: &world.snapshot, umem, now: *now };
        let mut burst = Box::<Burst>::default();
        let mut arrivals = Vec::new();
        let first = frames.first().map_or(Told::Never, |frame| frame.told);
        for Received { bytes, told } in frames {
            // A port tells of all packets or of none.
            let told = if (told == Told::Never) == (first == Told::Never) { told } else { first };
            let Some(mut frame) = receive(umem, pool, &bytes) else { break };
            frame.port = port;
            let arrival = Arrival::of(world, port, umem.bytes(&frame)).map(|arrival| arrival.told(told));
            // Of what may not pass, whatever is said.
            (frame.gso, frame.gso_size) = arrival.as_ref().map_or((Gso::Other, 1), |arrival| arrival.gso);
            arrivals.extend(arrival);
            burst.push(frame);
        }
        let hoard: Vec<_> = (self.spare..pool.len()).map_while(|_| pool.get()).collect();
        let worker = &mut self.workers[usize::from(worker)];
        worker.process(&turn, &mut burst, pool, egress);
        assert!(burst.is_empty(), "a frame stayed behind");
        worker.release(&turn, pool, egress);
        pool.extend(hoard);
        // What came more than once leaves by the same account.
        arrivals.dedup();
        let later = arrivals.iter().filter(|arrival| arrival.view.is_later_part()).cloned();
        let later: Vec<_> = later.collect();
        self.seen.extend(arrivals.iter().map(|arrival| arrival.packet.clone()));
        self.settle(&arrivals);
        self.early.extend(later);
    }

    fn change(&mut self, change: Change) {
        self.world.change(change);
        if let Change::Port(port) = change {
            let Rig { pool, egress, .. } = self.rig;
            if self.world.is_open(port) {
                egress.open(port);
            } else {
                pool.extend(egress.close(port));
                self.workers.iter_mut().for_each(|worker| worker.give_up(Some(port), pool));
                self.looked_at[usize::from(port.0)] = 0;
            }
        }
    }

    /// Takes what leaves, and holds it against what came in.
    fn settle(&mut self, arrivals: &[Arrival]) {
        let Self { rig: Rig { umem, pool, egress, .. }, stalled, looked_at, .. } = self;
        let mut sent = Vec::new();
        egress.flush(|port, burst| {
            let number = usize::from(port.0);
            let new = burst.as_slice().iter().skip(looked_at[number]);
            sent.extend(new.map(|frame| Sent { port, frame: transmit(port, umem, frame) }));
            // What waits behind a full burst is not seen before that leaves.
            if !stalled[number] || burst.room() == 0 {
                pool.extend(burst.drain_front(burst.len()));
            }
            looked_at[number] = burst.len();
        });
        let arrivals = [arrivals, &self.early].concat();
        oracle::account(&self.world, &arrivals, &sent);
        for Sent { frame, .. } in sent {
            self.sent.frames += 1;
            self.sent.bytes += frame.len() as u64;
            self.seen.extend(View::of(&frame[14..]).map(|view| frame[14..14 + view.end].to_vec()));
        }
        self.count();
    }

    /// Every chunk is somewhere, and every frame is counted out once.
    fn count(&self) {
        let Rig { pool, egress, counters, .. } = &*self.rig;
        let waiting: usize = self.workers.iter().map(Pipeline::waiting).sum();
        let frames = pool.len() + pool.large() + egress.len() + waiting;
        assert_eq!(frames, (LAYOUT.chunks + LAYOUT.large_buffers()) as usize, "a frame leaked");
        let of_all = |count: &dyn Fn(PortId) -> u64| PORTS.into_iter().map(count).sum::<u64>();
        let received = of_all(&|port| counters.port(port).rx.get());
        let ended = of_all(&|port| {
            let port = counters.port(port);
            port.forwarded.get() + port.drops.iter().map(|drop| drop.get()).sum::<u64>()
        });
        assert_eq!(received, ended + waiting as u64, "a frame is not counted out once");
        let Totals { frames, bytes } = transmitted(counters);
        let since = Totals { frames: frames - self.before.frames, bytes: bytes - self.before.bytes };
        assert_eq!(since, self.sent, "what was sent is not what was counted");
    }

    /// Gives everything back to the rig.
    fn end(mut self) {
        self.stalled = [false; PORTS.len()];
        self.settle(&[]);
        let Rig { pool, egress, .. } = self.rig;
        self.workers.iter_mut().for_each(|worker| worker.give_up(None, pool));
        PORTS.into_iter().for_each(|port| egress.open(port));
        self.count();
    }
}

/// A frame with these bytes, or as many of them as there is room for.
fn receive(umem: &Umem, pool: &mut FramePool, bytes: &[u8]) -> Option<Frame> {
    let longest = LAYOUT.longest_frame() as usize;
    if bytes.len() > longest
        && let Some(mut frame) = pool.get_large()
    {
        assert!(umem.fill(&mut frame, bytes));
        return Some(frame);
    }
    let mut frame = pool.get()?;
    assert!(umem.fill(&mut frame, &bytes[..bytes.len().min(longest)]));
    frame.is_cut = bytes.len() > longest;
    Some(frame)
}

/// The bytes as they leave: with the checksum that is left to the device.
fn transmit(port: PortId, umem: &Umem, frame: &Frame) -> Vec<u8> {
    let mut bytes = umem.bytes(frame).to_vec();
    if frame.csum_offset != 0 {
        assert!(COMPLETING.contains(&port), "a checksum is left to a port that takes none");
        let start = usize::from(frame.csum_start);
        let sum = match checksum::internet(&[&bytes[start..]]) {
            0 => u16::MAX,
            sum => sum,
        };
        bytes[start + usize::from(frame.csum_offset)..][..2].copy_from_slice(&sum.to_be_bytes());
    }
    bytes
}

fn transmitted(counters: &Counters) -> Totals {
    let ports = || PORTS.into_iter().map(|port| counters.port(port));
    Totals {
        frames: ports().map(|port| port.tx.get()).sum(),
        bytes: ports().map(|port| port.tx_bytes.get()).sum(),
    }
}
