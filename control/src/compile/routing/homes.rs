//! Which nodes send for which addresses: what is inside a tunnel packet is held against it.
//!
//! An address is sent for by the node where it lives, by the gateway before that node and whatever stands before the
//! gateway, and by our own gateway, which everything may come through. Which of them a packet comes from depends on labels
//! and pools of both sides (gateways, CrossSubnet), so each is admitted; none is a node that has no part in the way.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use margay_flowtable::{Fib, InnerSources, NextHopId, Senders};

use super::table::RouteTable;
use crate::compile::gateways::gateway_of;
use crate::compile::local;
use crate::compile::tunnels::{Family, underlay};
use crate::identity::Identity;
use crate::state::Cluster;

/// The number of those who send for nothing.
const NOBODY: NextHopId = NextHopId(0);

#[derive(Debug, Default)]
pub(super) struct Homes {
    /// Numbers of nodes, as `sources` has them.
    nodes: BTreeMap<String, NextHopId>,
    /// Nodes by their own addresses.
    own: BTreeMap<IpAddr, NextHopId>,
    sources: InnerSources,
}

impl Homes {
    /// From nothing. Our own node sends for nobody: what lives here does not come in tunnels. Nor does a node that is not
    /// known.
    pub(super) fn of(cluster: &Cluster, table: &RouteTable, identity: &Identity) -> Self {
        let here = identity.node.as_str();
        let numbered = || cluster.nodes.iter().zip(1..);
        let of = |node: &String| if node == here { Senders::new() } else { senders(cluster, here, node) };
        let others = cluster.nodes.keys().map(of);
        let senders: Arc<[Senders]> = std::iter::once(Senders::new()).chain(others).collect();
        let own = numbered()
            .filter(|((name, _), _)| *name != here)
            .flat_map(|((_, node), id)| local::addresses(node).map(move |address| (address, NextHopId(id))));
        let mut homes = Self {
            nodes: numbered().map(|((name, _), id)| (name.clone(), NextHopId(id))).collect(),
            own: own.collect(),
            sources: InnerSources { check: identity.inner_source, senders, homes: Fib::default() },
        };
        let lives = table.homes().map(|(dst, _)| dst).chain(homes.own.keys().copied().map(IpNet::from));
        let home = |dst: IpNet| Some((dst.network(), dst.prefix_len(), homes.home(table, dst)?));
        let built = Fib::build(lives.filter_map(home));
        homes.sources.homes = built;
        homes
    }

    /// Takes in that these addresses may live elsewhere.
    pub(super) fn refresh(&mut self, table: &RouteTable, addresses: &[IpAddr]) {
        let home = |address: &IpAddr| {
            let dst = IpNet::from(*address);
            (*address, dst.prefix_len(), self.home(table, dst))
        };
        let homes: Vec<_> = addresses.iter().map(home).collect();
        self.sources.homes.apply(homes);
    }

    pub(super) fn sources(&self) -> &InnerSources {
        &self.sources
    }

    fn home(&self, table: &RouteTable, dst: IpNet) -> Option<NextHopId> {
        let own = || (dst.prefix_len() == dst.max_prefix_len()).then(|| self.own.get(&dst.addr())).flatten();
        own().copied().or_else(|| Some(self.nodes.get(table.home(&dst)?).copied().unwrap_or(NOBODY)))
    }
}

/// Tunnel ends of those that send for what lives on `node`.
fn senders(cluster: &Cluster, here: &str, node: &str) -> Senders {
    let mut names = vec![node];
    // Gateways may stand behind gateways.
    while let Some(before) = names.last().and_then(|name| gateway_of(cluster, name))
        && !names.contains(&before)
    {
        names.push(before);
    }
    names.extend(gateway_of(cluster, here));
    let objects = names.into_iter().filter_map(|name| cluster.nodes.get(name));
    let ends = objects.flat_map(|node| [Family::V4, Family::V6].map(|family| underlay(node, family)));
    ends.flatten().map(|net| net.addr()).collect()
}
