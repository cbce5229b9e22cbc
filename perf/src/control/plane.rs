//! The control side as `margay run` has it, without a dataplane: the source on its thread, the compiler and the
//! publisher on another, and a reader that keeps up as a worker does.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use margay_control::compile::Compiler;
use margay_control::identity::Identity;
use margay_control::run::COALESCE;
use margay_control::source::{Source, SourceEvent, Trouble};
use margay_flowtable::Snapshot;
use margay_flowtable::publish::{Publisher, Reader};

use super::verdicts::Verdicts;
use crate::world;

/// How often indexes that do not know the newest pods are made anew, as in `margay run`.
const SETTLE: Duration = Duration::from_millis(5);

/// What the control thread has to say.
#[derive(Debug)]
enum Notice {
    /// The first snapshot is published, of so many pods and policies.
    Published {
        at: Instant,
        pods: usize,
        policies: usize,
    },
    Trouble(String),
}

/// The control side, running. It ends with the process, but for the reader.
#[derive(Debug)]
pub(super) struct Plane {
    notices: Receiver<Notice>,
    reader: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    pub(super) verdicts: Arc<Verdicts>,
}

/// The first snapshot.
#[derive(Clone, Copy, Debug)]
pub(super) struct First {
    pub(super) at: Instant,
    pub(super) pods: usize,
    pub(super) policies: usize,
}

impl Plane {
    pub(super) fn start(source: Box<dyn Source>) -> anyhow::Result<Self> {
        let mut publisher = Publisher::new(Snapshot::default());
        let (verdicts, stop) = (Arc::new(Verdicts::default()), Arc::new(AtomicBool::new(false)));
        let reader = {
            let (reader, verdicts, stop) = (publisher.reader(), Arc::clone(&verdicts), Arc::clone(&stop));
            named("load-reader", move || look(reader, &verdicts, &stop))?
        };
        let (sender, events) = mpsc::sync_channel(1);
        named("margay-source", move || {
            source.run(&mut |event| match sender.send((Instant::now(), event)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            });
        })?;
        let (notices, received) = mpsc::channel();
        let control = Control {
            compiler: Compiler::new(Identity::new(world::GATEWAY)),
            publisher,
            published: None,
            reader: reader.thread().clone(),
            verdicts: Arc::clone(&verdicts),
            notices,
        };
        named("margay-control", move || control.run(&events))?;
        Ok(Self { notices: received, reader: Some(reader), stop, verdicts })
    }

    /// Waits for the first snapshot.
    pub(super) fn first(&self, patience: Duration) -> anyhow::Result<First> {
        let deadline = Instant::now() + patience;
        let mut trouble = String::from("the source says nothing");
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.notices.recv_timeout(left) {
                Ok(Notice::Published { at, pods, policies }) => return Ok(First { at, pods, policies }),
                Ok(Notice::Trouble(why)) => trouble = why,
                Err(RecvTimeoutError::Timeout) => bail!("no snapshot in {patience:?}: {trouble}"),
                Err(RecvTimeoutError::Disconnected) => bail!("the source has ended: {trouble}"),
            }
        }
    }

    /// What the source has said since that it could not do.
    pub(super) fn trouble(&self) -> Vec<String> {
        let said = |notice| match notice {
            Notice::Trouble(why) => Some(why),
            Notice::Published { .. } => None,
        };
        self.notices.try_iter().filter_map(said).collect()
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(reader) = self.reader.take() {
            reader.thread().unpark();
            // A panic of its own stands on stderr.
            let _ = reader.join();
        }
    }
}

fn named(name: &str, run: impl FnOnce() + Send + 'static) -> anyhow::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(run).context("cannot start a thread")
}

/// Looks up verdicts in each snapshot as soon as it is there.
fn look(mut reader: Reader<Snapshot>, verdicts: &Verdicts, stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        let policies = &reader.current().policies;
        verdicts.look(policies, Instant::now());
        thread::park();
    }
}

struct Control {
    compiler: Compiler,
    publisher: Publisher<Snapshot>,
    published: Option<Instant>,
    reader: Thread,
    verdicts: Arc<Verdicts>,
    notices: Sender<Notice>,
}

impl Control {
    /// As the loop of `margay run`: what comes is compiled at once, and published when the last publication is long
    /// enough ago.
    fn run(mut self, events: &Receiver<(Instant, SourceEvent)>) {
        let mut due: Option<Instant> = None;
        loop {
            let stale = self.compiler.has_stale_indexes().then_some(SETTLE);
            let wait = due.map(|due| due.saturating_duration_since(Instant::now())).or(stale);
            let event = match wait {
                Some(wait) => events.recv_timeout(wait),
                None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match event {
                Ok((delivered, SourceEvent::Changes { changes, .. })) => {
                    self.verdicts.take(&changes, delivered);
                    self.compiler.apply(changes);
                    let soonest = self.published.map_or_else(Instant::now, |published| published + COALESCE);
                    due.get_or_insert(soonest);
                }
                Ok((_, SourceEvent::Trouble(troubles))) => self.tell(&troubles),
                Err(RecvTimeoutError::Timeout) if due.is_none() => self.refresh(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if due.is_some_and(|due| due <= Instant::now()) {
                due = None;
                self.publish();
            }
        }
    }

    fn tell(&self, troubles: &[Trouble]) {
        for Trouble { what, why, .. } in troubles {
            // Nobody may listen any more.
            let _ = self.notices.send(Notice::Trouble(format!("{what}: {why}")));
        }
    }

    fn publish(&mut self) {
        self.verdicts.begin(Instant::now());
        let snapshot = self.compiler.snapshot(self.publisher.current());
        self.publisher.publish(snapshot);
        self.reader.unpark();
        let at = Instant::now();
        if self.published.replace(at).is_none() {
            let cluster = self.compiler.cluster();
            let (pods, policies) = (cluster.pods.len(), cluster.policies.len());
            // Nobody may wait for it any more.
            let _ = self.notices.send(Notice::Published { at, pods, policies });
        }
    }

    fn refresh(&mut self) {
        if let Some(snapshot) = self.compiler.refresh_indexes(self.publisher.current()) {
            self.publisher.publish(snapshot);
            self.reader.unpark();
        }
    }
}
