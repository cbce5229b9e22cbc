//! What keeping in step with a cluster costs: from an API server's answers to the snapshot that workers read.
//!
//! The server is one in memory, which makes the objects of a world as it is asked for them, or a real one that the
//! world is written to first. On the other side runs what `margay run` runs, without a dataplane.

mod churn;
mod cluster;
mod environment;
mod memory;
mod objects;
mod plane;
mod plot;
mod report;
mod template;
mod usage;
mod verdicts;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use margay_control::source::kubernetes::Access;
use margay_control::source::{KubernetesSource, Source};

pub use self::churn::Kind;
use self::churn::{Change, Ticket};
use self::cluster::Cluster;
pub use self::environment::Environment;
pub use self::memory::Lists;
use self::memory::MemoryServer;
use self::plane::Plane;
pub(crate) use self::plot::grouped;
pub use self::plot::plot;
pub use self::report::{Churn, Latency, Moment, OfKind, OfPhase, Report, Start};
use self::usage::Usage;
pub use self::verdicts::Phase;
use self::verdicts::Verdicts;
use crate::world::{PODS_OF_NODE, Size};

/// How often memory and processor time are looked at.
const SAMPLE: Duration = Duration::from_millis(500);
/// How long the first snapshot may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long the last verdicts may take.
const LATE: Duration = Duration::from_secs(30);

/// What to measure.
#[derive(Clone, Debug)]
pub struct Selection {
    pub nodes: u32,
    pub pods: u32,
    pub namespaces: u32,
    pub policies: u32,
    /// How long pods change.
    pub time: Duration,
    /// Changes a second.
    pub rate: u32,
    pub server: Server,
}

/// Who has the objects.
#[derive(Clone, Debug)]
pub enum Server {
    Memory(Lists),
    /// The cluster of this kubeconfig. What was made there is removed in the end, unless it is to be kept.
    Cluster {
        kubeconfig: PathBuf,
        keep: bool,
    },
}

/// Measures, and tells `progress` what comes next.
pub fn measure(selection: &Selection, mut progress: impl FnMut(&str)) -> anyhow::Result<Report> {
    let size = selection.size()?;
    match &selection.server {
        Server::Memory(lists) => {
            let server = MemoryServer::new(size, *lists);
            let source = {
                let server = Arc::clone(&server);
                KubernetesSource::with_clients("a server in memory", move || server.client())
            };
            let environment = Environment::here("in this process".to_owned());
            run(selection, size, environment, Box::new(source), |c, t| server.write(c, t), &mut progress)
        }
        Server::Cluster { kubeconfig, keep } => {
            let cluster = Cluster::open(kubeconfig, size)?;
            let version = cluster.version()?;
            let measured = cluster.populate(&mut progress).and_then(|()| {
                let source = KubernetesSource::new(Access::Kubeconfig(kubeconfig.clone()));
                let environment = Environment::here(format!("kube-apiserver {version}"));
                run(selection, size, environment, Box::new(source), |c, t| cluster.write(c, t), &mut progress)
            });
            if !keep {
                progress("removing what was written");
                if let Err(error) = cluster.clear() {
                    // What was measured stands all the same.
                    progress(&format!(
                        "not all of it is removed, which the next run will try again: {error:#}"
                    ));
                }
            }
            measured
        }
    }
}

impl Selection {
    fn size(&self) -> anyhow::Result<Size> {
        let Self { nodes, pods, namespaces, policies, .. } = *self;
        ensure!(
            u64::from(pods) <= u64::from(nodes) * u64::from(PODS_OF_NODE),
            "{pods} pods do not fit on {nodes} nodes: a node has {PODS_OF_NODE} at most"
        );
        Ok(Size { pods, policies, namespaces, nodes })
    }
}

fn run(
    selection: &Selection,
    size: Size,
    environment: Environment,
    source: Box<dyn Source>,
    write: impl FnMut(Change, Ticket),
    progress: &mut impl FnMut(&str),
) -> anyhow::Result<Report> {
    let mut churn = churn::Churn::new(size, selection.rate)?;
    progress("starting, to the first snapshot");
    let before = Usage::now()?;
    let sampler = Sampler::start(before)?;
    let plane = Plane::start(source)?;
    let first = plane.first(PATIENCE)?;
    let after = Usage::now()?;
    ensure!(
        (first.pods, first.policies) == (size.pods as usize, size.policies as usize),
        "the first snapshot is of {} pods and {} policies, and the world has {} and {}: was it published too early, or \
         is there more than this world in the cluster?",
        first.pods,
        first.policies,
        size.pods,
        size.policies
    );
    let start = Start {
        wall_s: report::seconds(first.at.duration_since(before.at)),
        cpu_s: report::seconds(after.cpu),
        resident_before_bytes: before.resident,
        resident_bytes: after.resident,
        resident_peak_bytes: usage::peak()?,
    };
    progress("changing pods");
    churn.run(selection.time, &plane.verdicts, write);
    let last = Usage::now()?;
    wait_for_the_last(&plane.verdicts)?;
    let (measured, failures) = plane.verdicts.finish();
    if let Some(first) = failures.first() {
        bail!("{} writes failed, as: {first}", failures.len());
    }
    let seconds = last.at.duration_since(after.at).as_secs_f64();
    let churn = Churn {
        seconds: report::seconds(last.at.duration_since(after.at)),
        changes: measured.len() as u64,
        rate_asked: selection.rate,
        rate: (measured.len() as f64 / seconds * 10.0).round() / 10.0,
        latency: Latency::of_all(measured.iter())?
            .context("no change was made: more seconds, or a higher rate")?,
        latency_by_kind: Latency::by_kind(&measured)?,
        phases: OfPhase::all(&measured)?,
        core_share: last.share_since(&after),
        resident_bytes: last.resident,
        trouble: plane.trouble(),
    };
    let timeline = report::timeline(before.at, &sampler.stop()?, &measured)?;
    let Selection { nodes, pods, namespaces, policies, .. } = *selection;
    Ok(Report { environment, nodes, pods, namespaces, policies, start, churn, timeline })
}

/// A verdict that never comes into force makes the run a failure: its time would be missing from the figures.
fn wait_for_the_last(verdicts: &Verdicts) -> anyhow::Result<()> {
    let deadline = Instant::now() + LATE;
    while verdicts.outstanding() > 0 {
        let outstanding = verdicts.outstanding();
        ensure!(Instant::now() < deadline, "{outstanding} verdicts did not come into force in {LATE:?}");
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Looks at what the process uses, time and again.
struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<Vec<Usage>>>,
}

impl Sampler {
    fn start(first: Usage) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new().name("load-sampler".to_owned());
        let thread = thread.spawn(move || {
            let mut samples = vec![first];
            while !stopped.load(Ordering::Acquire) {
                thread::park_timeout(SAMPLE);
                samples.push(Usage::now()?);
            }
            Ok(samples)
        });
        Ok(Self { stop, thread: thread.context("cannot start a thread")? })
    }

    fn stop(self) -> anyhow::Result<Vec<Usage>> {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        self.thread.join().unwrap_or_else(|_| bail!("the sampler panicked"))
    }
}
