//! Namespace, ServiceAccount and Node.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;

use super::problem::{Field, Invalid};
use super::validate;
use crate::state::{Namespace, Node, ServiceAccount};

/// Label that every namespace has, with its own name as value.
pub(crate) const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

pub(super) fn namespace(object: core::Namespace) -> Result<Namespace, Invalid> {
    let mut labels = object.metadata.labels.unwrap_or_default();
    validate::labels(&Field::Root.key("metadata").key("labels"), &labels)?;
    labels.insert(NAMESPACE_NAME_LABEL.to_owned(), object.metadata.name.unwrap_or_default());
    Ok(Namespace { labels })
}

pub(super) fn service_account(object: core::ServiceAccount) -> Result<ServiceAccount, Invalid> {
    let labels = object.metadata.labels.unwrap_or_default();
    validate::labels(&Field::Root.key("metadata").key("labels"), &labels)?;
    Ok(ServiceAccount { labels })
}

pub(super) fn node(object: core::Node) -> Result<Node, Invalid> {
    let spec = object.spec.unwrap_or_default();
    let annotations = object.metadata.annotations.unwrap_or_default();
    let reported = reported_addresses(&object.status.unwrap_or_default())?;
    let first_internal = |v4: bool| {
        let internal = |(kind, address): &&(String, IpAddr)| kind == "InternalIP" && address.is_ipv4() == v4;
        reported.iter().find(internal).map(|(_, address)| IpNet::from(*address))
    };
    let calico = Annotations(&annotations);
    let mut node = Node {
        ipv4: calico.network("projectcalico.org/IPv4Address", true)?.or(first_internal(true)),
        ipv6: calico.network("projectcalico.org/IPv6Address", false)?.or(first_internal(false)),
        ipip_tunnel: calico.address("projectcalico.org/IPv4IPIPTunnelAddr", true)?,
        vxlan_tunnel_v4: calico.address("projectcalico.org/IPv4VXLANTunnelAddr", true)?,
        vxlan_tunnel_v6: calico.address("projectcalico.org/IPv6VXLANTunnelAddr", false)?,
        vxlan_mac_v4: calico.mac("projectcalico.org/VXLANTunnelMACAddr")?,
        vxlan_mac_v6: calico.mac("projectcalico.org/VXLANTunnelMACAddrV6")?,
        pod_cidrs: pod_cidrs(&spec)?,
        ..Node::default()
    };
    node.addresses = reported.into_iter().map(|(_, address)| address).collect();
    let networks = [node.ipv4, node.ipv6].into_iter().flatten().map(|net| net.addr());
    let tunnels = [node.ipip_tunnel, node.vxlan_tunnel_v4, node.vxlan_tunnel_v6].into_iter().flatten();
    for address in networks.chain(tunnels) {
        if !node.addresses.contains(&address) {
            node.addresses.push(address);
        }
    }
    node.labels = object.metadata.labels.unwrap_or_default();
    node.annotations = annotations;
    Ok(node)
}

/// Type and address of each InternalIP and ExternalIP; names are no addresses.
fn reported_addresses(status: &core::NodeStatus) -> Result<Vec<(String, IpAddr)>, Invalid> {
    let (status_field, mut reported) = (Field::Root.key("status"), Vec::new());
    let list = status_field.key("addresses");
    for (i, entry) in status.addresses.iter().flatten().enumerate() {
        if matches!(&*entry.type_, "InternalIP" | "ExternalIP") {
            let address = validate::address(&list.index(i).key("address"), &entry.address)?;
            reported.push((entry.type_.clone(), address));
        }
    }
    Ok(reported)
}

fn pod_cidrs(spec: &core::NodeSpec) -> Result<Vec<IpNet>, Invalid> {
    let field = Field::Root.key("spec");
    match (&spec.pod_cidrs, &spec.pod_cidr) {
        (Some(list), _) if !list.is_empty() => {
            let field = field.key("podCIDRs");
            list.iter().enumerate().map(|(i, cidr)| validate::cidr(&field.index(i), cidr)).collect()
        }
        (_, Some(cidr)) if !cidr.is_empty() => Ok(vec![validate::cidr(&field.key("podCIDR"), cidr)?]),
        _ => Ok(Vec::new()),
    }
}

/// Annotations that Calico's node agent writes.
struct Annotations<'a>(&'a BTreeMap<String, String>);

impl Annotations<'_> {
    /// Reads an annotation that is neither missing nor empty.
    fn read<T>(
        &self,
        key: &str,
        parse: impl Fn(&Field<'_>, &str) -> Result<T, Invalid>,
    ) -> Result<Option<T>, Invalid> {
        let text = self.0.get(key).filter(|text| !text.is_empty());
        text.map(|text| parse(&Field::Root.key("metadata").key("annotations").key(key), text)).transpose()
    }

    /// An address with its prefix length, or alone.
    fn network(&self, key: &str, v4: bool) -> Result<Option<IpNet>, Invalid> {
        self.read(key, |field, text| {
            let address = text.split_once('/').map_or(text, |(address, _)| address);
            let address = of_family(field, validate::address(field, address)?, v4)?;
            if !text.contains('/') {
                return Ok(IpNet::from(address));
            }
            // Only its length: `validate::cidr` drops the host bits, which are the address here.
            let length = validate::cidr(field, text)?.prefix_len();
            IpNet::new(address, length).map_err(|error| field.invalid(error.to_string()))
        })
    }

    fn address(&self, key: &str, v4: bool) -> Result<Option<IpAddr>, Invalid> {
        self.read(key, |field, text| of_family(field, validate::address(field, text)?, v4))
    }

    fn mac(&self, key: &str) -> Result<Option<[u8; 6]>, Invalid> {
        self.read(key, |field, text| {
            let octet = |part: &str| match part.len() {
                2 => u8::from_str_radix(part, 16).ok(),
                _ => None,
            };
            let octets: Option<Vec<u8>> = text.split([':', '-']).map(octet).collect();
            octets
                .and_then(|octets| octets.try_into().ok())
                .ok_or_else(|| field.invalid(format!("{} is not a MAC address", validate::shown(text))))
        })
    }
}

fn of_family(field: &Field<'_>, address: IpAddr, v4: bool) -> Result<IpAddr, Invalid> {
    if address.is_ipv4() == v4 {
        return Ok(address);
    }
    Err(field.invalid(format!("{address} is not IPv{}", if v4 { 4 } else { 6 })))
}
