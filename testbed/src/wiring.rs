//! The links, addresses and plain routes of a lab, as lines for `ip -batch`.
//!
//! Pure: `lab` runs the lines. What a node needs to reach pods of other nodes is not here but in `kernel_node`.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::ip::Batch;
use crate::topology::{
    LabNode, LabPod, POD_GATEWAY, POD_GATEWAY6, POD_MTU, ROUTER6, Segment, Topology, UPLINK_MTU,
};

/// A node's device toward the other nodes.
pub const UPLINK: &str = "uplink0";

/// In the router: a bridge for each segment, and each node's uplink with `queues` RX and TX queues at both ends.
pub fn router(topology: &Topology, queues: u32) -> Batch {
    let mut batch = Batch::new();
    batch.line("link set lo up");
    for Segment { bridge, gateway, .. } in &topology.segments {
        batch.line(format!("link add {bridge} mtu {UPLINK_MTU} type bridge mcast_snooping 0"));
        batch.lines(gateway.map(|net| format!("address add {net} dev {bridge}")));
        if topology.has_ipv6() {
            batch.line(format!("address add {ROUTER6}/64 dev {bridge} nodad"));
        }
        batch.line(format!("link set {bridge} up"));
    }
    for LabNode { netns, router_port, segment, address4, address6, .. } in topology.nodes.values() {
        let Segment { bridge, gateway, .. } = &topology.segments[*segment];
        let end = format!("mtu {UPLINK_MTU} numtxqueues {queues} numrxqueues {queues}");
        batch.line(format!("link add {router_port} {end} type veth peer name {UPLINK} {end} netns {netns}"));
        batch.line(format!("link set {router_port} master {bridge} up"));
        // A bridge without an address of its own has no route to the subnet either.
        let alone = address4.filter(|_| gateway.is_some_and(|net| net.prefix_len() == 32));
        batch.lines(alone.map(|net| format!("route add {} dev {bridge} scope link", net.addr())));
        batch.lines(address6.map(|net| format!("route add {} dev {bridge}", net.addr())));
    }
    batch
}

/// In the node: its uplink, and the default routes through the router.
pub fn uplink(topology: &Topology, node: &LabNode) -> Batch {
    let router = topology.segments[node.segment].router(false).filter(|_| node.address4.is_some());
    Batch::new()
        .extend(["link set lo up".to_owned(), format!("link set {UPLINK} up")])
        .extend(node.address4.map(|address| format!("address add {address} dev {UPLINK}")))
        .extend(router.map(|router| format!("route add default via {router} dev {UPLINK} onlink")))
        .extend(node.address6.into_iter().flat_map(|address| {
            [
                format!("address add {address} dev {UPLINK} nodad"),
                format!("route add default via {ROUTER6} dev {UPLINK}"),
            ]
        }))
}

/// In the node: the veth of a pod. With the pods' gateway address on it the host end answers their ARP whether or not
/// the node forwards; proxy ARP would need `ip_forward`.
pub fn pod_link(pod: &LabPod) -> Batch {
    let LabPod { netns, device, .. } = pod;
    Batch::new()
        .extend([
            format!("link add {device} mtu {POD_MTU} type veth peer name eth0 mtu {POD_MTU} netns {netns}"),
            format!("address add {POD_GATEWAY}/32 dev {device} scope link"),
        ])
        .extend(has_ipv6(pod).then(|| format!("address add {POD_GATEWAY6}/64 dev {device} nodad")))
        .extend([format!("link set {device} up")])
}

fn has_ipv6(pod: &LabPod) -> bool {
    pod.addresses.iter().any(IpAddr::is_ipv6)
}

/// In the pod: its addresses and the default routes that Calico's CNI plugin makes.
pub fn pod_inside(pod: &LabPod) -> Batch {
    let address = |address: &IpAddr| match address {
        IpAddr::V4(address) => format!("address add {address}/32 dev eth0"),
        IpAddr::V6(address) => format!("address add {address}/128 dev eth0 nodad"),
    };
    let routes = [
        format!("route add {POD_GATEWAY} dev eth0 scope link"),
        format!("route add default via {POD_GATEWAY} dev eth0"),
    ];
    Batch::new()
        .extend(["link set lo up".to_owned()])
        .extend(pod.addresses.iter().map(address))
        .extend(["link set eth0 up".to_owned()])
        .extend(routes.into_iter().filter(|_| pod.addresses.iter().any(IpAddr::is_ipv4)))
        .extend(has_ipv6(pod).then(|| format!("route add default via {POD_GATEWAY6} dev eth0")))
}

/// In the router: how to reach a block of pods that some node sends there without a tunnel, as the underlay would
/// learn it by BGP.
pub fn underlay_route(block: IpNet, via: IpAddr) -> String {
    format!("route replace {block} via {via}")
}
