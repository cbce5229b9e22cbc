//! From the state of the world to the [`Snapshot`] that workers read. Pure: same state, same snapshot.
//!
//! The cluster's objects give the routes between nodes and pods, the kernel the rest of the routes and the neighbours;
//! for one prefix the cluster's route wins, and an address of the node itself wins over both.

mod blocks;
mod endpoints;
pub mod gateways;
mod local;
mod next_hops;
mod pods;
mod policy;
mod prefixes;
pub mod routes;
pub mod steering;
pub mod tunnels;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use margay_flowtable::snapshot::Local;
use margay_flowtable::{Fib, NextHopId, PortKind, PortState, Snapshot, Tunnel};

pub use self::endpoints::endpoints;
use self::gateways::serves;
pub use self::next_hops::NeighbourKey;
use self::next_hops::{NextHops, Underlay};
use self::routes::{ClusterRoute, RouteKind, local_pods};
use self::tunnels::{Family, vtep_mac};
pub use self::{routes::routes, steering::steering};
use crate::identity::Identity;
use crate::state::{Cluster, Name, PortBinding, State};

/// Compiles the state as node `identity.node` sees it. Generation and epochs are left to [`Snapshot::succeed`].
///
/// A node that the cluster does not know has no cluster routes, and forwards as the kernel's routes say.
pub fn compile(state: &State, identity: &Identity) -> Snapshot {
    let local = local::local(state, identity);
    let underlay = Underlay::of(state);
    let mut next_hops = NextHops::new();
    let mut fib: BTreeMap<IpNet, NextHopId> = BTreeMap::new();
    kernel_routes(state, &underlay, &mut next_hops, &mut fib);
    cluster_routes(state, identity, &local, &underlay, &mut next_hops, &mut fib);
    let own = local.addresses.iter().copied().chain(local.tunnel_ends.iter().copied().map(IpAddr::V4));
    fib.extend(own.map(|address| (IpNet::from(address), NextHops::HOST)));
    Snapshot {
        fib: Fib::build(fib.into_iter().map(|(dst, id)| (dst.network(), dst.prefix_len(), id))),
        next_hops: next_hops.into_vec().into(),
        endpoints: endpoints(&state.cluster, |_, pod| serves(&state.cluster, &identity.node, pod)),
        ports: ports(state, identity),
        tunnel_sources: local::tunnel_sources(&state.cluster, identity).collect(),
        local,
        ..Snapshot::default()
    }
}

/// The neighbour on an uplink that a packet to `address` goes to, by the kernel's routes.
pub fn uplink_neighbour(state: &State, address: IpAddr) -> Option<NeighbourKey> {
    let underlay = Underlay::of(state);
    underlay.neighbour_toward(address).filter(|(ifindex, _)| underlay.is_uplink(*ifindex))
}

/// Neighbours that the kernel should keep resolved, so that the next hops of `compile` have their MACs: those toward
/// other nodes, the gateways of the kernel's routes, and the pods of this node.
pub fn wanted_neighbours(state: &State, identity: &Identity) -> BTreeSet<NeighbourKey> {
    let underlay = Underlay::of(state);
    let routes = routes(&state.cluster, &identity.node).unwrap_or_default();
    let nodes: BTreeSet<IpAddr> = routes.iter().filter_map(|route| route.via).collect();
    let toward_nodes = nodes.into_iter().filter_map(|via| underlay.neighbour_toward(via));
    let gateways = underlay.routes().iter().filter_map(|(_, hop)| Some((hop.ifindex, hop.gateway?)));
    let pods = pod_neighbours(state, identity).into_iter().map(|(address, ifindex)| (ifindex, address));
    let uplinks = toward_nodes.chain(gateways).filter(|(ifindex, _)| underlay.is_uplink(*ifindex));
    uplinks.chain(pods).collect()
}

/// What the kernel routes through our uplinks. A subnet on a link has no next hop of its own: each neighbour in it that
/// the kernel has resolved becomes a route, and the rest of it is unresolved.
fn kernel_routes(
    state: &State,
    underlay: &Underlay,
    next_hops: &mut NextHops,
    fib: &mut BTreeMap<IpNet, NextHopId>,
) {
    for (dst, hop) in underlay.routes().iter() {
        let gateway = hop.gateway.filter(|_| underlay.is_uplink(hop.ifindex));
        let adjacency = gateway.and_then(|gateway| underlay.adjacency((hop.ifindex, gateway)));
        fib.insert(*dst, next_hops.forward(adjacency, None));
    }
    for &neighbour in state.kernel.neighbours.keys() {
        let (ifindex, address) = neighbour;
        if underlay.is_uplink(ifindex) && underlay.neighbour_toward(address) == Some(neighbour) {
            fib.insert(address.into(), next_hops.forward(underlay.adjacency(neighbour), None));
        }
    }
}

