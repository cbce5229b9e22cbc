//! Address blocks and the nodes that have them, and the addresses that live on another node than their block's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::prefixes::Prefixes;
use super::tunnels::Family;
use crate::state::{Cluster, IpamBlock, Node};

/// Blocks of the cluster.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// Name of the node that each block belongs to.
    owners: Prefixes<Arc<str>>,
    /// Blocks that IPAM has a record of.
    ipam: Prefixes<()>,
}

impl Blocks {
    /// The affinity of an IPAMBlock counts before a BlockAffinity for the same CIDR, as in Felix; of two claims of one
    /// kind the first by name. In a family without IPAM the nodes' `spec.podCIDRs` are the blocks.
    pub(super) fn of(cluster: &Cluster) -> Self {
        let by_ipam = cluster.ipam_blocks.values().filter_map(|b| Some((b.cidr, b.affinity.as_deref()?)));
        let affinities = cluster.block_affinities.values();
        let by_affinity = affinities.filter(|a| !a.void).map(|a| (a.cidr, a.node.as_str()));
        let by_pod_cidr = cluster
            .nodes
            .iter()
            .flat_map(|(name, node)| node.pod_cidrs.iter().map(move |cidr| (*cidr, name.as_str())))
            .filter(|(cidr, _)| !has_ipam(cluster, Family::of(cidr)));
        let owners = by_ipam.chain(by_affinity).chain(by_pod_cidr);
        Self {
            owners: owners.map(|(cidr, node)| (cidr, node.into())).collect(),
            ipam: cluster.ipam_blocks.values().map(|b| (b.cidr, ())).collect(),
        }
    }

    /// In order of CIDR.
    pub(super) fn iter(&self) -> impl Iterator<Item = (IpNet, &str)> {
        self.owners.iter().map(|(cidr, node)| (*cidr, &**node))
    }

    /// The node that has this very block.
    pub(super) fn owner_of(&self, cidr: IpNet) -> Option<&str> {
        self.owners.get(cidr).map(|node| &**node)
    }

    /// The node that an address lives on, if it needs a route of its own because it is not where its block is: where it
    /// is `recorded` to live, else where the `pod` lives that owns it.
    ///
    /// A pod's address counts only in a block that IPAM has no record of: where it has one, a pod that disagrees with it
    /// is on its way out or has not arrived yet.
    pub(super) fn elsewhere<'n>(
        &self,
        address: IpAddr,
        recorded: Option<&'n str>,
        pod: Option<&'n str>,
    ) -> Option<&'n str> {
        let is_in_ipam = || self.ipam.longest(address).is_some();
        let scheduled = || pod.filter(|node| !node.is_empty() && !is_in_ipam());
        let node = recorded.or_else(scheduled)?;
        let is_elsewhere = match self.owners.longest(address) {
            Some((_, owner)) => **owner != *node,
            // A block that nobody owns any more is routed address by address while any is in use.
            None => is_in_ipam(),
        };
        is_elsewhere.then_some(node)
    }
}

fn has_ipam(cluster: &Cluster, family: Family) -> bool {
    let of_family = |cidr: &IpNet| Family::of(cidr) == family;
    cluster.ipam_blocks.values().any(|b| of_family(&b.cidr))
        || cluster.block_affinities.values().any(|a| of_family(&a.cidr))
}

/// The addresses of a block that are in use on a node that is known.
fn allocations(block: &IpamBlock) -> BTreeMap<IpAddr, &str> {
    block.allocations.iter().filter_map(|(address, node)| Some((*address, node.as_deref()?))).collect()
}

/// Addresses of which it is on record where they live: what IPAM has allocated to a node, and nodes' tunnel addresses.
#[derive(Debug, Default)]
pub(super) struct Recorded(BTreeMap<(IpAddr, Record), Arc<str>>);

/// Who says so; of several the last counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Record {
    /// A node of itself.
    Tunnel(Arc<str>),
    /// An IPAMBlock.
    Allocation(Arc<str>),
}

impl Recorded {
    pub(super) fn of(cluster: &Cluster) -> Self {
        let mut recorded = Self::default();
        for (name, node) in &cluster.nodes {
            recorded.add_tunnels(name, node);
        }
        for (name, block) in &cluster.ipam_blocks {
            recorded.add_allocations(name, block);
        }
        recorded
    }

    fn add_tunnels(&mut self, name: &str, node: &Node) {
        let name: Arc<str> = name.into();
        for address in [node.ipip_tunnel, node.vxlan_tunnel_v4, node.vxlan_tunnel_v6].into_iter().flatten() {
            self.0.insert((address, Record::Tunnel(Arc::clone(&name))), Arc::clone(&name));
        }
    }

    fn add_allocations(&mut self, name: &str, block: &IpamBlock) {
        let record = Record::Allocation(name.into());
        let mut names: BTreeMap<&str, Arc<str>> = BTreeMap::new();
        for (address, node) in allocations(block) {
            let node = names.entry(node).or_insert_with(|| node.into());
            self.0.insert((address, record.clone()), Arc::clone(node));
        }
    }

    /// Takes in that the block of this name was `old` and is `new`; returns the addresses that differ.
    pub(super) fn apply(&mut self, name: &str, old: &IpamBlock, new: &IpamBlock) -> Vec<IpAddr> {
        let record = Record::Allocation(name.into());
        let (old, new) = (allocations(old), allocations(new));
        let differ: BTreeSet<IpAddr> = old
            .keys()
            .chain(new.keys())
            .copied()
            .filter(|address| old.get(address) != new.get(address))
            .collect();
        for &address in &differ {
            match new.get(&address) {
                Some(node) => self.0.insert((address, record.clone()), (*node).into()),
                None => self.0.remove(&(address, record.clone())),
            };
        }
        differ.into_iter().collect()
    }

    /// The node that the address is recorded to live on.
    pub(super) fn get(&self, address: IpAddr) -> Option<&str> {
        let first = (address, Record::Tunnel(Arc::default()));
        let records = self.0.range(first..).take_while(|((of, _), _)| *of == address);
        records.last().map(|(_, node)| &**node)
    }

    /// Each once, in order.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let mut last = None;
        self.0
            .keys()
            .map(|(address, _)| *address)
            .filter(move |address| last.replace(*address) != Some(*address))
    }
}
