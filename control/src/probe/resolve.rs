//! A probe's ends to the addresses of packets.

use std::net::IpAddr;

use super::{End, Family, Probe};
use crate::state::{Cluster, EndpointSlice, Name, Node, Pod, ServicePort};

/// A packet that a probe stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    pub src: IpAddr,
    pub dst: IpAddr,
    /// Destination port where the protocol has ports: for a service, the port of the endpoint.
    pub dport: Option<u16>,
}

/// Why a probe stands for no packet. Displays without file and line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    #[error("{0} is not in the manifests")]
    Unknown(End),
    #[error("{0} has no address")]
    NoAddress(End),
    #[error("{0} has no IPv{1} address")]
    NoAddressOfFamily(End, u8),
    #[error("{0} and {1} have no address family in common")]
    NoCommonFamily(End, End),
}

impl Probe {
    /// The packets that the probe stands for: one, or one for each ready endpoint of a service (none: nobody answers).
    ///
    /// None either where an end is a finished pod: it holds no address, so nothing leaves or reaches it, and what its
    /// status still names may be another pod's by now.
    pub fn packets(&self, cluster: &Cluster) -> Result<Vec<Packet>, Unresolved> {
        let from = self.in_family(&self.from, addresses(cluster, &self.from)?)?;
        if let End::Service(name) = &self.to {
            return self.service_packets(cluster, name, &from);
        }
        let to = self.in_family(&self.to, addresses(cluster, &self.to)?)?;
        if from.is_empty() || to.is_empty() {
            return Ok(Vec::new());
        }
        let (src, dst) = [Family::V4, Family::V6]
            .into_iter()
            .find_map(|family| Some((first(&from, family)?, first(&to, family)?)))
            .ok_or_else(|| Unresolved::NoCommonFamily(self.from.clone(), self.to.clone()))?;
        Ok(vec![Packet { src, dst, dport: self.port }])
    }

    /// The addresses that the probe's `family` leaves.
    fn in_family(&self, end: &End, mut addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, Unresolved> {
        let Some(family) = self.family.filter(|_| !addresses.is_empty()) else { return Ok(addresses) };
        addresses.retain(|address| Family::of(*address) == family);
        if addresses.is_empty() {
            let number = if family == Family::V4 { 4 } else { 6 };
            return Err(Unresolved::NoAddressOfFamily(end.clone(), number));
        }
        Ok(addresses)
    }

    fn service_packets(
        &self,
        cluster: &Cluster,
        name: &Name,
        from: &[IpAddr],
    ) -> Result<Vec<Packet>, Unresolved> {
        let service =
            cluster.services.get(name).ok_or_else(|| Unresolved::Unknown(End::Service(name.clone())))?;
        let is_asked_for =
            |port: &&ServicePort| port.protocol == self.protocol && Some(port.port) == self.port;
        let Some(port) = service.ports.iter().find(is_asked_for) else { return Ok(Vec::new()) };
        let slices = cluster
            .endpoint_slices
            .range(Name::new(name.namespace.clone(), "")..)
            .take_while(|(slice, _)| slice.namespace == name.namespace)
            .map(|(_, slice)| &**slice)
            .filter(|slice| slice.service == name.name);
        let backends: Vec<(IpAddr, u16)> = slices.flat_map(|slice| ready(slice, &port.name, self)).collect();
        let in_family = |family| {
            let src = first(from, family)?;
            let of_family = backends.iter().filter(|(dst, _)| Family::of(*dst) == family);
            let packets = of_family.map(|&(dst, dport)| Packet { src, dst, dport: Some(dport) });
            Some(packets.collect::<Vec<_>>()).filter(|packets| !packets.is_empty())
        };
        Ok([Family::V4, Family::V6].into_iter().find_map(in_family).unwrap_or_default())
    }
}

/// Address and port of the slice's ready endpoints for the service port of this name.
fn ready(slice: &EndpointSlice, port_name: &str, probe: &Probe) -> Vec<(IpAddr, u16)> {
    let port = slice
        .ports
        .iter()
        .find(|(name, protocol, _)| name == port_name && *protocol == probe.protocol)
        // A slice port without a number means the port as asked for.
        .and_then(|(_, _, number)| number.or(probe.port));
    let Some(port) = port else { return Vec::new() };
    let ready = slice.endpoints.iter().filter(|endpoint| endpoint.ready);
    ready.flat_map(|endpoint| endpoint.addresses.iter().map(move |address| (*address, port))).collect()
}

/// The addresses of an end, of which the first of a family counts. Only a finished pod has none.
fn addresses(cluster: &Cluster, end: &End) -> Result<Vec<IpAddr>, Unresolved> {
    let addresses = match end {
        End::Address(address) => Some(vec![*address]),
        End::Pod(name) => match cluster.pods.get(name) {
            Some(pod) if pod.finished => return Ok(Vec::new()),
            pod => pod.map(|pod| pod_addresses(cluster, pod)),
        },
        End::Node(name) => cluster.nodes.get(name).map(|node| node_addresses(node).collect()),
        End::Service(_) => None,
    };
    match addresses {
        None => Err(Unresolved::Unknown(end.clone())),
        Some(addresses) if addresses.is_empty() => Err(Unresolved::NoAddress(end.clone())),
        Some(addresses) => Ok(addresses),
    }
}

/// A host-network pod's are its node's, whatever its status has of them so far.
fn pod_addresses(cluster: &Cluster, pod: &Pod) -> Vec<IpAddr> {
    let node = cluster.nodes.get(&pod.node).filter(|_| pod.host_network);
    node.into_iter().flat_map(|node| node_addresses(node)).chain(pod.addresses.iter().copied()).collect()
}

fn node_addresses(node: &Node) -> impl Iterator<Item = IpAddr> + use<> {
    [node.ipv4, node.ipv6].into_iter().flatten().map(|net| net.addr())
}

fn first(addresses: &[IpAddr], family: Family) -> Option<IpAddr> {
    addresses.iter().copied().find(|address| Family::of(*address) == family)
}
