//! Routing as a plain function of the state.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashSet;
use ipnet::IpNet;
use margay_fastpath::steer::{Destination, Routes};
use margay_flowtable::snapshot::Local;
use margay_flowtable::{NextHop, PortKind, PortState, Tunnel};

use crate::compile::gateways::gateway_of;
use crate::compile::local;
use crate::compile::next_hops::{NeighbourKey, Underlay};
use crate::compile::routes::{ClusterRoute, RouteKind, local_pods, routes, table};
use crate::compile::routing::{NoTunnel, tunnel};
use crate::identity::Identity;
use crate::state::{Cluster, Family, Name, State};

pub(super) struct Plain {
    pub(super) local: Local,
    pub(super) steering: Routes,
    pub(super) neighbours: BTreeSet<NeighbourKey>,
    pub(super) pods: BTreeMap<String, Vec<IpAddr>>,
    pub(super) ports: Vec<(usize, PortState)>,
    pub(super) tunnel_sources: HashSet<IpAddr>,
    /// Where everything lives that has a route, or should have one; and by node, who sends for it.
    homes: BTreeMap<IpNet, String>,
    senders: BTreeMap<String, BTreeSet<IpAddr>>,
    fates: BTreeMap<IpNet, NextHop>,
}

impl Plain {
    pub(super) fn of(state: &State, identity: &Identity) -> Self {
        let State { cluster, kernel, ports } = state;
        let underlay = Underlay::new(Arc::new(kernel.clone()), ports.as_slice().into());
        let at = local_pods(cluster, &identity.node);
        let mut local = local::local(cluster, kernel, identity);
        local.pods = at.keys().copied().collect();
        let routes = routes(cluster, &identity.node).unwrap_or_default();
        let of_pod = |name: &Name| -> Vec<IpAddr> {
            at.iter().filter(|(_, owner)| ***owner == *name).map(|(address, _)| *address).collect()
        };
        let here = cluster.pods.iter().filter(|(_, pod)| pod.node == identity.node && pod.is_endpoint());
        let links: BTreeMap<IpAddr, u32> = at
            .iter()
            .filter_map(|(address, name)| {
                let port = ports.iter().find(|port| port.pod.as_ref() == Some(&**name))?;
                Some((*address, port.ifindex))
            })
            .collect();
        Self {
            steering: steering(&routes, &local),
            neighbours: neighbours(&routes, &underlay, &links),
            pods: here.map(|(name, _)| (name.to_string(), of_pod(name))).collect(),
            ports: port_states(state, of_pod),
            tunnel_sources: local::tunnel_sources(cluster, identity).collect(),
            homes: homes(cluster, identity),
            senders: senders(cluster, identity),
            fates: fates(state, identity, &routes, &local, &underlay, &links),
            local,
        }
    }

    pub(super) fn admits(&self, src: IpAddr, sender: IpAddr) -> bool {
        let around = self.homes.iter().filter(|(net, _)| net.contains(&src));
        let home =
            around.max_by_key(|(net, _)| net.prefix_len()).and_then(|(_, node)| self.senders.get(node));
        home.is_some_and(|senders| senders.contains(&sender))
    }

    pub(super) fn fate(&self, address: IpAddr) -> Option<NextHop> {
        let around = self.fates.iter().filter(|(net, _)| net.contains(&address));
        around.max_by_key(|(net, _)| net.prefix_len()).map(|(_, hop)| hop.clone())
    }
}

fn homes(cluster: &Cluster, identity: &Identity) -> BTreeMap<IpNet, String> {
    let table = table(cluster, &identity.node).unwrap_or_default();
    let routed = table.routes.into_iter().map(|route| (route.dst, route.node));
    let missing = table.missing.into_iter().map(|(dst, node, _)| (dst, node));
    let others = cluster.nodes.iter().filter(|(name, _)| **name != identity.node);
    let own = others.flat_map(|(name, node)| local::addresses(node).map(|a| (a.into(), name.clone())));
    routed.chain(missing).chain(own).collect()
}

/// Each node's own tunnel ends, those of all gateways that are met from it on, and those of our gateway.
fn senders(cluster: &Cluster, identity: &Identity) -> BTreeMap<String, BTreeSet<IpAddr>> {
    let ends = |name: &str| {
        let node = cluster.nodes.get(name);
        node.into_iter().flat_map(|node| [node.ipv4, node.ipv6]).flatten().map(|net| net.addr())
    };
    let of = |name: &String| {
        let mut at: &str = name;
        let mut senders: BTreeSet<IpAddr> = ends(at).collect();
        for _ in 0..cluster.nodes.len() {
            let Some(before) = gateway_of(cluster, at) else { break };
            senders.extend(ends(before));
            at = before;
        }
        senders.extend(gateway_of(cluster, &identity.node).into_iter().flat_map(ends));
        (name.clone(), senders)
    };
    cluster.nodes.keys().filter(|name| **name != identity.node).map(of).collect()
}

