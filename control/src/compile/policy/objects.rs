//! What changes of objects make stale.

use std::collections::BTreeSet;
use std::sync::Arc;

use margay_flowtable::IdentityId;

use super::groups::GroupKey;
use super::policies::PolicyNo;
use super::{Item, PolicyCompiler, Reselect, Use};
use crate::compile::owners::{OwnerChange, Owners};
use crate::state::policy::{NetworkSet, Policy, PolicyId, TierSpec};
use crate::state::{Change, Cluster, Edit, EndpointSlice, Name};

impl PolicyCompiler {
    /// Takes in what became of the cluster, which is now as given: its objects, and the owners of its addresses.
    pub fn apply(&mut self, cluster: &Cluster, owners: &Owners, changes: &[Change], moved: &[OwnerChange]) {
        for change in changes {
            self.object(change, cluster);
        }
        self.nodes(changes, cluster, owners);
        for change in moved {
            self.moved(change, cluster);
        }
    }

    fn object(&mut self, change: &Change, cluster: &Cluster) {
        match change {
            Change::Namespace(edit) => {
                self.relabel(&edit.key, |_| true, cluster);
                self.relabel_network_sets(&edit.key, cluster);
            }
            Change::ServiceAccount(edit) => {
                let is_its = |key: &GroupKey| *key.service_account == *edit.key.name;
                self.relabel(&edit.key.namespace, is_its, cluster);
            }
            Change::EndpointSlice(edit) => self.endpoint_slice(edit),
            Change::NetworkSet(edit) => self.network_set(edit, cluster),
            Change::Tier(edit) => self.tier(&edit.key, edit.new.as_deref().copied()),
            Change::HostEndpoint(edit) => self.host_endpoint(edit),
            Change::Policy(edit) => self.policy(&edit.key, edit.new.as_ref()),
            Change::Node(_)
            | Change::Pod(_)
            | Change::Service(_)
            | Change::IpPool(_)
            | Change::BlockAffinity(_)
            | Change::IpamBlock(_)
            | Change::FelixConfiguration(_) => {}
        }
    }

    /// Gives the groups of a namespace whose key is meant other identities, for what they inherit has changed.
    fn relabel(&mut self, namespace: &str, is_meant: impl Fn(&GroupKey) -> bool, cluster: &Cluster) {
        for old in self.groups.in_namespace(namespace) {
            let Some(group) = self.groups.get(old).filter(|group| is_meant(&group.key)) else { continue };
            let key = (*group.key).clone();
            let labels = self.effective_labels(&key, cluster);
            if self.index.labels_of(&Item::Group(old)) == Some(&labels) {
                continue;
            }
            self.drop_group(old);
            let addresses = self.groups.remove(old).map(|group| group.addresses).unwrap_or_default();
            let new = self.create_group(key, cluster);
            for address in addresses {
                self.move_address(address, new);
            }
        }
    }

    /// A group that there is no other like.
    pub(super) fn create_group(&mut self, key: GroupKey, cluster: &Cluster) -> IdentityId {
        let labels = self.effective_labels(&key, cluster);
        for port in &*key.ports {
            self.sets.build_port(port.protocol, &port.name);
        }
        let identity = self.groups.insert(key);
        for found in self.index.insert_item(Item::Group(identity), labels) {
            if let Use::Set(set) = found {
                self.sets.edit(set, identity, true);
            }
        }
        identity
    }

    /// Takes a group out of the sets that it is in, and lets its selection go.
    pub(super) fn drop_group(&mut self, identity: IdentityId) {
        for found in self.index.remove_item(&Item::Group(identity)) {
            if let Use::Set(set) = found {
                self.sets.edit(set, identity, false);
            }
        }
        let Some(group) = self.groups.get_mut(identity) else { return };
        for port in &*group.key.ports {
            self.sets.build_port(port.protocol, &port.name);
        }
        if let Some(selection) = group.selection.take() {
            self.selections.let_go(selection, &mut self.out);
        }
        self.out.obeys.remove(identity.0);
        self.reselect.remove(&identity);
    }

    fn endpoint_slice(&mut self, edit: &Edit<Name, EndpointSlice>) {
        for slice in [&edit.old, &edit.new].into_iter().flatten() {
            self.sets.build_service(&Name::new(&edit.key.namespace, &slice.service));
        }
    }

