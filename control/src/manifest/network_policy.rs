//! NetworkPolicy: defaults and validation of the API server (kubernetes `pkg/apis/networking`).

use std::collections::BTreeSet;

use ipnet::IpNet;
use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::problem::{Field, Invalid};
use super::validate::{self, shown};
use crate::selector::{Requirement, Selector};
use crate::state::{NetworkPolicy, NetworkPolicyRule, Peer, PolicyPort, PortMatch};

pub(super) fn network_policy(object: networking::NetworkPolicy) -> Result<NetworkPolicy, Invalid> {
    let spec = object.spec.unwrap_or_default();
    let field = Field::Root.key("spec");
    let (isolates_ingress, isolates_egress) = policy_types(&field, &spec)?;
    let list = field.key("ingress");
    let ingress = spec.ingress.unwrap_or_default().into_iter().enumerate();
    let ingress: Vec<_> = ingress
        .map(|(i, r)| rule(&list.index(i), "from", r.from.as_deref(), r.ports.as_deref()))
        .collect::<Result<_, _>>()?;
    let list = field.key("egress");
    let egress = spec.egress.unwrap_or_default().into_iter().enumerate();
    let egress: Vec<_> = egress
        .map(|(i, r)| rule(&list.index(i), "to", r.to.as_deref(), r.ports.as_deref()))
        .collect::<Result<_, _>>()?;
    Ok(NetworkPolicy {
        pods: selector(&field.key("podSelector"), spec.pod_selector.as_ref())?,
        ingress: isolates_ingress.then_some(ingress),
        egress: isolates_egress.then_some(egress),
    })
}

/// Directions that the policy isolates (ingress, egress). Without `policyTypes` that is ingress, and egress where
/// there is a rule for it.
fn policy_types(field: &Field<'_>, spec: &networking::NetworkPolicySpec) -> Result<(bool, bool), Invalid> {
    let field = field.key("policyTypes");
    let types = spec.policy_types.as_deref().unwrap_or_default();
    if types.is_empty() {
        return Ok((true, spec.egress.as_ref().is_some_and(|rules| !rules.is_empty())));
    }
    if types.len() > 2 {
        return Err(field.invalid("holds more than Ingress and Egress"));
    }
    for (i, text) in types.iter().enumerate() {
        if !matches!(text.as_str(), "Ingress" | "Egress") {
            return Err(field.index(i).invalid(format!("{} is neither Ingress nor Egress", shown(text))));
        }
    }
    let has = |direction: &str| types.iter().any(|text| text == direction);
    Ok((has("Ingress"), has("Egress")))
}

fn rule(
    field: &Field<'_>,
    peers_key: &str,
    peers: Option<&[networking::NetworkPolicyPeer]>,
    ports: Option<&[networking::NetworkPolicyPort]>,
) -> Result<NetworkPolicyRule, Invalid> {
    let list = field.key(peers_key);
    let peers = peers.unwrap_or_default().iter().enumerate();
    let peers = peers.map(|(i, p)| peer(&list.index(i), p)).collect::<Result<_, _>>()?;
    let list = field.key("ports");
    let ports = ports.unwrap_or_default().iter().enumerate();
    let ports = ports.map(|(i, p)| port(&list.index(i), p)).collect::<Result<_, _>>()?;
    Ok(NetworkPolicyRule { peers, ports })
}

fn peer(field: &Field<'_>, peer: &networking::NetworkPolicyPeer) -> Result<Peer, Invalid> {
    match (&peer.ip_block, &peer.namespace_selector, &peer.pod_selector) {
        (Some(ip_block), None, None) => block(&field.key("ipBlock"), ip_block),
        (Some(_), ..) => Err(field.invalid("ipBlock stands beside a selector: make two peers of them")),
        (None, None, None) => {
            Err(field.invalid("is empty: it needs podSelector, namespaceSelector or ipBlock"))
        }
        (None, namespaces, pods) => {
            let namespaces = namespaces
                .as_ref()
                .map(|namespaces| selector(&field.key("namespaceSelector"), Some(namespaces)))
                .transpose()?;
            Ok(Peer::Pods { namespaces, pods: selector(&field.key("podSelector"), pods.as_ref())? })
        }
    }
}

