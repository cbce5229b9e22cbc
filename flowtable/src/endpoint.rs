//! Endpoints: the pods whose policy is enforced here, found by address.

use std::net::IpAddr;
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
    pub by_address: HashMap<IpAddr, Arc<Endpoint>>,
}

impl Endpoints {
    pub fn get(&self, address: IpAddr) -> Option<&Endpoint> {
        self.by_address.get(&address).map(|endpoint| &**endpoint)
    }
}
