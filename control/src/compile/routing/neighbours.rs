//! Neighbours that the kernel should keep resolved, so that next hops have their MACs.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use crate::compile::next_hops::{NeighbourKey, Underlay};

/// Those toward other nodes, the gateways of the kernel's routes, and the pods of this node.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    /// How many routes lead to each underlay address.
    vias: HashMap<IpAddr, usize>,
    /// The links of the pods' addresses.
    pods: HashMap<IpAddr, u32>,
    /// How many ask for each neighbour: addresses that routes lead to, kernel's routes, pods.
    wanted: BTreeMap<NeighbourKey, usize>,
    /// Counts the changes.
    revision: u64,
}

impl Neighbours {
    /// Those of the kernel's routes, which stand as long as the underlay does.
    pub(super) fn new(underlay: &Underlay, revision: u64) -> Self {
        let mut neighbours = Self { revision, ..Self::default() };
        let hops = underlay.routes().iter().map(|(_, hop)| hop).filter(|hop| underlay.is_uplink(hop.ifindex));
        hops.filter_map(|hop| Some((hop.ifindex, hop.gateway?))).for_each(|key| neighbours.want(key));
        neighbours
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn wanted(&self) -> impl Iterator<Item = NeighbourKey> {
        self.wanted.keys().copied()
    }

    /// The link of the pod at this address.
    pub(super) fn pod(&self, address: IpAddr) -> Option<NeighbourKey> {
        self.pods.get(&address).map(|ifindex| (*ifindex, address))
    }

    /// One more route leads there.
    pub(super) fn add_route(&mut self, via: IpAddr, underlay: &Underlay) {
        let count = self.vias.entry(via).or_default();
        *count += 1;
        if *count == 1
            && let Some(neighbour) = underlay.uplink_toward(via)
        {
            self.want(neighbour);
        }
    }

    /// A route less leads there.
    pub(super) fn remove_route(&mut self, via: IpAddr, underlay: &Underlay) {
        let Some(count) = self.vias.get_mut(&via) else { return };
        *count -= 1;
        if *count == 0 {
            self.vias.remove(&via);
            if let Some(neighbour) = underlay.uplink_toward(via) {
                self.unwant(neighbour);
            }
        }
    }

    /// Sets the link of the pod at this address, if there is one.
    pub(super) fn set_pod(&mut self, address: IpAddr, ifindex: Option<u32>) {
        let before = match ifindex {
            Some(ifindex) => self.pods.insert(address, ifindex),
            None => self.pods.remove(&address),
        };
        if before == ifindex {
            return;
        }
        if let Some(ifindex) = ifindex {
            self.want((ifindex, address));
        }
        if let Some(before) = before {
            self.unwant((before, address));
        }
    }

    fn want(&mut self, neighbour: NeighbourKey) {
        let count = self.wanted.entry(neighbour).or_default();
        *count += 1;
        if *count == 1 {
            self.revision += 1;
        }
    }

    fn unwant(&mut self, neighbour: NeighbourKey) {
        let Some(count) = self.wanted.get_mut(&neighbour) else { return };
        *count -= 1;
        if *count == 0 {
            self.wanted.remove(&neighbour);
            self.revision += 1;
        }
    }
}