fn block(field: &Field<'_>, block: &networking::IPBlock) -> Result<Peer, Invalid> {
    let cidr = validate::cidr(&field.key("cidr"), &block.cidr)?;
    let list = field.key("except");
    let mut except = Vec::new();
    for (i, text) in block.except.iter().flatten().enumerate() {
        let field = list.index(i);
        let inner: IpNet = validate::cidr(&field, text)?;
        if !cidr.contains(&inner) || cidr == inner {
            return Err(field.invalid(format!("{inner} is not a part of {cidr}")));
        }
        except.push(inner);
    }
    Ok(Peer::Block { cidr, except })
}

fn port(field: &Field<'_>, port: &networking::NetworkPolicyPort) -> Result<PolicyPort, Invalid> {
    let protocol = validate::protocol(&field.key("protocol"), port.protocol.as_deref())?;
    let end_field = field.key("endPort");
    let port = match (&port.port, port.end_port) {
        (None, None) => PortMatch::Any,
        (Some(IntOrString::String(name)), None) => {
            validate::port_name(&field.key("port"), name)?;
            PortMatch::Name(name.clone())
        }
        (Some(IntOrString::Int(port)), None) => {
            let port = validate::port(&field.key("port"), *port)?;
            PortMatch::Range(port..=port)
        }
        (Some(IntOrString::Int(start)), Some(end)) => {
            let start = validate::port(&field.key("port"), *start)?;
            let end = validate::port(&end_field, end)?;
            if end < start {
                return Err(end_field.invalid(format!("{end} is below port {start}")));
            }
            PortMatch::Range(start..=end)
        }
        (None, Some(_)) => return Err(end_field.invalid("needs a port that the range begins with")),
        (Some(IntOrString::String(_)), Some(_)) => {
            return Err(end_field.invalid("cannot stand beside a port name"));
        }
    };
    Ok(PolicyPort { protocol, port })
}

/// A label selector; where it is missing, it selects everything.
fn selector(field: &Field<'_>, selector: Option<&LabelSelector>) -> Result<Selector, Invalid> {
    let Some(selector) = selector else { return Ok(Selector::default()) };
    let mut requirements = Vec::new();
    if let Some(labels) = &selector.match_labels {
        validate::labels(&field.key("matchLabels"), labels)?;
        let equal = |(key, value): (&String, &String)| Requirement::In(key.clone(), [value.clone()].into());
        requirements.extend(labels.iter().map(equal));
    }
    let list = field.key("matchExpressions");
    for (i, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let field = list.index(i);
        validate::label_key(&field.key("key"), &expression.key)?;
        let values_field = field.key("values");
        let values = expression.values.as_deref().unwrap_or_default();
        for (i, value) in values.iter().enumerate() {
            validate::label_value(&values_field.index(i), value)?;
        }
        let (key, set) = (expression.key.clone(), values.iter().cloned().collect::<BTreeSet<_>>());
        requirements.push(match (expression.operator.as_str(), set.is_empty()) {
            ("In", false) => Requirement::In(key, set),
            ("NotIn", false) => Requirement::NotIn(key, set),
            ("Exists", true) => Requirement::Exists(key),
            ("DoesNotExist", true) => Requirement::DoesNotExist(key),
            ("In" | "NotIn", true) => return Err(values_field.invalid("is empty: In and NotIn need values")),
            ("Exists" | "DoesNotExist", false) => {
                return Err(values_field.invalid("must be empty beside Exists and DoesNotExist"));
            }
            (other, _) => {
                let why = format!("{} is none of In, NotIn, Exists, DoesNotExist", shown(other));
                return Err(field.key("operator").invalid(why));
            }
        });
    }
    Ok(Selector::new(requirements))
}
