//! The worker: receive from its queues, run the pipeline, transmit, reclaim. One turn after another, never waiting.
//!
//! A worker owns its queue of every port; a port that has no queue for it is reached through the worker who owns one.

mod exchange;
mod mailbox;
mod progress;
mod stopwatch;
#[cfg(test)]
mod tests;
mod thread;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use margay_flowtable::publish::Reader;
use margay_flowtable::table::FlowTable;
use margay_flowtable::{Fragments, PortId, Snapshot};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

pub use exchange::Exchange;
pub use mailbox::{Command, Mailbox, Returned};
pub use progress::{Doing, Progress};
pub use stopwatch::BURSTS_PER_SAMPLE;
pub use thread::{Idle, WorkerHandle, spawn, spawn_confined};

use crate::counters::{Counters, MAX_PORTS};
use crate::egress::Egress;
use crate::frame::{BURST, Burst, Frame};
use crate::pipeline::{Established, Expiry, MidFlow, Pipeline, Turn};
use crate::port::{Census, Port};
use crate::umem::FramePool;
use stopwatch::Stopwatch;

/// How long a worker without frames sleeps at most, in milliseconds: the delay of a command and of expiry.
const SLEEP: u16 = 20;
/// The same where another worker may hand frames over, which wakes nobody.
const SLEEP_WITH_PEERS: u16 = 1;

/// How a worker reaches an output port.
#[derive(Debug, Default)]
enum Way {
    #[default]
    None,
    Own(Box<dyn Port>),
    Worker(usize),
}

#[derive(Debug)]
pub struct Worker {
    index: usize,
    exchange: Arc<Exchange>,
    mailbox: Arc<Mailbox>,
    counters: Arc<Counters>,
    progress: Arc<Progress>,
    reader: Reader<Snapshot>,
    pipeline: Pipeline,
    expiry: Expiry,
    pool: FramePool,
    burst: Box<Burst>,
    egress: Egress,
    ways: Box<[Way]>,
    /// Ports of `ways` that are `Own`, to visit without looking at all.
    own: Vec<PortId>,
    /// Watches the own ports' descriptors, where the worker sleeps when idle.
    epoll: Option<Epoll>,
    stopwatch: Stopwatch,
    stopped: bool,
}

/// What a worker is made from.
#[derive(Debug)]
pub struct Parts {
    /// Number of this worker, below the number that the exchange was made for.
    pub index: usize,
    pub exchange: Arc<Exchange>,
    pub table: Arc<FlowTable>,
    /// Datagrams that come in fragments, to whatever worker.
    pub fragments: Arc<Fragments>,
    pub reader: Reader<Snapshot>,
    pub mid_flow: MidFlow,
    pub established: Established,
    /// Rules that are counted each by itself.
    pub rules: u32,
}

impl Worker {
    pub fn new(parts: Parts) -> Self {
        let counters = Arc::new(Counters::with_rules(parts.rules));
        Self {
            index: parts.index,
            pool: FramePool::with_capacity(parts.exchange.umem.layout().chunks as usize),
            exchange: parts.exchange,
            mailbox: Arc::new(Mailbox::default()),
            pipeline: Pipeline::new(parts.table, Arc::clone(&counters))
                .with_mid_flow(parts.mid_flow)
                .with_established(parts.established)
                .with_fragments(parts.fragments),
            expiry: Expiry::default(),
            counters,
            progress: Arc::default(),
            reader: parts.reader,
            burst: Box::default(),
            egress: Egress::default(),
            ways: (0..MAX_PORTS).map(|_| Way::None).collect(),
            own: Vec::with_capacity(MAX_PORTS),
            epoll: None,
            stopwatch: Stopwatch::default(),
            stopped: false,
        }
    }

