//! What the XDP program must know of destinations: which prefixes come to Margay, and which stay the kernel's.

use std::net::IpAddr;

use ipnet::IpNet;
use margay_fastpath::steer::{Destination, Routes};

use super::{local, routes};
use crate::identity::Identity;
use crate::state::State;

/// The blocks and addresses that the cluster routes, and the addresses of this node: never a default or connected
/// route, by which the kernel's own traffic would come to Margay.
pub fn steering(state: &State, identity: &Identity) -> Routes {
    let routes = routes::routes(&state.cluster, &identity.node).unwrap_or_default();
    let owned = routes.iter().map(|route| (key(route.dst), Destination::Owned));
    let local = local::local(state, identity);
    let own = local.addresses.iter().map(|address| (key(*address), Destination::Local));
    let ends = local.tunnel_ends.iter().map(|end| (key(IpAddr::V4(*end)), Destination::TunnelEnd));
    owned.chain(own).chain(ends).collect()
}

fn key(net: impl Into<IpNet>) -> (IpAddr, u8) {
    let net = net.into();
    (net.network(), net.prefix_len())
}
