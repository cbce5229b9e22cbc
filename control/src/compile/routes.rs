//! The routing table that the cluster's objects give a node: its blocks, its pods, and the way to every other node's.
//!
//! Pure: neither the kernel's routes nor its neighbours matter here. `margay routes` prints this table, the compiler
//! joins it with the kernel's state, and the laboratory programs it into nodes that the kernel forwards for.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::blocks::Recorded;
use super::owners::Owners;
use super::tunnels::Family;
use super::view::{Lives, View};
use crate::state::{Cluster, Name};

/// One route. Serializes as `margay routes -o json` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClusterRoute {
    pub dst: IpNet,
    pub kind: RouteKind,
    /// Where the destination lives.
    pub node: String,
    /// The node that the route leads to: `node` or a gateway. `None` where it does not leave this node.
    #[serde(skip)]
    pub next_node: Option<String>,
    /// Underlay address of `next_node`.
    pub via: Option<IpAddr>,
    /// Outer destination address of a tunnel.
    pub tunnel_dst: Option<IpAddr>,
    /// The longest IPPool that contains `dst`.
    pub pool: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RouteKind {
    /// A pod on this node.
    Local,
    /// To another node, not encapsulated.
    Direct,
    Ipip,
    Vxlan,
    /// The rest of a block of this node: addresses that no pod holds.
    Blackhole,
}

impl fmt::Display for RouteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Local => "local",
            Self::Direct => "direct",
            Self::Ipip => "ipip",
            Self::Vxlan => "vxlan",
            Self::Blackhole => "blackhole",
        })
    }
}

/// A node's routes in order of destination, and the destinations that it should reach and cannot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoutingTable {
    pub routes: Vec<ClusterRoute>,
    /// (destination, the node where it lives, why there is no route).
    pub missing: Vec<(IpNet, String, Unreachable)>,
}

/// Why a block or an address of another node has no route.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    #[error("no Node object has the name {0:?}")]
    UnknownNode(String),
    #[error("label margay.dev/gateway of node {node:?} names {gateway:?}, which is no Node object")]
    UnknownGateway { node: String, gateway: String },
    #[error("label margay.dev/gateway of node {node:?} names {gateway:?}, which is itself behind {node:?}")]
    GatewayRing { node: String, gateway: String },
    #[error(
        "node {node:?} has no {family} address: annotate projectcalico.org/{family}Address, or give it an InternalIP"
    )]
    NoAddress { node: String, family: Family },
    #[error(
        "node {node:?} has no VXLAN tunnel address: annotation projectcalico.org/{family}VXLANTunnelAddr"
    )]
    NoTunnelAddress { node: String, family: Family },
}

/// No such node; lists those that there are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown node {node:?}: the known nodes are {}", known(.nodes))]
pub struct UnknownNode {
    pub node: String,
    pub nodes: Vec<String>,
}

fn known(nodes: &[String]) -> String {
    if nodes.is_empty() { "none".to_owned() } else { nodes.join(", ") }
}

/// The routes of `node`, in order of destination.
pub fn routes(cluster: &Cluster, node: &str) -> Result<Vec<ClusterRoute>, UnknownNode> {
    Ok(table(cluster, node)?.routes)
}

/// The routes of `node` and the destinations that have none.
///
/// The node's own addresses are in neither: they are the node, wherever they lie.
pub fn table(cluster: &Cluster, node: &str) -> Result<RoutingTable, UnknownNode> {
    let Some(view) = View::of(cluster, node) else {
        return Err(UnknownNode { node: node.to_owned(), nodes: cluster.nodes.keys().cloned().collect() });
    };
    let (owners, recorded) = (Owners::of(cluster), Recorded::of(cluster));
    let mut lives: BTreeMap<IpNet, Lives<'_>> =
        view.blocks().iter().map(|(cidr, node)| (cidr, Lives::On(node))).collect();
    let claimed = owners.iter().map(|(address, _)| address);
    for address in claimed.chain(recorded.addresses()) {
        if let Some(found) = view.lives(address, &owners, &recorded) {
            lives.insert(address.into(), found);
        }
    }
    let mut table = RoutingTable::default();
    for (dst, lives) in lives {
        match view.route(cluster, dst, lives) {
            Some(Ok(route)) => table.routes.push(route),
            Some(Err((node, why))) => table.missing.push((dst, node, why)),
            None => {}
        }
    }
    Ok(table)
}

/// Pods on `node` by the addresses that are theirs.
pub fn local_pods(cluster: &Cluster, node: &str) -> BTreeMap<IpAddr, Arc<Name>> {
    let owners = Owners::of(cluster);
    let here = owners.iter().filter(|(_, owner)| owner.pod.node == node);
    here.map(|(address, owner)| (address, Arc::clone(&owner.name))).collect()
}
