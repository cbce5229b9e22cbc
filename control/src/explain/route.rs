//! The way that a packet takes from the node that handles it.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::compile::gateways::gateway_of;
use crate::compile::routes::{RouteKind, RoutingTable};
use crate::state::Cluster;

/// Bytes that IP-in-IP puts before a packet (RFC 2003), by the family of the outer header.
const IPIP: (u16, u16) = (20, 40);
/// Bytes of outer IP, UDP and VXLAN headers and the inner Ethernet header (RFC 7348).
const VXLAN: (u16, u16) = (50, 70);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The node that handles the packet.
    pub node: Option<String>,
    pub dst: Option<IpNet>,
    /// `None`: no route of the cluster leads there.
    pub kind: Option<RouteKind>,
    /// Where the destination lives.
    pub lives_on: Option<String>,
    /// The node that the route leads to: that one, or a gateway before it.
    pub next_node: Option<String>,
    pub via: Option<IpAddr>,
    pub tunnel_dst: Option<IpAddr>,
    /// Bytes of the headers that a tunnel puts before the packet.
    pub overhead: u16,
    pub pool: Option<String>,
    /// Why there is no route.
    pub why: Option<String>,
}

impl Route {
    pub(super) fn none(node: &str, why: String) -> Self {
        Self { node: Some(node.to_owned()), why: Some(why), ..Self::unknown() }
    }

    /// Neither end is on a node of the cluster.
    pub(super) fn unknown() -> Self {
        let why = "neither end is a pod or a node of this cluster: --node names whose routes to show";
        Self {
            node: None,
            dst: None,
            kind: None,
            lives_on: None,
            next_node: None,
            via: None,
            tunnel_dst: None,
            overhead: 0,
            pool: None,
            why: Some(why.to_owned()),
        }
    }
}

/// The node that handles a packet first: the gateway of the sender's node, or that node; of a sender outside, those of
/// the receiver.
pub(super) fn handler(cluster: &Cluster, src: IpAddr, dst: IpAddr) -> Option<String> {
    let node = node_of(cluster, src).or_else(|| node_of(cluster, dst))?;
    let gateway = gateway_of(cluster, node).filter(|gateway| cluster.nodes.contains_key(*gateway));
    Some(gateway.unwrap_or(node).to_owned())
}

fn node_of(cluster: &Cluster, address: IpAddr) -> Option<&str> {
    let is_its = |pod: &&crate::state::Pod| pod.is_endpoint() && pod.addresses.contains(&address);
    let pod = cluster.pods.values().map(|pod| &**pod).find(is_its);
    pod.map(|pod| pod.node.as_str()).or_else(|| node_at(cluster, address))
}

fn node_at(cluster: &Cluster, address: IpAddr) -> Option<&str> {
    let node = cluster.nodes.iter().find(|(_, node)| node.addresses.contains(&address));
    node.map(|(name, _)| name.as_str())
}

/// What a node's table says of a destination.
pub(super) fn of_table(cluster: &Cluster, node: &str, table: &RoutingTable, dst: IpAddr) -> Route {
    if let Some(at) = node_at(cluster, dst) {
        let why = if at == node {
            "its own address: to the node itself".to_owned()
        } else {
            format!("an address of node {at}: the kernel's routes lead there")
        };
        return Route::none(node, why);
    }
    let found = table.routes.iter().filter(|route| route.dst.contains(&dst));
    let found = found.max_by_key(|route| route.dst.prefix_len());
    let missing = table.missing.iter().filter(|(net, ..)| net.contains(&dst));
    let missing = missing.max_by_key(|(net, ..)| net.prefix_len());
    let is_longer = |net: &IpNet| found.is_none_or(|route| route.dst.prefix_len() < net.prefix_len());
    if let Some((net, lives_on, why)) = missing.filter(|(net, ..)| is_longer(net)) {
        let lives_on = Some(lives_on.clone());
        return Route { dst: Some(*net), lives_on, ..Route::none(node, why.to_string()) };
    }
    let Some(route) = found else {
        return Route::none(node, "no block of the cluster: the kernel's routes decide".to_owned());
    };
    Route {
        node: Some(node.to_owned()),
        dst: Some(route.dst),
        kind: Some(route.kind),
        lives_on: Some(route.node.clone()),
        next_node: route.next_node.clone(),
        via: route.via,
        tunnel_dst: route.tunnel_dst,
        overhead: overhead(route.kind, route.tunnel_dst),
        pool: route.pool.clone(),
        why: None,
    }
}

fn overhead(kind: RouteKind, outer: Option<IpAddr>) -> u16 {
    let (v4, v6) = match kind {
        RouteKind::Ipip => IPIP,
        RouteKind::Vxlan => VXLAN,
        RouteKind::Local | RouteKind::Direct | RouteKind::Blackhole => (0, 0),
    };
    if outer.is_some_and(|outer| outer.is_ipv6()) { v6 } else { v4 }
}
