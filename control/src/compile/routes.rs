//! The routing table that the cluster's objects give a node: its blocks, its pods, and the way to every other node's.
//!
//! Pure: neither the kernel's routes nor its neighbours matter here. `margay routes` prints this table, the compiler
//! joins it with the kernel's state, and the laboratory programs it into nodes that the kernel forwards for.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use super::blocks::{self, Blocks};
use super::gateways::next_node;
use super::pods::owners;
use super::prefixes::Prefixes;
use super::tunnels::{Family, encapsulation, underlay, vxlan_tunnel};
use crate::state::{Cluster, IpPool, Name, Node};

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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
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
    let Some(local) = cluster.nodes.get(node) else {
        return Err(UnknownNode { node: node.to_owned(), nodes: cluster.nodes.keys().cloned().collect() });
    };
    let pools: Prefixes<(&String, &IpPool)> =
        cluster.ip_pools.iter().map(|(name, pool)| (pool.cidr, (name, &**pool))).collect();
    let view = View { cluster, name: node, node: local, pools };
    let mut table = RoutingTable::default();
    let own = own_addresses(local);
    for (dst, owner) in view.destinations() {
        if own.contains(&dst) {
            continue;
        }
        match view.route(dst, owner) {
            Ok(route) => table.routes.push(route),
            Err(why) => table.missing.push((dst, owner.name().to_owned(), why)),
        }
    }
    Ok(table)
}

/// Pods on `node` by the addresses that are theirs.
pub fn local_pods<'a>(cluster: &'a Cluster, node: &str) -> BTreeMap<IpAddr, &'a Name> {
    let here = owners(cluster).into_iter().filter(|(_, (_, pod))| pod.node == node);
    here.map(|(address, (name, _))| (address, name)).collect()
}

/// What a node itself answers to, as single-address prefixes: its addresses and those of its tunnel devices.
fn own_addresses(node: &Node) -> Vec<IpNet> {
    super::local::addresses(node).map(IpNet::from).collect()
}

/// Who has a destination.
#[derive(Clone, Copy)]
enum Owner<'a> {
    /// A pod of this node.
    Pod(&'a str),
    Node(&'a str),
}

impl<'a> Owner<'a> {
    fn name(self) -> &'a str {
        match self {
            Self::Pod(node) | Self::Node(node) => node,
        }
    }
}

/// The cluster as one node sees it.
struct View<'a> {
    cluster: &'a Cluster,
    name: &'a str,
    node: &'a Node,
    pools: Prefixes<(&'a String, &'a IpPool)>,
}

impl<'a> View<'a> {
    fn destinations(&self) -> BTreeMap<IpNet, Owner<'a>> {
        let blocks = Blocks::of(self.cluster);
        let mut all: BTreeMap<IpNet, Owner<'a>> =
            blocks.owners.iter().map(|(cidr, node)| (*cidr, Owner::Node(node))).collect();
        all.extend(blocks::elsewhere(self.cluster, &blocks).map(|(a, node)| (a.into(), Owner::Node(node))));
        // Last: a pod that is here is here, whatever IPAM still says of its address.
        all.extend(
            local_pods(self.cluster, self.name).into_keys().map(|a| (a.into(), Owner::Pod(self.name))),
        );
        all
    }

    fn route(&self, dst: IpNet, owner: Owner<'a>) -> Result<ClusterRoute, Unreachable> {
        let pool = self.pools.longest(dst).map(|(_, pool)| *pool);
        let route = ClusterRoute {
            dst,
            kind: RouteKind::Local,
            node: owner.name().to_owned(),
            next_node: None,
            via: None,
            tunnel_dst: None,
            pool: pool.map(|(name, _)| name.clone()),
        };
        match owner {
            Owner::Pod(_) => Ok(route),
            Owner::Node(node) if node == self.name => {
                Ok(ClusterRoute { kind: RouteKind::Blackhole, ..route })
            }
            Owner::Node(node) => self.remote_route(route, node, pool.map(|(_, pool)| pool)),
        }
    }

    fn remote_route(
        &self,
        route: ClusterRoute,
        node: &'a str,
        pool: Option<&IpPool>,
    ) -> Result<ClusterRoute, Unreachable> {
        let family = Family::of(&route.dst);
        let no_address = |node: &str| Unreachable::NoAddress { node: node.to_owned(), family };
        let next = next_node(self.cluster, self.name, node)?;
        let next_object =
            self.cluster.nodes.get(next).ok_or_else(|| Unreachable::UnknownNode(next.into()))?;
        let via = underlay(next_object, family).ok_or_else(|| no_address(next))?.addr();
        let local = underlay(self.node, family);
        let kind = encapsulation(pool, local, via);
        if kind == RouteKind::Vxlan && vxlan_tunnel(next_object, family).is_none() {
            return Err(Unreachable::NoTunnelAddress { node: next.to_owned(), family });
        }
        let tunnel_dst = (kind != RouteKind::Direct).then_some(via);
        // Outer packets need a source.
        if tunnel_dst.is_some() && local.is_none() {
            return Err(no_address(self.name));
        }
        Ok(ClusterRoute { kind, next_node: Some(next.to_owned()), via: Some(via), tunnel_dst, ..route })
    }
}
