//! `networking.k8s.io/v1` NetworkPolicy, with the defaults and the validation of the API server (kubernetes
//! `pkg/apis/networking`), and Calico's staged form of it.

use ipnet::IpNet;
use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::label_selector::selector;
use super::{Direction, Port, position, with_conditions};
use crate::manifest::problem::{Field, Invalid};
use crate::manifest::scope;
use crate::manifest::validate::{self, shown};
use crate::selector::Selector;
use crate::state::policy::{HostUse, Order, Peer, Policy, PortMatch, Rule, RuleAction, StagedAction};

/// Position in the tier `default`, as Calico gives it.
const ORDER: f64 = 1000.0;

pub(in crate::manifest) fn network_policy(
    object: networking::NetworkPolicy,
    namespace: &str,
) -> Result<Policy, Invalid> {
    policy(&object.spec.unwrap_or_default(), namespace, None)
}

/// What a `StagedKubernetesNetworkPolicy` stages: its spec is a `NetworkPolicySpec` beside the staged action.
pub(in crate::manifest) fn staged_network_policy(
    spec: &networking::NetworkPolicySpec,
    namespace: &str,
    action: StagedAction,
) -> Result<Policy, Invalid> {
    policy(spec, namespace, Some(action))
}

fn policy(
    spec: &networking::NetworkPolicySpec,
    namespace: &str,
    staged: Option<StagedAction>,
) -> Result<Policy, Invalid> {
    let field = Field::Root.key("spec");
    let (isolates_ingress, isolates_egress) = policy_types(&field, spec)?;
    let ingress = spec.ingress.iter().flatten().map(|rule| (rule.from.as_deref(), rule.ports.as_deref()));
    let egress = spec.egress.iter().flatten().map(|rule| (rule.to.as_deref(), rule.ports.as_deref()));
    let ingress = rules(&field, Direction::Ingress, namespace, ingress)?;
    let egress = rules(&field, Direction::Egress, namespace, egress)?;
    let pods = selector(&field.key("podSelector"), spec.pod_selector.as_ref())?;
    Ok(Policy {
        tier: "default".to_owned(),
        order: Order::new(ORDER),
        subject: pods.and(scope::pods()).and(scope::in_namespace(namespace)),
        ingress: isolates_ingress.then_some(ingress),
        egress: isolates_egress.then_some(egress),
        staged,
        host: HostUse::default(),
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

type Written<'a> = (Option<&'a [networking::NetworkPolicyPeer]>, Option<&'a [networking::NetworkPolicyPort]>);

fn rules<'a>(
    field: &Field<'_>,
    direction: Direction,
    namespace: &str,
    written: impl Iterator<Item = Written<'a>>,
) -> Result<Vec<Rule>, Invalid> {
    let list = field.key(direction.list_key());
    let mut rules = Vec::new();
    for (i, (peers, ports)) in written.enumerate() {
        let field = list.index(i);
        let peers_field = field.key(direction.peers_key());
        let peers = items(peers, |i, written| peer(&peers_field.index(i), namespace, written))?;
        let ports_field = field.key("ports");
        let ports = items(ports, |i, written| port(&ports_field.index(i), written))?;
        rules.extend(with_conditions(Rule::new(RuleAction::Allow, position(i)), direction, peers, ports));
    }
    Ok(rules)
}

/// The items of a list, `None` where there are none: an empty list is no condition, just as a missing one.
fn items<W, T>(
    list: Option<&[W]>,
    read: impl Fn(usize, &W) -> Result<T, Invalid>,
) -> Result<Option<Vec<T>>, Invalid> {
    let list = list.filter(|list| !list.is_empty());
    list.map(|list| list.iter().enumerate().map(|(i, item)| read(i, item)).collect()).transpose()
}

fn peer(field: &Field<'_>, namespace: &str, peer: &networking::NetworkPolicyPeer) -> Result<Peer, Invalid> {
    match (&peer.ip_block, &peer.namespace_selector, &peer.pod_selector) {
        (Some(ip_block), None, None) => block(&field.key("ipBlock"), ip_block),
        (Some(_), ..) => Err(field.invalid("ipBlock stands beside a selector: make two peers of them")),
        (None, None, None) => {
            Err(field.invalid("is empty: it needs podSelector, namespaceSelector or ipBlock"))
        }
        (None, namespaces, pods) => {
            let namespaces: Selector = match namespaces {
                Some(namespaces) => {
                    let namespaces = selector(&field.key("namespaceSelector"), Some(namespaces))?;
                    scope::in_namespaces(&namespaces)
                }
                None => scope::in_namespace(namespace),
            };
            let pods = selector(&field.key("podSelector"), pods.as_ref())?;
            Ok(Peer::Selected(pods.and(scope::pods()).and(namespaces)))
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

fn port(field: &Field<'_>, port: &networking::NetworkPolicyPort) -> Result<Port, Invalid> {
    let protocol = validate::protocol(&field.key("protocol"), port.protocol.as_deref())?;
    let end_field = field.key("endPort");
    let port = match (&port.port, port.end_port) {
        (None, None) => None,
        (Some(IntOrString::String(name)), None) => {
            validate::port_name(&field.key("port"), name)?;
            Some(PortMatch::Name(name.clone()))
        }
        (Some(IntOrString::Int(port)), None) => {
            let port = validate::port(&field.key("port"), *port)?;
            Some(PortMatch::Range(port..=port))
        }
        (Some(IntOrString::Int(start)), Some(end)) => {
            let start = validate::port(&field.key("port"), *start)?;
            let end = validate::port(&end_field, end)?;
            if end < start {
                return Err(end_field.invalid(format!("{end} is below port {start}")));
            }
            Some(PortMatch::Range(start..=end))
        }
        (None, Some(_)) => return Err(end_field.invalid("needs a port that the range begins with")),
        (Some(IntOrString::String(_)), Some(_)) => {
            return Err(end_field.invalid("cannot stand beside a port name"));
        }
    };
    Ok(Port { protocol: Some(protocol), port })
}
