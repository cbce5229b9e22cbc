//! HostEndpoint.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Deserialize;

use super::{Resource, value};
use crate::manifest::problem::{Field, Invalid};
use crate::manifest::validate::{self, shown};
use crate::state::policy::HostEndpoint;
use crate::state::{PodPort, Protocol};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::manifest) struct Spec {
    node: Option<String>,
    interface_name: Option<String>,
    #[serde(rename = "expectedIPs")]
    expected_ips: Option<Vec<String>>,
    ports: Option<Vec<PortSpec>>,
}

#[derive(Debug, Deserialize)]
struct PortSpec {
    name: String,
    protocol: IntOrString,
    port: i32,
}

pub(in crate::manifest) fn host_endpoint(object: Resource<Spec>) -> Result<HostEndpoint, Invalid> {
    let Resource { metadata, spec } = object;
    let field = Field::Root.key("spec");
    let node = spec.node.unwrap_or_default();
    validate::name(&field.key("node"), &node)?;
    let interface = spec.interface_name.filter(|name| !name.is_empty());
    if let Some(name) = &interface {
        interface_name(&field.key("interfaceName"), name)?;
    }
    let list = field.key("expectedIPs");
    let expected = spec.expected_ips.unwrap_or_default();
    let expected = expected.iter().enumerate().map(|(i, text)| validate::address(&list.index(i), text));
    let expected: Vec<_> = expected.collect::<Result<_, _>>()?;
    if interface.is_none() && expected.is_empty() {
        return Err(field.key("interfaceName").invalid("is required where there are no expectedIPs"));
    }
    let list = field.key("ports");
    let ports = spec.ports.unwrap_or_default();
    let ports = ports.into_iter().enumerate().map(|(i, written)| port(&list.index(i), written));
    let ports = ports.collect::<Result<_, _>>()?;
    Ok(HostEndpoint { labels: metadata.labels()?, node, interface, expected, ports })
}

/// `*`, or a name as the kernel takes it.
fn interface_name(field: &Field<'_>, name: &str) -> Result<(), Invalid> {
    let is_name = name.len() <= 15 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if is_name || name == "*" {
        return Ok(());
    }
    Err(field.invalid(format!("{} is neither an interface's name nor *", shown(name))))
}

fn port(field: &Field<'_>, written: PortSpec) -> Result<PodPort, Invalid> {
    validate::port_name(&field.key("name"), &written.name)?;
    let protocol_field = field.key("protocol");
    let protocol = value::protocol(&protocol_field, &written.protocol)?;
    if !matches!(protocol, Protocol::TCP | Protocol::UDP | Protocol::SCTP) {
        return Err(protocol_field.invalid("has no ports: it is none of TCP, UDP, SCTP"));
    }
    let port = validate::port(&field.key("port"), written.port)?;
    Ok(PodPort { name: written.name, protocol, port })
}
