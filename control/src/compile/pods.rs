//! Pods as policy sees them: by namespace and labels, each with the addresses that are its own.
//!
//! Pods of one namespace with equal labels are one group, and selectors are asked of groups: a Deployment's thousand
//! pods cost what one pod costs.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use crate::manifest::NAMESPACE_NAME_LABEL;
use crate::selector::{Requirement, Selector};
use crate::state::{Cluster, Labels, Name, Pod};

/// Every pod that is an endpoint of its own.
#[derive(Debug)]
pub(super) struct Pods<'a> {
    namespaces: BTreeMap<&'a str, NamespacePods<'a>>,
}

#[derive(Debug)]
pub(super) struct NamespacePods<'a> {
    labels: Cow<'a, Labels>,
    groups: Vec<Group<'a>>,
    group_by_labels: HashMap<&'a Labels, usize>,
    /// Groups that have a label with a value.
    by_label: HashMap<(&'a str, &'a str), Vec<usize>>,
}

/// Pods of one namespace with equal labels.
#[derive(Debug)]
pub(super) struct Group<'a> {
    labels: &'a Labels,
    pub(super) members: Vec<Member<'a>>,
}

#[derive(Debug)]
pub(super) struct Member<'a> {
    pub(super) name: &'a Name,
    pub(super) pod: &'a Pod,
    /// Its addresses, without those that another pod owns.
    pub(super) addresses: Vec<IpAddr>,
}

/// Namespaces that a peer looks into.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Scope {
    Namespace(String),
    Selected(Selector),
}

impl<'a> Pods<'a> {
    pub(super) fn of(cluster: &'a Cluster) -> Self {
        let owners = owners(cluster);
        let mut pods = Self { namespaces: BTreeMap::new() };
        for (name, pod) in &cluster.pods {
            let own = pod.addresses.iter().copied();
            let own: Vec<_> =
                own.filter(|address| owners.get(address).is_some_and(|o| o.0 == name)).collect();
            if pod.is_endpoint() && !own.is_empty() {
                let namespace = pods
                    .namespaces
                    .entry(&name.namespace)
                    .or_insert_with(|| NamespacePods::new(cluster, &name.namespace));
                namespace.push(&pod.labels, Member { name, pod, addresses: own });
            }
        }
        pods
    }

    pub(super) fn namespace(&self, name: &str) -> Option<&NamespacePods<'a>> {
        self.namespaces.get(name)
    }

    pub(super) fn namespaces(&self) -> impl Iterator<Item = (&'a str, &NamespacePods<'a>)> {
        self.namespaces.iter().map(|(name, namespace)| (*name, namespace))
    }

    /// The pods that a peer selects.
    pub(super) fn select(&self, scope: &Scope, pods: &Selector) -> Vec<&Member<'a>> {
        let namespaces: Vec<_> = match scope {
            Scope::Namespace(name) => self.namespace(name).into_iter().collect(),
            Scope::Selected(selector) => {
                self.namespaces.values().filter(|namespace| selector.matches(&namespace.labels)).collect()
            }
        };
        let groups = namespaces.iter().flat_map(|n| n.select(pods).into_iter().map(|group| &n.groups[group]));
        groups.flat_map(|group| &group.members).collect()
    }
}

/// Who owns each address. Two pods may claim one for a moment, when it was given out again before the first claimant
/// was gone: then a pod that is not being deleted goes first, then the newest, then the first by name.
pub(super) fn owners(cluster: &Cluster) -> HashMap<IpAddr, (&Name, &Pod)> {
    let rank = |pod: &Pod| (pod.terminating, Reverse(pod.created));
    let mut owners: HashMap<IpAddr, (&Name, &Pod)> = HashMap::new();
    for (name, pod) in cluster.pods.iter().filter(|(_, pod)| pod.is_endpoint()) {
        for address in &pod.addresses {
            let owner = owners.entry(*address).or_insert((name, pod));
            if rank(pod) < rank(owner.1) {
                *owner = (name, pod);
            }
        }
    }
    owners
}

impl<'a> NamespacePods<'a> {
    fn new(cluster: &'a Cluster, name: &str) -> Self {
        // A namespace whose object is not known yet has the label that every namespace has.
        let implied = || Cow::Owned([(NAMESPACE_NAME_LABEL.to_owned(), name.to_owned())].into());
        let known = cluster.namespaces.get(name).map(|namespace| Cow::Borrowed(&namespace.labels));
        Self {
            labels: known.unwrap_or_else(implied),
            groups: Vec::new(),
            group_by_labels: HashMap::new(),
            by_label: HashMap::new(),
        }
    }

    fn push(&mut self, labels: &'a Labels, member: Member<'a>) {
        let group = *self.group_by_labels.entry(labels).or_insert_with(|| {
            let group = self.groups.len();
            self.groups.push(Group { labels, members: Vec::new() });
            for (key, value) in labels {
                self.by_label.entry((key, value)).or_default().push(group);
            }
            group
        });
        self.groups[group].members.push(member);
    }

    pub(super) fn groups(&self) -> &[Group<'a>] {
        &self.groups
    }

    /// Indexes of the groups that the selector selects. It looks only at those that have the rarest of the labels that
    /// the selector asks for, if it asks for any.
    pub(super) fn select(&self, selector: &Selector) -> Vec<usize> {
        let with_label = |requirement: &Requirement| match requirement {
            Requirement::In(key, values) => {
                let with = |value| self.by_label.get(&(key.as_str(), String::as_str(value)));
                Some(values.iter().filter_map(with).flatten().copied().collect::<Vec<_>>())
            }
            _ => None,
        };
        let rarest = selector.requirements().iter().filter_map(with_label).min_by_key(Vec::len);
        let mut selected = rarest.unwrap_or_else(|| (0..self.groups.len()).collect());
        selected.retain(|group| selector.matches(self.groups[*group].labels));
        selected
    }
}
