//! What the kernel of a node is told about pods: their routes, and the VXLAN device with its peers, as Calico's Felix
//! programs them.
//!
//! Pure: `lab` runs the lines.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use margay_control::compile::routes::{ClusterRoute, RouteKind};

use crate::ip::Batch;
use crate::topology::{Dataplane, LabNode, Topology, VXLAN_MTU, VXLAN_MTU6, Vtep, VxlanNumbers};
use crate::wiring::UPLINK;

/// Calico's VXLAN devices, over IPv4 and over IPv6.
const VXLAN: &str = "vxlan.calico";
const VXLAN6: &str = "vxlan-v6.calico";

/// Routing table for what a Margay node's own processes send to pods. Not the main one: Margay forwards by that.
const OWN_TABLE: u32 = 4096;

/// Lines for a node's kernel, and what it cannot do.
#[derive(Debug, Default)]
pub struct Program {
    pub ip: Batch,
    pub ipv6: Batch,
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
    for vtep in [node.vtep4, node.vtep6].into_iter().flatten() {
        program.ip.lines(vxlan_device(topology, vtep));
    }
    let mut peers = BTreeMap::new();
    let (mut no_ipip, mut no_vxlan) = (Vec::new(), Vec::new());
    for (dst, route) in carried(node, routes) {
        match (route.kind, vxlan_peer(topology, node, route)) {
            (RouteKind::Ipip, _) => no_ipip.push(dst),
            (RouteKind::Vxlan, None) => no_vxlan.push(dst),
            (RouteKind::Vxlan, Some(vtep)) => {
                let (via, device) = (vtep.address, device_over(vtep.outer));
                program.ip.line(format!("route replace {dst} via {via} dev {device} onlink"));
                peers.insert(via, vtep);
            }
            (RouteKind::Local | RouteKind::Direct | RouteKind::Blackhole, _) => {
                let line = plain_route(topology, node, dst, route);
                program.ip.lines(line.map(|line| format!("route replace {line}")));
            }
        }
    }
    for Vtep { address, mac, outer } in peers.into_values() {
        let (mac, device) = (lladdr(mac), device_over(outer));
        program.ip.line(format!("neigh replace {address} lladdr {mac} dev {device} nud permanent"));
        program.bridge.line(format!("fdb replace {mac} dev {device} dst {outer} self permanent"));
    }
    program.unroutable(node, "Linux nodes of the lab have no IP-in-IP", &no_ipip);
    program.unroutable(
        node,
        "it has no VXLAN tunnel address of their family, or the peer has none",
        &no_vxlan,
    );
    program
}

/// The VXLAN devices of a node's kernel.
pub fn vxlan_devices(node: &LabNode) -> impl Iterator<Item = &'static str> {
    [node.vtep4, node.vtep6].into_iter().flatten().map(|vtep| device_over(vtep.outer))
}

fn device_over(outer: IpAddr) -> &'static str {
    if outer.is_ipv6() { VXLAN6 } else { VXLAN }
}

fn vxlan_device(topology: &Topology, Vtep { address, mac, outer }: Vtep) -> [String; 3] {
    let VxlanNumbers { vni, port } = topology.vxlan;
    let (device, mac, own) = (device_over(outer), lladdr(mac), IpNet::from(address));
    let mtu = if outer.is_ipv6() { VXLAN_MTU6 } else { VXLAN_MTU };
    let zero = if topology.zero_checksum6 && outer.is_ipv6() { " udp6zerocsumtx udp6zerocsumrx" } else { "" };
    [
        format!(
            "link add {device} address {mac} mtu {mtu} type vxlan id {vni} dstport {port} local {outer} nolearning{zero}"
        ),
        format!("address add {own} dev {device}"),
        format!("link set {device} up"),
    ]
}

/// The other end of the route's tunnel, where both ends have a tunnel address. The tunnels of the lab's kernels are of one
/// family inside and outside, as Calico's are.
fn vxlan_peer(topology: &Topology, node: &LabNode, route: &ClusterRoute) -> Option<Vtep> {
    let is_ipv6 = route.dst.addr().is_ipv6();
    node.vtep(is_ipv6)?;
    let peer = topology.nodes.get(route.next_node.as_ref()?)?;
    peer.vtep(is_ipv6).filter(|vtep| Some(vtep.outer) == route.tunnel_dst)
}

impl Program {
    fn unroutable(&mut self, node: &LabNode, why: &str, blocks: &[IpNet]) {
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
    let rule = format!("rule add pref 100 iif lo lookup {OWN_TABLE}");
    program.ip.line(&rule);
    program.ipv6.lines(node.address6.map(|_| rule));
    for (dst, route) in carried(node, routes) {
        let line = plain_route(topology, node, dst, route);
        program.ip.lines(line.map(|line| format!("route replace {line} table {OWN_TABLE}")));
    }
    program
}

/// A route that needs no tunnel.
fn plain_route(topology: &Topology, node: &LabNode, dst: IpNet, route: &ClusterRoute) -> Option<String> {
    match route.kind {
        RouteKind::Local => {
            let (_, pod) = topology.pod_at(dst.addr()).filter(|(_, pod)| pod.node == node.name)?;
            // Without a source the kernel would take the pods' gateway address of the device.
            let source = node.underlay(dst.addr().is_ipv6())?;
            Some(format!("{dst} dev {} scope link src {source}", pod.device))
        }
        RouteKind::Direct => {
            let next = topology.nodes.get(route.next_node.as_ref()?)?;
            let via = first_hop(topology, node, next, dst.addr().is_ipv6())?;
            Some(format!("{dst} via {via} dev {UPLINK} onlink"))
        }
        RouteKind::Blackhole => Some(format!("blackhole {dst}")),
        RouteKind::Ipip | RouteKind::Vxlan => None,
    }
}

/// The neighbour by which `node` sends to `next`: itself, or the router.
fn first_hop(topology: &Topology, node: &LabNode, next: &LabNode, is_ipv6: bool) -> Option<IpAddr> {
    let next_address = next.underlay(is_ipv6)?;
    let is_beside = node.segment == next.segment;
    if is_beside { Some(next_address) } else { topology.segments[node.segment].router(is_ipv6) }
}

/// The routes of families that the node has.
fn carried<'a>(
    node: &LabNode,
    routes: &'a [ClusterRoute],
) -> impl Iterator<Item = (IpNet, &'a ClusterRoute)> {
    let is_carried = |dst: &IpNet| node.underlay(dst.addr().is_ipv6()).is_some();
    routes.iter().map(|route| (route.dst, route)).filter(move |(dst, _)| is_carried(dst))
}

/// Blocks that `node` sends to another segment without a tunnel, with the address that they lead to: the router must
/// know them too.
pub fn beyond_router<'a>(
    topology: &'a Topology,
    node: &'a LabNode,
    routes: &'a [ClusterRoute],
) -> impl Iterator<Item = (IpNet, IpAddr)> + 'a {
    carried(node, routes).filter(|(_, route)| route.kind == RouteKind::Direct).filter_map(|(dst, route)| {
        let next = topology.nodes.get(route.next_node.as_ref()?)?;
        let via = next.underlay(dst.addr().is_ipv6())?;
        debug_assert_eq!(route.via, Some(via));
        (next.segment != node.segment).then_some((dst, via))
    })
}

fn lladdr(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
