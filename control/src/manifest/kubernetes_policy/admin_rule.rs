//! Rules of the admin policies: peers, ports, and what becomes of a rule that cannot be enforced.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::label_selector::selector;
use super::one_of::{Fault, OneOf, no_others};
use super::{Direction, Port, position, with_conditions};
use crate::manifest::problem::{Field, Invalid};
use crate::manifest::scope;
use crate::manifest::validate::{self, shown};
use crate::selector::Selector;
use crate::state::Protocol;
use crate::state::policy::{Peer, PortMatch, Rule, RuleAction};

#[derive(Debug, Deserialize)]
pub(super) struct RuleSpec {
    name: Option<String>,
    action: String,
    from: Option<Vec<OneOf>>,
    to: Option<Vec<OneOf>>,
    /// v1alpha1, and the first form of v1alpha2.
    ports: Option<Vec<OneOf>>,
    /// v1alpha2.
    protocols: Option<Vec<OneOf>>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// What a kind calls its actions, and which it has.
pub(super) type Actions = &'static [(&'static str, RuleAction)];

pub(super) const ALLOW_DENY: Actions = &[("Allow", RuleAction::Allow), ("Deny", RuleAction::Deny)];
pub(super) const ALLOW_DENY_PASS: Actions =
    &[("Allow", RuleAction::Allow), ("Deny", RuleAction::Deny), ("Pass", RuleAction::Pass)];
pub(super) const ACCEPT_DENY_PASS: Actions =
    &[("Accept", RuleAction::Allow), ("Deny", RuleAction::Deny), ("Pass", RuleAction::Pass)];

/// The rule's forms, one for each protocol that it names. One that cannot be enforced fails closed: it matches nothing
/// if it allows, and otherwise denies all; `problems` says so.
pub(super) fn rule(
    field: &Field<'_>,
    (index, written): (usize, &RuleSpec),
    direction: Direction,
    actions: Actions,
    problems: &mut Vec<Invalid>,
) -> Result<Vec<Rule>, Invalid> {
    let named = actions.iter().find(|(name, _)| *name == written.action);
    let Some((_, action)) = named else {
        let names: Vec<_> = actions.iter().map(|(name, _)| *name).collect();
        let why = format!("{} is none of {}", shown(&written.action), names.join(", "));
        return Err(field.key("action").invalid(why));
    };
    let rule = |action| Rule { name: written.name.clone(), ..Rule::new(action, position(index)) };
    match conditions(field, written, direction) {
        Ok((peers, ports)) => Ok(with_conditions(rule(*action), direction, Some(peers), ports)),
        Err(Fault::Refused(invalid)) => Err(invalid),
        Err(Fault::FailsClosed(mut invalid)) => {
            let (rules, effect) = match action {
                RuleAction::Allow => (Vec::new(), "matches nothing"),
                _ => (vec![rule(RuleAction::Deny)], "denies everything"),
            };
            invalid.why = format!("{}: the rule {effect}", invalid.why);
            problems.push(invalid);
            Ok(rules)
        }
    }
}

fn conditions(
    field: &Field<'_>,
    written: &RuleSpec,
    direction: Direction,
) -> Result<(Vec<Peer>, Option<Vec<Port>>), Fault> {
    no_others(field, &written.others, &[])?;
    let (list, stray) = match direction {
        Direction::Ingress => (&written.from, written.to.as_ref().map(|_| "to")),
        Direction::Egress => (&written.to, written.from.as_ref().map(|_| "from")),
    };
    if let Some(stray) = stray {
        return Err(Fault::FailsClosed(
            field.key(stray).invalid("is not a field of rules of this direction"),
        ));
    }
    let peers_field = field.key(direction.peers_key());
    let Some(list) = list.as_ref().filter(|list| !list.is_empty()) else {
        return Err(peers_field.invalid("is required, with one peer at least").into());
    };
    let mut peers = Vec::new();
    for (i, written) in list.iter().enumerate() {
        peer(&peers_field.index(i), written, direction, &mut peers)?;
    }
    let (key, list) = match (&written.ports, &written.protocols) {
        (Some(_), Some(_)) => return Err(field.key("ports").invalid("stands beside protocols").into()),
        (ports, None) => ("ports", ports),
        (None, protocols) => ("protocols", protocols),
    };
    let Some(list) = list.as_ref().filter(|list| !list.is_empty()) else { return Ok((peers, None)) };
    let ports_field = field.key(key);
    let ports = list.iter().enumerate().map(|(i, written)| port(&ports_field.index(i), written));
    Ok((peers, Some(ports.collect::<Result<_, _>>()?)))
}

