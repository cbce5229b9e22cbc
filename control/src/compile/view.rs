//! The cluster as one node sees it: what lives where, and the way there.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::blocks::{Blocks, Recorded};
use super::gateways::next_node;
use super::local;
use super::owners::Owners;
use super::prefixes::Prefixes;
use super::routes::{ClusterRoute, RouteKind, Unreachable};
use super::tunnels::{Family, encapsulation, outer_family, underlay, vxlan_tunnel};
use crate::state::{Cluster, IpPool, Node};

/// Where a destination lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lives<'a> {
    /// It is a pod of this node.
    Here,
    /// On the node of this name, which may be this one.
    On(&'a str),
}

/// A node that the cluster knows. Out of date when a Node, an IPPool or the extent of a block changes.
#[derive(Debug)]
pub(super) struct View {
    name: String,
    node: Arc<Node>,
    pools: Prefixes<(String, Arc<IpPool>)>,
    blocks: Blocks,
    /// What the node itself answers to: its addresses and those of its tunnel devices.
    own: HashSet<IpAddr>,
}

impl View {
    /// `None`: the cluster has no such node.
    pub(super) fn of(cluster: &Cluster, name: &str) -> Option<Self> {
        let node = Arc::clone(cluster.nodes.get(name)?);
        let pools = cluster.ip_pools.iter().map(|(name, pool)| (pool.cidr, (name.clone(), Arc::clone(pool))));
        Some(Self {
            name: name.to_owned(),
            own: local::addresses(&node).collect(),
            node,
            pools: pools.collect(),
            blocks: Blocks::of(cluster),
        })
    }

    pub(super) fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// Where an address lives that has a route of its own. A pod that is here is here, whatever IPAM still says of its
    /// address.
    pub(super) fn lives<'a>(
        &'a self,
        address: IpAddr,
        owners: &'a Owners,
        recorded: &'a Recorded,
    ) -> Option<Lives<'a>> {
        let pod = owners.get(address).map(|owner| &*owner.pod.node);
        if pod == Some(&*self.name) {
            return Some(Lives::Here);
        }
        let elsewhere = self.blocks.elsewhere(address, recorded.get(address), pod);
        elsewhere.or_else(|| self.blocks.owner_of(address.into())).map(Lives::On)
    }

    /// The route to what lives there, or with the name of its node why there is none. `None` where the destination is
    /// the node itself.
    pub(super) fn route(
        &self,
        cluster: &Cluster,
        dst: IpNet,
        lives: Lives<'_>,
    ) -> Option<Result<ClusterRoute, (String, Unreachable)>> {
        if dst.prefix_len() == dst.max_prefix_len() && self.own.contains(&dst.addr()) {
            return None;
        }
        let pool = self.pools.longest(dst).map(|(_, pool)| pool);
        let route = |kind, node: &str| ClusterRoute {
            dst,
            kind,
            node: node.to_owned(),
            next_node: None,
            via: None,
            tunnel_dst: None,
            pool: pool.map(|(name, _)| name.clone()),
        };
        Some(match lives {
            Lives::Here => Ok(route(RouteKind::Local, &self.name)),
            Lives::On(node) if node == self.name => Ok(route(RouteKind::Blackhole, node)),
            Lives::On(node) => {
                let pool = pool.map(|(_, pool)| &**pool);
                let remote = self.remote_route(cluster, route(RouteKind::Direct, node), node, pool);
                remote.map_err(|why| (node.to_owned(), why))
            }
        })
    }

    fn remote_route(
        &self,
        cluster: &Cluster,
        route: ClusterRoute,
        node: &str,
        pool: Option<&IpPool>,
    ) -> Result<ClusterRoute, Unreachable> {
        let family = Family::of(&route.dst);
        let no_address = |node: &str| Unreachable::NoAddress { node: node.to_owned(), family };
        let next = next_node(cluster, &self.name, node)?;
        let next_object = cluster.nodes.get(next).ok_or_else(|| Unreachable::UnknownNode(next.into()))?;
        let outer = outer_family(pool, &self.node, next_object, family);
        let via = underlay(next_object, outer).ok_or_else(|| no_address(next))?.addr();
        let local = underlay(&self.node, outer);
        let kind = if outer == family { encapsulation(pool, local, via) } else { RouteKind::Vxlan };
        if kind == RouteKind::Vxlan && vxlan_tunnel(next_object, outer).is_none() {
            return Err(Unreachable::NoTunnelAddress { node: next.to_owned(), family: outer });
        }
        let tunnel_dst = (kind != RouteKind::Direct).then_some(via);
        // Outer packets need a source.
        if tunnel_dst.is_some() && local.is_none() {
            return Err(no_address(&self.name));
        }
        Ok(ClusterRoute { kind, next_node: Some(next.to_owned()), via: Some(via), tunnel_dst, ..route })
    }
}
