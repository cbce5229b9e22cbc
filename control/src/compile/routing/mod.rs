//! Everything outside policy that a snapshot holds, and what the kernel is to do beside it, kept in step with the
//! cluster and the kernel.
//!
//! The cluster's objects give the routes between nodes and pods, the kernel the rest of the routes and the neighbours;
//! for one prefix the cluster's route wins, and an address of the node itself wins over both. What happens to a pod
//! costs what its addresses cost; what happens to nodes, pools, the extent of blocks, the kernel or the ports is rare,
//! and has the routes made from nothing.

mod here;
mod homes;
mod neighbours;
mod shown;
mod steering;
mod table;

use std::collections::BTreeMap;
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashSet;
use ipnet::IpNet;
use margay_fastpath::steer::{Destination, RouteChanges, Routes};
use margay_flowtable::snapshot::Local;
use margay_flowtable::{
    Fib, InnerSources, NextHopId, NextHops, PortId, PortKind, PortState, Tunnel, ZeroChecksum,
};

use self::here::Here;
use self::homes::Homes;
use self::neighbours::Neighbours;
use self::steering::Steering;
use self::table::RouteTable;
use super::interfaces::{self, NodeInterface};
use super::local;
use super::next_hops::{NeighbourKey, NumberedHops, Underlay};
use super::owners::{OwnerChange, Owners};
use super::routes::{ClusterRoute, RouteKind, Unreachable};
use super::tunnels::{Family, vtep_mac};
use crate::identity::Identity;
use crate::state::{Change, Cluster, Kernel, Name, PortBinding};

/// The routing of one node. A node that the cluster does not know has no cluster routes, and forwards as the kernel's
/// routes say.
#[derive(Debug)]
pub struct Routing {
    identity: Identity,
    here: Here,
    table: RouteTable,
    underlay: Underlay,
    local: Local,
    tunnel_sources: HashSet<IpAddr>,
    homes: Homes,
    ports: Vec<Option<PortState>>,
    numbered: NumberedHops,
    /// How many of those there were when they were numbered from nothing.
    numbered_at_first: usize,
    next_hops: NextHops,
    fib: Fib,
    steering: Steering,
    neighbours: Neighbours,
}

impl Routing {
    /// Of an empty cluster, a kernel without links, and no ports.
    pub fn new(identity: Identity) -> Self {
        let mut routing = Self {
            here: Here::new(identity.node.clone()),
            table: RouteTable::default(),
            underlay: Underlay::default(),
            local: Local::default(),
            tunnel_sources: HashSet::new(),
            homes: Homes::default(),
            ports: Vec::new(),
            numbered: NumberedHops::new(),
            numbered_at_first: 0,
            next_hops: NextHops::default(),
            fib: Fib::default(),
            steering: Steering::default(),
            neighbours: Neighbours::default(),
            identity,
        };
        routing.rebuild(&Cluster::default(), &Owners::default());
        routing
    }

    /// Takes in what the configuration says by now. The node stays the same.
    pub fn set_identity(&mut self, cluster: &Cluster, owners: &Owners, identity: Identity) {
        self.identity = identity;
        self.rebuild(cluster, owners);
    }

    /// Takes in what became of the cluster, which is now as given: its objects, and the owners of its addresses.
    pub fn apply(&mut self, cluster: &Cluster, owners: &Owners, changes: &[Change], moved: &[OwnerChange]) {
        let is_ours = self.here.apply(changes, moved);
        if is_ours {
            self.local.pods = self.here.addresses().collect();
        }
        if changes.iter().any(RouteTable::is_upset_by) {
            self.rebuild(cluster, owners);
            return;
        }
        let touched = self.table.note(changes, moved);
        let mut routes = Vec::with_capacity(touched.len());
        for &address in &touched {
            let dst = IpNet::from(address);
            self.refresh(cluster, owners, address);
            routes.push((address, dst.prefix_len(), self.next_hop(cluster, dst)));
            self.steering.set(dst, self.steer(dst));
        }
        self.fib.apply(routes);
        self.homes.refresh(&self.table, &touched);
        if is_ours {
            self.set_port_states();
        }
        if self.numbered.all().len() > 2 * self.numbered_at_first {
            // Most are of routes that are gone.
            self.rebuild_fib(cluster);
        }
        self.set_next_hops();
    }

