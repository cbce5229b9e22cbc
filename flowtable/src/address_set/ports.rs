//! Ports that are one end's own: what a port name or a service means on each of those that declare it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{AddressSet, End};
use crate::IdentityId;

/// A protocol and a port of it, or all of its ports.
pub type ProtocolPort = (u8, Option<u16>);

/// Ends by protocol and port. Ends mostly agree on the number, so there are few of those.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSet {
    /// Ascending by protocol and port.
    ports: Box<[(ProtocolPort, AddressSet)]>,
}

impl PortSet {
    /// Of sets for one protocol and port the last stands.
    pub fn new(ports: impl IntoIterator<Item = (ProtocolPort, AddressSet)>) -> Self {
        let by_port: BTreeMap<ProtocolPort, AddressSet> = ports.into_iter().collect();
        Self { ports: by_port.into_iter().filter(|(_, set)| !set.is_empty()).collect() }
    }

    pub fn contains(&self, end: &End, protocol: u8, port: u16) -> bool {
        [Some(port), None]
            .into_iter()
            .any(|port| self.get((protocol, port)).is_some_and(|set| set.contains(end)))
    }

    /// The ends that have this port.
    pub fn get(&self, port: ProtocolPort) -> Option<&AddressSet> {
        let at = self.ports.binary_search_by_key(&port, |(port, _)| *port).ok()?;
        Some(&self.ports[at].1)
    }

    /// The ports in it and who has them, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (ProtocolPort, &AddressSet)> {
        self.ports.iter().map(|(port, set)| (*port, set))
    }

    pub fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }

    #[must_use]
    pub fn with_identity(&self, port: ProtocolPort, identity: IdentityId) -> Self {
        let mut ports = self.ports.to_vec();
        match ports.binary_search_by_key(&port, |(port, _)| *port) {
            Ok(at) => ports[at].1 = ports[at].1.with_identity(identity),
            Err(at) => ports.insert(at, (port, AddressSet::new([identity], []))),
        }
        Self { ports: ports.into() }
    }

    /// Takes the identity out wherever it stands.
    #[must_use]
    pub fn without_identity(&self, identity: IdentityId) -> Self {
        let ports = self.ports.iter().map(|(port, set)| (*port, set.without_identity(identity)));
        Self { ports: ports.filter(|(_, set)| !set.is_empty()).collect() }
    }
}

impl FromIterator<(IpAddr, u8, u16)> for PortSet {
    fn from_iter<I: IntoIterator<Item = (IpAddr, u8, u16)>>(triples: I) -> Self {
        let mut ports: BTreeMap<ProtocolPort, Vec<(IpAddr, IpAddr)>> = BTreeMap::new();
        for (address, protocol, port) in triples {
            ports.entry((protocol, Some(port))).or_default().push((address, address));
        }
        Self::new(ports.into_iter().map(|(port, ranges)| (port, AddressSet::new([], ranges))))
    }
}
