//! The interfaces of this node by which packets are forwarded, as host endpoints name them.

use std::net::IpAddr;

use margay_flowtable::{Interface, PortId};

use crate::state::{Kernel, Node, PortBinding};

/// What Calico calls the devices of its tunnels. Here there are none: workers do what they do.
const IPIP_DEVICE: &str = "tunl0";
const VXLAN_DEVICE: &str = "vxlan.calico";
pub const TUNNELS: [&str; 2] = [IPIP_DEVICE, VXLAN_DEVICE];
/// What a host endpoint calls all interfaces together.
pub const ALL: &str = "*";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInterface {
    pub interface: Interface,
    /// `None` for pods', which no host endpoint names.
    pub name: Option<String>,
    pub addresses: Vec<IpAddr>,
}

/// Those of the node, if it is known, with these uplinks among the ports.
pub(super) fn of_node(node: Option<&Node>, kernel: &Kernel, ports: &[PortBinding]) -> Vec<NodeInterface> {
    with_uplinks(node, ports.iter().filter(|port| port.pod.is_none()).map(|port| uplink(port, kernel)))
}

/// Those of a node of which no more is known than its object says: one uplink, which has the node's address, of this name.
pub fn of_object(node: &Node, uplink: Option<String>) -> Vec<NodeInterface> {
    let underlay = [node.ipv4, node.ipv6].into_iter().flatten().map(|net| net.addr());
    let addresses = node.addresses.iter().copied().chain(underlay).collect();
    with_uplinks(
        Some(node),
        [NodeInterface { interface: Interface::Uplink(PortId(0)), name: uplink, addresses }],
    )
}

fn with_uplinks(node: Option<&Node>, uplinks: impl IntoIterator<Item = NodeInterface>) -> Vec<NodeInterface> {
    let tunnel = |interface, name: &str, addresses: &[Option<IpAddr>]| NodeInterface {
        interface,
        name: Some(name.to_owned()),
        addresses: addresses.iter().copied().flatten().collect(),
    };
    let ipip = node.and_then(|node| node.ipip_tunnel);
    let vxlan = node.map_or([None; 2], |node| [node.vxlan_tunnel_v4, node.vxlan_tunnel_v6]);
    let mut all = vec![
        NodeInterface { interface: Interface::Pod, name: None, addresses: Vec::new() },
        tunnel(Interface::Ipip, IPIP_DEVICE, &[ipip]),
        tunnel(Interface::Vxlan, VXLAN_DEVICE, &vxlan),
    ];
    all.extend(uplinks);
    all.sort_by_key(|interface| interface.interface);
    all
}

fn uplink(port: &PortBinding, kernel: &Kernel) -> NodeInterface {
    let link = kernel.links.get(&port.ifindex);
    let own = kernel.addresses.iter().filter(|(ifindex, _)| *ifindex == port.ifindex);
    NodeInterface {
        interface: Interface::Uplink(port.id),
        name: Some(link.map_or(&port.name, |link| &link.name).clone()),
        addresses: own.map(|(_, net)| net.addr()).collect(),
    }
}