    /// Takes in the state of the kernel and the open ports. False where they are the same as before.
    pub fn set_underlay(
        &mut self,
        cluster: &Cluster,
        kernel: &Arc<Kernel>,
        ports: &Arc<[PortBinding]>,
    ) -> bool {
        let is_new = !Arc::ptr_eq(self.underlay.kernel(), kernel) || self.underlay.ports() != ports;
        if is_new {
            self.underlay = Underlay::new(Arc::clone(kernel), Arc::clone(ports));
            self.set_local(cluster);
            self.rebuild_forwarding(cluster);
        }
        is_new
    }

    fn rebuild(&mut self, cluster: &Cluster, owners: &Owners) {
        self.table = RouteTable::of(cluster, owners, &self.identity.node);
        self.tunnel_sources = local::tunnel_sources(cluster, &self.identity).collect();
        self.homes = Homes::of(cluster, &self.table, &self.identity);
        self.set_local(cluster);
        self.rebuild_forwarding(cluster);
    }

    fn set_local(&mut self, cluster: &Cluster) {
        let pods = mem::take(&mut self.local.pods);
        self.local = Local { pods, ..local::local(cluster, self.underlay.kernel(), &self.identity) };
    }

    /// What depends on the kernel and the ports.
    fn rebuild_forwarding(&mut self, cluster: &Cluster) {
        let mut neighbours = Neighbours::new(&self.underlay, self.neighbours.revision() + 1);
        let vias = self.table.routes().filter_map(|route| route.via);
        vias.for_each(|via| neighbours.add_route(via, &self.underlay));
        let pods = self.here.addresses();
        pods.for_each(|address| neighbours.set_pod(address, self.link_of_pod_at(address)));
        self.neighbours = neighbours;
        self.rebuild_fib(cluster);
        self.set_next_hops();
        self.set_port_states();
        let routes = self.table.routes().map(|route| route.dst);
        let nets = routes.chain(self.own_addresses().map(IpNet::from));
        let steering: BTreeMap<IpNet, Destination> =
            nets.filter_map(|net| Some((net, self.steer(net)?))).collect();
        self.steering.replace(steering);
    }

    fn rebuild_fib(&mut self, cluster: &Cluster) {
        self.numbered = NumberedHops::new();
        let by_kernel = self.underlay.routes().iter().map(|(dst, _)| *dst);
        let addresses = self.underlay.beside().chain(self.own_addresses());
        let by_cluster = self.table.routes().map(|route| route.dst);
        let all: Vec<IpNet> = by_kernel.chain(addresses.map(IpNet::from)).chain(by_cluster).collect();
        let hop = |dst: IpNet| Some((dst.network(), dst.prefix_len(), self.next_hop(cluster, dst)?));
        self.fib = Fib::build(all.into_iter().filter_map(hop));
        self.numbered_at_first = self.numbered.all().len();
        self.next_hops = NextHops::default();
    }

    fn refresh(&mut self, cluster: &Cluster, owners: &Owners, address: IpAddr) {
        let dst = IpNet::from(address);
        let via = |table: &RouteTable| table.route(&dst).and_then(|route| route.via);
        let before = via(&self.table);
        self.table.refresh(cluster, owners, address);
        let after = via(&self.table);
        // The new one first: a neighbour that both need stays wanted throughout.
        if let Some(via) = after {
            self.neighbours.add_route(via, &self.underlay);
        }
        if let Some(via) = before {
            self.neighbours.remove_route(via, &self.underlay);
        }
        let link = self.link_of_pod_at(address);
        self.neighbours.set_pod(address, link);
    }

