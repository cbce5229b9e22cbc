//! What the kernel of a node is told about pods: their routes, and the VXLAN device with its peers, as Calico's Felix
//! programs them.
//!
//! Pure: `lab` runs the lines.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use margay_control::compile::routes::{ClusterRoute, RouteKind};

use crate::ip::Batch;
use crate::topology::{Dataplane, LabNode, POD_MTU, Topology, Vtep, VxlanNumbers};
use crate::wiring::UPLINK;

/// Calico's VXLAN device.
pub const VXLAN: &str = "vxlan.calico";

/// Routing table for what a Margay node's own processes send to pods. Not the main one: Margay forwards by that.
const OWN_TABLE: u32 = 4096;

/// Lines for a node's kernel, and what it cannot do.
#[derive(Debug, Default)]
pub struct Program {
    pub ip: Batch,
    pub bridge: Batch,
    pub unsupported: Vec<String>,
}

/// The program of a node whose routing table is `routes`.
pub fn program(topology: &Topology, node: &LabNode, routes: &[ClusterRoute]) -> Program {
    match node.dataplane {
        Dataplane::Kernel => forwarding(topology, node, routes),
        Dataplane::Margay => own_traffic(topology, node, routes),
    }
}

fn forwarding(topology: &Topology, node: &LabNode, routes: &[ClusterRoute]) -> Program {
    let mut program = Program::default();
    let VxlanNumbers { vni, port } = topology.vxlan;
    if let Some(Vtep { address, mac }) = node.vtep {
        program.ip.line(format!(
            "link add {VXLAN} address {} mtu {POD_MTU} type vxlan id {vni} dstport {port} local {} nolearning",
            lladdr(mac),
            node.address.addr(),
        ));
        program.ip.line(format!("address add {address}/32 dev {VXLAN}"));
        program.ip.line(format!("link set {VXLAN} up"));
    }
    let mut peers = BTreeMap::new();
    let (mut no_ipip, mut no_vxlan) = (Vec::new(), Vec::new());
    for (dst, route) in ipv4(routes) {
        match (route.kind, vxlan_peer(topology, node, route)) {
            (RouteKind::Ipip, _) => no_ipip.push(dst),
            (RouteKind::Vxlan, None) => no_vxlan.push(dst),
            (RouteKind::Vxlan, Some((peer, vtep))) => {
                program.ip.line(format!("route replace {dst} via {} dev {VXLAN} onlink", vtep.address));
                peers.insert(vtep.address, (peer, vtep));
            }
            (RouteKind::Local | RouteKind::Direct | RouteKind::Blackhole, _) => {
                let line = plain_route(topology, node, dst, route);
                program.ip.lines(line.map(|line| format!("route replace {line}")));
            }
        }
    }
    for (peer, Vtep { address, mac }) in peers.into_values() {
        let (mac, outer) = (lladdr(mac), peer.address.addr());
        program.ip.line(format!("neigh replace {address} lladdr {mac} dev {VXLAN} nud permanent"));
        program.bridge.line(format!("fdb replace {mac} dev {VXLAN} dst {outer} self permanent"));
    }
    program.unroutable(node, "Linux nodes of the lab have no IP-in-IP", &no_ipip);
    program.unroutable(node, "it has no VXLAN tunnel address, or the peer has none", &no_vxlan);
    program
}

/// The other end of the route's tunnel, where both ends have a tunnel address.
fn vxlan_peer<'a>(
    topology: &'a Topology,
    node: &LabNode,
    route: &ClusterRoute,
) -> Option<(&'a LabNode, Vtep)> {
    node.vtep?;
    let peer = topology.nodes.get(route.next_node.as_ref()?)?;
    Some((peer, peer.vtep?))
}

impl Program {
    fn unroutable(&mut self, node: &LabNode, why: &str, blocks: &[Ipv4Net]) {
        if !blocks.is_empty() {
            let blocks: Vec<String> = blocks.iter().map(ToString::to_string).collect();
            self.unsupported.push(format!("node {}: {why}: no routes to {}", node.name, blocks.join(", ")));
        }
    }
}

/// Margay forwards; the kernel only has to find the pods that the node's own processes talk to (kubelet's probes). A
/// pod behind a tunnel is beyond it.
fn own_traffic(topology: &Topology, node: &LabNode, routes: &[ClusterRoute]) -> Program {
    let mut program = Program::default();
    program.ip.line(format!("rule add pref 100 iif lo lookup {OWN_TABLE}"));
    for (dst, route) in ipv4(routes) {
        let line = plain_route(topology, node, dst, route);
        program.ip.lines(line.map(|line| format!("route replace {line} table {OWN_TABLE}")));
    }
    program
}

/// A route that needs no tunnel.
fn plain_route(topology: &Topology, node: &LabNode, dst: Ipv4Net, route: &ClusterRoute) -> Option<String> {
    match route.kind {
        RouteKind::Local => {
            let (_, pod) = topology.pod_at(dst.addr()).filter(|(_, pod)| pod.node == node.name)?;
            // Without a source the kernel would take the pods' gateway address of the device.
            Some(format!("{dst} dev {} scope link src {}", pod.device, node.address.addr()))
        }
        RouteKind::Direct => {
            let next = topology.nodes.get(route.next_node.as_ref()?)?;
            Some(format!("{dst} via {} dev {UPLINK} onlink", first_hop(topology, node, next)))
        }
        RouteKind::Blackhole => Some(format!("blackhole {dst}")),
        RouteKind::Ipip | RouteKind::Vxlan => None,
    }
}

/// The neighbour by which `node` sends to `next`: itself, or the router.
fn first_hop(topology: &Topology, node: &LabNode, next: &LabNode) -> Ipv4Addr {
    if node.segment == next.segment {
        next.address.addr()
    } else {
        topology.segments[node.segment].gateway.addr()
    }
}

/// The routes of the lab's one family.
pub fn ipv4(routes: &[ClusterRoute]) -> impl Iterator<Item = (Ipv4Net, &ClusterRoute)> {
    routes.iter().filter_map(|route| match route.dst {
        IpNet::V4(dst) => Some((dst, route)),
        IpNet::V6(_) => None,
    })
}

/// Blocks that `node` sends to another segment without a tunnel, with the node that they lead to: the router must know
/// them too.
pub fn beyond_router<'a>(
    topology: &'a Topology,
    node: &'a LabNode,
    routes: &'a [ClusterRoute],
) -> impl Iterator<Item = (Ipv4Net, &'a LabNode)> {
    ipv4(routes).filter(|(_, route)| route.kind == RouteKind::Direct).filter_map(|(dst, route)| {
        let next = topology.nodes.get(route.next_node.as_ref()?)?;
        debug_assert_eq!(route.via, Some(IpAddr::V4(next.address.addr())));
        (next.segment != node.segment).then_some((dst, next))
    })
}

fn lladdr(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
