//! From an underlay address to the Ethernet header that reaches it: the kernel's routes, then its neighbours, then the
//! port that stands for the link.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use margay_flowtable::table::FlowAction;
use margay_flowtable::{Adjacency, NextHop, NextHopId, Tunnel};

use super::prefixes::Prefixes;
use crate::state::{Kernel, PortBinding, Route, State};

/// A neighbour on a link: the key of the kernel's neighbour table.
pub type NeighbourKey = (u32, IpAddr);

/// The kernel's routes by prefix, with the ports behind its links.
pub(super) struct Underlay<'a> {
    kernel: &'a Kernel,
    ports: BTreeMap<u32, &'a PortBinding>,
    routes: Prefixes<Hop>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hop {
    pub(super) ifindex: u32,
    /// `None`: the destination is itself the neighbour.
    pub(super) gateway: Option<IpAddr>,
}

impl<'a> Underlay<'a> {
    /// Of several routes to one prefix the kernel takes the one with the lowest metric whose link is up. The subnet of
    /// an address is on its link even where the kernel has no route for it (`noprefixroute`).
    pub(super) fn of(state: &'a State) -> Self {
        let kernel = &state.kernel;
        let up = |ifindex: u32| kernel.links.get(&ifindex).is_some_and(|link| link.up);
        let mut by_metric: Vec<&Route> = kernel.routes.iter().filter(|route| up(route.ifindex)).collect();
        by_metric.sort_by_key(|route| (route.metric, route.ifindex, route.gateway));
        let routed = by_metric.into_iter().map(|r| (r.dst, Hop { ifindex: r.ifindex, gateway: r.gateway }));
        let connected = kernel.addresses.iter().filter(|(ifindex, _)| up(*ifindex));
        let connected = connected.map(|&(ifindex, net)| (net, Hop { ifindex, gateway: None }));
        Self {
            kernel,
            ports: state.ports.iter().map(|port| (port.ifindex, port)).collect(),
            routes: routed.chain(connected).collect(),
        }
    }

    pub(super) fn routes(&self) -> &Prefixes<Hop> {
        &self.routes
    }

    pub(super) fn port(&self, ifindex: u32) -> Option<&'a PortBinding> {
        self.ports.get(&ifindex).copied()
    }

    /// Whether the link is an uplink of ours: what is not behind a pod's port.
    pub(super) fn is_uplink(&self, ifindex: u32) -> bool {
        self.port(ifindex).is_some_and(|port| port.pod.is_none())
    }

    /// The neighbour that a packet to `address` goes to.
    pub(super) fn neighbour_toward(&self, address: IpAddr) -> Option<NeighbourKey> {
        let (_, hop) = self.routes.longest(address)?;
        Some((hop.ifindex, hop.gateway.unwrap_or(address)))
    }

    /// The way to a neighbour, if its MAC is known and its link is a port of ours.
    pub(super) fn adjacency(&self, neighbour: NeighbourKey) -> Option<Adjacency> {
        let port = self.port(neighbour.0)?;
        let link = self.kernel.links.get(&neighbour.0)?;
        let entry = self.kernel.neighbours.get(&neighbour).filter(|entry| entry.usable)?;
        Some(Adjacency {
            port: port.id,
            dst_mac: entry.mac,
            src_mac: link.mac,
            mtu: u16::try_from(link.mtu).unwrap_or(u16::MAX),
        })
    }
}

/// Next hops, each kept once.
pub(super) struct NextHops {
    all: Vec<NextHop>,
    forward: HashMap<(Adjacency, Option<Tunnel>), NextHopId>,
}

impl NextHops {
    pub(super) const HOST: NextHopId = NextHopId(0);
    pub(super) const BLACKHOLE: NextHopId = NextHopId(1);
    pub(super) const UNRESOLVED: NextHopId = NextHopId(2);

    pub(super) fn new() -> Self {
        Self { all: vec![NextHop::Host, NextHop::Blackhole, NextHop::Unresolved], forward: HashMap::new() }
    }

    /// Next hops that flow entries can name; two numbers of theirs mean something else.
    const MOST: usize = FlowAction::NEXT_HOPS as usize - 2;

    /// Out of `adjacency`, or unresolved where there is none (or there are more than flows can name).
    pub(super) fn forward(&mut self, adjacency: Option<Adjacency>, tunnel: Option<Tunnel>) -> NextHopId {
        let Some(adjacency) = adjacency else { return Self::UNRESOLVED };
        if self.all.len() >= Self::MOST {
            return Self::UNRESOLVED;
        }
        *self.forward.entry((adjacency, tunnel)).or_insert_with_key(|(adjacency, tunnel)| {
            self.all.push(NextHop::Forward { adjacency: adjacency.clone(), tunnel: *tunnel });
            NextHopId((self.all.len() - 1) as u32)
        })
    }

    pub(super) fn into_vec(self) -> Vec<NextHop> {
        self.all
    }
}
