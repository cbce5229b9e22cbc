//! Captures through the packet function: `margay replay`. The same compile, steering and pipeline as a running
//! gateway, on ports whose frames come from files, with the captures' own clock.

mod captures;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use margay_fastpath::egress::Egress;
use margay_fastpath::frame::Burst;
use margay_fastpath::pipeline::{Expiry, Pipeline, Turn};
use margay_fastpath::port::Port;
use margay_fastpath::port::pcap::PcapPort;
use margay_fastpath::steer::{Kind, Steer, SteerPort, SteerTables, steer};
use margay_fastpath::{Counters, DropReason, FramePool, Layout, Umem};
use margay_flowtable::conntrack::Timeouts;
use margay_flowtable::table::FlowTable;
use margay_flowtable::{PortId, PortKind, Snapshot};
use serde::Serialize;

use crate::compile::is_policed;
use captures::Record;

pub use captures::Input;
pub use world::{GivenNeighbour, World, WorldError};

/// Connections that a replay can track.
const CONNECTIONS: u32 = 1 << 16;
/// Chunks of the replay's UMEM: one frame at a time is under way, and its ICMP answer; fragments wait for their first.
const CHUNKS: u32 = 128;
/// Bytes of a chunk: frames of captures may be longer than a gateway's.
const CHUNK_SIZE: u32 = 1 << 17;
/// A time stamp this far behind the last one starts no sweep; expiry is looked at once a second.
const SWEEP_EVERY: u64 = 1000;

/// What became of one input frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fate {
    /// Port that it came in by.
    #[serde(rename = "in")]
    pub input: String,
    /// Its position in that port's capture, from 0.
    pub frame: usize,
    /// `tx PORT`, `pass`, `drop REASON`, or `waits`: a fragment that came before its datagram's first. Where that comes, it is
    /// sent.
    pub fate: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("--in {name}: no such port on this node; there are {known}")]
    UnknownPort { name: String, known: String },
    #[error("--in {0} is given twice: merge the captures of a port (mergecap) and give it once")]
    PortTwice(String),
    #[error("{}: {error}", path.display())]
    Write { path: PathBuf, error: io::Error },
    #[error("{0}: frame {1} of {2} bytes is longer than a replay takes")]
    FrameTooLong(String, usize, usize),
}

/// A gateway in memory.
struct Replay {
    snapshot: Snapshot,
    steering: SteerTables,
    ports: BTreeMap<PortId, PcapPort<BufWriter<File>>>,
    host: PortId,
    pipeline: Pipeline,
    expiry: Expiry,
    counters: Arc<Counters>,
    umem: Arc<Umem>,
    pool: FramePool,
    burst: Box<Burst>,
    egress: Egress,
    swept: u64,
}

/// A frame with the port that it comes in by, the input that it is from, and its position there.
type Arrival<'a> = (&'a Record, PortId, &'a Input, usize);

/// Runs the inputs, merged by time stamp, through the node's packet function. Writes `out/PORT.pcap` for each port.
pub fn replay(world: &World, inputs: &[Input], out: &Path) -> Result<Vec<Fate>, ReplayError> {
    let records = merge(world, inputs)?;
    // What was there is overwritten from here on.
    let mut replay = Replay::new(world, out)?;
    let mut fates = Vec::with_capacity(records.len());
    for (record, port, input, frame) in records {
        let fate = replay
            .run(world, port, &record.bytes, record.time)
            .ok_or_else(|| ReplayError::FrameTooLong(input.port.clone(), frame, record.bytes.len()))?;
        fates.push(Fate { input: input.port.clone(), frame, fate });
    }
    replay.finish(world, out)?;
    Ok(fates)
}

/// The frames of all inputs in order of time, each with its port, input and position.
fn merge<'a>(world: &World, inputs: &'a [Input]) -> Result<Vec<Arrival<'a>>, ReplayError> {
    let mut seen = BTreeSet::new();
    let mut arrivals = Vec::new();
    for input in inputs {
        let Some(port) = world.port(&input.port) else {
            return Err(ReplayError::UnknownPort {
                name: input.port.clone(),
                known: world.port_names().join(", "),
            });
        };
        if !seen.insert(port) {
            return Err(ReplayError::PortTwice(input.port.clone()));
        }
        arrivals.extend(input.records.iter().enumerate().map(|(frame, record)| (record, port, input, frame)));
    }
    // Stable: frames of one moment keep the order of the command line.
    arrivals.sort_by_key(|(record, ..)| record.time);
    Ok(arrivals)
}

/// Where a port's output goes.
fn capture_path(out: &Path, port: &str) -> PathBuf {
    out.join(format!("{port}.pcap"))
}