    fn next_hop(&mut self, cluster: &Cluster, dst: IpNet) -> Option<NextHopId> {
        if self.own(dst).is_some() {
            return Some(NumberedHops::HOST);
        }
        let Some(route) = self.table.route(&dst) else {
            let Self { underlay, numbered, .. } = self;
            return underlay.has_route(dst).then(|| numbered.forward(underlay.route(dst), None));
        };
        if route.kind == RouteKind::Blackhole {
            return Some(NumberedHops::BLACKHOLE);
        }
        let adjacency = self.adjacency(cluster, route);
        Some(match tunnel(route, cluster, &self.local, &self.identity) {
            Ok(tunnel) => self.numbered.forward(adjacency, tunnel),
            Err(NoTunnel) => NumberedHops::UNRESOLVED,
        })
    }

    fn steer(&self, dst: IpNet) -> Option<Destination> {
        self.own(dst).or_else(|| self.table.route(&dst).map(|_| Destination::Owned))
    }

    /// How packets to an address of this node are steered.
    fn own(&self, dst: IpNet) -> Option<Destination> {
        let address = Some(dst.addr()).filter(|_| dst.prefix_len() == dst.max_prefix_len())?;
        if self.local.tunnel_ends.contains(&address) {
            return Some(Destination::TunnelEnd);
        }
        self.local.addresses.contains(&address).then_some(Destination::Local)
    }

    fn own_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let ends = self.local.tunnel_ends.iter().copied();
        self.local.addresses.iter().copied().chain(ends)
    }

    fn link_of_pod_at(&self, address: IpAddr) -> Option<u32> {
        Some(self.underlay.port_of(self.here.pod_at(address)?)?.ifindex)
    }

    fn set_next_hops(&mut self) {
        if self.next_hops.len() != self.numbered.all().len() {
            self.next_hops = self.numbered.all().to_vec().into();
        }
    }

    fn set_port_states(&mut self) {
        let ports = self.underlay.ports();
        let count = ports.iter().map(|port| usize::from(port.id.0) + 1).max().unwrap_or(0);
        let mut states = vec![None; count];
        for binding in ports.iter() {
            states[usize::from(binding.id.0)] = self.port_state(binding);
        }
        self.ports = states;
    }

    /// `None` while the kernel has no such link.
    fn port_state(&self, binding: &PortBinding) -> Option<PortState> {
        let link = self.underlay.kernel().links.get(&binding.ifindex)?;
        let mtu = u16::try_from(link.mtu).unwrap_or(u16::MAX);
        let pod = |name| PortKind::Pod { addresses: self.here.addresses_of(name).collect() };
        let kind = binding.pod.as_ref().map_or(PortKind::Uplink, pod);
        Some(PortState {
            name: binding.name.as_str().into(),
            kind,
            mac: link.mac,
            mtu,
            takes_checksums: binding.takes_checksums,
        })
    }
}

/// What came of it.
impl Routing {
    pub fn fib(&self) -> &Fib {
        &self.fib
    }

    /// What the numbers in the FIB mean.
    pub fn next_hops(&self) -> &NextHops {
        &self.next_hops
    }

    pub fn local(&self) -> &Local {
        &self.local
    }

    /// By number.
    pub fn ports(&self) -> &[Option<PortState>] {
        &self.ports
    }

    /// By what packets are forwarded.
    pub fn interfaces(&self, cluster: &Cluster) -> Vec<NodeInterface> {
        let node = cluster.nodes.get(&self.identity.node).map(|node| &**node);
        interfaces::of_node(node, self.underlay.kernel(), self.underlay.ports())
    }

    /// Underlay addresses of the nodes that may send us tunnel packets.
    pub fn tunnel_sources(&self) -> &HashSet<IpAddr> {
        &self.tunnel_sources
    }

    /// And from which addresses each may send what is inside.
    pub fn inner_sources(&self) -> &InnerSources {
        self.homes.sources()
    }

