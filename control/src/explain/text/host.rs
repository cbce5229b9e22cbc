//! What host endpoints say of a packet, for people.

use super::{decided, staged_line as line_of_staged, tier_lines, verdict_line as line_of_verdict};
use crate::explain::Decided;
use crate::explain::host::{HostPassage, HostSaid, HostSide, InterfaceKind, Skipped, Stage, StageTrace};

pub(super) fn verdict_line(name: &str, side: &HostSide) -> String {
    line_of_verdict(name, side.said.verdict, &format!("by {}: {}", interface(side), by(side, &side.said)))
}

pub(super) fn staged_line(name: &str, side: &HostSide) -> Option<String> {
    let staged = side.staged.as_ref()?;
    Some(line_of_staged(name, staged.said.verdict, staged.is_change, &by(side, &staged.said)))
}

pub(super) fn side_lines(name: &str, passage: &HostPassage, side: &HostSide, lines: &mut Vec<String>) {
    if side.said.stages.is_empty() && side.staged.is_none() {
        return;
    }
    let labels: Vec<String> = side.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let head = format!("{name} {} by {}  {}  {}", passage.node, interface(side), who(side), labels.join(" "));
    lines.extend([String::new(), head.trim_end().to_owned()]);
    side.said.stages.iter().for_each(|stage| stage_lines(stage, lines));
    if let Some(staged) = side.staged.as_ref().filter(|staged| staged.is_change) {
        lines.push("  if what is staged were enforced:".to_owned());
        indented(lines, |lines| staged.said.stages.iter().for_each(|stage| stage_lines(stage, lines)));
    }
}

fn stage_lines(stage: &StageTrace, lines: &mut Vec<String>) {
    let why = match stage.skipped {
        None => "",
        Some(Skipped::FailsafePort) => ": not asked at failsafe ports",
        Some(Skipped::NotForwarded) => ": not asked of what is for the node itself",
    };
    lines.push(format!("  {}{why}", word(stage.stage)));
    indented(lines, |lines| stage.tiers.iter().for_each(|tier| tier_lines(tier, lines)));
}

fn indented(lines: &mut Vec<String>, write: impl FnOnce(&mut Vec<String>)) {
    let mut deeper = Vec::new();
    write(&mut deeper);
    lines.extend(deeper.into_iter().map(|line| format!("  {line}")));
}

fn by(side: &HostSide, said: &HostSaid) -> String {
    let who = who(side);
    match (&said.decided, said.decided_at) {
        (Decided::NoEndpoint, _) => who,
        (Decided::NoPolicy, _) => format!("no policy of {who} is asked"),
        (by, None) => decided(by, &who),
        (by, Some(stage)) => format!("{}, {}", decided(by, &who), word(stage)),
    }
}

fn who(side: &HostSide) -> String {
    side.endpoint.as_ref().map_or_else(|| "no HostEndpoint".to_owned(), |name| format!("HostEndpoint {name}"))
}

fn interface(side: &HostSide) -> &str {
    side.interface.as_deref().unwrap_or(match side.kind {
        InterfaceKind::Pod => "the pod's port",
        InterfaceKind::Tunnel => "a tunnel",
        InterfaceKind::Uplink => "an uplink",
    })
}

fn word(stage: Stage) -> &'static str {
    match stage {
        Stage::Untracked => "doNotTrack",
        Stage::PreDnat => "preDNAT",
        Stage::Forward => "applyOnForward",
    }
}
