//! By what a packet leaves the node, as host endpoints see it.

use std::net::IpAddr;

use super::Snapshot;
use crate::policy::Interface;
use crate::{NextHop, PortKind, Tunnel};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WayOut {
    By(Interface),
    /// Into this node.
    Here,
    /// Nowhere for now.
    Unknown,
}

impl Snapshot {
    /// By what a packet to there leaves.
    #[inline]
    pub fn way_out(&self, dst: IpAddr) -> WayOut {
        let next_hop = self.fib.lookup(dst).and_then(|id| self.next_hops.get(id.0 as usize));
        match next_hop {
            Some(NextHop::Forward { tunnel: Some(Tunnel::Ipip { .. }), .. }) => WayOut::By(Interface::Ipip),
            Some(NextHop::Forward { tunnel: Some(Tunnel::Vxlan { .. } | Tunnel::Vxlan6 { .. }), .. }) => {
                WayOut::By(Interface::Vxlan)
            }
            Some(NextHop::Forward { adjacency, tunnel: None }) => match self.port(adjacency.port) {
                Some(port) if port.kind == PortKind::Uplink => WayOut::By(Interface::Uplink(adjacency.port)),
                Some(_) => WayOut::By(Interface::Pod),
                None => WayOut::Unknown,
            },
            Some(NextHop::Host) => WayOut::Here,
            Some(NextHop::Blackhole | NextHop::Unresolved) | None => WayOut::Unknown,
        }
    }
}