fn cluster_routes(
    state: &State,
    identity: &Identity,
    local: &Local,
    underlay: &Underlay,
    next_hops: &mut NextHops,
    fib: &mut BTreeMap<IpNet, NextHopId>,
) {
    let pods = pod_neighbours(state, identity);
    for route in routes(&state.cluster, &identity.node).unwrap_or_default() {
        let next_hop = match route.kind {
            RouteKind::Blackhole => NextHops::BLACKHOLE,
            RouteKind::Local => {
                let address = route.dst.addr();
                let neighbour = pods.get(&address).map(|ifindex| (*ifindex, address));
                next_hops.forward(neighbour.and_then(|pod| underlay.adjacency(pod)), None)
            }
            RouteKind::Direct | RouteKind::Ipip | RouteKind::Vxlan => {
                let neighbour = route.via.and_then(|via| underlay.neighbour_toward(via));
                let uplink = neighbour.filter(|(ifindex, _)| underlay.is_uplink(*ifindex));
                let adjacency = uplink.and_then(|neighbour| underlay.adjacency(neighbour));
                match tunnel(&route, &state.cluster, local) {
                    Ok(tunnel) => next_hops.forward(adjacency, tunnel),
                    Err(OuterNotIpv4) => NextHops::UNRESOLVED,
                }
            }
        };
        fib.insert(route.dst, next_hop);
    }
}

/// The packet path has no tunnels over IPv6.
struct OuterNotIpv4;

fn tunnel(route: &ClusterRoute, cluster: &Cluster, local: &Local) -> Result<Option<Tunnel>, OuterNotIpv4> {
    let Some(dst) = route.tunnel_dst else { return Ok(None) };
    let (IpAddr::V4(dst), Some(&src)) = (dst, local.tunnel_ends.first()) else { return Err(OuterNotIpv4) };
    if route.kind == RouteKind::Ipip {
        return Ok(Some(Tunnel::Ipip { src, dst }));
    }
    let next_node = route.next_node.as_deref().unwrap_or(&route.node);
    let object = cluster.nodes.get(next_node).map(|node| &**node);
    Ok(Some(Tunnel::Vxlan {
        src,
        dst,
        vni: local.vni,
        udp_port: local.vxlan_port,
        inner_src_mac: local.vtep_mac,
        inner_dst_mac: vtep_mac(next_node, object, Family::V4),
    }))
}

/// Addresses of the pods of this node whose port is open, with the link of that port.
fn pod_neighbours(state: &State, identity: &Identity) -> BTreeMap<IpAddr, u32> {
    let bound = state.ports.iter().filter_map(|port| Some((port.pod.as_ref()?, port.ifindex)));
    let links: BTreeMap<&Name, u32> = bound.collect();
    let pods = local_pods(&state.cluster, &identity.node).into_iter();
    pods.filter_map(|(address, pod)| Some((address, *links.get(pod)?))).collect()
}

fn ports(state: &State, identity: &Identity) -> Vec<Option<PortState>> {
    let count = state.ports.iter().map(|port| usize::from(port.id.0) + 1).max().unwrap_or(0);
    let mut addresses: BTreeMap<&Name, Vec<IpAddr>> = BTreeMap::new();
    for (address, pod) in local_pods(&state.cluster, &identity.node) {
        addresses.entry(pod).or_default().push(address);
    }
    let mut ports = vec![None; count];
    for binding in &state.ports {
        let pod = |name| PortKind::Pod { addresses: addresses.get(name).cloned().unwrap_or_default() };
        let kind = binding.pod.as_ref().map_or(PortKind::Uplink, pod);
        ports[usize::from(binding.id.0)] = port_state(state, binding, kind);
    }
    ports
}

/// `None` while the kernel has no such link.
fn port_state(state: &State, binding: &PortBinding, kind: PortKind) -> Option<PortState> {
    let link = state.kernel.links.get(&binding.ifindex)?;
    let mtu = u16::try_from(link.mtu).unwrap_or(u16::MAX);
    Some(PortState { name: binding.name.as_str().into(), kind, mac: link.mac, mtu })
}
