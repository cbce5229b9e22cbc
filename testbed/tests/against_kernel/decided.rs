//! Where Margay is decided to do otherwise than the kernel: all of it.

use std::net::IpAddr;

use super::outcome::Outcome;
use super::packet::{Packet, Port};
use crate::common::world::{B1, GW_A, Way};

/// Why some packets go another way than by the kernel, and which.
pub struct Decision {
    pub why: &'static str,
    pub concerns: fn(&Packet) -> bool,
    /// What is expected where the kernel did this.
    pub expected: fn(&Outcome) -> Outcome,
}

/// In the order in which they are asked; those that drop come first, and end it.
pub const DECISIONS: [Decision; 8] = [
    Decision {
        why: "a pod sends from its own addresses alone (source-spoofed)",
        concerns: |packet| packet.port != Port::Uplink && packet.src != own_address(packet),
        expected: dropped,
    },
    Decision {
        why: "a node sends for itself and its pods alone (inner-source)",
        concerns: |packet| packet.in_vxlan && !is_of_b1(packet.src),
        expected: dropped,
    },
    Decision {
        why: "a pod's address does not come in from outside (source-spoofed)",
        concerns: |packet| packet.port == Port::Uplink && is_of_gateway_pods(packet.src),
        expected: dropped,
    },
    Decision {
        why: "RFC 1812 5.3.7, RFC 3927 7 (martian-source)",
        concerns: |packet| is_martian(packet.src) || is_link_local(packet.src),
        expected: dropped,
    },
    Decision {
        why: "RFC 1812 5.3.7, RFC 4291 2.5 (martian-destination)",
        concerns: |packet| is_martian(packet.dst),
        expected: dropped,
    },
    Decision {
        why: "what comes by an uplink for an address of no pod's is the node's own affair (not taken from the kernel)",
        concerns: |packet| packet.port == Port::Uplink && !packet.in_vxlan && !is_of_pods(packet.dst),
        expected: dropped,
    },
    Decision {
        why: "RFC 6040 4.1 copies CE into the outer header, Linux writes ECT(0)",
        concerns: |packet| packet.leaves_marked(),
        expected: Outcome::with_outer_ce,
    },
    Decision {
        why: "Linux copies half of ECN into its ICMP errors, as when it was part of TOS",
        concerns: |packet| !packet.is_ipv6(),
        expected: Outcome::with_errors_unmarked,
    },
];

fn dropped(_: &Outcome) -> Outcome {
    Outcome::default()
}

fn own_address(packet: &Packet) -> IpAddr {
    let way = if packet.port == Port::VxlanPod { Way::Vxlan } else { Way::Plain };
    GW_A.pod_address_of(way, packet.is_ipv6()).unwrap()
}

fn is_of_gateway_pods(address: IpAddr) -> bool {
    [Way::Vxlan, Way::Plain].iter().any(|way| IpAddr::from(GW_A.pod_address(*way)) == address)
}

fn is_of_b1(address: IpAddr) -> bool {
    let mut own: Vec<IpAddr> =
        vec![B1.address().into(), B1.address6().into(), B1.tunnel_address(Way::Vxlan).into()];
    for way in [Way::Vxlan, Way::Plain] {
        own.push(B1.pod_address(way).into());
        own.extend(B1.pod_address6(way).map(IpAddr::from));
    }
    own.contains(&address)
}

fn is_martian(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => matches!(address.octets()[0], 0 | 127 | 240..),
        IpAddr::V6(address) => address.is_unspecified() || address.is_unicast_link_local(),
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if address.is_link_local())
}

/// Whether a block of some node has it.
fn is_of_pods(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => matches!(address.octets(), [10, 65 | 69, 10 | 21, _]),
        IpAddr::V6(address) => matches!(address.segments(), [0xfd00, 0x65 | 0x69, 0, 10 | 21, ..]),
    }
}
