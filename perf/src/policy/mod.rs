//! What policy costs at scale: the first packet of a flow, and each kind of change from the event in the control thread
//! to the snapshot that workers see.

mod changes;
mod first_packet;

use hdrhistogram::Histogram;
use margay_control::compile::Compiler;
use margay_control::identity::Identity;
use margay_control::state::Change;
use margay_flowtable::Snapshot;
use margay_flowtable::publish::Publisher;
use serde::Serialize;

use crate::world::{self, PODS_OF_NODE, Size, Spread};

/// One figure. Times are nanoseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub case: &'static str,
    pub policies: u32,
    pub endpoints: u32,
    pub samples: u64,
    pub p50_ns: f64,
    pub p99_ns: f64,
    pub max_ns: f64,
    /// Resident memory of this process when the case was done, in bytes.
    pub resident: u64,
}

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Selection {
    pub policies: u32,
    pub endpoints: u32,
    /// Changes of each kind.
    pub changes: u32,
}

/// Namespaces that policies are spread over.
const NAMESPACES: u32 = 1000;

/// Measures every case, and tells `progress` what comes next.
pub fn measure(selection: Selection, mut progress: impl FnMut(&str)) -> anyhow::Result<Vec<Report>> {
    let Selection { policies, endpoints, changes } = selection;
    let size =
        Size { pods: endpoints, policies, namespaces: NAMESPACES, nodes: endpoints.div_ceil(PODS_OF_NODE) };
    let mut reports = Vec::new();
    let mut report = |case, samples: &Histogram<u64>, scale: f64| {
        reports.push(Report {
            case,
            policies,
            endpoints,
            samples: samples.len(),
            p50_ns: samples.value_at_quantile(0.5) as f64 / scale,
            p99_ns: samples.value_at_quantile(0.99) as f64 / scale,
            max_ns: samples.max() as f64 / scale,
            resident: resident(),
        });
    };
    progress("compile from nothing");
    let mut control = Control::start(size, Spread::Namespaces, &mut report)?;
    progress("first packets, policies spread over the namespaces");
    first_packet::spread(&control.snapshot().policies, size, "first-packet-spread", &mut report)?;
    for kind in changes::Kind::ALL {
        progress(kind.name());
        changes::measure(&mut control, kind, size, changes, &mut report)?;
    }
    drop(control);
    let to_one = [
        (Spread::OnePod, "first-packet-one-pod"),
        (Spread::OnePodAllPeers, "first-packet-one-pod-all-peers"),
        (Spread::OnePodTeams, "first-packet-one-pod-teams"),
        (Spread::OnePodBlocks, "first-packet-one-pod-blocks"),
    ];
    for (spread, case) in to_one {
        progress(case);
        let control = Control::start(size, spread, &mut |_, _, _| {})?;
        first_packet::to_one(&control.snapshot().policies, size, case, &mut report)?;
    }
    Ok(reports)
}

/// Takes a case, its samples, and what one of them is to be divided by to be nanoseconds.
type Sink<'a> = dyn FnMut(&'static str, &Histogram<u64>, f64) + 'a;

/// The control thread's part from event to snapshot, with one worker's reader that keeps up.
struct Control {
    compiler: Compiler,
    publisher: Publisher<Snapshot>,
    reader: margay_flowtable::publish::Reader<Snapshot>,
}

impl Control {
    fn start(size: Size, spread: Spread, report: &mut Sink<'_>) -> anyhow::Result<Self> {
        let mut publisher = Publisher::new(Snapshot::default());
        let reader = publisher.reader();
        let compiler = Compiler::new(Identity::new(world::GATEWAY));
        let mut control = Self { compiler, publisher, reader };
        let changes = world::cluster(size, spread).into_changes();
        let mut samples = Histogram::new(3)?;
        samples.record(control.take(changes))?;
        report("compile-from-nothing", &samples, 1.0);
        Ok(control)
    }

    /// Has the changes made and published. Returns how long that took, in nanoseconds.
    fn take(&mut self, changes: Vec<Change>) -> u64 {
        let start = std::time::Instant::now();
        self.compiler.apply(changes);
        let snapshot = self.compiler.snapshot(self.publisher.current());
        self.publisher.publish(snapshot);
        let taken = start.elapsed();
        self.reader.current();
        u64::try_from(taken.as_nanos()).unwrap_or(u64::MAX)
    }

    fn snapshot(&self) -> &Snapshot {
        self.publisher.current()
    }
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let resident = pages.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    resident.unwrap_or(0) * 4096
}
