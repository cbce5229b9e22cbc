//! From an underlay address to the Ethernet header that reaches it: the kernel's routes, then its neighbours, then the
//! port that stands for the link.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use margay_flowtable::table::FlowAction;
use margay_flowtable::{Adjacency, NextHop, NextHopId, PortId, Tunnel};

use super::prefixes::Prefixes;
use crate::state::{Kernel, Name, PortBinding, Route};

/// A neighbour on a link: the key of the kernel's neighbour table.
pub type NeighbourKey = (u32, IpAddr);

/// The kernel's routes by prefix, with the ports behind its links.
#[derive(Debug, Default)]
pub(super) struct Underlay {
    kernel: Arc<Kernel>,
    ports: Arc<[PortBinding]>,
    /// Positions in `ports`.
    by_link: HashMap<u32, usize>,
    by_pod: HashMap<Name, usize>,
    routes: Prefixes<Hop>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hop {
    pub(super) ifindex: u32,
    /// `None`: the destination is itself the neighbour.
    pub(super) gateway: Option<IpAddr>,
}

impl Underlay {
    /// Of several routes to one prefix the kernel takes the one with the lowest metric whose link is up. The subnet of
    /// an address is on its link even where the kernel has no route for it (`noprefixroute`).
    pub(super) fn new(kernel: Arc<Kernel>, ports: Arc<[PortBinding]>) -> Self {
        let up = |ifindex: u32| kernel.links.get(&ifindex).is_some_and(|link| link.up);
        let mut by_metric: Vec<&Route> = kernel.routes.iter().filter(|route| up(route.ifindex)).collect();
        by_metric.sort_by_key(|route| (route.metric, route.ifindex, route.gateway));
        let routed = by_metric.into_iter().map(|r| (r.dst, Hop { ifindex: r.ifindex, gateway: r.gateway }));
        let connected = kernel.addresses.iter().filter(|(ifindex, _)| up(*ifindex));
        let connected = connected.map(|&(ifindex, net)| (net, Hop { ifindex, gateway: None }));
        let numbered = || ports.iter().enumerate();
        Self {
            routes: routed.chain(connected).collect(),
            by_link: numbered().map(|(position, port)| (port.ifindex, position)).collect(),
            by_pod: numbered().filter_map(|(position, port)| Some((port.pod.clone()?, position))).collect(),
            kernel,
            ports,
        }
    }

    pub(super) fn kernel(&self) -> &Arc<Kernel> {
        &self.kernel
    }

    pub(super) fn ports(&self) -> &Arc<[PortBinding]> {
        &self.ports
    }

    pub(super) fn routes(&self) -> &Prefixes<Hop> {
        &self.routes
    }

    fn port(&self, ifindex: u32) -> Option<&PortBinding> {
        self.by_link.get(&ifindex).map(|position| &self.ports[*position])
    }

    /// The port of a pod of this node.
    pub(super) fn port_of(&self, pod: &Name) -> Option<&PortBinding> {
        self.by_pod.get(pod).map(|position| &self.ports[*position])
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

    /// The neighbour on an uplink that a packet to `address` goes to.
    pub(super) fn uplink_toward(&self, address: IpAddr) -> Option<NeighbourKey> {
        self.neighbour_toward(address).filter(|(ifindex, _)| self.is_uplink(*ifindex))
    }

    /// The uplink that a packet to `address` leaves by.
    pub(super) fn uplink_port_toward(&self, address: IpAddr) -> Option<PortId> {
        let (ifindex, _) = self.uplink_toward(address)?;
        Some(self.ports[*self.by_link.get(&ifindex)?].id)
    }

    /// Neighbours on our uplinks that the kernel knows and that are beside us on the link.
    pub(super) fn beside(&self) -> impl Iterator<Item = IpAddr> {
        let known = self.kernel.neighbours.keys().map(|(_, address)| *address);
        known.filter(|address| self.is_beside(*address))
    }

    fn is_beside(&self, address: IpAddr) -> bool {
        let toward = self.uplink_toward(address);
        toward.is_some_and(|key| key.1 == address && self.kernel.neighbours.contains_key(&key))
    }

    /// Whether the kernel has a route to this very prefix. A subnet on a link has no next hop of its own: each neighbour
    /// in it that the kernel knows is a route, and the rest of it is unresolved.
    pub(super) fn has_route(&self, dst: IpNet) -> bool {
        self.routes.get(dst).is_some() || (is_host(dst) && self.is_beside(dst.addr()))
    }

    /// Where the kernel's route to this very prefix leads, if that is by one of our uplinks and resolved.
    pub(super) fn route(&self, dst: IpNet) -> Option<Adjacency> {
        if is_host(dst) && self.is_beside(dst.addr()) {
            return self.adjacency(self.uplink_toward(dst.addr())?);
        }
        let hop = self.routes.get(dst).filter(|hop| self.is_uplink(hop.ifindex))?;
        self.adjacency((hop.ifindex, hop.gateway?))
    }

    /// The way to a neighbour, if its MAC is known and its link is a port of ours.
    pub(super) fn adjacency(&self, neighbour: NeighbourKey) -> Option<Adjacency> {
        let port = self.port(neighbour.0)?;
        let link = self.kernel.links.get(&neighbour.0)?;
        let entry = self.kernel.neighbours.get(&neighbour).filter(|entry| entry.usable)?;
        let mtu = self.kernel.limits.get(&neighbour.0).map_or(link.mtu, |limit| link.mtu.min(*limit));
        Some(Adjacency {
            port: port.id,
            dst_mac: entry.mac,
            src_mac: link.mac,
            mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
        })
    }
}

fn is_host(dst: IpNet) -> bool {
    dst.prefix_len() == dst.max_prefix_len()
}

/// Next hops, each kept once.
#[derive(Debug)]
pub(super) struct NumberedHops {
    all: Vec<NextHop>,
    forward: HashMap<(Adjacency, Option<Tunnel>), NextHopId>,
}

impl NumberedHops {
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

    /// By number.
    pub(super) fn all(&self) -> &[NextHop] {
        &self.all
    }
}
