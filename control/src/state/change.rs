//! What happens to objects: the steps by which a [`Cluster`] follows its source.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::policy::{HostEndpoint, NetworkSet, Policy, PolicyId, TierSpec};
use super::{
    BlockAffinity, Cluster, EndpointSlice, FelixConfiguration, IpPool, IpamBlock, Name, Namespace, Node, Pod,
    Service, ServiceAccount,
};

/// One object that is new, or another than before, or gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Namespace(Edit<String, Namespace>),
    Node(Edit<String, Node>),
    Pod(Edit<Name, Pod>),
    Service(Edit<Name, Service>),
    EndpointSlice(Edit<Name, EndpointSlice>),
    ServiceAccount(Edit<Name, ServiceAccount>),
    Policy(Edit<PolicyId, Policy>),
    Tier(Edit<String, TierSpec>),
    NetworkSet(Edit<Name, NetworkSet>),
    HostEndpoint(Edit<String, HostEndpoint>),
    IpPool(Edit<String, IpPool>),
    BlockAffinity(Edit<String, BlockAffinity>),
    IpamBlock(Edit<String, IpamBlock>),
    FelixConfiguration(Edit<String, FelixConfiguration>),
}

/// The object before and after. A source need not know what was before: [`Cluster::apply`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit<K, V> {
    pub key: K,
    pub old: Option<Arc<V>>,
    /// `None`: the object is gone.
    pub new: Option<Arc<V>>,
}

impl<K, V> Edit<K, V> {
    pub fn put(key: K, new: impl Into<Arc<V>>) -> Self {
        Self { key, old: None, new: Some(new.into()) }
    }

    pub fn remove(key: K) -> Self {
        Self { key, old: None, new: None }
    }
}

impl Cluster {
    /// Makes the change, and notes in it what the object was before. False where it was the same: then it keeps its
    /// allocation, and nothing that was made of it is out of date.
    pub fn apply(&mut self, change: &mut Change) -> bool {
        match change {
            Change::Namespace(edit) => make(&mut self.namespaces, edit),
            Change::Node(edit) => make(&mut self.nodes, edit),
            Change::Pod(edit) => make(&mut self.pods, edit),
            Change::Service(edit) => make(&mut self.services, edit),
            Change::EndpointSlice(edit) => make(&mut self.endpoint_slices, edit),
            Change::ServiceAccount(edit) => make(&mut self.service_accounts, edit),
            Change::Policy(edit) => make(&mut self.policies, edit),
            Change::Tier(edit) => make(&mut self.tiers, edit),
            Change::NetworkSet(edit) => make(&mut self.network_sets, edit),
            Change::HostEndpoint(edit) => make(&mut self.host_endpoints, edit),
            Change::IpPool(edit) => make(&mut self.ip_pools, edit),
            Change::BlockAffinity(edit) => make(&mut self.block_affinities, edit),
            Change::IpamBlock(edit) => make(&mut self.ipam_blocks, edit),
            Change::FelixConfiguration(edit) => make(&mut self.felix_configurations, edit),
        }
    }

    /// The changes that make an empty cluster this one.
    pub fn into_changes(self) -> Vec<Change> {
        let mut changes = Vec::new();
        put_all(&mut changes, self.namespaces, Change::Namespace);
        put_all(&mut changes, self.nodes, Change::Node);
        put_all(&mut changes, self.pods, Change::Pod);
        put_all(&mut changes, self.service_accounts, Change::ServiceAccount);
        put_all(&mut changes, self.policies, Change::Policy);
        put_all(&mut changes, self.tiers, Change::Tier);
        put_all(&mut changes, self.network_sets, Change::NetworkSet);
        put_all(&mut changes, self.host_endpoints, Change::HostEndpoint);
        put_all(&mut changes, self.services, Change::Service);
        put_all(&mut changes, self.endpoint_slices, Change::EndpointSlice);
        put_all(&mut changes, self.ip_pools, Change::IpPool);
        put_all(&mut changes, self.block_affinities, Change::BlockAffinity);
        put_all(&mut changes, self.ipam_blocks, Change::IpamBlock);
        put_all(&mut changes, self.felix_configurations, Change::FelixConfiguration);
        changes
    }

    /// Makes the changes in their order, and leaves of them those that changed something.
    pub fn apply_all(&mut self, changes: &mut Vec<Change>) {
        changes.retain_mut(|change| self.apply(change));
    }
}

fn make<K: Ord + Clone, V: Eq>(objects: &mut BTreeMap<K, Arc<V>>, edit: &mut Edit<K, V>) -> bool {
    edit.old = objects.get(&edit.key).cloned();
    if edit.old == edit.new {
        return false;
    }
    match &edit.new {
        Some(new) => objects.insert(edit.key.clone(), Arc::clone(new)),
        None => objects.remove(&edit.key),
    };
    true
}

fn put_all<K, V>(changes: &mut Vec<Change>, objects: BTreeMap<K, Arc<V>>, of: fn(Edit<K, V>) -> Change) {
    changes.extend(objects.into_iter().map(|(key, object)| of(Edit::put(key, object))));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_knows_what_was_before_and_one_that_changes_nothing_is_none() {
        let name = || Name::new("x", "a");
        let pod = |created| Arc::new(Pod { created, ..Pod::default() });
        let put = |created| Change::Pod(Edit::put(name(), pod(created)));
        let gone = || Change::Pod(Edit::remove(name()));
        let edit = |old: Option<i64>, new: Option<i64>| {
            Change::Pod(Edit { key: name(), old: old.map(pod), new: new.map(pod) })
        };
        let mut cluster = Cluster::default();
        let mut changes = vec![gone(), put(1), put(1), put(2), gone(), gone()];
        cluster.apply_all(&mut changes);
        assert_eq!(changes, [edit(None, Some(1)), edit(Some(1), Some(2)), edit(Some(2), None)]);
        assert_eq!(cluster, Cluster::default());

        cluster.apply(&mut put(1));
        let kept = Arc::clone(&cluster.pods[&name()]);
        assert!(!cluster.apply(&mut put(1)));
        assert!(Arc::ptr_eq(&kept, &cluster.pods[&name()]));
    }
}
