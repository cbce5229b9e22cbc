//! An explanation for people: the verdict and what decided first, then the way there.

mod host;

use super::side::{Decided, Ended, Side};
use super::trace::{PolicyTrace, RuleTrace, Spoken, TierTrace};
use super::{Explained, Explanation, Route};
use crate::probe::Expect;
use crate::selector::{NAMESPACE_LABEL, ORCHESTRATOR_LABEL, Origin, SERVICE_ACCOUNT_LABEL};

/// Rules in a row that are told one by one where none of them matches.
const FEW: usize = 3;

pub fn text(explanation: &Explanation) -> String {
    let given = &explanation.given;
    let mut lines = vec![format!(
        "{}  {} -> {}  {}",
        verdict(explanation.verdict).to_uppercase(),
        given.from,
        given.to,
        [bare(&given.proto), bare(&given.port)].join(" ").trim_end(),
    )];
    if explanation.packets.is_empty() {
        lines.push("  nobody answers: no ready endpoint, or a pod that has finished".to_owned());
    }
    for packet in &explanation.packets {
        if explanation.packets.len() > 1 {
            let port = if packet.dport == 0 { String::new() } else { format!(" port {}", packet.dport) };
            lines.push(String::new());
            lines.push(format!("{}  to {}{port}", verdict(packet.verdict).to_uppercase(), packet.dst));
        }
        packet_lines(packet, &mut lines);
    }
    lines.extend(explanation.problems.iter().map(|problem| format!("not in force as written: {problem}")));
    lines.join("\n") + "\n"
}

fn bare(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn verdict(verdict: Expect) -> &'static str {
    match verdict {
        Expect::Allow => "allow",
        Expect::Deny => "deny",
    }
}

fn packet_lines(packet: &Explained, lines: &mut Vec<String>) {
    let sides = [("egress", &packet.egress), ("ingress", &packet.ingress)];
    let entry = packet.host.as_ref().and_then(|host| Some((host, host.entry.as_ref()?)));
    let exit = packet.host.as_ref().and_then(|host| Some((host, host.exit.as_ref()?)));
    lines.extend(entry.map(|(_, side)| host::verdict_line("enters", side)));
    for (name, side) in sides {
        lines.push(verdict_line(name, side.verdict, &decided(&side.decided, &who(&side.end))));
    }
    lines.extend(exit.map(|(_, side)| host::verdict_line("leaves", side)));
    lines.push(format!("  route    {}", route(&packet.route)));
    lines.extend(entry.and_then(|(_, side)| host::staged_line("where it enters", side)));
    for (name, side) in sides {
        if let Some(staged) = &side.staged {
            let by = decided(&staged.decided, &who(&side.end));
            lines.push(staged_line(name, staged.verdict, staged.is_change, &by));
        }
    }
    lines.extend(exit.and_then(|(_, side)| host::staged_line("where it leaves", side)));
    if let Some((passage, side)) = entry {
        host::side_lines("enters", passage, side, lines);
    }
    for (name, side) in sides {
        side_lines(name, side, lines);
    }
    if let Some((passage, side)) = exit {
        host::side_lines("leaves", passage, side, lines);
    }
    let notes = packet.host.iter().flat_map(|host| &host.notes);
    lines.extend(notes.map(|note| format!("note: {note}")));
}

fn verdict_line(name: &str, said: Expect, by: &str) -> String {
    format!("  {name:<7}  {:<5}  {by}", verdict(said))
}

fn staged_line(name: &str, said: Expect, is_change: bool, by: &str) -> String {
    let change = if is_change { "would" } else { "changes nothing: would still" };
    format!("  staged   {name} {change} {}: {by}", verdict(said))
}

/// What decided of this end.
fn decided(decided: &Decided, who: &str) -> String {
    match decided {
        Decided::Rule { tier, kind, policy, rule } => format!("{kind} {policy} rule {rule}, tier {tier}"),
        Decided::EndOfTier { tier, kind, policy } => {
            format!("end of tier {tier}: no rule matches, and {kind} {policy} selects {who}")
        }
        Decided::Profiles => "every tier passes".to_owned(),
        Decided::NoPolicy => format!("no policy selects {who}"),
        Decided::NoEndpoint => format!("{who} has no policy that is asked here"),
        Decided::Itself => "a pod always reaches itself".to_owned(),
        Decided::OwnNode => "a node always reaches its own pods".to_owned(),
        Decided::Broken => "a rule that is gone: policy is just changing, ask again".to_owned(),
    }
}

fn who(end: &Ended) -> String {
    let address = end.address.map(|address| address.to_string()).unwrap_or_default();
    match (&end.pod, &end.node) {
        (Some(pod), _) => pod.clone(),
        (None, Some(node)) => format!("node {node} ({address})"),
        (None, None) => address,
    }
}

