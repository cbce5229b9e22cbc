//! UDP packets of many flows for each path through the gateway, and the gateway that they are for.

use std::net::Ipv4Addr;

use clap::ValueEnum;
use etherparse::{IpNumber, PacketBuilder};
use margay_flowtable::snapshot::Local;
use margay_flowtable::{
    Adjacency, Endpoint, Fib, NextHop, NextHopId, PortId, PortKind, PortState, Snapshot, Tunnel,
};
use serde::Serialize;

pub const UPLINK: PortId = PortId(0);
pub const POD: PortId = PortId(1);

const NODE: Ipv4Addr = Ipv4Addr::new(172, 20, 1, 10);
const PEER_NODE: Ipv4Addr = Ipv4Addr::new(172, 20, 2, 11);
const POD_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 65, 10, 5);
const VTEP: [u8; 6] = [0x66, 0, 0, 0, 0, 1];
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const VNI: u32 = 4096;
const VXLAN_PORT: u16 = 4789;

/// What the gateway does to the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Path {
    /// From a pod, out plainly.
    L3,
    VxlanEncap,
    VxlanDecap,
    IpipEncap,
    IpipDecap,
}

impl Path {
    pub const ALL: [Self; 5] =
        [Self::L3, Self::VxlanEncap, Self::VxlanDecap, Self::IpipEncap, Self::IpipDecap];

    /// The port that its packets come in by.
    pub fn input(self) -> PortId {
        match self {
            Self::L3 | Self::VxlanEncap | Self::IpipEncap => POD,
            Self::VxlanDecap | Self::IpipDecap => UPLINK,
        }
    }

    /// The far end of its flows, which decides the route.
    fn remote(self) -> Ipv4Addr {
        match self {
            Self::L3 => Ipv4Addr::new(10, 69, 21, 5),
            Self::VxlanEncap | Self::VxlanDecap => Ipv4Addr::new(10, 65, 21, 5),
            Self::IpipEncap | Self::IpipDecap => Ipv4Addr::new(10, 67, 21, 5),
        }
    }

    /// The frame of flow `number`, with an inner Ethernet frame of `size` bytes (at least 64, FCS counted).
    pub fn frame(self, number: u32, size: usize) -> Vec<u8> {
        let (src, dst) = match self.input() {
            POD => (POD_ADDRESS, self.remote()),
            _ => (self.remote(), POD_ADDRESS),
        };
        // 32,768 source ports by as many destination ports as it takes.
        let ports = (1024 + (number & 0x7fff) as u16, 1024 + (number >> 15) as u16);
        let payload = vec![0; size.max(64) - 4 - 42];
        let mut inner = Vec::new();
        PacketBuilder::ethernet2(MAC, MAC)
            .ipv4(src.octets(), dst.octets(), 64)
            .udp(ports.0, ports.1)
            .write(&mut inner, &payload)
            .expect("a Vec takes all");
        let outer = PacketBuilder::ethernet2(MAC, MAC).ipv4(PEER_NODE.octets(), NODE.octets(), 64);
        let mut frame = Vec::new();
        match self {
            Self::VxlanDecap => {
                let mut payload = vec![8, 0, 0, 0];
                payload.extend_from_slice(&(VNI << 8).to_be_bytes());
                payload.extend_from_slice(&[VTEP, VTEP].concat());
                payload.extend_from_slice(&inner[12..]);
                outer.udp(50_000, VXLAN_PORT).write(&mut frame, &payload).expect("a Vec takes all");
            }
            Self::IpipDecap => {
                outer.write(&mut frame, IpNumber::IPV4, &inner[14..]).expect("a Vec takes all");
            }
            _ => return inner,
        }
        frame
    }
}

/// A gateway with one pod, and the routes of all paths.
pub fn snapshot() -> Snapshot {
    let adjacency = |port| Adjacency { port, dst_mac: MAC, src_mac: MAC, mtu: 1500 };
    let forward = |port, tunnel| NextHop::Forward { adjacency: adjacency(port), tunnel };
    let vxlan = Tunnel::Vxlan {
        src: NODE,
        dst: PEER_NODE,
        vni: VNI,
        udp_port: VXLAN_PORT,
        inner_src_mac: VTEP,
        inner_dst_mac: VTEP,
    };
    let ipip = Tunnel::Ipip { src: NODE, dst: PEER_NODE };
    let routes = [
        (POD_ADDRESS, 32),
        (Path::L3.remote(), 26),
        (Path::VxlanEncap.remote(), 26),
        (Path::IpipEncap.remote(), 26),
    ];
    let port = |name: &str, kind| Some(PortState { name: name.into(), kind, mac: MAC, mtu: 1500 });
    let mut snapshot = Snapshot {
        fib: Fib::build((0u32..).zip(routes).map(|(id, (net, length))| (net.into(), length, NextHopId(id)))),
        next_hops: vec![
            forward(POD, None),
            forward(UPLINK, None),
            forward(UPLINK, Some(vxlan)),
            forward(UPLINK, Some(ipip)),
        ]
        .into(),
        ports: vec![
            port("uplink0", PortKind::Uplink),
            port("ns/pod", PortKind::Pod { addresses: vec![POD_ADDRESS.into()] }),
        ],
        local: Local {
            tunnel_ends: vec![NODE],
            vtep_mac: VTEP,
            pods: [POD_ADDRESS].into_iter().collect(),
            ..Local::default()
        },
        tunnel_sources: [PEER_NODE].into_iter().collect(),
        ..Snapshot::default()
    };
    let endpoint = Endpoint {
        name: "ns/pod".into(),
        egress: std::sync::Arc::default(),
        ingress: std::sync::Arc::default(),
        node_addresses: [NODE.into()].into(),
    };
    snapshot.endpoints.insert(POD_ADDRESS.into(), endpoint.into());
    snapshot
}
