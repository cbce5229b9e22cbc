//! Watches the workers from a thread of its own: one that makes no turn, or panics, ends the process with an exit code of
//! its own, so that who started it starts it anew. A thread that hangs cannot be ended alone: its frames, its rings and its
//! place in the flow table would be lost.
//!
//! A worker makes a turn every 20 ms at least, whatever its load. It is stuck when it has made none for [`STUCK`] although it
//! had the processor, or sleeps in the kernel. It is not where it did not run: where others have its core, the process was
//! stopped, or the machine itself. The first is told; of the others the watchdog's own looks come late, and tell nothing.

mod judge;
mod panics;
#[cfg(test)]
mod tests;
mod thread_state;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use std::{fmt, future, io, process, thread};

use margay_fastpath::Counters;
use margay_fastpath::worker::Progress;
use tokio::sync::mpsc;

use self::judge::{Finding, Judge};
use self::panics::{Panic, note_panics};
use self::thread_state::ThreadState;
use super::ending::Ending;

/// How often it looks.
const LOOK: Duration = Duration::from_millis(50);
/// How long a worker makes no turn before it is stuck.
const STUCK: Duration = Duration::from_millis(800);
/// How long the control thread may take to end the process, before this one does.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is watched of a worker.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub index: usize,
    pub core: usize,
    pub counters: Arc<Counters>,
    pub progress: Arc<Progress>,
    pub stalls: Arc<Stalls>,
}

/// What was seen of a worker that did not get on.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    longest_ms: AtomicU64,
    starved: AtomicU64,
}

impl Stalls {
    /// The longest time without a turn, in milliseconds, as far as looks can tell.
    pub(super) fn longest_ms(&self) -> u64 {
        self.longest_ms.load(Relaxed)
    }

    /// How often it made no turn because it got no processor.
    pub(super) fn starved(&self) -> u64 {
        self.starved.load(Relaxed)
    }

    fn note(&self, still: Duration) {
        self.longest_ms.fetch_max(still.as_millis() as u64, Relaxed);
    }
}

/// The thread, which ends soon after this is dropped.
#[derive(Debug)]
pub(super) struct Watchdog {
    is_over: Arc<AtomicBool>,
    endings: mpsc::UnboundedReceiver<Ending>,
}

impl Watchdog {
    /// Watches from now on.
    pub(super) fn start(workers: Vec<Watched>) -> io::Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let (panicked, panics) = channel();
        let (ended, endings) = mpsc::unbounded_channel();
        note_panics(panicked);
        let watch = Watch { workers, panics, ended, is_over: Arc::clone(&is_over) };
        thread::Builder::new().name("margay-watchdog".to_owned()).spawn(move || watch.run())?;
        Ok(Self { is_over, endings })
    }

    /// Waits until the process has to end. May be dropped while it waits.
    pub(super) async fn verdict(&mut self) -> Ending {
        match self.endings.recv().await {
            Some(ending) => ending,
            None => future::pending().await,
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.is_over.store(true, Relaxed);
    }
}

/// What the thread has.
struct Watch {
    workers: Vec<Watched>,
    panics: Receiver<Panic>,
    ended: mpsc::UnboundedSender<Ending>,
    is_over: Arc<AtomicBool>,
}

impl Watch {
    fn run(self) {
        let begin = Instant::now();
        let mut judge = Judge::new(self.workers.len(), begin.elapsed());
        while !self.is_over.load(Relaxed) {
            let ending = match self.panics.recv_timeout(LOOK) {
                Ok(panic) => {
                    tracing::error!("{panic}");
                    Some(Ending::Panicked)
                }
                Err(RecvTimeoutError::Timeout) => self.look(&mut judge, begin.elapsed()),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if let Some(ending) = ending {
                self.end(ending);
                return;
            }
        }
    }

    /// Looks at each worker once.
    fn look(&self, judge: &mut Judge, now: Duration) -> Option<Ending> {
        judge.begin(now);
        for worker in &self.workers {
            let state = || ThreadState::read(worker.progress.thread()?);
            match judge.look(worker.index, worker.counters.turns.get(), state) {
                Finding::GetsOn => {}
                Finding::Still(time) => worker.stalls.note(time),
                Finding::Starved(time) => {
                    worker.stalls.starved.fetch_add(1, Relaxed);
                    tracing::warn!(
                        "worker {} got no processor for {} ms: others use core {}, which it should have for itself",
                        worker.index,
                        time.as_millis(),
                        worker.core
                    );
                }
                Finding::Stuck(time) => {
                    tracing::error!("{}", Stuck { worker, time });
                    return Some(Ending::Stuck);
                }
            }
        }
        None
    }

    /// Has the control thread end the process, or ends it where that does not.
    fn end(&self, ending: Ending) {
        // Without a control thread there is nothing to wait for.
        if self.ended.send(ending).is_ok() {
            thread::sleep(PATIENCE);
        }
        if !self.is_over.load(Relaxed) {
            tracing::error!("the control thread does not end the gateway either");
        }
        process::exit(ending.code().into());
    }
}

/// What is told of a worker that is stuck.
struct Stuck<'a> {
    worker: &'a Watched,
    time: Duration,
}

impl fmt::Display for Stuck<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Watched { index, core, progress, .. } = self.worker;
        let doing = progress.doing();
        write!(
            f,
            "worker {index} on core {core} has made no turn for {} ms: {doing}",
            self.time.as_millis()
        )?;
        if let Some(port) = doing.port() {
            write!(f, ", port number {}", port.0)?;
        }
        if let Some(thread) = progress.thread() {
            write!(f, "; of its thread {thread} the kernel says: {}", ThreadState::describe(thread))?;
        }
        f.write_str("; the gateway ends, to be started anew")
    }
}
