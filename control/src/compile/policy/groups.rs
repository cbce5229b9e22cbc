//! Pods by what policy can tell them apart by: namespace, labels, service account and named ports.
//!
//! Pods that agree in these are one group, and a group has an identity, which is in a set or is not: what selectors
//! select is worked out once for a group, and a pod that joins one changes nothing but what its addresses stand for.
//! What an identity is in never changes. Where a namespace or a service account gets other labels, its groups get
//! other identities.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use margay_flowtable::IdentityId;

use super::selections::SelectionId;
use crate::state::{Labels, Pod, PodPort, Protocol};

/// Groups without pods that are kept, for pods of their kind may come again.
const MOST_EMPTY: usize = 1024;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct GroupKey {
    pub(super) namespace: Arc<str>,
    pub(super) labels: Arc<Labels>,
    pub(super) service_account: Arc<str>,
    /// Those with a name.
    pub(super) ports: Arc<[PodPort]>,
}

impl GroupKey {
    pub(super) fn of(namespace: &str, pod: &Pod) -> Self {
        Self {
            namespace: namespace.into(),
            labels: pod.labels.clone(),
            service_account: pod.service_account.as_str().into(),
            ports: pod.ports.iter().filter(|port| !port.name.is_empty()).cloned().collect(),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) key: Arc<GroupKey>,
    /// Of its pods.
    pub(super) addresses: HashSet<IpAddr>,
    /// How many of the addresses are endpoints' that are served here. Only where some are has the group a selection.
    pub(super) served: usize,
    pub(super) selection: Option<SelectionId>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    identities: HashMap<Arc<GroupKey>, IdentityId>,
    by_identity: HashMap<IdentityId, Group>,
    /// The next identity. None is given twice: who refers to one need not hear that it is gone.
    next: u32,
    /// Groups without pods, the longest so first, and some that have pods again.
    empty: VecDeque<IdentityId>,
    by_namespace: HashMap<Arc<str>, BTreeSet<IdentityId>>,
    by_port: HashMap<(Protocol, String), BTreeSet<IdentityId>>,
}

impl Groups {
    pub(super) fn get(&self, identity: IdentityId) -> Option<&Group> {
        self.by_identity.get(&identity)
    }

    pub(super) fn get_mut(&mut self, identity: IdentityId) -> Option<&mut Group> {
        self.by_identity.get_mut(&identity)
    }

    pub(super) fn identity(&self, key: &GroupKey) -> Option<IdentityId> {
        self.identities.get(key).copied()
    }

    /// One more than the last identity.
    pub(super) fn bound(&self) -> IdentityId {
        IdentityId(self.next)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (IdentityId, &Group)> {
        self.by_identity.iter().map(|(identity, group)| (*identity, group))
    }

    pub(super) fn insert(&mut self, key: GroupKey) -> IdentityId {
        let identity = IdentityId(self.next);
        self.next += 1;
        let key = Arc::new(key);
        self.identities.insert(key.clone(), identity);
        self.by_namespace.entry(key.namespace.clone()).or_default().insert(identity);
        for port in &*key.ports {
            self.by_port.entry((port.protocol, port.name.clone())).or_default().insert(identity);
        }
        let group = Group { key, addresses: HashSet::new(), served: 0, selection: None };
        self.by_identity.insert(identity, group);
        self.empty.push_back(identity);
        identity
    }

    pub(super) fn remove(&mut self, identity: IdentityId) -> Option<Group> {
        let group = self.by_identity.remove(&identity)?;
        if self.identities.get(&group.key) == Some(&identity) {
            self.identities.remove(&group.key);
        }
        take_from(&mut self.by_namespace, &group.key.namespace, identity);
        for port in &*group.key.ports {
            take_from(&mut self.by_port, &(port.protocol, port.name.clone()), identity);
        }
        Some(group)
    }

    pub(super) fn join(&mut self, identity: IdentityId, address: IpAddr, is_served: bool) {
        if let Some(group) = self.by_identity.get_mut(&identity) {
            group.addresses.insert(address);
            group.served += usize::from(is_served);
        }
    }

    pub(super) fn leave(&mut self, identity: IdentityId, address: IpAddr, was_served: bool) {
        if let Some(group) = self.by_identity.get_mut(&identity) {
            group.addresses.remove(&address);
            group.served -= usize::from(was_served);
            if group.addresses.is_empty() {
                self.empty.push_back(identity);
            }
        }
    }

    /// A group that has been without pods for the longest, where there are too many.
    pub(super) fn too_many_empty(&mut self) -> Option<IdentityId> {
        let most = MOST_EMPTY.max(self.by_identity.len() / 4);
        while self.empty.len() > most {
            let identity = self.empty.pop_front()?;
            if self.by_identity.get(&identity).is_some_and(|group| group.addresses.is_empty()) {
                return Some(identity);
            }
        }
        None
    }

    pub(super) fn in_namespace(&self, namespace: &str) -> Vec<IdentityId> {
        self.by_namespace.get(namespace).into_iter().flatten().copied().collect()
    }

    /// The groups that declare a port of this name, with its numbers.
    pub(super) fn with_port(
        &self,
        protocol: Protocol,
        name: &str,
    ) -> impl Iterator<Item = (IdentityId, u16)> {
        let identities = self.by_port.get(&(protocol, name.to_owned())).into_iter().flatten();
        identities.flat_map(move |identity| {
            let ports = self.by_identity.get(identity).into_iter().flat_map(|group| group.key.ports.iter());
            let named = ports.filter(move |port| port.protocol == protocol && port.name == name);
            named.map(|port| (*identity, port.port))
        })
    }
}

fn take_from<K: std::hash::Hash + Eq>(
    map: &mut HashMap<K, BTreeSet<IdentityId>>,
    key: &K,
    identity: IdentityId,
) {
    if let Some(set) = map.get_mut(key) {
        set.remove(&identity);
        if set.is_empty() {
            map.remove(key);
        }
    }
}