    /// The cluster's routes in order of destination.
    pub fn routes(&self) -> impl Iterator<Item = &ClusterRoute> {
        self.table.routes()
    }

    /// Destinations that should have a route and have none, with the node where each lives.
    pub fn missing(&self) -> impl Iterator<Item = (&IpNet, &str, &Unreachable)> {
        self.table.missing()
    }

    /// What the XDP program redirects.
    pub fn steering(&self) -> &Routes {
        self.steering.routes()
    }

    /// What became of the steering since it was last asked.
    pub fn take_steering_changes(&mut self) -> RouteChanges {
        self.steering.take_changes()
    }

    /// Pods of this node that are endpoints of their own, with the addresses that are theirs.
    pub fn pods(&self) -> impl Iterator<Item = (&Name, impl Iterator<Item = IpAddr>)> {
        self.here.pods().map(|(name, addresses)| (name, addresses.iter().copied()))
    }

    /// Another number whenever [`pods`](Self::pods) differ.
    pub fn pods_revision(&self) -> u64 {
        self.here.revision()
    }

    /// Neighbours that the kernel should keep resolved, so that the next hops have their MACs.
    pub fn wanted_neighbours(&self) -> impl Iterator<Item = NeighbourKey> {
        self.neighbours.wanted()
    }

    /// Another number whenever [`wanted_neighbours`](Self::wanted_neighbours) may differ.
    pub fn neighbours_revision(&self) -> u64 {
        self.neighbours.revision()
    }

    /// The neighbour on an uplink that a packet to `address` goes to, by the kernel's routes.
    pub fn uplink_neighbour(&self, address: IpAddr) -> Option<NeighbourKey> {
        self.underlay.uplink_toward(address)
    }

    /// The uplink that a packet to `address` leaves by, if it is the kernel's routes that lead there.
    pub fn uplink_toward(&self, address: IpAddr) -> Option<PortId> {
        self.underlay.uplink_port_toward(address)
    }
}

/// A route of this kind has no tunnel to there from any address of ours.
struct NoTunnel;

/// The tunnel that the route leads into, if it leads into one.
fn tunnel(
    route: &ClusterRoute,
    cluster: &Cluster,
    local: &Local,
    identity: &Identity,
) -> Result<Option<Tunnel>, NoTunnel> {
    let Some(dst) = route.tunnel_dst else { return Ok(None) };
    let src = local.tunnel_ends.iter().find(|end| end.is_ipv4() == dst.is_ipv4()).ok_or(NoTunnel)?;
    let next_node = route.next_node.as_deref().unwrap_or(&route.node);
    let object = cluster.nodes.get(next_node).map(|node| &**node);
    let (vni, udp_port) = (local.vni, local.vxlan_port);
    Ok(Some(match (route.kind, *src, dst) {
        (RouteKind::Ipip, IpAddr::V4(src), IpAddr::V4(dst)) => {
            Tunnel::Ipip { src, dst, outer: identity.ipip_outer() }
        }
        (RouteKind::Vxlan, IpAddr::V4(src), IpAddr::V4(dst)) => Tunnel::Vxlan {
            src,
            dst,
            vni,
            udp_port,
            inner_src_mac: local.vtep_mac,
            inner_dst_mac: vtep_mac(next_node, object, Family::V4),
            outer: identity.vxlan_outer(),
        },
        (RouteKind::Vxlan, IpAddr::V6(src), IpAddr::V6(dst)) => Tunnel::Vxlan6 {
            src,
            dst,
            vni,
            udp_port,
            inner_src_mac: local.vtep_mac6,
            inner_dst_mac: vtep_mac(next_node, object, Family::V6),
            outer: identity.vxlan_outer(),
            udp_checksum: identity.zero_checksum6 == ZeroChecksum::Refused,
        },
        _ => return Err(NoTunnel),
    }))
}

#[cfg(test)]
mod tests;
