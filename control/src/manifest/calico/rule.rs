//! Rules of Calico's policies.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Deserialize;
use serde_json::Value;

use super::entity::{EntitySpec, Services, side};
use super::value;
use crate::manifest::problem::{Field, Invalid};
use crate::state::policy::{Icmp, Peer, PortMatch, Rule};
use crate::state::{Family, Protocol};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RuleSpec {
    action: String,
    ip_version: Option<i64>,
    protocol: Option<IntOrString>,
    not_protocol: Option<IntOrString>,
    icmp: Option<IcmpSpec>,
    #[serde(rename = "notICMP")]
    not_icmp: Option<IcmpSpec>,
    source: Option<EntitySpec>,
    destination: Option<EntitySpec>,
    http: Option<Value>,
    #[expect(dead_code, reason = "annotations: they may be there and say nothing")]
    metadata: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct IcmpSpec {
    #[serde(rename = "type")]
    kind: Option<i64>,
    code: Option<i64>,
}

/// The ends on which a service may stand: (source, destination).
type ServicesOn = (Services, Services);

pub(super) const INGRESS: ServicesOn = (Services::Addresses, Services::Refused);
pub(super) const EGRESS: ServicesOn = (Services::Refused, Services::AddressesAndPorts);

/// The rules of one list; `namespace` is that of a namespaced policy.
pub(super) fn rules(
    list: &Field<'_>,
    written: &[RuleSpec],
    namespace: Option<&str>,
    services: ServicesOn,
) -> Result<Vec<Rule>, Invalid> {
    let written = written.iter().enumerate();
    written.map(|(i, spec)| rule(&list.index(i), (i, spec), namespace, services)).collect()
}

fn rule(
    field: &Field<'_>,
    (index, spec): (usize, &RuleSpec),
    namespace: Option<&str>,
    (on_source, on_destination): ServicesOn,
) -> Result<Rule, Invalid> {
    if spec.http.is_some() {
        let why =
            "is about HTTP requests, which Margay does not read: it enforces addresses, protocols and ports";
        return Err(field.key("http").invalid(why));
    }
    let action = value::action(&field.key("action"), &spec.action)?;
    let absent = EntitySpec::default();
    let end = |key: &str, spec: Option<&EntitySpec>, services| {
        side(&field.key(key), spec.unwrap_or(&absent), namespace, services)
    };
    let protocol = |key: &str, written: &Option<IntOrString>| {
        written.as_ref().map(|written| value::protocol(&field.key(key), written)).transpose()
    };
    let mut rule = Rule {
        ip_version: spec
            .ip_version
            .map(|version| ip_version(&field.key("ipVersion"), version))
            .transpose()?,
        protocol: protocol("protocol", &spec.protocol)?,
        not_protocol: protocol("notProtocol", &spec.not_protocol)?,
        icmp: icmp(&field.key("icmp"), spec.icmp.as_ref())?,
        not_icmp: icmp(&field.key("notICMP"), spec.not_icmp.as_ref())?,
        source: end("source", spec.source.as_ref(), on_source)?,
        destination: end("destination", spec.destination.as_ref(), on_destination)?,
        ..Rule::new(action, u32::try_from(index).unwrap_or(u32::MAX))
    };
    check_ports(field, &rule)?;
    check_icmp(field, &rule)?;
    limit_family(field, &mut rule)?;
    Ok(rule)
}

fn ip_version(field: &Field<'_>, version: i64) -> Result<Family, Invalid> {
    match version {
        4 => Ok(Family::V4),
        6 => Ok(Family::V6),
        other => Err(field.invalid(format!("{other} is neither 4 nor 6"))),
    }
}

fn icmp(field: &Field<'_>, spec: Option<&IcmpSpec>) -> Result<Option<Icmp>, Invalid> {
    let Some(spec) = spec else { return Ok(None) };
    let octet = |key: &str, value: Option<i64>, most: u8| {
        let in_range = |value| u8::try_from(value).ok().filter(|value| *value <= most);
        let why = || field.key(key).invalid(format!("is not from 0 to {most}"));
        value.map(|value| in_range(value).ok_or_else(why)).transpose()
    };
    let icmp = Icmp { kind: octet("type", spec.kind, 254)?, code: octet("code", spec.code, 255)? };
    match icmp {
        Icmp { kind: None, code: Some(_) } => Err(field.key("code").invalid("stands without a type")),
        Icmp { kind: None, code: None } => Ok(None),
        Icmp { .. } => Ok(Some(icmp)),
    }
}

/// Numbers mean a port of a protocol that must be named; a port's name brings its own.
fn check_ports(field: &Field<'_>, rule: &Rule) -> Result<(), Invalid> {
    let has_ports = |protocol: Protocol| matches!(protocol, Protocol::TCP | Protocol::UDP | Protocol::SCTP);
    let is_wrong = |port: &PortMatch| match (rule.protocol, port) {
        (Some(protocol), PortMatch::Range(_) | PortMatch::Name(_)) => !has_ports(protocol),
        (None, PortMatch::Range(_)) => true,
        (_, PortMatch::Service(_)) | (None, PortMatch::Name(_)) => false,
    };
    for (end, side) in [("source", &rule.source), ("destination", &rule.destination)] {
        for (key, ports) in [("ports", &side.ports), ("notPorts", &side.not_ports)] {
            if ports.iter().any(is_wrong) {
                let why = "needs protocol TCP, UDP or SCTP beside it";
                return Err(field.key(end).key(key).invalid(why));
            }
        }
    }
    Ok(())
}

fn check_icmp(field: &Field<'_>, rule: &Rule) -> Result<(), Invalid> {
    let is_icmp = |protocol| matches!(protocol, Some(Protocol::ICMP | Protocol::ICMPV6));
    if rule.icmp.is_some() && !is_icmp(rule.protocol) {
        return Err(field.key("icmp").invalid("needs protocol ICMP or ICMPv6 beside it"));
    }
    for (key, protocol) in [("protocol", rule.protocol), ("notProtocol", rule.not_protocol)] {
        let (family, name) = match protocol {
            Some(Protocol::ICMP) => (Family::V4, "ICMP"),
            Some(Protocol::ICMPV6) => (Family::V6, "ICMPv6"),
            _ => continue,
        };
        if rule.ip_version.is_some_and(|version| version != family) {
            return Err(field.key(key).invalid(format!("{name} is of {family}, and ipVersion of the other")));
        }
    }
    Ok(())
}

/// As Felix has it, a rule is of the families that its nets are of, those that it excludes too: one that leaves out
/// 10.0.0.0/8 says nothing of IPv6.
fn limit_family(field: &Field<'_>, rule: &mut Rule) -> Result<(), Invalid> {
    let mut families = BTreeSet::from([Family::V4, Family::V6]);
    for (end, side) in [("source", &rule.source), ("destination", &rule.destination)] {
        let nets = families_of(side.all_of.iter().flatten());
        let not_nets = families_of(&side.none_of);
        for (key, listed) in [("nets", nets), ("notNets", not_nets)] {
            if listed.is_empty() {
                continue;
            }
            if let Some(version) = rule.ip_version.filter(|version| !listed.contains(version)) {
                let why = format!("holds nothing of {version}, which ipVersion limits the rule to");
                return Err(field.key(end).key(key).invalid(why));
            }
            families.retain(|family| listed.contains(family));
        }
    }
    match families.iter().next() {
        Some(only) if families.len() == 1 => rule.ip_version = Some(*only),
        Some(_) => {}
        None => rule.source.all_of = vec![Vec::new()],
    }
    Ok(())
}

fn families_of<'a>(peers: impl IntoIterator<Item = &'a Peer>) -> BTreeSet<Family> {
    let family = |peer: &Peer| match peer {
        Peer::Block { cidr, .. } => Some(Family::of(cidr)),
        _ => None,
    };
    peers.into_iter().filter_map(family).collect()
}
