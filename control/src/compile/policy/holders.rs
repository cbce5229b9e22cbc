//! What addresses stand for: the identity of the pod that owns each, and the endpoint where the pod is served here.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use margay_flowtable::{Endpoint, EndpointId, Holder, IdentityId};

use super::groups::GroupKey;
use super::sets::SetKey;
use super::{PolicyCompiler, Reselect, Served, Serves};
use crate::compile::gateways::{GATEWAY, gateway_of};
use crate::compile::owners::{Owner, OwnerChange, Owners};
use crate::state::{Change, Cluster, Edit, Node, Pod};

impl PolicyCompiler {
    /// Pods of nodes that are served or not now, or that have other addresses, which reach their pods whatever policy says.
    /// One look at the pods for all of them: at first every node is new.
    pub(super) fn nodes(&mut self, changes: &[Change], cluster: &Cluster, owners: &Owners) {
        let edits = || {
            changes
                .iter()
                .filter_map(|change| if let Change::Node(edit) = change { Some(edit) } else { None })
        };
        if edits().next().is_some() {
            self.sets.build_where(|key| matches!(key, SetKey::Nodes(_)));
        }
        let other: HashSet<&str> =
            edits().filter(|edit| is_other(edit)).map(|edit| edit.key.as_str()).collect();
        if other.is_empty() {
            return;
        }
        let addresses = cluster.nodes.values().flat_map(|node| &node.addresses).copied();
        self.out.nodes = Arc::new(addresses.collect());
        for (address, owner) in owners.iter().filter(|(_, owner)| other.contains(owner.pod.node.as_str())) {
            self.place(address, Some(owner), cluster);
            self.touched.address(address);
        }
    }

    pub(super) fn moved(&mut self, change: &OwnerChange, cluster: &Cluster) {
        self.place(change.address, change.new.as_ref(), cluster);
        // A node reaches its own pods, whatever policy says.
        let node = |owner: &Option<Owner>| owner.as_ref().map(|owner| owner.pod.node.clone());
        if node(&change.old) != node(&change.new) {
            self.touched.address(change.address);
        }
    }

    /// The address is this pod's now, or nobody's.
    fn place(&mut self, address: IpAddr, owner: Option<&Owner>, cluster: &Cluster) {
        let before = self.out.addresses.get(address);
        let after = owner.map(|owner| {
            let is_served = self.is_served(&owner.pod, cluster);
            Holder {
                identity: self.identity(owner, cluster),
                endpoint: is_served.then(|| self.hold_endpoint(owner, cluster)),
            }
        });
        if let Some(before) = before {
            self.leave(before, address);
        }
        match after {
            Some(after) => {
                self.join(after, address);
                self.out.addresses.insert(address, after);
            }
            None => drop(self.out.addresses.remove(address)),
        }
        if before != after {
            self.touched.address(address);
        }
    }

    /// Gives an address another identity; who owns it stays.
    pub(super) fn move_address(&mut self, address: IpAddr, identity: IdentityId) {
        if let Some(holder) = self.out.addresses.get(address) {
            let holder = Holder { identity, ..holder };
            self.join(holder, address);
            self.out.addresses.insert(address, holder);
            self.touched.address(address);
        }
    }

    fn join(&mut self, holder: Holder, address: IpAddr) {
        self.groups.join(holder.identity, address, holder.endpoint.is_some());
        self.note_served(holder.identity);
    }

    fn leave(&mut self, holder: Holder, address: IpAddr) {
        self.groups.leave(holder.identity, address, holder.endpoint.is_some());
        self.note_served(holder.identity);
        if let Some(endpoint) = holder.endpoint {
            self.let_endpoint_go(endpoint);
        }
    }

    /// A group has a selection exactly where one of its pods is served.
    fn note_served(&mut self, identity: IdentityId) {
        if self.groups.get(identity).is_some_and(|group| (group.served > 0) != group.selection.is_some()) {
            self.reselect.insert(identity, Reselect::Full);
        }
    }

    fn identity(&mut self, owner: &Owner, cluster: &Cluster) -> IdentityId {
        let key = GroupKey::of(&owner.name.namespace, &owner.pod);
        match self.groups.identity(&key) {
            Some(identity) => identity,
            None => self.create_group(key, cluster),
        }
    }

    fn is_served(&self, pod: &Pod, cluster: &Cluster) -> bool {
        match &self.serves {
            Serves::All => true,
            Serves::Gateway(gateway) => {
                pod.node == *gateway || gateway_of(cluster, &pod.node) == Some(gateway)
            }
        }
    }

    /// One address more for the pod's endpoint, which is made where it is the first.
    fn hold_endpoint(&mut self, owner: &Owner, cluster: &Cluster) -> EndpointId {
        let name: Arc<str> = owner.name.to_string().into();
        let node_addresses = match cluster.nodes.get(&owner.pod.node) {
            Some(node) => self.node_addresses(&owner.pod.node, node),
            None => [].into(),
        };
        let (id, name) = match self.endpoints.get_key_value(&name) {
            Some((name, served)) => (served.id, name.clone()),
            None => (self.free_endpoints.pop().unwrap_or(EndpointId(self.endpoints.len() as u32)), name),
        };
        self.endpoints.entry(name.clone()).or_insert(Served { id, addresses: 0 }).addresses += 1;
        let endpoint = Endpoint { name, node_addresses };
        let is_same = |known: &Arc<Endpoint>| **known == endpoint;
        if !self.out.endpoints.get(id.0).is_some_and(is_same) {
            self.out.endpoints.set(id.0, Arc::new(endpoint));
        }
        id
    }

    fn let_endpoint_go(&mut self, id: EndpointId) {
        let Some(endpoint) = self.out.endpoints.get(id.0).cloned() else { return };
        let Some(served) = self.endpoints.get_mut(&endpoint.name) else { return };
        served.addresses -= 1;
        if served.addresses == 0 {
            self.endpoints.remove(&endpoint.name);
            self.out.endpoints.remove(id.0);
            self.free_endpoints.push(id);
        }
    }

    /// One list for all pods of the node.
    fn node_addresses(&mut self, name: &str, node: &Node) -> Arc<[IpAddr]> {
        match self.node_addresses.get(name) {
            Some(known) if **known == *node.addresses => known.clone(),
            _ => {
                let addresses: Arc<[IpAddr]> = node.addresses.as_slice().into();
                self.node_addresses.insert(name.to_owned(), addresses.clone());
                addresses
            }
        }
    }
}

/// Whether its pods are served where they were not, or reached by other addresses.
fn is_other(edit: &Edit<String, Node>) -> bool {
    let matters = |node: &Arc<Node>| (node.addresses.clone(), node.labels.get(GATEWAY).cloned());
    edit.old.as_ref().map(matters) != edit.new.as_ref().map(matters)
}
