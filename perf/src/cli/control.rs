//! `margay perf control`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use margay_perf::control::{Latency, Lists, Report, Selection, Server, measure, plot};

use super::Output;

/// Time the control side of a large cluster: from an API server's answers to the first snapshot, then each change of a pod
#[derive(Debug, Args)]
pub(super) struct Control {
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    nodes: u32,
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(20..=1_000_000))]
    pods: u32,
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    namespaces: u32,
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    policies: u32,
    /// How long pods change.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// Changes of pods a second.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// The API server in memory sends whole lists as streams, as Kubernetes does from 1.32 on.
    #[arg(long, conflicts_with = "kubeconfig")]
    streaming_lists: bool,
    /// Write the objects to the cluster of this kubeconfig, measure there, and remove them. Only a cluster that is marked
    /// as disposable, and has no nodes and pods of its own, is written to.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Leave the objects in the cluster; the next run finds most of its work done.
    #[arg(long, requires = "kubeconfig")]
    keep: bool,
    /// Draw the figures over time, as SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl Control {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Self { nodes, pods, namespaces, policies, seconds, rate, .. } = self;
        let lists = if self.streaming_lists { Lists::Streaming } else { Lists::Paged };
        let server = match self.kubeconfig {
            Some(kubeconfig) => Server::Cluster { kubeconfig, keep: self.keep },
            None => Server::Memory(lists),
        };
        let time = Duration::from_secs(u64::from(seconds));
        let selection = Selection { nodes, pods, namespaces, policies, time, rate, server };
        let report = measure(&selection, |what| eprintln!("{what}"))?;
        if let Some(file) = &self.plot {
            plot(&report, file)?;
        }
        self.output.print(&[report], text)
    }
}

fn text(reports: &[Report]) -> String {
    reports.iter().map(one).collect()
}

fn one(report: &Report) -> String {
    let Report { environment, nodes, pods, namespaces, policies, start, churn, .. } = report;
    let mb = |bytes: u64| bytes / 1_000_000;
    let head = format!(
        "{nodes} nodes, {pods} pods, {namespaces} namespaces, {policies} policies; API server {}\n\
         first snapshot: {:.2} s of CPU, {:.2} s, resident {} MB ({} MB at most, {} MB before)\n\
         changes of pods: {} in {:.1} s ({} a second), {:.1} % of a core, resident {} MB\n\
         {:<12} {:>8} {:>10} {:>10} {:>10} {:>10}\n",
        environment.server,
        start.cpu_s,
        start.wall_s,
        mb(start.resident_bytes),
        mb(start.resident_peak_bytes),
        mb(start.resident_before_bytes),
        churn.changes,
        churn.seconds,
        churn.rate,
        churn.core_share * 100.0,
        mb(churn.resident_bytes),
        "CHANGE",
        "CHANGES",
        "P50 MS",
        "P90 MS",
        "P99 MS",
        "MAX MS"
    );
    let kinds = churn.latency_by_kind.iter().map(|of| (of.kind.name(), of.changes, of.latency));
    let lines = kinds.chain([("all", churn.changes, churn.latency)]).map(|(name, changes, latency)| {
        let Latency { p50_ms, p90_ms, p99_ms, max_ms } = latency;
        format!("{name:<12} {changes:>8} {p50_ms:>10.3} {p90_ms:>10.3} {p99_ms:>10.3} {max_ms:>10.3}\n")
    });
    let phases = churn.phases.iter().map(|of| {
        let (name, Latency { p50_ms, p90_ms, p99_ms, max_ms }) = (of.phase.name(), of.latency);
        format!(
            "{name:<12} {:>8.3} {p50_ms:>10.3} {p90_ms:>10.3} {p99_ms:>10.3} {max_ms:>10.3}\n",
            of.slowest_ms
        )
    });
    let of_which = format!("{:<12} {:>8}\n", "OF WHICH", "SLOW MS");
    let trouble = churn.trouble.iter().map(|trouble| format!("trouble: {trouble}\n"));
    lines.chain([of_which]).chain(phases).chain(trouble).fold(head, |text, line| text + &line)
}