fn peer(
    field: &Field<'_>,
    written: &OneOf,
    direction: Direction,
    peers: &mut Vec<Peer>,
) -> Result<(), Fault> {
    let known: &[_] = match direction {
        Direction::Ingress => &["namespaces", "pods"],
        Direction::Egress => &["namespaces", "pods", "nodes", "networks", "domainNames"],
    };
    let (key, value) = written.only(field, known)?;
    let value_field = field.key(key);
    match key {
        "domainNames" => {
            return Err(Fault::FailsClosed(value_field.invalid("domain names are not resolved")));
        }
        "networks" => {
            let networks: Vec<String> = value_field.read(value.clone())?;
            if networks.is_empty() {
                return Err(value_field.invalid("is empty").into());
            }
            for (i, network) in networks.iter().enumerate() {
                let cidr = validate::cidr(&value_field.index(i), network)?;
                peers.push(Peer::Block { cidr, except: Vec::new() });
            }
        }
        "nodes" => peers.push(Peer::Nodes(label_selector(&value_field, value)?)),
        _ => peers.push(Peer::Selected(selected_pods(field, key, value)?)),
    }
    Ok(())
}

/// Pods by `namespaces`, or by `pods`: by namespace and by their own labels.
pub(super) fn selected_pods(field: &Field<'_>, key: &str, value: &Value) -> Result<Selector, Fault> {
    let field = field.key(key);
    if key == "namespaces" {
        return Ok(scope::pods().and(scope::in_namespaces(&label_selector(&field, value)?)));
    }
    let written: Map<String, Value> = field.read(value.clone())?;
    no_others(&field, &written, &["namespaceSelector", "podSelector"])?;
    let part = |key: &str| written.get(key).map(|value| label_selector(&field.key(key), value)).transpose();
    let required = || field.key("podSelector").invalid("is required ({} selects all)");
    let pods = part("podSelector")?.ok_or_else(required)?;
    // v1alpha2 may leave it out, which means all namespaces as an empty one does.
    let namespaces = part("namespaceSelector")?.unwrap_or_default();
    Ok(pods.and(scope::pods()).and(scope::in_namespaces(&namespaces)))
}

/// Early forms of these kinds held their selectors a level deeper: taken for empty, they would select everything.
fn label_selector(field: &Field<'_>, value: &Value) -> Result<Selector, Fault> {
    let written: Map<String, Value> = field.read(value.clone())?;
    no_others(field, &written, &["matchLabels", "matchExpressions"])?;
    Ok(selector(field, Some(&field.read(value.clone())?))?)
}

fn port(field: &Field<'_>, written: &OneOf) -> Result<Port, Fault> {
    const KNOWN: &[&str] =
        &["portNumber", "portRange", "namedPort", "tcp", "udp", "sctp", "destinationNamedPort"];
    let (key, value) = written.only(field, KNOWN)?;
    let field = field.key(key);
    let protocol = match key {
        "namedPort" | "destinationNamedPort" => {
            let name: String = field.read(value.clone())?;
            validate::port_name(&field, &name)?;
            return Ok(Port { protocol: None, port: Some(PortMatch::Name(name)) });
        }
        "portNumber" => {
            let written: NumberSpec = field.read(value.clone())?;
            let port = validate::port(&field.key("port"), written.port)?;
            let protocol = validate::protocol(&field.key("protocol"), written.protocol.as_deref())?;
            return Ok(Port { protocol: Some(protocol), port: Some(PortMatch::Range(port..=port)) });
        }
        "portRange" => {
            let written: RangeSpec = field.read(value.clone())?;
            let protocol = validate::protocol(&field.key("protocol"), written.protocol.as_deref())?;
            return Ok(Port { protocol: Some(protocol), port: Some(range(&field, &written)?) });
        }
        "tcp" => Protocol::TCP,
        "udp" => Protocol::UDP,
        _ => Protocol::SCTP,
    };
    let attributes: OneOf = field.read(value.clone())?;
    let (key, value) = attributes.only(&field, &["destinationPort"])?;
    let port = destination_port(&field.key(key), &field.key(key).read(value.clone())?)?;
    Ok(Port { protocol: Some(protocol), port: Some(port) })
}

#[derive(Debug, Deserialize)]
struct NumberSpec {
    protocol: Option<String>,
    port: i32,
}

#[derive(Debug, Deserialize)]
struct RangeSpec {
    protocol: Option<String>,
    start: i32,
    end: i32,
}

fn destination_port(field: &Field<'_>, written: &OneOf) -> Result<PortMatch, Fault> {
    let (key, value) = written.only(field, &["number", "range"])?;
    let field = field.key(key);
    if key == "range" {
        return Ok(range(&field, &field.read(value.clone())?)?);
    }
    let port = validate::port(&field, field.read(value.clone())?)?;
    Ok(PortMatch::Range(port..=port))
}

fn range(field: &Field<'_>, written: &RangeSpec) -> Result<PortMatch, Invalid> {
    let start = validate::port(&field.key("start"), written.start)?;
    let end = validate::port(&field.key("end"), written.end)?;
    if end < start {
        return Err(field.key("end").invalid(format!("{end} is below start {start}")));
    }
    Ok(PortMatch::Range(start..=end))
}
