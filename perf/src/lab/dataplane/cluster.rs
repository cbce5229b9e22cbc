//! What every gateway is told of the cluster in a job: its own tunnel end, the nodes beyond it with their blocks, and what
//! the policies let pass.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::lab::case::Job;
use crate::lab::world::{self, Beyond, GATEWAY, NODE, NODE_NAME, POD, PORT, REMOTE, Side};

/// Addresses of the VXLAN devices: the gateway's, and those of the nodes by their place in `NODE_NAME`.
pub const OWN_VTEP: Ipv4Addr = Ipv4Addr::new(10, 67, 0, 1);
const VTEP: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 67, 0, 2), Ipv4Addr::new(10, 67, 0, 3)];

/// Prefix lengths of the pod's block and of the far ends'.
const POD_BLOCK: u8 = 26;
pub const REMOTE_BLOCK: u8 = 22;

/// A node beyond the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    pub side: Side,
    pub name: &'static str,
    pub address: Ipv4Addr,
    /// Of its VXLAN device.
    pub vtep: Ipv4Addr,
    pub block: Ipv4Net,
    /// Whether packets to its block go into a tunnel.
    pub is_tunnelled: bool,
}

/// The nodes of a job: behind a side that is not the pod's own.
pub fn nodes(job: Job) -> Vec<Node> {
    let node = |side| {
        let beyond = world::beyond(job, side);
        let has_pod = pod_side(job) == side;
        let which = usize::from(!has_pod);
        (beyond != Beyond::Pod).then(|| Node {
            side,
            name: NODE_NAME[which],
            address: NODE[side as usize],
            vtep: VTEP[which],
            block: if has_pod { pod_block() } else { remote_block() },
            is_tunnelled: beyond == Beyond::Vxlan,
        })
    };
    [Side::Source, Side::Sink].into_iter().filter_map(node).collect()
}

/// The side that the pod is on, behind its veth or on its node.
pub fn pod_side(job: Job) -> Side {
    if job.way() == Job::VxlanDecap { Side::Sink } else { Side::Source }
}

/// The gateway's address as a node: that toward the first node. Tunnels begin and end there.
pub fn own_address(job: Job) -> Ipv4Addr {
    let first = [Side::Source, Side::Sink].into_iter().find(|&side| world::beyond(job, side) != Beyond::Pod);
    GATEWAY[first.unwrap_or(Side::Source) as usize]
}

pub fn pod_block() -> Ipv4Net {
    block(POD, POD_BLOCK)
}

pub fn remote_block() -> Ipv4Net {
    block(REMOTE, REMOTE_BLOCK)
}

fn block(address: Ipv4Addr, length: u8) -> Ipv4Net {
    Ipv4Net::new(address, length).expect("both lengths are of IPv4").trunc()
}

/// Whom a policy lets the pod exchange packets with, by UDP and by TCP: it is what opens connections where it is their
/// source, else what they are to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    pub peer: Ipv4Net,
    /// Destination of the connections.
    pub port: u16,
}

/// What so many policies allow, one each. The packets of a trial match the last one; of the others half have its
/// peer and half its port.
pub fn allowed(policies: u32) -> impl Iterator<Item = Allowed> {
    const OTHER_PORTS: u32 = 20_000;
    const OTHER_PEERS: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 0);
    (1..=policies).map(move |number| {
        let (peer, port) = (remote_block(), PORT);
        match number {
            _ if number == policies => Allowed { peer, port },
            _ if number % 2 == 0 => Allowed { peer, port: (OTHER_PORTS + number / 2 % OTHER_PORTS) as u16 },
            _ => Allowed { peer: block(Ipv4Addr::from_bits(OTHER_PEERS.to_bits() + number), 32), port },
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn tunnels_end_where_the_first_node_sends_to() {
        let cases =
            [(Job::L3, 1), (Job::VxlanEncap, 1), (Job::Cps, 1), (Job::VxlanDecap, 0), (Job::VxlanBoth, 0)];
        for (job, side) in cases {
            assert_eq!(own_address(job), GATEWAY[side], "{job:?}");
        }
    }

    #[test]
    fn nodes_stand_where_the_pod_does_not() {
        let names =
            |job| nodes(job).iter().map(|node| (node.name, node.side, node.is_tunnelled)).collect::<Vec<_>>();
        assert_eq!(names(Job::L3), [("remote", Side::Sink, false)]);
        assert_eq!(names(Job::VxlanEncap), [("remote", Side::Sink, true)]);
        assert_eq!(names(Job::VxlanDecap), [("remote", Side::Source, true)]);
        assert_eq!(names(Job::VxlanBoth), [("inner", Side::Source, true), ("remote", Side::Sink, true)]);
    }

    #[test]
    fn packets_match_the_last_policy_alone() {
        let all: Vec<_> = allowed(10_000).collect();
        let matches = |allowed: &Allowed| allowed.port == PORT && allowed.peer.contains(&REMOTE);
        assert_eq!(all.iter().position(matches), Some(9_999));
        assert_eq!(all.iter().map(|each| (each.peer, each.port)).collect::<HashSet<_>>().len(), 10_000);
        assert_eq!(allowed(0).count(), 0);
    }
}
