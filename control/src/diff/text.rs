//! A difference for people.

use super::{Change, Diff, EXAMPLES, Ends, FlowChange, Half, Judged, Kind, PairChange};
use crate::probe::Expect;
use crate::state::Protocol;

pub fn text(diff: &Diff) -> String {
    let mut lines = Vec::new();
    for pair in &diff.pairs {
        pair_lines(pair, &mut lines);
    }
    lines.extend(diff.flows.iter().map(flow_line));
    let count = |count: usize, what: &str| (count > 0).then(|| format!("{count} {what}"));
    lines.extend(count(diff.only_old, "pods are in OLD alone, and compared with nothing"));
    lines.extend(count(diff.only_new, "pods are in NEW alone, and compared with nothing"));
    lines.extend(count(diff.pairs_left_out, "pairs of groups were not looked at: there may be more"));
    if diff.is_empty() {
        lines.push("no verdict changes".to_owned());
    }
    lines.join("\n") + "\n"
}

fn pair_lines(pair: &PairChange, lines: &mut Vec<String>) {
    let names_nodes = [&pair.from, &pair.to].iter().any(|ends| ends.kind == Kind::Nodes);
    let own = match (pair.own_node, names_nodes) {
        (true, _) => "  (its own node)",
        (false, true) => "  (other nodes than its own)",
        (false, false) => "",
    };
    let family = if pair.family == 6 { "  (IPv6)" } else { "" };
    lines.push(format!("{} -> {}{own}{family}", ends(&pair.from), ends(&pair.to)));
    // One line for all headers that the same rules decide.
    let mut told: Vec<(&Change, Vec<String>)> = Vec::new();
    for change in &pair.changes {
        let is_alike =
            |(known, _): &&mut (&Change, _)| (&known.old, &known.new) == (&change.old, &change.new);
        match told.iter_mut().find(is_alike) {
            Some((_, alike)) => alike.push(headers(change)),
            None => told.push((change, vec![headers(change)])),
        }
    }
    for (change, headers) in told {
        lines.push(format!("  {} to {}  {}", word(&change.old), word(&change.new), headers.join(", ")));
        lines.push(format!("    old  {}", judged(&change.old)));
        lines.push(format!("    new  {}", judged(&change.new)));
    }
    lines.push(String::new());
}

fn ends(ends: &Ends) -> String {
    let examples: Vec<&str> = ends.members.iter().take(EXAMPLES).map(|member| &**member).collect();
    let more = ends.count - examples.len();
    let what = match ends.kind {
        Kind::Pods => "pods",
        Kind::Nodes => "addresses of nodes",
        Kind::Addresses => "ranges",
    };
    match more {
        0 => examples.join(", "),
        more => format!("{} and {more} more {what}", examples.join(", ")),
    }
}

fn word(judged: &Judged) -> &'static str {
    match judged.verdict {
        Expect::Allow => "allow",
        Expect::Deny => "deny",
    }
}

fn headers(change: &Change) -> String {
    let mut parts = vec![change.protocol.map_or("other protocols".to_owned(), protocol)];
    parts.extend(change.ports.map(range));
    parts.extend(change.sports.map(|sports| format!("from ports {}", range(sports))));
    match change.icmp {
        Some((Some(kind), Some(code))) => parts.push(format!("type {kind} code {code}")),
        Some((Some(kind), None)) => parts.push(format!("type {kind}, other codes")),
        Some((None, _)) | None => {}
    }
    parts.join(" ")
}

fn protocol(number: u8) -> String {
    match Protocol(number) {
        Protocol::TCP => "TCP".to_owned(),
        Protocol::UDP => "UDP".to_owned(),
        Protocol::SCTP => "SCTP".to_owned(),
        Protocol::ICMP => "ICMP".to_owned(),
        Protocol::ICMPV6 => "ICMPv6".to_owned(),
        Protocol(other) => format!("protocol {other}"),
    }
}

fn range(range: (u16, u16)) -> String {
    match range {
        (0, u16::MAX) => "any port".to_owned(),
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    }
}

/// What decided: the side that denies, or what both sides say.
fn judged(judged: &Judged) -> String {
    let sides = [("egress", &judged.egress), ("ingress", &judged.ingress)];
    let denying = sides.iter().find(|(_, half)| half.verdict == Expect::Deny);
    match denying {
        Some((side, half)) => format!("{side}: {}", by(half)),
        None => sides.map(|(side, half)| format!("{side}: {}", by(half))).join("; "),
    }
}

fn by(half: &Half) -> String {
    match (&half.kind, &half.policy, half.rule) {
        (Some(kind), Some(policy), Some(rule)) => format!("{kind} {policy} rule {rule}"),
        (Some(kind), Some(policy), None) => format!("end of the tier of {kind} {policy}"),
        _ => "no policy decides".to_owned(),
    }
}

fn flow_line(flow: &FlowChange) -> String {
    let change = format!("{} to {}", word(&flow.old), word(&flow.new));
    let FlowChange { line, src, dst, proto, sport, dport, .. } = flow;
    let [src, dst] = match Protocol(*proto) {
        Protocol::TCP | Protocol::UDP | Protocol::SCTP => {
            [format!("{src} {sport}"), format!("{dst} {dport}")]
        }
        _ => [src.to_string(), dst.to_string()],
    };
    let decided = format!("old {}; new {}", judged(&flow.old), judged(&flow.new));
    format!("flow {line}: {change}  {} {src} -> {dst}  {decided}", protocol(*proto))
}
