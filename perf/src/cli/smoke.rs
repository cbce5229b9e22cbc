//! `margay perf smoke`.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use margay_perf::lab::case::name;
use margay_perf::lab::load::Tools;
use margay_perf::lab::lock::{self, Lock};
use margay_perf::lab::outcome::Outcome;
use margay_perf::lab::run::Bench;
use margay_perf::lab::schedule::Watch;
use margay_perf::lab::schedule::plan::{Ask, Turn};
use margay_perf::lab::smoke::{LEAST, ratios};
use margay_perf::lab::stop::Stop;
use margay_perf::{count, gate};
use nix::unistd::geteuid;

/// Fail where the packet function allocates, or Margay is far slower than the bare forwarder beside it (root)
#[derive(Debug, Args)]
pub(super) struct Smoke {}

impl Smoke {
    pub(super) fn run() -> anyhow::Result<ExitCode> {
        for (name, case) in gate::cases() {
            let allocations = count::allocations(&case).with_context(|| name.clone())?;
            ensure!(allocations <= 0.0, "{name}: {allocations} allocations a packet");
        }
        println!("no packet allocates");
        ensure!(geteuid().is_root(), "root is needed, to make namespaces and links: run it with sudo");
        let _lock = Lock::take(Path::new(lock::FILE))?;
        let stop = Stop::on_signals()?;
        let mut bench = Bench::new(Tools::default(), false, stop.clone())?;
        let found = ratios(&mut bench, &mut Onlooker { began: Instant::now(), stop })?;
        for ratio in &found {
            println!("Margay over the bare forwarder: {ratio:.3}, at least {LEAST}");
        }
        let holds = found.last().is_some_and(|ratio| *ratio >= LEAST);
        Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Says what is done, and keeps nothing.
struct Onlooker {
    began: Instant,
    stop: Stop,
}

impl Watch for Onlooker {
    fn is_stopped(&self) -> bool {
        self.stop.is_asked()
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn comes(&mut self, round: u32, turn: &Turn, ask: Option<&Ask>) {
        if ask.is_none() {
            eprintln!("round {}: {}", round + 1, name(&turn.dataplane));
        }
    }

    fn done(&mut self, _: Duration) {}

    fn failed(&mut self, ask: &Ask, reason: &str) {
        eprintln!("{}: {reason}", name(&ask.case.dataplane));
    }

    fn keep(&mut self, _: &Outcome) -> anyhow::Result<()> {
        Ok(())
    }
}
