//! One end of a Calico rule: which packets' source or destination it holds (`EntityRule`).

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Deserialize;

use super::selector::{peer_namespaces, selector};
use super::value;
use crate::manifest::problem::{Field, Invalid};
use crate::manifest::scope;
use crate::manifest::validate;
use crate::selector::{Origin, SERVICE_ACCOUNT_LABEL, Selector};
use crate::state::Name;
use crate::state::policy::{Peer, PortMatch, Side};

/// A field that is not known would be a condition that is not asked: the API server's strict validation refuses it too.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct EntitySpec {
    nets: Option<Vec<String>>,
    not_nets: Option<Vec<String>>,
    selector: Option<String>,
    not_selector: Option<String>,
    namespace_selector: Option<String>,
    service_accounts: Option<ServiceAccountsSpec>,
    services: Option<ServiceSpec>,
    ports: Option<Vec<IntOrString>>,
    not_ports: Option<Vec<IntOrString>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceAccountsSpec {
    names: Option<Vec<String>>,
    selector: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceSpec {
    name: Option<String>,
    namespace: Option<String>,
}

/// What a service stands for on the end where it may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Services {
    /// Its endpoints' addresses: the source of an ingress rule.
    Addresses,
    /// Its endpoints' addresses with their ports: the destination of an egress rule.
    AddressesAndPorts,
    Refused,
}

/// The conditions on the end of a rule; `namespace` is that of a namespaced policy.
pub(super) fn side(
    field: &Field<'_>,
    spec: &EntitySpec,
    namespace: Option<&str>,
    services: Services,
) -> Result<Side, Invalid> {
    let mut side = Side {
        ports: ports(&field.key("ports"), spec.ports.as_deref())?,
        not_ports: ports(&field.key("notPorts"), spec.not_ports.as_deref())?,
        ..Side::default()
    };
    side.all_of.extend(selected(field, spec, namespace)?.map(|selector| vec![Peer::Selected(selector)]));
    let nets = value::nets(&field.key("nets"), spec.nets.as_deref())?;
    if !nets.is_empty() {
        side.all_of.push(blocks(nets).collect());
    }
    let not_selector = selector(&field.key("notSelector"), Origin::Own, spec.not_selector.as_deref())?;
    side.none_of.extend(not_selector.map(Peer::Selected));
    side.none_of.extend(blocks(value::nets(&field.key("notNets"), spec.not_nets.as_deref())?));
    if let Some(written) = &spec.services {
        let service = service(field, spec, written, namespace)?;
        match services {
            Services::Addresses => side.all_of.push(vec![Peer::Service(service)]),
            Services::AddressesAndPorts if side.ports.is_empty() && side.not_ports.is_empty() => {
                side.ports.push(PortMatch::Service(service));
            }
            Services::AddressesAndPorts => {
                let why = "stand beside ports or notPorts: the services' own ports hold";
                return Err(field.key("services").invalid(why));
            }
            Services::Refused => {
                let why = "stand in the source of an ingress rule or the destination of an egress rule alone";
                return Err(field.key("services").invalid(why));
            }
        }
    }
    Ok(side)
}

fn blocks(nets: Vec<IpNet>) -> impl Iterator<Item = Peer> {
    nets.into_iter().map(|cidr| Peer::Block { cidr, except: Vec::new() })
}

fn ports(field: &Field<'_>, list: Option<&[IntOrString]>) -> Result<Vec<PortMatch>, Invalid> {
    let list = list.unwrap_or_default().iter().enumerate();
    list.map(|(i, written)| value::port(&field.index(i), written)).collect()
}

/// Selector, namespaces and service accounts as one selector. As soon as one of them or a notSelector is written, a
/// namespaced policy means its own namespace where it names no others; so there a notSelector leaves out the rest of the
/// world, too.
fn selected(
    field: &Field<'_>,
    spec: &EntitySpec,
    namespace: Option<&str>,
) -> Result<Option<Selector>, Invalid> {
    let namespaces = peer_namespaces(&field.key("namespaceSelector"), spec.namespace_selector.as_deref())?;
    let own = selector(&field.key("selector"), Origin::Own, spec.selector.as_deref())?;
    let accounts = match &spec.service_accounts {
        Some(accounts) => service_accounts(&field.key("serviceAccounts"), accounts)?,
        None => None,
    };
    let has_not_selector = spec.not_selector.as_deref().is_some_and(|text| !text.trim().is_empty());
    let limits_namespace = own.is_some() || accounts.is_some() || has_not_selector;
    let limit = namespaces.or_else(|| namespace.filter(|_| limits_namespace).map(scope::in_namespace));
    Ok([limit, accounts, own].into_iter().flatten().reduce(Selector::and))
}

fn service_accounts(field: &Field<'_>, spec: &ServiceAccountsSpec) -> Result<Option<Selector>, Invalid> {
    // Here, other than in a policy's own `serviceAccountSelector`, Calico leaves `all()` what it is
    // (`updateprocessors/rules.go`): it selects what has no service account too.
    let selected = selector(&field.key("selector"), Origin::Own, spec.selector.as_deref())?
        .map(|selector| selector.prefixed(Origin::ServiceAccount.prefix()));
    let names = spec.names.clone().filter(|names| !names.is_empty());
    let named = names.map(|names| Selector::is_in(SERVICE_ACCOUNT_LABEL, names));
    Ok([selected, named].into_iter().flatten().reduce(Selector::and))
}

fn service(
    field: &Field<'_>,
    spec: &EntitySpec,
    written: &ServiceSpec,
    namespace: Option<&str>,
) -> Result<Name, Invalid> {
    let is_text = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let is_list = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let beside = [
        ("selector", is_text(&spec.selector)),
        ("notSelector", is_text(&spec.not_selector)),
        ("namespaceSelector", is_text(&spec.namespace_selector)),
        ("serviceAccounts", spec.service_accounts.is_some()),
        ("nets", is_list(&spec.nets)),
        ("notNets", is_list(&spec.not_nets)),
    ];
    let field = field.key("services");
    if let Some((other, _)) = beside.iter().find(|(_, given)| *given) {
        return Err(field.invalid(format!("stand beside {other}: make two rules of them")));
    }
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let name = given(&written.name).ok_or_else(|| field.key("name").invalid("is required"))?;
    validate::name(&field.key("name"), &name)?;
    let required = || field.key("namespace").invalid("is required in a policy without a namespace");
    let namespace =
        given(&written.namespace).or_else(|| namespace.map(str::to_owned)).ok_or_else(required)?;
    validate::name(&field.key("namespace"), &namespace)?;
    Ok(Name { namespace, name })
}
