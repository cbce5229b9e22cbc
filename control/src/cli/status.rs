//! `margay status`: how a running gateway is.

use std::process::ExitCode;

use margay_control::admin::{Port, PortState, Status as Report, Traffic, Trouble};
use margay_control::flowlog;
use margay_control::metrics::lacking;

use super::Socket;
use super::watch::Shown;

/// Show how a running gateway is: snapshot, source, ports, workers, memory
///
/// Exit code 0 if it forwards as its source says, 1 if it does not (stderr says why), 2 if none answers.
#[derive(Debug, clap::Args)]
pub(crate) struct Status {
    #[command(flatten)]
    socket: Socket,
    #[command(flatten)]
    shown: Shown,
    /// Print nothing, and exit with code 0 if a gateway answers, whether or not it is ready.
    #[arg(long, conflicts_with = "watch")]
    live: bool,
}

impl Status {
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        if self.live {
            return self.ask().map(|_| ExitCode::SUCCESS);
        }
        let mut lacks = None;
        let ask = || {
            let report = self.ask()?;
            lacks = (!report.ready).then(|| lacking(&report));
            Ok(report)
        };
        self.shown.show(ask, text)?;
        let Some(lacks) = lacks else { return Ok(ExitCode::SUCCESS) };
        eprintln!("margay: not ready: {}", lacks.join("; "));
        Ok(ExitCode::FAILURE)
    }

    fn ask(&self) -> anyhow::Result<Report> {
        self.socket.get("/v1/status")
    }
}

fn text(report: &Report) -> String {
    let mut lines =
        vec![format!("node {}, up {} s, margay {}", report.node, report.uptime_seconds, report.version)];
    lines.push(match &report.snapshot {
        Some(snapshot) => {
            format!("snapshot {}, published {} s ago", snapshot.generation, snapshot.age_seconds)
        }
        None => "no snapshot yet".to_owned(),
    });
    lines.push(format!("source {}: {} problems", report.source.name, report.source.problems.len()));
    lines.extend(report.source.troubles.iter().map(trouble_line));
    lines.extend(report.source.problems.iter().map(|problem| format!("  {problem}")));
    lines.extend(report.reporting.iter().map(unwritten_line));
    for port in &report.ports {
        lines.push(port_line(port));
        lines.extend(port.traffic.iter().flat_map(traffic_lines));
    }
    for worker in &report.workers {
        lines.push(format!(
            "worker {} on core {}: {} turns, {} busy; flows {} new, {} expired, {} judged again",
            worker.index,
            worker.core,
            worker.turns,
            worker.busy_turns,
            worker.flows_inserted,
            worker.flows_expired,
            worker.flows_reclassified
        ));
        lines.extend(traffic_lines(&worker.traffic));
    }
    let table = &report.flow_table;
    lines.push(format!(
        "flow table: {} of {} connections, {} evicted",
        table.connections, table.capacity, table.evicted
    ));
    let umem = &report.umem;
    lines.push(format!(
        "umem: {} frames of {} bytes{}; FILL rings up to {}, pools {}, handed over {}, spare {}",
        umem.frames,
        umem.frame_size,
        if umem.huge_pages { " on huge pages" } else { "" },
        umem.fill_frames,
        umem.pools,
        umem.handed_over,
        umem.spare
    ));
    lines.extend(report.flow_log.iter().flat_map(flow_log_lines));
    // A verifier says much; the log has all of it.
    if let Some(why) = report.untold_gso.as_deref().and_then(|why| why.split("; ").next()) {
        lines.push(format!("in skb mode UDP that is several packets in one is dropped: {why}"));
    }
    lines.join("\n") + "\n"
}

fn trouble_line(trouble: &Trouble) -> String {
    let Trouble { what, why, since, for_seconds } = trouble;
    format!("  {what}: as last heard of, for {for_seconds} s (since {since}): {why}")
}

fn unwritten_line(trouble: &Trouble) -> String {
    let Trouble { what, why, since, for_seconds } = trouble;
    format!("{what}: not written for {for_seconds} s (since {since}): {why}")
}

fn port_line(port: &Port) -> String {
    let what = match (&port.pod, port.vlan) {
        (Some(pod), _) => format!("port {} ({} of {pod})", port.name, port.device),
        (None, Some(vlan)) => format!("port {} ({} {}, VLAN {vlan})", port.name, port.kind, port.device),
        (None, None) => format!("port {} ({} {})", port.name, port.kind, port.device),
    };
    match (port.state, &port.mode, port.queues) {
        (PortState::Open, Some(mode), Some(queues)) => {
            let copy = if port.zero_copy == Some(true) { "zero-copy" } else { "copy" };
            format!("{what}: {mode}, {copy}, {queues} queues")
        }
        (PortState::Failed, ..) => format!("{what}: failed: {}", port.error.as_deref().unwrap_or("unknown")),
        _ => format!("{what}: waits for its device"),
    }
}

fn flow_log_lines(log: &flowlog::Status) -> Vec<String> {
    let written: Vec<String> = log.written.iter().map(|(sink, count)| format!("{sink} {count}")).collect();
    let mut lines = vec![format!("flow log: {} records; written: {}", log.records, written.join(", "))];
    let lost = &log.lost;
    if !lost.is_nothing() {
        let records = lost.records.iter().map(|(sink, count)| format!("{sink} {count}"));
        lines.push(format!(
            "  lost: flows at workers {}, flow table {}, queue {}, interval {}; records at {}",
            lost.workers,
            lost.flow_table,
            lost.queue,
            lost.interval,
            records.collect::<Vec<_>>().join(", ")
        ));
    }
    lines.extend(log.failing.iter().map(|(sink, why)| format!("  {sink} takes nothing: {why}")));
    lines
}

fn traffic_lines(traffic: &Traffic) -> Vec<String> {
    let mut lines = vec![format!(
        "  rx {} ({} B), forwarded {}, tx {} ({} B), lost {}, answered {}",
        traffic.rx,
        traffic.rx_bytes,
        traffic.forwarded,
        traffic.tx,
        traffic.tx_bytes,
        traffic.tx_lost,
        traffic.answered
    )];
    if !traffic.drops.is_empty() {
        let drops: Vec<String> =
            traffic.drops.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        lines.push(format!("  dropped: {}", drops.join(", ")));
    }
    lines
}
