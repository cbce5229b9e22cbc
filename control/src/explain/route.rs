//! The way that a packet takes from the node that handles it.

use std::net::IpAddr;

use ipnet::IpNet;
use margay_flowtable::{Interface, PortId, WayOut};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::compile::gateways::gateway_of;
use crate::compile::routes::{ClusterRoute, RouteKind, RoutingTable, Unreachable};
use crate::compile::tunnels::overhead;
use crate::state::Cluster;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Route {
    /// The node that handles the packet.
    pub node: Option<String>,
    #[schema(value_type = Option<String>)]
    pub dst: Option<IpNet>,
    /// `None`: no route of the cluster leads there.
    pub kind: Option<RouteKind>,
    /// Where the destination lives.
    pub lives_on: Option<String>,
    /// The node that the route leads to: that one, or a gateway before it.
    pub next_node: Option<String>,
    #[schema(value_type = Option<String>)]
    pub via: Option<IpAddr>,
    #[schema(value_type = Option<String>)]
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

/// Where an address lies, as a node's table has it.
enum Found<'a> {
    /// It is a node's.
    Node(&'a str),
    Route(&'a ClusterRoute),
    Missing(&'a (IpNet, String, Unreachable)),
    Outside,
}

fn find<'a>(cluster: &'a Cluster, table: &'a RoutingTable, address: IpAddr) -> Found<'a> {
    if let Some(node) = node_at(cluster, address) {
        return Found::Node(node);
    }
    let found = table.routes.iter().filter(|route| route.dst.contains(&address));
    let found = found.max_by_key(|route| route.dst.prefix_len());
    let missing = table.missing.iter().filter(|(net, ..)| net.contains(&address));
    let missing = missing.max_by_key(|(net, ..)| net.prefix_len());
    let is_longer = |net: &IpNet| found.is_none_or(|route| route.dst.prefix_len() < net.prefix_len());
    match (missing.filter(|(net, ..)| is_longer(net)), found) {
        (Some(missing), _) => Found::Missing(missing),
        (None, Some(route)) => Found::Route(route),
        (None, None) => Found::Outside,
    }
}

/// What a node's table says of a destination.
pub(super) fn of_table(cluster: &Cluster, node: &str, table: &RoutingTable, dst: IpAddr) -> Route {
    match find(cluster, table, dst) {
        Found::Node(at) if at == node => Route::none(node, "its own address: to the node itself".to_owned()),
        Found::Node(at) => {
            Route::none(node, format!("an address of node {at}: the kernel's routes lead there"))
        }
        Found::Missing((net, lives_on, why)) => {
            let lives_on = Some(lives_on.clone());
            Route { dst: Some(*net), lives_on, ..Route::none(node, why.to_string()) }
        }
        Found::Outside => Route::none(node, "no block of the cluster: the kernel's routes decide".to_owned()),
        Found::Route(route) => Route {
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
        },
    }
}

/// By what a packet to the address leaves a node that has one uplink, where all that the cluster does not know is.
pub(super) fn way_out(cluster: &Cluster, node: &str, table: &RoutingTable, address: IpAddr) -> WayOut {
    let uplink = WayOut::By(Interface::Uplink(PortId(0)));
    match find(cluster, table, address) {
        Found::Node(at) if at == node => WayOut::Here,
        Found::Node(_) | Found::Outside => uplink,
        Found::Missing(_) => WayOut::Unknown,
        Found::Route(route) => match route.kind {
            RouteKind::Local => WayOut::By(Interface::Pod),
            RouteKind::Direct => uplink,
            RouteKind::Ipip => WayOut::By(Interface::Ipip),
            RouteKind::Vxlan => WayOut::By(Interface::Vxlan),
            RouteKind::Blackhole => WayOut::Unknown,
        },
    }
}
