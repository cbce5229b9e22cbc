//! Manifests of a dual-stack world: each node has a pod in each of the pools, one a kind of way to other nodes.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A node, with the host part of its address, the number of its subnet, and that of its blocks in every pool.
#[derive(Debug, Clone, Copy)]
pub struct Node {
    pub name: &'static str,
    pub subnet: u8,
    pub host: u8,
    pub block: u8,
    pub dataplane: &'static str,
}

/// How a pool's pods reach those of other nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Vxlan,
    Ipip,
    Plain,
}

pub const GW_A: Node = Node { name: "gw-a", subnet: 1, host: 10, block: 10, dataplane: "margay" };
pub const GW_B: Node = Node { name: "gw-b", subnet: 2, host: 10, block: 20, dataplane: "margay" };
pub const B1: Node = Node { name: "b1", subnet: 2, host: 11, block: 21, dataplane: "kernel" };

impl Node {
    pub fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(172, 20, self.subnet, self.host)
    }

    pub fn address6(self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0x20, self.subnet.into(), 0, 0, 0, 0, self.host.into())
    }

    /// Its address of one family on its uplink.
    pub fn underlay(self, is_ipv6: bool) -> IpAddr {
        if is_ipv6 { self.address6().into() } else { self.address().into() }
    }

    /// The place of its pod with this way.
    pub fn pod(self, way: Way) -> String {
        format!("x/{}-{}", self.name, way.name())
    }

    pub fn pod_address(self, way: Way) -> Ipv4Addr {
        Ipv4Addr::new(10, way.number(), self.block, 5)
    }

    /// Pods of IP-in-IP, which has no form of IPv6 in Calico, have none.
    pub fn pod_address6(self, way: Way) -> Option<Ipv6Addr> {
        (way != Way::Ipip).then(|| way.prefix6(self.block, 5))
    }

    /// Its pod's address of one family.
    pub fn pod_address_of(self, way: Way, is_ipv6: bool) -> Option<IpAddr> {
        if is_ipv6 { self.pod_address6(way).map(IpAddr::from) } else { Some(self.pod_address(way).into()) }
    }

    /// Its address on the tunnel device of this way.
    pub fn tunnel_address(self, way: Way) -> Ipv4Addr {
        Ipv4Addr::new(10, way.number(), self.block, 1)
    }

    /// The same of IPv6, where there is VXLAN alone.
    pub fn tunnel_address6(self) -> Ipv6Addr {
        Way::Vxlan.prefix6(self.block, 1)
    }

    fn manifest(self, text: &mut String) {
        let Self { name, dataplane, .. } = self;
        let (address, address6) = (self.address(), self.address6());
        let (vxlan, ipip) = (self.tunnel_address(Way::Vxlan), self.tunnel_address(Way::Ipip));
        let vxlan6 = self.tunnel_address6();
        write!(
            text,
            "---\napiVersion: v1\nkind: Node\nmetadata:\n  name: {name}\n  annotations:\n    \
             margay.dev/dataplane: {dataplane}\n    \
             projectcalico.org/IPv4Address: {address}/24\n    \
             projectcalico.org/IPv6Address: {address6}/64\n    \
             projectcalico.org/IPv4VXLANTunnelAddr: {vxlan}\n    \
             projectcalico.org/IPv6VXLANTunnelAddr: {vxlan6}\n    \
             projectcalico.org/IPv4IPIPTunnelAddr: {ipip}\n"
        )
        .unwrap();
    }

    fn pods(self, ways: &[Way], text: &mut String) {
        for way in ways {
            let addresses = std::iter::once(IpAddr::from(self.pod_address(*way)))
                .chain(self.pod_address6(*way).map(IpAddr::from));
            let (node, name) = (self.name, way.name());
            let labels = format!("on: {node}, way: {name}");
            text.push_str(&pod(&self.pod(*way), node, &labels, addresses));
            let cidr = format!("{}/26", Ipv4Addr::new(10, way.number(), self.block, 0));
            text.push_str(&block(&format!("{node}-{name}"), node, &cidr));
            if *way != Way::Ipip {
                let cidr = format!("{}/122", way.prefix6(self.block, 0));
                text.push_str(&block(&format!("{node}-{name}6"), node, &cidr));
            }
        }
    }
}