    /// Lets the worker sleep in `sleep`. Call before ports are attached.
    pub fn watch(&mut self) -> io::Result<()> {
        self.epoll = Some(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
        Ok(())
    }

    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// One turn at `now` (milliseconds of a monotonic clock). True if it moved a frame, or has connections to expire.
    pub fn turn(&mut self, now: u64) -> bool {
        while let Some(command) = self.mailbox.next() {
            self.progress.set(Doing::Obeying);
            self.obey(command);
        }
        if self.stopped {
            return false;
        }
        self.exchange.balance(&mut self.pool);
        let received = self.receive(now);
        self.progress.set(Doing::TakingOver);
        let taken = self.take_handed_over();
        // What ports had no room for before.
        self.transmit();
        self.reclaim();
        self.progress.set(Doing::Expiring);
        let sweeps = self.expiry.run(&self.pipeline, now, self.reader.current().generation);
        self.counters.turns.add(1);
        let busy = received + taken > 0;
        self.stopwatch.end_turn(busy);
        self.counters.busy_turns.add(u64::from(busy));
        self.counters.pool.store(self.pool.len() as u64, Relaxed);
        busy || sweeps
    }

    /// Waits until a frame arrives, or `SLEEP` is over; returns at once while frames wait for transmission.
    fn sleep(&self) {
        let Some(epoll) = self.epoll.as_ref().filter(|_| self.egress.is_empty()) else { return };
        self.progress.set(Doing::Sleeping);
        let timeout = if self.exchange.workers() > 1 { SLEEP_WITH_PEERS } else { SLEEP };
        // A signal only ends the sleep early.
        let _ = epoll.wait(&mut [EpollEvent::empty(); 4], timeout);
    }

    /// Whether `Command::Stop` has been obeyed.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// Frames that this worker and its ports hold.
    pub fn census(&self) -> (usize, Census) {
        let mut sum = Census::default();
        for port in self.own_ports() {
            let census = port.census();
            sum.fill += census.fill;
            sum.rx += census.rx;
            sum.tx += census.tx;
            sum.completion += census.completion;
        }
        let pool = self.pool.len() + self.pool.large();
        (pool + self.egress.len() + self.pipeline.waiting(), sum)
    }

    fn own_ports(&self) -> impl Iterator<Item = &dyn Port> {
        self.own.iter().filter_map(|id| match &self.ways[usize::from(id.0)] {
            Way::Own(port) => Some(&**port),
            _ => None,
        })
    }

    /// Takes a burst from each port in turn, and sends on what became of it.
    fn receive(&mut self, now: u64) -> usize {
        let mut received = 0;
        if self.pipeline.is_tapped() {
            // The clock of people. What is before 1970 is said to be of then.
            self.pipeline.set_tap_time(SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default());
        }
        for index in 0..self.own.len() {
            let id = self.own[index];
            let Way::Own(port) = &mut self.ways[usize::from(id.0)] else { continue };
            self.progress.set(Doing::Receiving(id));
            port.rx(&self.exchange.umem, &mut self.burst, &mut self.pool);
            if self.burst.is_empty() {
                continue;
            }
            received += self.burst.len();
            self.stopwatch.take_burst(self.burst.len(), &self.egress);
            self.progress.set(Doing::Processing(id));
            let turn = Turn { snapshot: self.reader.current(), umem: &self.exchange.umem, now };
            self.pipeline.process(&turn, &mut self.burst, &mut self.pool, &mut self.egress);
            if let Some(address) = self.pipeline.take_unresolved() {
                self.exchange.ask(address);
            }
            self.transmit();
        }
        let turn = Turn { snapshot: self.reader.current(), umem: &self.exchange.umem, now };
        self.pipeline.release(&turn, &mut self.pool, &mut self.egress);
        received
    }

    /// Frames that other workers rewrote for ports of ours.
    fn take_handed_over(&mut self) -> usize {
        let mut taken = 0;
        let own = self.index;
        for from in (0..self.exchange.workers()).filter(|&from| from != own) {
            for (port, frame) in (0..BURST).map_while(|_| self.exchange.take(from, own)) {
                taken += 1;
                if let Err((frame, _)) = self.egress.push(port, frame) {
                    self.counters.port(port).tx_lost.add(1);
                    self.pool.put(frame);
                }
            }
            self.transmit();
        }
        taken
    }

    /// Sends what waits: to own ports, one submission and at most one wakeup each, or to the worker who owns the port.
    /// What a port has no room for waits on.
    fn transmit(&mut self) {
        let Self { egress, ways, exchange, counters, progress, pool, index, stopwatch, .. } = self;
        egress.flush(|id, burst| match &mut ways[usize::from(id.0)] {
            Way::Own(port) => {
                progress.set(Doing::Transmitting(id));
                port.tx(&exchange.umem, burst);
            }
            Way::Worker(to) => {
                for frame in burst.drain_front(burst.len()) {
                    if let Err(frame) = exchange.hand(*index, *to, id, frame) {
                        counters.port(id).tx_lost.add(1);
                        pool.put(frame);
                    }
                }
            }
            Way::None => lose(burst.drain_front(burst.len()), id, counters, pool),
        });
        stopwatch.transmitted(egress, counters);
    }

    fn reclaim(&mut self) {
        for id in &self.own {
            if let Way::Own(port) = &mut self.ways[usize::from(id.0)] {
                self.progress.set(Doing::Reclaiming(*id));
                port.reclaim(&self.exchange.umem, &mut self.pool);
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Attach(port) => {
                let id = port.id();
                if let (Some(epoll), Some(fd)) = (&self.epoll, port.fd()) {
                    // A descriptor that cannot be watched costs latency (sleeps are short), not frames. It leaves the
                    // set when the port closes it.
                    let _ = epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, u64::from(id.0)));
                }
                self.egress.open(id);
                self.ways[usize::from(id.0)] = Way::Own(port);
                self.own.push(id);
            }
            Command::Via { port, worker } => {
                self.egress.open(port);
                self.ways[usize::from(port.0)] = Way::Worker(worker);
            }
            Command::Detach(id) => self.detach(id),
            Command::Tap(tap) => {
                if let Err(tap) = self.pipeline.tap(tap) {
                    self.mailbox.give_tap_back(tap);
                }
            }
            Command::Untap(id) => {
                if let Some(tap) = self.pipeline.untap(id) {
                    self.mailbox.give_tap_back(tap);
                }
            }
            Command::Configure { mid_flow, established } => self.pipeline.configure(mid_flow, established),
            Command::Stop => {
                for id in std::mem::take(&mut self.own) {
                    self.detach(id);
                }
                self.pipeline.give_up(None, &mut self.pool);
                while let Some(tap) = self.pipeline.untap_next() {
                    self.mailbox.give_tap_back(tap);
                }
                self.exchange.return_all(&mut self.pool);
                self.stopped = true;
            }
        }
    }

    fn detach(&mut self, id: PortId) {
        lose(self.egress.close(id), id, &self.counters, &mut self.pool);
        self.pipeline.give_up(Some(id), &mut self.pool);
        self.own.retain(|&own| own != id);
        let port = match std::mem::take(&mut self.ways[usize::from(id.0)]) {
            Way::Own(port) => Some(port),
            _ => None,
        };
        self.mailbox.give_back(Returned { id, port });
    }
}

/// Keeps the chunks of frames whose output port is gone.
fn lose(frames: impl Iterator<Item = Frame>, port: PortId, counters: &Counters, pool: &mut FramePool) {
    for frame in frames {
        counters.port(port).tx_lost.add(1);
        pool.put(frame);
    }
}
