//! The workers as the control thread has them: their start and end, and what it tells them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use margay_fastpath::port::Port;
use margay_fastpath::port::queues::Queues;
use margay_fastpath::worker::{self, Command, Exchange, Parts, Returned, Worker, WorkerHandle};
use margay_flowtable::publish::Publisher;
use margay_flowtable::table::FlowTable;
use margay_flowtable::{Fragments, PortId, Snapshot};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use tokio::time::timeout;

use super::watchdog::{Stalls, Watched};
use crate::config::{self, Config};
use crate::privileges::Privileges;

/// How long to wait before a full mailbox is tried again.
const RETRY: Duration = Duration::from_millis(1);
/// How long the workers may take to end.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("workers.cores: there is no core {core} for this process; it has {available:?}")]
    NoCore { core: usize, available: Vec<usize> },
    #[error("cannot start worker {index}: {error}")]
    Spawn { index: usize, error: io::Error },
    #[error("worker {0} has ended: it panicked, and its message stands above")]
    Ended(usize),
}

/// What the workers share, and where each begins.
#[derive(Debug)]
pub(super) struct Shared<'a> {
    pub exchange: &'a Arc<Exchange>,
    pub table: &'a Arc<FlowTable>,
    pub publisher: &'a mut Publisher<Snapshot>,
    pub privileges: &'a Privileges,
}

#[derive(Debug)]
pub(super) struct Workers {
    handles: Vec<WorkerHandle>,
    stalls: Vec<Arc<Stalls>>,
    cores: Vec<usize>,
    exchange: Arc<Exchange>,
    /// Ports that came back, closed by now, while something else was waited for.
    returned: Vec<PortId>,
}

/// A moment that every worker will have left behind; see [`Workers::grace`].
#[derive(Debug)]
pub(super) struct Grace {
    turns: Vec<u64>,
}

/// Cores to run workers on: the configured, else the last of those that the process may use.
pub(super) fn cores(configured: &[usize]) -> Result<Vec<usize>, Error> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    let available: Vec<usize> =
        (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false)).collect();
    if configured.is_empty() {
        return Ok(vec![available.last().copied().unwrap_or(0)]);
    }
    match configured.iter().find(|core| !available.contains(core)) {
        Some(core) => Err(Error::NoCore { core: *core, available }),
        None => Ok(configured.to_vec()),
    }
}

impl Workers {
    /// Starts one worker on each core. `secret`: for the table of datagrams in fragments, which they share.
    pub(super) fn start(
        cores: Vec<usize>,
        config: &Config,
        secret: [u64; 2],
        shared: &mut Shared<'_>,
    ) -> Result<Self, Error> {
        let timeout = u32::try_from(config.fragments.timeout.as_secs()).unwrap_or(u32::MAX);
        let fragments = Arc::new(Fragments::new(config.fragments.datagrams, secret, timeout));
        let idle = match config.workers.idle {
            config::Idle::Spin => worker::Idle::Spin,
            config::Idle::Poll => worker::Idle::Poll,
        };
        let mut handles = Vec::new();
        for (index, core) in cores.iter().enumerate() {
            let worker = Worker::new(Parts {
                index,
                exchange: Arc::clone(shared.exchange),
                table: Arc::clone(shared.table),
                fragments: Arc::clone(&fragments),
                reader: shared.publisher.reader(),
                mid_flow: config.conntrack.mid_flow.into(),
                established: config.policy.established.into(),
                rules: config.policy.rules,
            });
            let privileges = shared.privileges.clone();
            let confine = move || privileges.confine_worker();
            let handle = worker::spawn_confined(worker, Some(*core), idle, confine);
            handles.push(handle.map_err(|error| Error::Spawn { index, error })?);
        }
        let stalls = handles.iter().map(|_| Arc::default()).collect();
        Ok(Self { handles, stalls, cores, exchange: Arc::clone(shared.exchange), returned: Vec::new() })
    }

    pub(super) fn count(&self) -> usize {
        self.handles.len()
    }

