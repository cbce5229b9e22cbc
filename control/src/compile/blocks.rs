//! Address blocks and the nodes that have them, and the addresses that live on another node than their block's.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::pods::owners;
use super::prefixes::Prefixes;
use super::tunnels::Family;
use crate::state::{Cluster, IpamBlock};

/// Blocks of the cluster.
pub(super) struct Blocks<'a> {
    /// Name of the node that each block belongs to.
    pub(super) owners: Prefixes<&'a str>,
    /// What IPAM has recorded of each block.
    ipam: Prefixes<&'a IpamBlock>,
}

impl<'a> Blocks<'a> {
    /// The affinity of an IPAMBlock counts before a BlockAffinity for the same CIDR, as in Felix; of two claims of one
    /// kind the first by name. In a family without IPAM the nodes' `spec.podCIDRs` are the blocks.
    pub(super) fn of(cluster: &'a Cluster) -> Self {
        let ipam: Prefixes<&IpamBlock> = cluster.ipam_blocks.values().map(|b| (b.cidr, &**b)).collect();
        let by_ipam = cluster.ipam_blocks.values().filter_map(|b| Some((b.cidr, b.affinity.as_deref()?)));
        let affinities = cluster.block_affinities.values();
        let by_affinity = affinities.filter(|a| !a.void).map(|a| (a.cidr, a.node.as_str()));
        let by_pod_cidr = cluster
            .nodes
            .iter()
            .flat_map(|(name, node)| node.pod_cidrs.iter().map(move |cidr| (*cidr, name.as_str())))
            .filter(|(cidr, _)| !has_ipam(cluster, Family::of(cidr)));
        Self { owners: by_ipam.chain(by_affinity).chain(by_pod_cidr).collect(), ipam }
    }

    fn owner(&self, address: IpAddr) -> Option<&'a str> {
        self.owners.longest(address).map(|(_, node)| *node)
    }
}

fn has_ipam(cluster: &Cluster, family: Family) -> bool {
    let of_family = |cidr: &IpNet| Family::of(cidr) == family;
    cluster.ipam_blocks.values().any(|b| of_family(&b.cidr))
        || cluster.block_affinities.values().any(|a| of_family(&a.cidr))
}

/// Addresses inside blocks that live on another node than the block's, with that node.
///
/// What IPAM has allocated, and node tunnel addresses, always count. A pod's address counts only in a block that IPAM
/// has no record of: where it has one, a pod that disagrees with it is on its way out or has not arrived yet.
pub(super) fn elsewhere<'a, 'b>(
    cluster: &'a Cluster,
    blocks: &'b Blocks<'a>,
) -> impl Iterator<Item = (IpAddr, &'a str)> + use<'a, 'b> {
    let scheduled = owners(cluster).into_iter().filter(|(_, (_, pod))| !pod.node.is_empty());
    let by_pod = scheduled
        .map(|(address, (_, pod))| (address, pod.node.as_str()))
        .filter(|(address, _)| blocks.ipam.longest(*address).is_none());
    let tunnels = cluster.nodes.iter().flat_map(|(name, node)| {
        let ends = [node.ipip_tunnel, node.vxlan_tunnel_v4, node.vxlan_tunnel_v6];
        ends.into_iter().flatten().map(move |address| (address, name.as_str()))
    });
    let allocations = cluster.ipam_blocks.values().flat_map(|block| {
        let known = block.allocations.iter();
        known.filter_map(|(address, node)| Some((*address, node.as_deref()?)))
    });
    let everywhere: BTreeMap<IpAddr, &str> = by_pod.chain(tunnels).chain(allocations).collect();
    let owned = everywhere.into_iter().map(|(address, node)| (address, node, blocks.owner(address)));
    owned
        .filter(|(address, node, owner)| match owner {
            Some(owner) => owner != node,
            // A block that nobody owns any more is routed address by address while any is in use.
            None => blocks.ipam.longest(*address).is_some(),
        })
        .map(|(address, node, _)| (address, node))
}