fn route(route: &Route) -> String {
    let on = route.node.as_ref().map(|node| format!("on {node}: ")).unwrap_or_default();
    let (Some(dst), Some(kind)) = (route.dst, route.kind) else {
        return format!("{on}none: {}", route.why.as_deref().unwrap_or("unknown"));
    };
    let mut parts = vec![format!("{on}{dst} {kind}")];
    parts.extend(route.via.map(|via| format!(" via {via}")));
    parts.extend(route.next_node.as_ref().map(|next| format!(" (node {next})")));
    let tunnel = |outer| format!(", tunnel to {outer}, {} bytes more", route.overhead);
    parts.extend(route.tunnel_dst.map(tunnel));
    parts.extend(route.pool.as_ref().map(|pool| format!(", pool {pool}")));
    parts.concat()
}

fn side_lines(name: &str, side: &Side, lines: &mut Vec<String>) {
    if side.tiers.is_empty() && side.notes.is_empty() && side.staged.is_none() {
        return;
    }
    lines.push(String::new());
    let on = side.end.node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
    let address = side.end.address.filter(|_| side.end.pod.is_some()).map(|address| format!("  {address}"));
    let address = address.unwrap_or_default();
    lines.push(
        format!("{name} of {}{address}{on}  {}", who(&side.end), labels(&side.end)).trim_end().to_owned(),
    );
    side.tiers.iter().for_each(|tier| tier_lines(tier, lines));
    if let Some(staged) = side.staged.as_ref().filter(|staged| staged.is_change) {
        lines.push("  if what is staged were enforced:".to_owned());
        let mut tiers = Vec::new();
        staged.tiers.iter().for_each(|tier| tier_lines(tier, &mut tiers));
        lines.extend(tiers.into_iter().map(|line| format!("  {line}")));
    }
    lines.extend(side.notes.iter().map(|note| format!("  note: {note}")));
}

/// Its own labels, without those that say where it is.
fn labels(end: &Ended) -> String {
    let implied = [NAMESPACE_LABEL, ORCHESTRATOR_LABEL, SERVICE_ACCOUNT_LABEL];
    let inherited = [Origin::Namespace.prefix(), Origin::ServiceAccount.prefix()];
    let is_own =
        |key: &str| !implied.contains(&key) && !inherited.iter().any(|prefix| key.starts_with(prefix));
    let own = end.labels.iter().filter(|(key, _)| is_own(key));
    own.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}

fn order(order: Option<f64>) -> String {
    order.map(|order| format!("  order {order}")).unwrap_or_default()
}

fn tier_lines(tier: &TierTrace, lines: &mut Vec<String>) {
    let head = format!("  tier {}{}", tier.tier, order(tier.order));
    let Some(outcome) = tier.outcome else {
        let policies = tier.policies.len();
        lines.push(format!("{head}: not reached ({policies} {})", plural(policies, "policy", "policies")));
        return;
    };
    lines.push(head);
    for policy in &tier.policies {
        policy_lines(policy, lines);
    }
    if outcome.is_default {
        lines.push(format!("  * end of tier: {}", outcome.action.word()));
    }
}

fn policy_lines(policy: &PolicyTrace, lines: &mut Vec<String>) {
    lines.push(format!("    {} {}{}", policy.kind, policy.policy, order(policy.order)));
    lines.push(format!("      for {}", policy.selector));
    let runs = policy.rules.chunk_by(|a, b| a.matches == b.matches);
    for run in runs {
        match run[0].matches {
            Some(false) if run.len() > FEW => {
                let (first, last) = (run[0].rule, run[run.len() - 1].rule);
                lines.push(format!("      - rules {first} to {last}: no match"));
            }
            None => {
                lines.push(format!("      - {} {} not asked", run.len(), plural(run.len(), "rule", "rules")));
            }
            _ => lines.extend(run.iter().map(rule_line)),
        }
    }
}

fn rule_line(rule: &RuleTrace) -> String {
    let name = rule.name.as_ref().map(|name| format!(" {name:?}")).unwrap_or_default();
    let head = format!("rule {}{name}  {}", rule.rule, rule.action.word());
    if rule.matches == Some(true) {
        let goes_on = if rule.action == Spoken::Log { ", and the next rules are asked" } else { "" };
        return format!("    * {head}: matches{goes_on}");
    }
    let unmet: Vec<_> = rule.unmet.iter().map(|condition| condition.word()).collect();
    format!("      {head}: not its {}", unmet.join(", "))
}

fn plural<'a>(count: usize, one: &'a str, more: &'a str) -> &'a str {
    if count == 1 { one } else { more }
}
