//! Which neighbours the kernel keeps resolved for us: those of routes, and hosts beside us on an uplink, which nothing but
//! the packets names.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;

use margay_fastpath::worker::Exchange;

use crate::compile::routing::Routing;
use crate::kernel::NeighbourKey;

/// Neighbours beside those of routes that are kept resolved because packets went there; the oldest make room.
const ASKED: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Neighbours {
    /// Destinations on the uplinks' own subnets that packets went to.
    asked: VecDeque<IpAddr>,
    /// Revision of the routing's neighbours that the kernel was asked for.
    revision: Option<u64>,
}

impl Neighbours {
    /// Takes in what packets have waited for since. True where that is somebody new.
    pub(super) fn take(&mut self, exchange: &Exchange) -> bool {
        let before = self.asked.len();
        while let Some(address) = exchange.asked() {
            if !self.asked.contains(&address) {
                self.asked.push_back(address);
            }
        }
        self.asked.len() > before
    }

    /// Lets go of those that are no neighbours, and of the oldest.
    pub(super) fn trim(&mut self, routing: &Routing) {
        self.asked.retain(|address| routing.uplink_neighbour(*address).is_some());
        self.asked.drain(..self.asked.len().saturating_sub(ASKED));
        self.revision = None;
    }

    /// All of them, if they may be others than when this was last asked.
    pub(super) fn wanted(&mut self, routing: &Routing) -> Option<BTreeSet<NeighbourKey>> {
        let revision = Some(routing.neighbours_revision());
        if self.revision == revision {
            return None;
        }
        self.revision = revision;
        let asked = self.asked.iter().filter_map(|address| routing.uplink_neighbour(*address));
        Some(routing.wanted_neighbours().chain(asked).collect())
    }
}
