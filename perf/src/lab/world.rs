//! The cluster of the lab: a gateway between a source and a sink, the addresses of all, and what flow `number` is.
//!
//! Everybody reads it here: the site that has the addresses, the load that sends from them, each dataplane's configuration.

use std::net::Ipv4Addr;
use std::ops::Range;

use margay_control::compile::tunnels::{self, Family};

use super::case::Job;

pub const VNI: u32 = 4096;
pub const VXLAN_PORT: u16 = 4789;

/// The gateway's underlay addresses, and those of the nodes beyond them (/24 each).
pub const GATEWAY: [Ipv4Addr; 2] = [Ipv4Addr::new(172, 31, 1, 1), Ipv4Addr::new(172, 31, 2, 1)];
pub const NODE: [Ipv4Addr; 2] = [Ipv4Addr::new(172, 31, 1, 2), Ipv4Addr::new(172, 31, 2, 2)];
pub const NODE_NAME: [&str; 2] = ["inner", "remote"];
pub const GATEWAY_NAME: &str = "gateway";

/// Ethernet addresses: of the source's and the sink's device, of the gateway's devices toward them.
pub const MAC: [[u8; 6]; 2] = [[2, 0, 0, 0, 1, 2], [2, 0, 0, 0, 2, 2]];
pub const GATEWAY_MAC: [[u8; 6]; 2] = [[2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 2, 1]];

/// The pod that the gateway serves, in its own block /26: behind a port of the gateway, or on the node `inner`.
pub const POD: Ipv4Addr = Ipv4Addr::new(10, 65, 0, 2);
/// The far ends, 1,024 addresses from here in 10.66.0.0/16: pods of the node `remote`.
pub const REMOTE: Ipv4Addr = Ipv4Addr::new(10, 66, 4, 0);
/// The low bits of a flow's number that are its far end.
pub const REMOTE_BITS: u32 = 10;
/// What all connections are to.
pub const PORT: u16 = 8080;
/// Connections come from ports from here on.
const FIRST_PORT: u16 = 1024;

/// Flows at most: far ends times source ports.
pub const MOST_FLOWS: u32 = (1 << REMOTE_BITS) * (65_536 - FIRST_PORT as u32);

/// The two sides of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Source = 0,
    Sink = 1,
}

/// What stands on a side of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beyond {
    /// The pod's own end of its veth.
    Pod,
    /// A node that is reached without a tunnel.
    Plain,
    /// A node that is reached by VXLAN.
    Vxlan,
}

/// What stands on each side, in a job.
#[must_use]
pub fn beyond(job: Job, side: Side) -> Beyond {
    match (job.way(), side) {
        (Job::L3, Side::Sink) => Beyond::Plain,
        (Job::L3 | Job::VxlanEncap, Side::Source) | (Job::VxlanDecap, Side::Sink) => Beyond::Pod,
        _ => Beyond::Vxlan,
    }
}

/// A flow: who sends, and to whom. The port that it is to is `PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    pub source: Ipv4Addr,
    pub source_port: u16,
    pub destination: Ipv4Addr,
}

/// Flow `number`: 1,024 far ends first, then the source ports. Where the pod receives, the far ends send.
#[must_use]
pub fn flow(job: Job, number: u32) -> Flow {
    let remote = Ipv4Addr::from_bits(REMOTE.to_bits() | number & ((1 << REMOTE_BITS) - 1));
    let source_port = FIRST_PORT + (number >> REMOTE_BITS) as u16;
    let (source, destination) = match job.way() {
        Job::VxlanDecap => (remote, POD),
        _ => (POD, remote),
    };
    Flow { source, source_port, destination }
}

/// The bits of the source port and of the far end's address that differ between so many flows.
#[must_use]
pub fn source_ports(flows: u32) -> Range<u32> {
    let first = u32::from(FIRST_PORT);
    first..first + flows.div_ceil(1 << REMOTE_BITS)
}

/// The VXLAN device's Ethernet address of a node, as Calico's Felix makes it of the node's name.
#[must_use]
pub fn vtep_mac(node: &str) -> [u8; 6] {
    tunnels::vtep_mac(node, None, Family::V4)
}
