//! `margay policies`: what rules of a running gateway have counted, and what they have dropped of late.

use std::process::ExitCode;

use margay_control::admin::policies::{Counts, Direction, DropRow, Packet, Policies as Report, Rule};

use super::Socket;
use super::table::table;
use super::watch::Shown;

/// Show what each policy rule of a running gateway has counted: the most packets first, then rules that never matched
///
/// Packets and bytes are those of the flows that a rule admitted, in both directions, and those that it denied; of Log and
/// Pass rules and staged ones, those of the flows that they matched.
#[derive(Debug, clap::Args)]
pub(crate) struct Policies {
    #[command(flatten)]
    socket: Socket,
    /// Show what policy has dropped of late instead: by rule and pod, the latest first.
    #[arg(long)]
    drops: bool,
    #[command(flatten)]
    shown: Shown,
}

impl Policies {
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        let mut notes = Vec::new();
        let mut ask = || {
            let report: Report = self.socket.get("/v1/policies")?;
            notes = untold(&report);
            Ok(report)
        };
        if self.drops {
            self.shown.show(|| ask().map(|report| report.drops), |drops| drop_table(drops))?;
        } else {
            self.shown.show(ask, rule_table)?;
        }
        for note in notes {
            eprintln!("margay: {note}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What is not in the tables.
fn untold(report: &Report) -> Vec<String> {
    let (flows, drops) = (report.flows_cut_short, report.drops_lost);
    let cut = format!(
        "{flows} flows passed more Log, Pass and staged rules than can be kept; some of these counted the first packet \
         alone"
    );
    let lost = format!("{drops} drops came too fast to be kept one by one; the rules have counted them");
    [(flows, cut), (drops, lost)].into_iter().filter(|(count, _)| *count > 0).map(|(_, note)| note).collect()
}

fn rule_table(report: &Report) -> String {
    let header = ["PACKETS", "BYTES", "FLOWS", "DENIED", "DIRECTION", "RULE", "POLICY"];
    let counts = |counts: &Counts| {
        [counts.packets, counts.bytes, counts.flows, counts.denied].map(|count| count.to_string())
    };
    let mut rows: Vec<[String; 7]> = Vec::with_capacity(report.rules.len() + 1);
    for row in &report.rules {
        let [packets, bytes, flows, denied] = counts(&row.counts);
        let [direction, place, policy] = cells(&row.rule);
        rows.push([packets, bytes, flows, denied, direction, place, policy]);
    }
    if report.beyond != Counts::default() {
        let [packets, bytes, flows, denied] = counts(&report.beyond);
        let what = "(rules beyond policy.rules, together)".to_owned();
        rows.push([packets, bytes, flows, denied, "-".to_owned(), "-".to_owned(), what]);
    }
    table(header, rows.into_iter())
}

pub(super) fn drop_table(drops: &[DropRow]) -> String {
    let header = ["LAST", "DROPS", "POD", "PACKET", "DIRECTION", "RULE", "POLICY"];
    let row = |drop: &DropRow| {
        let unknown =
            || [word(drop.direction).to_owned(), "-".to_owned(), "(a part of policy was missing)".to_owned()];
        let [direction, place, policy] = drop.rule.as_ref().map_or_else(unknown, cells);
        let last = format!("{} s ago", drop.last_seen_seconds_ago);
        [last, drop.count.to_string(), drop.endpoint.clone(), packet(&drop.last), direction, place, policy]
    };
    table(header, drops.iter().map(row))
}

/// Direction, place and policy.
fn cells(rule: &Rule) -> [String; 3] {
    let place = rule.rule.map_or_else(|| "end of tier".to_owned(), |place| place.to_string());
    [word(rule.direction).to_owned(), place, format!("{} {}", rule.kind, rule.policy)]
}

fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

fn packet(packet: &Packet) -> String {
    let Packet { src, dst, sport, dport, .. } = packet;
    match (packet.protocol, packet.icmp) {
        (_, Some((kind, code))) => format!("{src} > {dst} icmp {kind}/{code}"),
        (6, _) => format!("{src}:{sport} > {dst}:{dport} tcp"),
        (17, _) => format!("{src}:{sport} > {dst}:{dport} udp"),
        (132, _) => format!("{src}:{sport} > {dst}:{dport} sctp"),
        (number, _) => format!("{src} > {dst} protocol {number}"),
    }
}
