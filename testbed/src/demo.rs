//! The demonstration: two zones with Margay between them, probed and measured, then measured with the kernel in
//! Margay's place.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fs, process, thread};

use anyhow::{Context, Result, bail};
use margay_control::state::Name;
use nix::sys::signal::{SigSet, Signal};

use crate::lab::{self, Lab};
use crate::measure::{self, RoundTrips};
use crate::probe;
use crate::state::LabState;
use crate::topology::Dataplane;

/// The gateway whose place the kernel takes, and the pods in either zone that are measured: one across from it, one
/// behind it.
const GATEWAY: &str = "gw-a";
const FROM: (&str, &str) = ("far", "client");
const TO: (&str, &str) = ("shop", "bench");

const STREAM: Duration = Duration::from_secs(5);
const PINGS: usize = 500;
const PING_INTERVAL: Duration = Duration::from_millis(2);

/// Exit code of a program that SIGINT ended, by the shells' custom.
const INTERRUPTED_CODE: i32 = 130;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

struct Figures {
    bits_per_second: f64,
    round_trips: RoundTrips,
}

/// Runs the demonstration in the directory's world and prints what happened. Says whether every probe went as expected.
/// The lab is down again at the end, also after an error or Ctrl-C.
pub fn run(directory: &Path, name: &str, margay: &Path) -> Result<bool> {
    catch_interrupts()?;
    let manifests = directory.join("manifests");
    let manifests = fs::canonicalize(&manifests)
        .with_context(|| format!("cannot find {}: start in the project's directory", manifests.display()))?;
    let state = LabState {
        name: name.to_owned(),
        manifests,
        kubeconfig: None,
        margay: margay.to_owned(),
        queues: 1,
        cores: Vec::new(),
        dataplanes: [].into(),
        zero_checksum6: false,
        configuration: String::new(),
    };

    println!("Two zones in network namespaces; Margay is the gateway of zone a.");
    let with_margay = Standing::up(state.clone())?;
    let report = probe::run(&with_margay.0, &directory.join("probes.yaml"))?;
    println!("\n{report}");
    println!("Measuring {}/{} to {}/{} ...", FROM.0, FROM.1, TO.0, TO.1);
    let margay = with_margay.measure()?;
    drop(with_margay);

    println!("The same with the kernel in Margay's place ...\n");
    let with_kernel =
        Standing::up(LabState { dataplanes: [(GATEWAY.into(), Dataplane::Kernel)].into(), ..state })?;
    let kernel = with_kernel.measure()?;
    drop(with_kernel);

    print_comparison(&margay, &kernel);
    Ok(report.agrees())
}

fn print_comparison(margay: &Figures, kernel: &Figures) {
    type Figure = fn(&Figures) -> f64;
    let rows: [(&str, Figure); 3] = [
        ("one TCP stream, Gbit/s", |figures| figures.bits_per_second / 1e9),
        ("ping p50, ms", |figures| figures.round_trips.percentile(50)),
        ("ping p99, ms", |figures| figures.round_trips.percentile(99)),
    ];
    println!("{:24}{:>10}{:>10}", format!("through {GATEWAY}"), "Margay", "kernel");
    for (what, figure) in rows {
        println!("{what:24}{:10.3}{:10.3}", figure(margay), figure(kernel));
    }
    let lost = |figures: &Figures| format!("{}/{}", figures.round_trips.lost(), figures.round_trips.sent);
    println!("{:24}{:>10}{:>10}", "pings lost", lost(margay), lost(kernel));
    println!(
        "The kernel forwards and tunnels; unlike Margay it enforces no policy and tracks no connection."
    );
}

/// A lab that goes down with its owner.
struct Standing(Lab);

impl Standing {
    fn up(state: LabState) -> Result<Self> {
        stop_if_interrupted()?;
        Lab::up(state, &mut |line| println!("  {line}")).map(Self)
    }

    fn measure(&self) -> Result<Figures> {
        let topology = &self.0.topology;
        let pod = |(namespace, name)| {
            topology
                .pods
                .get(&Name::new(namespace, name))
                .with_context(|| format!("no pod {namespace}/{name}"))
        };
        let (from, to) = (pod(FROM)?, pod(TO)?);
        let address = to.addresses[0].to_string();
        stop_if_interrupted()?;
        let round_trips = measure::ping(&from.netns, &address, PINGS, PING_INTERVAL)?;
        stop_if_interrupted()?;
        let bits_per_second = measure::tcp_throughput(&from.netns, &to.netns, &address, STREAM)?;
        stop_if_interrupted()?;
        Ok(Figures { bits_per_second, round_trips })
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        if let Err(error) = lab::down(&self.0.state.name) {
            eprintln!("margay-lab: the lab could not be removed: {error:#}");
        }
    }
}

/// From the first SIGINT or SIGTERM on the demonstration ends at its next step, which takes the lab down; a second one
/// ends it where it is.
fn catch_interrupts() -> Result<()> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    signals.thread_block().context("cannot block SIGINT")?;
    thread::spawn(move || {
        while signals.wait().is_ok() {
            if INTERRUPTED.swap(true, Ordering::Relaxed) {
                process::exit(INTERRUPTED_CODE);
            }
        }
    });
    Ok(())
}

fn stop_if_interrupted() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}
