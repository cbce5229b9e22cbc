//! Endpoints: the pods whose policy is enforced here, found by address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hashbrown::HashMap;

use crate::Program;

/// A pod and the policy that it obeys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `NAMESPACE/NAME`.
    pub name: Arc<str>,
    /// What it may send; asked of each flow's first packet with this endpoint as source.
    pub egress: Arc<Program>,
    /// What it may receive.
    pub ingress: Arc<Program>,
    /// Addresses of its node: those reach the pod whatever the policy says (probes).
    pub node_addresses: Arc<[IpAddr]>,
}

/// Served endpoints by address. Two pods may claim one address for a moment; then the one that the compiler chose
/// stands here.
#[derive(Clone, Debug, Default)]
pub struct Endpoints {
    // Apart, for a number hashes in a fraction of the time of an `IpAddr`.
    v4: HashMap<u32, Arc<Endpoint>>,
    v6: HashMap<u128, Arc<Endpoint>>,
}

impl Endpoints {
    pub fn get(&self, address: IpAddr) -> Option<&Arc<Endpoint>> {
        match address {
            IpAddr::V4(address) => self.v4.get(&address.to_bits()),
            IpAddr::V6(address) => self.v6.get(&address.to_bits()),
        }
    }

    /// Sets who holds the address.
    pub fn insert(&mut self, address: IpAddr, endpoint: Arc<Endpoint>) {
        match address {
            IpAddr::V4(address) => self.v4.insert(address.to_bits(), endpoint),
            IpAddr::V6(address) => self.v6.insert(address.to_bits(), endpoint),
        };
    }

    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, &Arc<Endpoint>)> {
        let v4 = self.v4.iter().map(|(address, endpoint)| (Ipv4Addr::from_bits(*address).into(), endpoint));
        let v6 = self.v6.iter().map(|(address, endpoint)| (Ipv6Addr::from_bits(*address).into(), endpoint));
        v4.chain(v6)
    }
}
