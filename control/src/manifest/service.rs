//! Service and EndpointSlice.

use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;

use super::problem::{Field, Invalid};
use super::validate;
use crate::state::{EndpointSlice, Service, ServicePort, SliceEndpoint};

pub(super) fn service(object: core::Service) -> Result<Service, Invalid> {
    let spec = object.spec.unwrap_or_default();
    let field = Field::Root.key("spec");
    let mut ports = Vec::new();
    let list = field.key("ports");
    for (i, port) in spec.ports.iter().flatten().enumerate() {
        let field = list.index(i);
        ports.push(ServicePort {
            name: port.name.clone().unwrap_or_default(),
            protocol: validate::protocol(&field.key("protocol"), port.protocol.as_deref())?,
            port: validate::port(&field.key("port"), port.port)?,
        });
    }
    Ok(Service { cluster_ips: cluster_ips(&spec)?, ports, selector: spec.selector.unwrap_or_default() })
}

fn cluster_ips(spec: &core::ServiceSpec) -> Result<Vec<IpAddr>, Invalid> {
    let field = Field::Root.key("spec");
    // `None`: a headless service.
    let is_address = |text: &&String| !matches!(text.as_str(), "" | "None");
    let mut addresses = Vec::new();
    for (i, text) in spec.cluster_ips.iter().flatten().enumerate().filter(|(_, text)| is_address(text)) {
        addresses.push(validate::address(&field.key("clusterIPs").index(i), text)?);
    }
    if let (true, Some(text)) = (addresses.is_empty(), spec.cluster_ip.as_ref().filter(is_address)) {
        addresses.push(validate::address(&field.key("clusterIP"), text)?);
    }
    Ok(addresses)
}

pub(super) fn endpoint_slice(object: discovery::EndpointSlice) -> Result<EndpointSlice, Invalid> {
    let mut labels = object.metadata.labels.unwrap_or_default();
    let mut slice = EndpointSlice {
        service: labels.remove("kubernetes.io/service-name").unwrap_or_default(),
        ..EndpointSlice::default()
    };
    let list = Field::Root.key("ports");
    for (i, port) in object.ports.iter().flatten().enumerate() {
        let field = list.index(i);
        let protocol = validate::protocol(&field.key("protocol"), port.protocol.as_deref())?;
        let number = port.port.map(|number| validate::port(&field.key("port"), number)).transpose()?;
        slice.ports.push((port.name.clone().unwrap_or_default(), protocol, number));
    }
    // The endpoints of a slice of domain names have no addresses.
    if object.address_type != "FQDN" {
        let list = Field::Root.key("endpoints");
        for (i, endpoint) in object.endpoints.iter().enumerate() {
            slice.endpoints.push(slice_endpoint(&list.index(i), endpoint)?);
        }
    }
    Ok(slice)
}

fn slice_endpoint(field: &Field<'_>, endpoint: &discovery::Endpoint) -> Result<SliceEndpoint, Invalid> {
    let list = field.key("addresses");
    let addresses = endpoint.addresses.iter().enumerate();
    Ok(SliceEndpoint {
        addresses: addresses
            .map(|(i, text)| validate::address(&list.index(i), text))
            .collect::<Result<_, _>>()?,
        ready: endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true),
    })
}
