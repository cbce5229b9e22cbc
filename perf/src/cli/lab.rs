//! `margay perf lab`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use margay_perf::lab::case::{Dataplane, IMIX_SIZE, Job, name};
use margay_perf::lab::keep::Keep;
use margay_perf::lab::load::{Receiver, Sender, Tools};
use margay_perf::lab::lock::{self, Lock};
use margay_perf::lab::outcome::{Outcome, told};
use margay_perf::lab::progress::{self, Progress};
use margay_perf::lab::run::Bench;
use margay_perf::lab::schedule::plan::{Ask, Plan, Scope, Selection, Turn};
use margay_perf::lab::schedule::{self, Watch};
use margay_perf::lab::stages::stages;
use margay_perf::lab::stop::Stop;
use margay_perf::lab::summary;
use nix::unistd::geteuid;

/// What a shell expects of a program that Ctrl-C has ended.
const INTERRUPTED: u8 = 130;

/// Measure Margay beside the kernel, Open vSwitch and a bare forwarder, in turns, in namespaces of this machine (root)
#[derive(Debug, Args)]
pub(super) struct Lab {
    /// Five minutes in place of an hour: what the goals speak of.
    #[arg(long)]
    quick: bool,
    /// One job or several; all of the plan where it is not given.
    #[arg(long, value_delimiter = ',')]
    job: Vec<Job>,
    /// One dataplane or several.
    #[arg(long, value_delimiter = ',')]
    dataplane: Vec<Dataplane>,
    /// Bytes of the inner frame, FCS counted, or `imix`, in place of those of the plan.
    #[arg(long, value_delimiter = ',', value_parser = size)]
    sizes: Vec<u16>,
    /// Flows, in place of those of the plan.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    flows: Vec<u32>,
    /// Policies that select the pod, its packets matching the last, in place of those of the plan.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(0..=100_000))]
    policies: Vec<u32>,
    /// Rounds over all of it; the figures are medians.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeats: Option<u32>,
    /// Of one trial.
    #[arg(long, value_parser = seconds)]
    seconds: Option<Duration>,
    /// Who sends: live frames where packets are short enough for them, if nothing else is said.
    #[arg(long)]
    source: Option<Sender>,
    /// Who receives.
    #[arg(long, value_enum, default_value_t)]
    sink: Receiver,
    /// IP-in-IP where the jobs say VXLAN: of Margay and the bare forwarder. The files say so under `machine.load`.
    #[arg(long)]
    ipip: bool,
    /// Where report.html, results.csv, results.json and details.json go.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Lab {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let out = self.out.clone();
        let (tools, ipip) = (Tools::new(self.source, self.sink)?, self.ipip);
        let plan = Plan::new(&self.selection())?;
        ensure!(geteuid().is_root(), "root is needed, to make namespaces and links: run it with sudo");
        let _lock = Lock::take(Path::new(lock::FILE))?;
        let stop = Stop::on_signals()?;
        let mut bench = Bench::new(tools, ipip, stop.clone())?;
        let command: Vec<String> = std::env::args().skip(1).collect();
        let keep = Keep::new(&out, format!("margay perf {}", command.join(" ")), tools.told(ipip))?;
        let time = progress::told(plan.estimate());
        let (cases, repeats) = (plan.cases().len(), plan.effort.repeats);
        eprintln!("{cases} cases, {repeats} times: about {time}");
        let mut watch = Looker { progress: Progress::new(plan.estimate())?, stop, keep: &keep, repeats };
        let mut outcome = schedule::run(&plan, &mut bench, &mut watch)?;
        plan.notes().into_iter().for_each(|note| outcome.note(note));
        let with_margay = plan.cases().iter().any(|case| case.dataplane == Dataplane::Margay);
        let stages = if with_margay && !outcome.is_interrupted {
            watch.progress.comes("the passes of Margay's packet function");
            stages().unwrap_or_else(|error| {
                outcome.note(format!("the passes of Margay's packet function are not known: {error:#}"));
                vec![]
            })
        } else {
            vec![]
        };
        watch.progress.end();
        let (results, details) = keep.finish(&outcome, stages)?;
        print!("{}", summary::table(&results));
        for note in &details.notes {
            println!("note: {note}");
        }
        for failure in &details.failures {
            println!("failed: {} of {}: {}", failure.what, told(&failure.case), failure.reason);
        }
        println!("{}", keep.file("report.html").display());
        Ok(code(&outcome))
    }

    fn selection(self) -> Selection {
        let Self { quick, job: jobs, dataplane: dataplanes, sizes, flows, policies, repeats, ipip, .. } =
            self;
        let scope = if quick { Scope::Quick } else { Scope::Full };
        Selection { scope, jobs, dataplanes, sizes, flows, policies, repeats, time: self.seconds, ipip }
    }
}

/// Figures that are missing, or were not waited for, are no success.
fn code(outcome: &Outcome) -> ExitCode {
    match (outcome.is_interrupted, outcome.failures().is_empty()) {
        (true, _) => ExitCode::from(INTERRUPTED),
        (false, true) => ExitCode::SUCCESS,
        (false, false) => ExitCode::FAILURE,
    }
}

fn size(text: &str) -> Result<u16, String> {
    match (text, text.parse()) {
        ("imix", _) => Ok(IMIX_SIZE),
        (_, Ok(IMIX_SIZE)) => Err(format!("{IMIX_SIZE} stands for imix: one byte more or less will do")),
        (_, Ok(size @ 64..=9000)) => Ok(size),
        _ => Err(format!("{text} is not in 64..=9000, and not imix")),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("{text} is not in 0.1..=600")),
    }
}

/// Shows how far it is, and keeps what is found.
struct Looker<'a> {
    progress: Progress,
    stop: Stop,
    keep: &'a Keep,
    repeats: u32,
}

impl Watch for Looker<'_> {
    fn is_stopped(&self) -> bool {
        self.stop.is_asked()
    }

    fn elapsed(&self) -> Duration {
        self.progress.elapsed()
    }

    fn comes(&mut self, round: u32, turn: &Turn, ask: Option<&Ask>) {
        let what = ask.map_or_else(
            || format!("starting {} for {}", name(&turn.dataplane), name(&turn.job)),
            |ask| format!("{} of {}", ask.what.name(ask.case.job), told(&ask.case)),
        );
        self.progress.comes(&format!("{} of {}: {what}", round + 1, self.repeats));
    }

    fn done(&mut self, estimate: Duration) {
        self.progress.done(estimate);
    }

    fn failed(&mut self, ask: &Ask, reason: &str) {
        let what = ask.what.name(ask.case.job);
        self.progress.say(&format!("{what} of {} failed: {reason}", told(&ask.case)));
    }

    fn keep(&mut self, outcome: &Outcome) -> anyhow::Result<()> {
        self.keep.write(outcome, vec![]).map(drop)
    }
}