fn steering(routes: &[ClusterRoute], local: &Local) -> Routes {
    let key = |net: IpNet| (net.network(), net.prefix_len());
    let owned = routes.iter().map(|route| (key(route.dst), Destination::Owned));
    let own = local.addresses.iter().map(|address| (key((*address).into()), Destination::Local));
    let ends = local.tunnel_ends.iter().map(|end| (key((*end).into()), Destination::TunnelEnd));
    owned.chain(own).chain(ends).collect()
}

fn neighbours(
    routes: &[ClusterRoute],
    underlay: &Underlay,
    links: &BTreeMap<IpAddr, u32>,
) -> BTreeSet<NeighbourKey> {
    let vias = routes.iter().filter_map(|route| route.via);
    let toward_nodes = vias.filter_map(|via| underlay.neighbour_toward(via));
    let gateways = underlay.routes().iter().filter_map(|(_, hop)| Some((hop.ifindex, hop.gateway?)));
    let uplinks = toward_nodes.chain(gateways).filter(|(ifindex, _)| underlay.is_uplink(*ifindex));
    uplinks.chain(links.iter().map(|(address, ifindex)| (*ifindex, *address))).collect()
}

fn port_states(state: &State, addresses: impl Fn(&Name) -> Vec<IpAddr>) -> Vec<(usize, PortState)> {
    let states = state.ports.iter().filter_map(|binding| {
        let link = state.kernel.links.get(&binding.ifindex)?;
        let kind = match &binding.pod {
            None => PortKind::Uplink,
            Some(pod) => PortKind::Pod { addresses: addresses(pod) },
        };
        let mtu = u16::try_from(link.mtu).unwrap();
        let state = PortState {
            name: binding.name.as_str().into(),
            kind,
            mac: link.mac,
            mtu,
            takes_checksums: binding.takes_checksums,
        };
        Some((usize::from(binding.id.0), state))
    });
    states.collect()
}

/// The kernel's routes, over them the neighbours on links, over those the cluster's routes, over all our own addresses.
fn fates(
    state: &State,
    identity: &Identity,
    routes: &[ClusterRoute],
    local: &Local,
    underlay: &Underlay,
    links: &BTreeMap<IpAddr, u32>,
) -> BTreeMap<IpNet, NextHop> {
    let forward = |neighbour: Option<NeighbourKey>, tunnel| {
        let adjacency = neighbour.and_then(|neighbour| underlay.adjacency(neighbour));
        adjacency.map_or(NextHop::Unresolved, |adjacency| NextHop::Forward { adjacency, tunnel })
    };
    let is_uplink = |key: &NeighbourKey| underlay.is_uplink(key.0);
    let mut fates = BTreeMap::new();
    for (dst, hop) in underlay.routes().iter() {
        let gateway = hop.gateway.map(|gateway| (hop.ifindex, gateway)).filter(is_uplink);
        fates.insert(*dst, forward(gateway, None));
    }
    for key in state.kernel.neighbours.keys().filter(|key| is_uplink(key)) {
        if underlay.neighbour_toward(key.1) == Some(*key) {
            fates.insert(key.1.into(), forward(Some(*key), None));
        }
    }
    for route in routes {
        let toward = route.via.and_then(|via| underlay.neighbour_toward(via)).filter(is_uplink);
        let fate = match route.kind {
            RouteKind::Blackhole => NextHop::Blackhole,
            RouteKind::Local => {
                let address = route.dst.addr();
                forward(links.get(&address).map(|ifindex| (*ifindex, address)), None)
            }
            _ => match tunnel(route, &state.cluster, local, identity) {
                Ok(tunnel) => {
                    let (inside, headers) = match &tunnel {
                        Some(Tunnel::Vxlan6 { .. }) => (identity.vxlan_mtu(&state.cluster, Family::V6), 70),
                        Some(Tunnel::Vxlan { .. }) => (identity.vxlan_mtu(&state.cluster, Family::V4), 50),
                        _ => (identity.ipip_mtu(&state.cluster), 20),
                    };
                    let most =
                        inside.filter(|_| tunnel.is_some()).map_or(u16::MAX, |inside| inside + headers);
                    match forward(toward, tunnel) {
                        NextHop::Forward { mut adjacency, tunnel } => {
                            adjacency.mtu = adjacency.mtu.min(most);
                            NextHop::Forward { adjacency, tunnel }
                        }
                        other => other,
                    }
                }
                Err(NoTunnel) => NextHop::Unresolved,
            },
        };
        fates.insert(route.dst, fate);
    }
    let ends = local.tunnel_ends.iter().copied();
    fates.extend(local.addresses.iter().copied().chain(ends).map(|a| (a.into(), NextHop::Host)));
    fates
}
