//! The cluster's routes of this node, address by address: what [`table`](crate::compile::routes::table) says, kept in
//! step.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Bound;

use ipnet::IpNet;

use crate::compile::blocks::Recorded;
use crate::compile::gateways::GATEWAY;
use crate::compile::owners::{OwnerChange, Owners};
use crate::compile::routes::{ClusterRoute, Unreachable};
use crate::compile::view::{Lives, View};
use crate::state::{Change, Cluster, Edit, IpamBlock, Node};

/// A route, or the node where the destination lives and why there is no route.
type Entry = Result<ClusterRoute, (String, Unreachable)>;

#[derive(Debug, Default)]
pub(super) struct RouteTable {
    /// `None` while the cluster does not know the node: then there are no routes.
    view: Option<View>,
    recorded: Recorded,
    entries: BTreeMap<IpNet, Entry>,
}

impl RouteTable {
    /// From nothing.
    pub(super) fn of(cluster: &Cluster, owners: &Owners, node: &str) -> Self {
        let Some(view) = View::of(cluster, node) else { return Self::default() };
        let blocks = view.blocks().iter();
        let blocks =
            blocks.filter_map(|(cidr, node)| Some((cidr, view.route(cluster, cidr, Lives::On(node))?)));
        let entries = blocks.collect();
        let mut table = Self { recorded: Recorded::of(cluster), entries, view: Some(view) };
        let recorded: Vec<IpAddr> = table.recorded.addresses().collect();
        for address in owners.iter().map(|(address, _)| address).chain(recorded) {
            table.refresh(cluster, owners, address);
        }
        table
    }

    pub(super) fn route(&self, dst: &IpNet) -> Option<&ClusterRoute> {
        self.entries.get(dst)?.as_ref().ok()
    }

    /// In order of destination.
    pub(super) fn routes(&self) -> impl Iterator<Item = &ClusterRoute> {
        self.entries.values().filter_map(|entry| entry.as_ref().ok())
    }

    /// Destinations that should have a route and have none, with the node where each lives.
    pub(super) fn missing(&self) -> impl Iterator<Item = (&IpNet, &str, &Unreachable)> {
        let missing = |(dst, entry)| Some((dst, Result::as_ref(entry).err()?));
        self.entries.iter().filter_map(missing).map(|(dst, (node, why))| (dst, &**node, why))
    }

    /// Every destination behind that one, in order: its route, or the node where it lives and why it has none.
    pub(super) fn entries(
        &self,
        after: Option<IpNet>,
    ) -> impl Iterator<Item = (IpNet, super::shown::Entry<'_>)> {
        let behind = after.map_or(Bound::Unbounded, Bound::Excluded);
        let entries = self.entries.range((behind, Bound::Unbounded));
        entries.map(|(dst, entry)| (*dst, entry.as_ref().map_err(|(node, why)| (&**node, why))))
    }

    /// Whether the table must be made anew for this change.
    pub(super) fn is_upset_by(change: &Change) -> bool {
        match change {
            Change::Node(Edit { old: Some(old), new: Some(new), .. }) => facts(old) != facts(new),
            Change::IpamBlock(Edit { old: Some(old), new: Some(new), .. }) => {
                (old.cidr, &old.affinity) != (new.cidr, &new.affinity)
            }
            Change::Node(_)
            | Change::IpPool(_)
            | Change::BlockAffinity(_)
            | Change::IpamBlock(_)
            | Change::FelixConfiguration(_) => true,
            _ => false,
        }
    }

    /// Every destination, with the node where it lives.
    pub(super) fn homes(&self) -> impl Iterator<Item = (IpNet, &str)> {
        self.entries.iter().map(|(dst, entry)| (*dst, home(entry)))
    }

    /// The node where this destination lives.
    pub(super) fn home(&self, dst: &IpNet) -> Option<&str> {
        self.entries.get(dst).map(home)
    }

    /// Notes what these changes say of single addresses; returns those that are to be [refreshed](Self::refresh).
    pub(super) fn note(&mut self, changes: &[Change], moved: &[OwnerChange]) -> Vec<IpAddr> {
        let mut touched: Vec<IpAddr> = moved.iter().filter(|c| is_elsewhere(c)).map(|c| c.address).collect();
        for change in changes {
            if let Change::IpamBlock(Edit { key, old: Some(old), new: Some(new) }) = change {
                touched.extend(self.note_block(key, old, new));
            }
        }
        touched
    }

    fn note_block(&mut self, name: &str, old: &IpamBlock, new: &IpamBlock) -> Vec<IpAddr> {
        if self.view.is_some() { self.recorded.apply(name, old, new) } else { Vec::new() }
    }

    /// Brings the route to one address in step.
    pub(super) fn refresh(&mut self, cluster: &Cluster, owners: &Owners, address: IpAddr) {
        let Some(view) = &self.view else { return };
        let lives = view.lives(address, owners, &self.recorded);
        let dst = IpNet::from(address);
        match lives.and_then(|lives| view.route(cluster, dst, lives)) {
            Some(entry) => self.entries.insert(dst, entry),
            None => self.entries.remove(&dst),
        };
    }
}

fn home(entry: &Entry) -> &str {
    match entry {
        Ok(route) => &route.node,
        Err((node, _)) => node,
    }
}

/// What of a node routes depend on.
fn facts(node: &Node) -> impl PartialEq {
    (
        node.labels.get(GATEWAY),
        (node.ipv4, node.ipv6, &node.addresses, &node.pod_cidrs),
        (node.ipip_tunnel, node.vxlan_tunnel_v4, node.vxlan_tunnel_v6),
        (node.vxlan_mac_v4, node.vxlan_mac_v6),
    )
}

/// Whether the address is on another node than before, or another pod's.
fn is_elsewhere(change: &OwnerChange) -> bool {
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => old.pod.node != new.pod.node || old.name != new.name,
        _ => true,
    }
}
