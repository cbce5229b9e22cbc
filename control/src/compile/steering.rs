//! What the XDP program must know of destinations: which prefixes come to Margay, which stay the kernel's.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{local, routes};
use crate::identity::Identity;
use crate::state::State;

/// Whose a destination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steer {
    /// Inside a block, or the address of a pod, that Margay routes.
    Owned,
    /// This node's underlay address: tunnel packets are Margay's, all else is the kernel's.
    TunnelEnd,
    /// Another address of this node: the kernel's.
    Local,
}

/// (network, prefix length) of every prefix that is steered, longest match first to be asked. Never a default or connected route.
pub type Steering = BTreeMap<(IpAddr, u8), Steer>;

pub fn steering(state: &State, identity: &Identity) -> Steering {
    let routes = routes::routes(&state.cluster, &identity.node).unwrap_or_default();
    let owned = routes.iter().map(|route| ((route.dst.network(), route.dst.prefix_len()), Steer::Owned));
    let local = local::local(state, identity);
    let host = |address: IpAddr| (address, if address.is_ipv4() { 32 } else { 128 });
    let own = local.addresses.iter().map(|address| (host(*address), Steer::Local));
    let ends = local.tunnel_ends.iter().map(|address| (host((*address).into()), Steer::TunnelEnd));
    owned.chain(own).chain(ends).collect()
}
