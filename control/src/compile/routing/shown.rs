//! The routes as people ask for them, in portions: there may be one for each pod of the cluster.

use ipnet::IpNet;
use margay_flowtable::Adjacency;

use super::Routing;
use crate::compile::routes::{ClusterRoute, RouteKind, Unreachable};
use crate::compile::tunnels::mtu;
use crate::state::Cluster;

/// A route, or the node where the destination lives and why there is no route.
pub(super) type Entry<'a> = Result<&'a ClusterRoute, (&'a str, &'a Unreachable)>;

impl Routing {
    /// The cluster's destinations behind that one, in order.
    pub fn entries(&self, after: Option<IpNet>) -> impl Iterator<Item = (IpNet, Entry<'_>)> {
        self.table.entries(after)
    }

    /// The neighbour that packets by this route go to next, where the kernel has resolved it and a port leads there, with
    /// the largest packet that may leave there.
    pub fn adjacency(&self, cluster: &Cluster, route: &ClusterRoute) -> Option<Adjacency> {
        let Self { underlay, neighbours, identity, .. } = self;
        match route.kind {
            RouteKind::Blackhole => None,
            RouteKind::Local => underlay.adjacency(neighbours.pod(route.dst.addr())?),
            RouteKind::Direct | RouteKind::Ipip | RouteKind::Vxlan => {
                let adjacency = underlay.adjacency(underlay.uplink_toward(route.via?)?)?;
                Some(Adjacency { mtu: mtu(route, adjacency.mtu, identity, cluster), ..adjacency })
            }
        }
    }
}
