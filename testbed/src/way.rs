//! The way of a packet through the lab, node by node, as the routing tables lead it: whose Margay it crosses, and where
//! the lab cannot carry it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use margay_control::compile::routes::{self, ClusterRoute, RouteKind};
use margay_control::state::{Cluster, Name};

use crate::topology::{Dataplane, LabNode, Topology};

/// One end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Pod(Name),
    /// The node itself, or a pod of its network.
    Node(String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(name) => name.fmt(f),
            Self::Node(name) => write!(f, "node:{name}"),
        }
    }
}

/// The routing tables of all nodes of a lab.
#[derive(Debug)]
pub struct Ways<'a> {
    topology: &'a Topology,
    tables: BTreeMap<&'a str, Vec<ClusterRoute>>,
}

/// Where a packet stands on its way.
struct Hop<'a> {
    node: &'a LabNode,
    /// A process of this very node sent it.
    own: bool,
}

impl<'a> Ways<'a> {
    pub fn new(topology: &'a Topology, cluster: &Cluster) -> Result<Self, routes::UnknownNode> {
        let table = |name: &'a String| Ok((name.as_str(), routes::routes(cluster, name)?));
        Ok(Self { topology, tables: topology.nodes.keys().map(table).collect::<Result<_, _>>()? })
    }

    /// Names of the nodes whose Margay forwards a packet from `from` to `to`, which has `address`; or why the lab cannot
    /// carry it.
    pub fn between(&self, from: &End, to: &End, address: IpAddr) -> Result<BTreeSet<String>, String> {
        let mut crossed = BTreeSet::new();
        if from == to {
            return Ok(crossed);
        }
        let last = self.node_of(to)?;
        let mut hop = Hop { node: self.node_of(from)?, own: matches!(from, End::Node(_)) };
        for _ in 0..=self.topology.nodes.len() {
            if hop.node.dataplane == Dataplane::Margay && !hop.own && !(hop.node == last && is_node(to)) {
                crossed.insert(hop.node.name.clone());
            }
            if hop.node == last {
                return Ok(crossed);
            }
            let next = self.next(&hop, to, address)?;
            hop = Hop { node: next, own: false };
        }
        Err(format!("the routes from {from} to {to} run in a circle"))
    }

    fn node_of(&self, end: &End) -> Result<&'a LabNode, String> {
        let name = match end {
            End::Node(name) => name,
            End::Pod(name) => match self.topology.pods.get(name) {
                Some(pod) => &pod.node,
                None => return Err(format!("the lab has no pod {name}")),
            },
        };
        self.topology.nodes.get(name).ok_or_else(|| format!("the lab has no node {name}"))
    }

    fn next(&self, hop: &Hop<'a>, to: &End, address: IpAddr) -> Result<&'a LabNode, String> {
        // A node's address is on the underlay, where the kernel's own routes lead.
        if is_node(to) {
            return self.node_of(to);
        }
        let name = &hop.node.name;
        let no_route = || format!("node {name} has no route to {to}");
        let route = self.lookup(name, address).ok_or_else(no_route)?;
        let next = route.next_node.as_ref().ok_or_else(no_route)?;
        let next = self.topology.nodes.get(next).ok_or_else(|| format!("the lab has no node {next}"))?;
        match route.kind {
            RouteKind::Direct => Ok(next),
            RouteKind::Vxlan | RouteKind::Ipip if hop.own && hop.node.dataplane == Dataplane::Margay => {
                Err(format!(
                    "what node {name} itself sends to {to} needs a tunnel, and in the lab only pods' packets get one there",
                ))
            }
            RouteKind::Vxlan => match [hop.node, next].into_iter().find(|node| !ends_vxlan(node, route)) {
                Some(node) => Err(format!("the kernel of node {} has no such VXLAN tunnel", node.name)),
                None => Ok(next),
            },
            RouteKind::Ipip => match [hop.node, next].iter().find(|node| node.dataplane == Dataplane::Kernel)
            {
                Some(node) => Err(format!("the kernel of node {} has no IP-in-IP in the lab", node.name)),
                None => Ok(next),
            },
            RouteKind::Local | RouteKind::Blackhole => Err(no_route()),
        }
    }

    fn lookup(&self, node: &str, address: IpAddr) -> Option<&ClusterRoute> {
        let routes = self.tables.get(node)?.iter();
        routes.filter(|route| route.dst.contains(&address)).max_by_key(|route| route.dst.prefix_len())
    }
}

fn is_node(end: &End) -> bool {
    matches!(end, End::Node(_))
}

/// Whether the node has an end of the route's tunnel. In the lab kernels' tunnels are of one family inside and outside.
fn ends_vxlan(node: &LabNode, route: &ClusterRoute) -> bool {
    let is_ipv6 = route.dst.addr().is_ipv6();
    let is_of_one = route.tunnel_dst.is_some_and(|outer| outer.is_ipv6() == is_ipv6);
    node.dataplane == Dataplane::Margay || is_of_one && node.vtep(is_ipv6).is_some()
}
