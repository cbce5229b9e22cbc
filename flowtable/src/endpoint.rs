//! Endpoints: the pods whose policy is enforced here.

use std::net::IpAddr;
use std::sync::Arc;

/// A pod that is served here. What it obeys is its identity's ([`Policies::obeys`](crate::Policies)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `NAMESPACE/NAME`.
    pub name: Arc<str>,
    /// Addresses of its node: those reach the pod whatever the policy says (probes).
    pub node_addresses: Arc<[IpAddr]>,
}
