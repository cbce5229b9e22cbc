//! The pods of this node and the addresses that are theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::compile::owners::{Owner, OwnerChange};
use crate::state::{Change, Name, Pod};

#[derive(Debug, Default)]
pub(super) struct Here {
    node: String,
    /// Each with its own addresses: a pod on its way out may name an address that is another pod's by now.
    pods: BTreeMap<Name, BTreeSet<IpAddr>>,
    by_address: BTreeMap<IpAddr, Arc<Name>>,
    /// Counts the changes.
    revision: u64,
}

impl Here {
    pub(super) fn new(node: String) -> Self {
        Self { node, ..Self::default() }
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn pods(&self) -> impl Iterator<Item = (&Name, &BTreeSet<IpAddr>)> {
        self.pods.iter()
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.by_address.keys().copied()
    }

    pub(super) fn addresses_of(&self, pod: &Name) -> impl Iterator<Item = IpAddr> {
        self.pods.get(pod).into_iter().flatten().copied()
    }

    pub(super) fn pod_at(&self, address: IpAddr) -> Option<&Name> {
        self.by_address.get(&address).map(|name| &**name)
    }

    /// Takes in what became of pods and addresses. Says whether that was something of this node.
    pub(super) fn apply(&mut self, changes: &[Change], moved: &[OwnerChange]) -> bool {
        let before = self.revision;
        for change in changes {
            if let Change::Pod(edit) = change {
                self.note_pod(&edit.key, edit.old.as_deref(), edit.new.as_deref());
            }
        }
        for change in moved {
            self.note_owner(change);
        }
        self.revision != before
    }

    fn note_pod(&mut self, name: &Name, old: Option<&Pod>, new: Option<&Pod>) {
        let is_here = |pod: &Pod| pod.is_endpoint() && pod.node == self.node;
        match (old.is_some_and(is_here), new.is_some_and(is_here)) {
            (false, true) => {
                self.pods.entry(name.clone()).or_default();
            }
            (true, false) => {
                self.pods.remove(name);
            }
            _ => return,
        }
        self.revision += 1;
    }

    fn note_owner(&mut self, change: &OwnerChange) {
        let is_here = |owner: &&Owner| owner.pod.node == self.node;
        let (old, new) = (change.old.as_ref().filter(is_here), change.new.as_ref().filter(is_here));
        if old.map(|owner| &owner.name) == new.map(|owner| &owner.name) {
            return;
        }
        if let Some(old) = old {
            self.by_address.remove(&change.address);
            if let Some(addresses) = self.pods.get_mut(&*old.name) {
                addresses.remove(&change.address);
            }
        }
        if let Some(new) = new {
            self.by_address.insert(change.address, Arc::clone(&new.name));
            if let Some(addresses) = self.pods.get_mut(&*new.name) {
                addresses.insert(change.address);
            }
        }
        self.revision += 1;
    }
}