impl Replay {
    fn new(world: &World, out: &Path) -> Result<Self, ReplayError> {
        let (umem, frames) = Umem::heap(Layout { chunk_size: CHUNK_SIZE, chunks: CHUNKS });
        let counters = Arc::new(Counters::default());
        let table = Arc::new(FlowTable::new(CONNECTIONS, [0; 4], Timeouts::default()).with_ipv6());
        let mut pool = FramePool::with_capacity(frames.len());
        pool.extend(frames);
        let (snapshot, steering) = world.compile();
        let (mut egress, host) = (Egress::default(), world.host_port());
        egress.open(host);
        let mut ports = BTreeMap::new();
        for (id, name) in world.ports() {
            egress.open(id);
            ports.insert(id, open_capture(id, &capture_path(out, name))?);
        }
        Ok(Self {
            snapshot,
            steering,
            ports,
            host,
            pipeline: Pipeline::new(table, Arc::clone(&counters)),
            expiry: Expiry::default(),
            counters,
            umem,
            pool,
            burst: Box::default(),
            egress,
            swept: 0,
        })
    }

    /// One frame, in by `port` at `time`. `None` where no chunk can hold it.
    fn run(&mut self, world: &World, port: PortId, bytes: &[u8], time: Duration) -> Option<String> {
        let now = time.as_millis() as u64;
        self.expire(now);
        self.release(now);
        self.flush(time);
        let kind = match self.snapshot.port(port)?.kind {
            PortKind::Uplink => Kind::Uplink,
            PortKind::Pod { .. } => Kind::Pod,
        };
        let input = SteerPort { kind, mac: None, is_policed: is_policed(&self.snapshot, port), vlan: None };
        if steer(&self.steering, &input, bytes) == Steer::Pass {
            return Some("pass".into());
        }
        let mut frame = self.pool.get()?;
        if !self.umem.fill(&mut frame, bytes) {
            self.pool.put(frame);
            return None;
        }
        let dropped = self.drops(port);
        let input = self.ports.get_mut(&port)?;
        input.inject(frame, time);
        input.rx(&self.umem, &mut self.burst, &mut self.pool);
        let turn = Turn { snapshot: &self.snapshot, umem: &self.umem, now };
        self.pipeline.process(&turn, &mut self.burst, &mut self.pool, &mut self.egress);
        let reason =
            DropReason::ALL.iter().zip(dropped).zip(self.drops(port)).find(|((_, old), new)| old != new);
        let sent = self.flush(time);
        // What it has released is not its own fate.
        self.release(now);
        self.flush(time);
        Some(match (reason, sent) {
            (Some(((reason, _), _)), _) => format!("drop {}", reason.word()),
            // The kernel has it, as if it had not come by a worker.
            (None, Some(output)) if output == self.host => "pass".into(),
            (None, Some(output)) => format!("tx {}", world.port_name(output)),
            (None, None) => "waits".into(),
        })
    }

    /// Has fragments go on whose first ones have come, or drops them after a while.
    fn release(&mut self, now: u64) {
        let turn = Turn { snapshot: &self.snapshot, umem: &self.umem, now };
        self.pipeline.release(&turn, &mut self.pool, &mut self.egress);
    }

    /// Writes what waits for transmission; returns the first port that had something.
    fn flush(&mut self, time: Duration) -> Option<PortId> {
        let Self { egress, ports, umem, pool, host, .. } = self;
        let mut first = None;
        egress.flush(|id, burst| {
            if id == *host {
                first.get_or_insert(id);
                pool.extend(burst.drain_front(burst.len()));
            } else if let Some(port) = ports.get_mut(&id) {
                first.get_or_insert(id);
                port.set_time(time);
                port.tx(umem, burst);
                port.reclaim(umem, pool);
            }
        });
        first
    }

    fn drops(&self, port: PortId) -> [u64; DropReason::COUNT] {
        std::array::from_fn(|i| self.counters.port(port).drops[i].get())
    }

    fn expire(&mut self, now: u64) {
        if now < self.swept + SWEEP_EVERY {
            return;
        }
        self.swept = now;
        while self.expiry.run(&self.pipeline, now, self.snapshot.generation) {}
    }

    fn finish(self, world: &World, out: &Path) -> Result<(), ReplayError> {
        for (id, port) in self.ports {
            let path = capture_path(out, world.port_name(id));
            port.finish()
                .and_then(|mut file| file.flush())
                .map_err(|error| ReplayError::Write { path, error })?;
        }
        Ok(())
    }
}

fn open_capture(id: PortId, path: &Path) -> Result<PcapPort<BufWriter<File>>, ReplayError> {
    let open = || {
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        PcapPort::new(id, BufWriter::new(File::create(path)?))
    };
    open().map_err(|error| ReplayError::Write { path: path.to_owned(), error })
}