    /// Each worker's core and handle.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &WorkerHandle)> {
        self.cores.iter().copied().zip(&self.handles)
    }

    /// What the watchdog is to look at.
    pub(super) fn watched(&self) -> Vec<Watched> {
        let watched = |(index, (core, handle)): (usize, (usize, &WorkerHandle))| Watched {
            index,
            core,
            counters: Arc::clone(&handle.counters),
            progress: Arc::clone(&handle.progress),
            stalls: Arc::clone(&self.stalls[index]),
        };
        self.iter().enumerate().map(watched).collect()
    }

    /// What the watchdog has seen of a worker.
    pub(super) fn stalls(&self, worker: usize) -> &Stalls {
        &self.stalls[worker]
    }

    /// Fails if a worker's thread has ended, which none does before it is told to.
    pub(super) fn check(&self) -> Result<(), Error> {
        match self.handles.iter().position(WorkerHandle::has_ended) {
            Some(index) => Err(Error::Ended(index)),
            None => Ok(()),
        }
    }

    /// Gives the queues of a port to the workers: queue q to worker q modulo their number. A worker without a queue
    /// hands its frames to one that has.
    pub(super) async fn attach(&mut self, id: PortId, queues: Vec<Box<dyn Port>>) -> Result<(), Error> {
        let (owners, count) = (queues.len().min(self.count()), self.count());
        let mut shares: Vec<Vec<Box<dyn Port>>> = (0..owners).map(|_| Vec::new()).collect();
        for (queue, port) in queues.into_iter().enumerate() {
            shares[queue % owners].push(port);
        }
        for (worker, share) in shares.into_iter().enumerate() {
            self.send(worker, Command::Attach(Queues::of(id, share))).await?;
        }
        for worker in owners..count {
            self.send(worker, Command::Via { port: id, worker: worker % owners }).await?;
        }
        Ok(())
    }

    /// Has every worker stop using the port; each will return it.
    pub(super) async fn detach(&mut self, id: PortId) -> Result<(), Error> {
        self.tell_all(|| Command::Detach(id)).await
    }

    pub(super) async fn tell_all(&mut self, command: impl Fn() -> Command) -> Result<(), Error> {
        for worker in 0..self.count() {
            self.send(worker, command()).await?;
        }
        Ok(())
    }

    /// Ports that a worker is done with, once for each worker, closed and their frames back.
    pub(super) fn returned(&mut self) -> Vec<PortId> {
        self.collect();
        std::mem::take(&mut self.returned)
    }

    /// This moment. It has passed for all workers when each has begun and ended so many turns of its loop after it.
    pub(super) fn grace(&self) -> Grace {
        Grace { turns: self.handles.iter().map(|handle| handle.counters.turns.get()).collect() }
    }

    pub(super) fn has_passed(&self, grace: &Grace, turns: u64) -> bool {
        // The turn that was under way at that moment does not count.
        let done =
            |(handle, since): (&WorkerHandle, &u64)| handle.counters.turns.get().wrapping_sub(*since) > turns;
        self.handles.iter().zip(&grace.turns).all(done)
    }

    /// Ends the workers. Every port comes back and is closed. A worker that does not end is left to the process' end.
    pub(super) async fn stop(self) {
        if timeout(PATIENCE, self.stop_all()).await.is_err() {
            tracing::error!("a worker does not end; its sockets go with the process");
        }
    }

    async fn stop_all(mut self) {
        for index in 0..self.count() {
            // One that has ended already has nothing to be told.
            let _ = self.send(index, Command::Stop).await;
        }
        while !self.handles.iter().all(WorkerHandle::has_ended) {
            self.collect();
            self.returned.clear();
            tokio::time::sleep(RETRY).await;
        }
        self.collect();
    }

    async fn send(&mut self, worker: usize, mut command: Command) -> Result<(), Error> {
        while let Err(refused) = self.handles[worker].mailbox.send(command) {
            command = refused;
            self.check()?;
            self.collect();
            tokio::time::sleep(RETRY).await;
        }
        Ok(())
    }

    fn collect(&mut self) {
        for Returned { id, port } in
            self.handles.iter().flat_map(|h| std::iter::from_fn(|| h.mailbox.returned()))
        {
            let lost = port.map_or(0, |port| self.exchange.close(port));
            if lost > 0 {
                tracing::warn!(frames = lost, "the kernel keeps frames of a port that is closed");
            }
            self.returned.push(id);
        }
    }
}
