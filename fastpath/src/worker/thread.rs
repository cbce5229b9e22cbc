//! A worker on a thread of its own, pinned to a core.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;

use core_affinity::CoreId;

use super::{Mailbox, Progress, Worker};
use crate::counters::Counters;

/// What a worker does when there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Look again at once: the lowest latency, a whole core.
    Spin,
    /// Sleep in the kernel until a frame arrives.
    Poll,
}

/// Turns without a frame before a polling worker sleeps.
const TURNS_BEFORE_SLEEP: u32 = 64;

/// A running worker, as control holds it.
#[derive(Debug)]
pub struct WorkerHandle {
    pub mailbox: Arc<Mailbox>,
    pub counters: Arc<Counters>,
    pub progress: Arc<Progress>,
    thread: JoinHandle<()>,
}

impl WorkerHandle {
    /// Whether the thread has ended: after `Command::Stop`, or by a panic.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the thread's end; `Err` where it panicked.
    pub fn join(self) -> std::thread::Result<()> {
        self.thread.join()
    }
}

/// Starts the worker on `core`, or wherever the kernel likes where that is `None`.
pub fn spawn(worker: Worker, core: Option<usize>, idle: Idle) -> io::Result<WorkerHandle> {
    spawn_confined(worker, core, idle, || Ok(()))
}

/// The same, with `confine` done on the thread before its first turn. Where that fails there is no worker.
pub fn spawn_confined(
    mut worker: Worker,
    core: Option<usize>,
    idle: Idle,
    confine: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> io::Result<WorkerHandle> {
    let mailbox = Arc::clone(worker.mailbox());
    let counters = Arc::clone(worker.counters());
    let progress = Arc::clone(worker.progress());
    if idle == Idle::Poll {
        worker.watch()?;
    }
    let name = format!("margay-worker-{}", worker.index);
    let (confined, is_confined) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        if let Some(id) = core {
            core_affinity::set_for_current(CoreId { id });
        }
        worker.progress().begin();
        let result = confine();
        let is_ok = result.is_ok();
        // Who started it waits for this.
        let _ = confined.send(result);
        if is_ok {
            run(&mut worker);
        }
    })?;
    is_confined.recv().map_err(io::Error::other)??;
    Ok(WorkerHandle { mailbox, counters, progress, thread })
}

fn run(worker: &mut Worker) {
    let start = Instant::now();
    let mut quiet = 0;
    while !worker.stopped() {
        let now = start.elapsed();
        worker.stopwatch.begin_turn(now.as_nanos() as u64, &worker.counters);
        quiet = if worker.turn(now.as_millis() as u64) { 0 } else { quiet + 1 };
        if quiet >= TURNS_BEFORE_SLEEP {
            worker.sleep();
            quiet = 0;
        }
    }
}