    fn network_set(&mut self, edit: &Edit<Name, NetworkSet>, cluster: &Cluster) {
        if edit.old.is_some()
            && let Some(number) = self.network_sets.number(&edit.key)
        {
            let found = self.index.remove_item(&Item::NetworkSet(number));
            self.build_found(found);
            self.network_sets.let_go(number);
        }
        if let Some(new) = &edit.new {
            let (number, _) = self.network_sets.hold(edit.key.clone());
            let labels = self.network_set_labels(&edit.key, new, cluster);
            let found = self.index.insert_item(Item::NetworkSet(number), labels);
            self.build_found(found);
        }
    }

    fn relabel_network_sets(&mut self, namespace: &str, cluster: &Cluster) {
        let sets = cluster.network_sets.range(Name::new(namespace, "")..);
        for (name, set) in sets.take_while(|(name, _)| name.namespace == namespace) {
            let edit = Edit { key: name.clone(), old: Some(set.clone()), new: Some(set.clone()) };
            self.network_set(&edit, cluster);
        }
    }

    pub(super) fn build_found(&mut self, found: Vec<Use>) {
        for found in found {
            if let Use::Set(set) = found {
                self.sets.build(set);
            }
        }
    }

    /// A tier has another place or another default action, or is there or gone.
    fn tier(&mut self, name: &str, tier: Option<TierSpec>) {
        if !self.table.set_tier(name, tier) {
            return;
        }
        let policies = self.table.in_tier(name);
        for no in &policies {
            for identity in self.selected(*no) {
                self.reselect.insert(identity, Reselect::Full);
            }
        }
        self.reobey.extend(policies);
        self.host.set_stale();
    }

    fn policy(&mut self, id: &PolicyId, new: Option<&Arc<Policy>>) {
        let old = self.table.number(id);
        if let (Some(no), Some(new)) = (old, new)
            && has_same_shape(&self.table[no].ir, new)
        {
            return self.edit_policy(no, new);
        }
        if let Some(no) = old {
            self.note_target(no);
            self.table.unname(no);
            for item in self.index.remove_selector(&Use::Subject(no)) {
                self.reselect_item(item, no, false);
            }
            self.leaving.push(no);
        }
        if let Some(new) = new {
            let no = self.table.insert(id, new.clone(), &mut self.sets);
            for item in self.index.insert_selector(Use::Subject(no), new.subject.clone()) {
                self.reselect_item(item, no, true);
            }
            self.note_target(no);
        }
    }

    /// Another subject or other rules: the policy keeps its number.
    fn edit_policy(&mut self, no: PolicyNo, new: &Arc<Policy>) {
        let old = self.table[no].ir.clone();
        if (&old.ingress, &old.egress) == (&new.ingress, &new.egress) {
            self.table.set_ir(no, new.clone());
        } else {
            self.table.set_rules(no, new.clone(), &mut self.sets);
            self.edited.insert(no);
        }
        if old.subject != new.subject {
            for item in self.index.remove_selector(&Use::Subject(no)) {
                self.reselect_item(item, no, false);
            }
            for item in self.index.insert_selector(Use::Subject(no), new.subject.clone()) {
                self.reselect_item(item, no, true);
            }
        }
    }

    /// Where a staged policy comes or goes, what would be enforced in its place changes for all whom that selects.
    fn note_target(&mut self, no: PolicyNo) {
        self.reobey.extend(self.table.target(no));
    }

    fn reselect_item(&mut self, item: Item, no: PolicyNo, is_selected: bool) {
        let identity = match item {
            Item::Group(identity) => identity,
            Item::HostEndpoint(_) => return self.host.set_stale(),
            Item::NetworkSet(_) => return,
        };
        let due = self.reselect.entry(identity).or_insert_with(Reselect::nothing);
        let Reselect::Edit { add, remove } = due else { return };
        let (to, from) = if is_selected { (add, remove) } else { (remove, add) };
        if !from.remove(&no) {
            to.insert(no);
        }
    }

    /// The groups that a policy selects.
    pub(super) fn selected(&self, no: PolicyNo) -> BTreeSet<IdentityId> {
        let items = self.index.items_of(&Use::Subject(no)).into_iter();
        let groups = items.filter_map(|item| match item {
            Item::Group(identity) => Some(identity),
            Item::NetworkSet(_) | Item::HostEndpoint(_) => None,
        });
        groups.collect()
    }
}

/// Whether programs that hold the one hold the other at the same place, its rules aside.
fn has_same_shape(old: &Policy, new: &Policy) -> bool {
    let shape = |policy: &Policy| {
        let directions = (policy.ingress.is_some(), policy.egress.is_some());
        (policy.order, directions, policy.staged, policy.host)
    };
    old.tier == new.tier && shape(old) == shape(new)
}