impl Way {
    pub fn name(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::Ipip => "ipip",
            Self::Plain => "plain",
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Vxlan => 65,
            Self::Ipip => 67,
            Self::Plain => 69,
        }
    }

    fn prefix6(self, block: u8, host: u16) -> Ipv6Addr {
        let number = match self {
            Self::Vxlan => 0x65,
            Self::Ipip => 0x67,
            Self::Plain => 0x69,
        };
        Ipv6Addr::new(0xfd00, number, 0, block.into(), 0, 0, 0, host)
    }

    fn pools(self, text: &mut String) {
        let mode = |way| if way == self { "Always" } else { "Never" };
        let (vxlan, ipip) = (mode(Self::Vxlan), mode(Self::Ipip));
        let pools = [
            ("4", format!("10.{}.0.0/16", self.number()), 26),
            ("6", format!("{}/48", self.prefix6(0, 0)), 122),
        ];
        for (family, cidr, size) in pools.into_iter().take(if self == Self::Ipip { 1 } else { 2 }) {
            text.push_str(&pool(&format!("{}{family}", self.name()), &cidr, size, ipip, vxlan));
        }
    }
}

/// An IPPool, with its `ipipMode` and `vxlanMode`.
pub fn pool(name: &str, cidr: &str, block_size: u8, ipip: &str, vxlan: &str) -> String {
    format!(
        "---\napiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {{name: {name}}}\n\
         spec: {{cidr: '{cidr}', blockSize: {block_size}, ipipMode: {ipip}, vxlanMode: {vxlan}}}\n"
    )
}

/// A BlockAffinity: the node has this block.
pub fn block(name: &str, node: &str, cidr: &str) -> String {
    format!(
        "---\napiVersion: crd.projectcalico.org/v1\nkind: BlockAffinity\nmetadata: {{name: {name}}}\n\
         spec: {{cidr: '{cidr}', node: {node}, state: confirmed, deleted: 'false'}}\n"
    )
}

/// A Pod, named NAMESPACE/NAME, that runs.
pub fn pod(place: &str, node: &str, labels: &str, addresses: impl IntoIterator<Item = IpAddr>) -> String {
    let (namespace, name) = place.split_once('/').unwrap();
    let addresses: Vec<_> = addresses.into_iter().map(|address| format!("{{ip: '{address}'}}")).collect();
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}\n\
         spec: {{nodeName: {node}, containers: [{{name: main, image: none}}]}}\n\
         status: {{phase: Running, podIPs: [{}]}}\n",
        addresses.join(", ")
    )
}

/// Of pods that have the same place in a block of each family.
pub fn dual_stack_pod(place: &str, node: &str, block: u8) -> String {
    let name = place.split_once('/').unwrap().1;
    let addresses = [
        Ipv4Addr::new(10, 65, block, 5).into(),
        // The number reads in hexadecimal as that of IPv4 does in decimal.
        format!("fd00:65:0:{block}::5").parse().unwrap(),
    ];
    pod(place, node, &format!("app: {name}"), addresses)
}

/// The blocks of those pods' node.
pub fn dual_stack_blocks(node: &str, number: u8) -> String {
    let four = block(&format!("{node}-4"), node, &format!("10.65.{number}.0/26"));
    four + &block(&format!("{node}-6"), node, &format!("fd00:65:0:{number}::/122"))
}

/// The pools of those blocks.
pub fn dual_stack_pools(vxlan: &str) -> String {
    pool("four", "10.65.0.0/16", 26, "Never", vxlan) + &pool("six", "fd00:65::/48", 122, "Never", vxlan)
}

/// Pods of the nodes in the pools; a Linux node of the lab has none of IP-in-IP.
pub fn manifests(nodes: &[Node], ways: &[Way]) -> String {
    let mut text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n".to_owned();
    for way in ways {
        way.pools(&mut text);
    }
    for node in nodes {
        node.manifest(&mut text);
        let carries = |way: &&Way| node.dataplane == "margay" || **way != Way::Ipip;
        node.pods(&ways.iter().filter(carries).copied().collect::<Vec<_>>(), &mut text);
    }
    text
}
