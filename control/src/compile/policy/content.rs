//! Makes anew what is stale, each thing after those that it is made of.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use margay_flowtable::{AddressSet, IdentityId, PortSet, PortSetId, ProtocolPort, SetId};

use super::host_endpoints::hosts_with_port;
use super::policies::PolicyNo;
use super::ranges::block_ranges;
use super::selections::SelectionId;
use super::sets::{Due, PortSetKey, SetKey};
use super::{Item, PolicyCompiler, Reselect, Use};
use crate::state::{Cluster, EndpointSlice, Name, Protocol};

/// A selection, and the policies that come to it and go.
type Edited = (SelectionId, Vec<PolicyNo>, Vec<PolicyNo>);

/// Who has a port: pods by identity, host endpoints by address.
type Holders = (Vec<IdentityId>, Vec<(IpAddr, IpAddr)>);

impl PolicyCompiler {
    /// Forgets groups that have been without pods for long.
    pub(super) fn purge(&mut self) {
        while let Some(identity) = self.groups.too_many_empty() {
            self.drop_group(identity);
            self.groups.remove(identity);
        }
    }

    pub(super) fn build_sets(&mut self, cluster: &Cluster) {
        for (id, due) in std::mem::take(&mut self.sets.due) {
            let Some(key) = self.sets.key(id).cloned() else { continue };
            if let (Due::Create, SetKey::Selected(selector)) = (&due, &key) {
                self.index.insert_selector(Use::Set(id), selector.clone());
            }
            let old = self.out.sets.get(id.0).cloned();
            let new = match (due, &old) {
                (Due::Edit { add, remove }, Some(old)) => {
                    let without = remove.iter().fold((**old).clone(), |set, id| set.without_identity(*id));
                    add.iter().fold(without, |set, id| set.with_identity(*id))
                }
                _ => self.content(id, &key, cluster),
            };
            if let Some(old) = old {
                self.touch_users(id, &changed_ranges(&old, &new));
            }
            self.out.sets.set(id.0, Arc::new(new));
        }
    }

    fn content(&self, id: SetId, key: &SetKey, cluster: &Cluster) -> AddressSet {
        match key {
            SetKey::Selected(_) => self.selected_content(id, cluster),
            SetKey::Blocks(blocks) => {
                let ranges = blocks.iter().flat_map(|(cidr, except)| block_ranges(*cidr, except));
                AddressSet::new([], ranges)
            }
            SetKey::Nodes(selector) => {
                let nodes = cluster.nodes.values().filter(|node| selector.matches(&node.labels));
                AddressSet::new([], nodes.flat_map(|node| node.addresses.iter().map(|a| (*a, *a))))
            }
            SetKey::Service(name) => {
                let endpoints = slices(cluster, name).flat_map(|slice| &slice.endpoints);
                let addresses = endpoints.flat_map(|endpoint| &endpoint.addresses);
                AddressSet::new([], addresses.map(|address| (*address, *address)))
            }
        }
    }

    fn selected_content(&self, id: SetId, cluster: &Cluster) -> AddressSet {
        let (mut identities, mut ranges) = (Vec::new(), Vec::new());
        for item in self.index.items_of(&Use::Set(id)) {
            match item {
                Item::Group(identity) => identities.push(identity),
                Item::HostEndpoint(number) => {
                    ranges.extend(self.expected(number, cluster).iter().map(|a| (*a, *a)));
                }
                Item::NetworkSet(number) => {
                    let name = self.network_sets.get(number);
                    let set = name.and_then(|name| cluster.network_sets.get(name));
                    let nets = set.into_iter().flat_map(|set| &set.nets);
                    ranges.extend(nets.flat_map(|net| block_ranges(*net, &[])));
                }
            }
        }
        AddressSet::new(identities, ranges)
    }

    /// Flows between who obeys a rule with this set and who joined or left it.
    fn touch_users(&mut self, id: SetId, ranges: &[(IpAddr, IpAddr)]) {
        if ranges.is_empty() {
            return;
        }
        let users = self.table.users_of_set(id);
        self.touched.between(&self.addresses_of(&users), ranges);
        for interface in self.interfaces_of(&users) {
            self.touched.through(interface, ranges);
        }
        // Indexes know ranges.
        self.stale.extend(users);
    }

    /// All flows of those who obey one of the policies.
    fn touch_all_of(&mut self, policies: &[PolicyNo]) {
        self.addresses_of(policies).into_iter().for_each(|address| self.touched.address(address));
        self.interfaces_of(policies).into_iter().for_each(|interface| self.touched.interface(interface));
    }

    /// Of all whom one of the policies selects.
    fn addresses_of(&self, policies: &[PolicyNo]) -> Vec<IpAddr> {
        let groups = policies.iter().flat_map(|no| self.selected(*no));
        groups
            .filter_map(|id| self.groups.get(id))
            .flat_map(|group| group.addresses.iter().copied())
            .collect()
    }

    pub(super) fn build_port_sets(&mut self, cluster: &Cluster) {
        for id in std::mem::take(&mut self.sets.due_ports) {
            let Some(key) = self.sets.port_key(id) else { continue };
            let new = match key {
                PortSetKey::Named(protocol, name) => self.named_ports(*protocol, name, cluster),
                PortSetKey::Service(name) => service_ports(cluster, name),
            };
            if let Some(old) = self.out.port_sets.get(id.0).cloned() {
                self.note_port_set(id, &old, &new);
            }
            self.out.port_sets.set(id.0, Arc::new(new));
        }
    }

    /// What pods and host endpoints declare a port of this name.
    fn named_ports(&self, protocol: Protocol, name: &str, cluster: &Cluster) -> PortSet {
        let mut by_port: BTreeMap<u16, Holders> = BTreeMap::new();
        for (identity, port) in self.groups.with_port(protocol, name) {
            by_port.entry(port).or_default().0.push(identity);
        }
        for (port, address) in hosts_with_port(protocol, name, cluster) {
            by_port.entry(port).or_default().1.push((address, address));
        }
        let with_port = |(port, (ids, ranges))| ((protocol.0, Some(port)), AddressSet::new(ids, ranges));
        PortSet::new(by_port.into_iter().map(with_port))
    }

    fn note_port_set(&mut self, id: PortSetId, old: &PortSet, new: &PortSet) {
        if old == new {
            return;
        }
        let users = self.table.users_of_port_set(id);
        // What an identity declares never changes.
        let ranges = |set: &PortSet| {
            let ranges = set.iter().flat_map(|(port, set)| set.ranges().map(move |range| (port, range)));
            ranges.collect::<Vec<_>>()
        };
        if ranges(old) != ranges(new) {
            self.touch_all_of(&users);
        }
        // Indexes know ports.
        let ports = |set: &PortSet| set.iter().map(|(port, _)| port).collect::<Vec<_>>();
        if ports(old) != ports(new) {
            self.stale.extend(users);
        }
    }

    /// Segments whose rules have changed, and programs of policies that have changed beyond that.
    pub(super) fn rebuild_edited(&mut self) {
        let edited = std::mem::take(&mut self.edited);
        let mut stale = std::mem::take(&mut self.stale);
        stale.extend(&edited);
        self.selections.rebuild_segments(&stale, &self.table, &mut self.out);
        self.touch_all_of(&edited.into_iter().collect::<Vec<_>>());
        let reobey = std::mem::take(&mut self.reobey);
        if reobey.is_empty() {
            return;
        }
        let changed = self.selections.obey_anew(&reobey, &self.table, &mut self.out);
        self.note_anew(&changed);
        for (identity, group) in self.groups.iter() {
            if let Some(selection) = group.selection.filter(|selection| changed.contains(selection)) {
                self.out.obeys.set(identity.0, self.selections.obeys(selection));
                group.addresses.iter().for_each(|address| self.touched.address(*address));
            }
        }
    }

    /// What groups obey whom other policies select than before.
    pub(super) fn reselect(&mut self) {
        // Most groups that a change concerns had one selection before, and have one after.
        let mut known: HashMap<Edited, Arc<[PolicyNo]>> = HashMap::new();
        for (identity, due) in std::mem::take(&mut self.reselect) {
            let Some(group) = self.groups.get(identity) else { continue };
            let (old, is_served) = (group.selection, group.served > 0);
            let policies = match (due, old) {
                _ if !is_served => None,
                (Reselect::Edit { add, remove }, Some(old)) => {
                    let key = (old, add.into_iter().collect::<Vec<_>>(), remove.into_iter().collect());
                    let list = known
                        .entry(key)
                        .or_insert_with_key(|(old, add, remove)| self.edited_selection(*old, add, remove));
                    Some(list.clone())
                }
                _ => Some(self.full_selection(identity)),
            };
            self.select(identity, old, policies);
        }
    }

    fn full_selection(&self, identity: IdentityId) -> Arc<[PolicyNo]> {
        let subjects = self.index.selectors_of(&Item::Group(identity)).into_iter();
        let policies = subjects.filter_map(|found| match found {
            Use::Subject(no) => Some(no),
            Use::Set(_) => None,
        });
        let mut policies: Vec<PolicyNo> = policies.filter(|no| self.table[*no].is_for_pods()).collect();
        policies.sort_by(|a, b| self.table.compare(*a, *b));
        policies.into()
    }

    fn edited_selection(&self, old: SelectionId, add: &[PolicyNo], remove: &[PolicyNo]) -> Arc<[PolicyNo]> {
        let mut policies = self.selections.policies(old).map(|list| list.to_vec()).unwrap_or_default();
        policies.retain(|no| !remove.contains(no));
        for no in add.iter().filter(|no| self.table[**no].is_for_pods()) {
            let place = policies.partition_point(|other| self.table.compare(*other, *no).is_lt());
            if policies.get(place) != Some(no) {
                policies.insert(place, *no);
            }
        }
        policies.into()
    }

    fn select(&mut self, identity: IdentityId, old: Option<SelectionId>, policies: Option<Arc<[PolicyNo]>>) {
        let new = policies.map(|list| self.selections.hold(&list, &self.table, &mut self.out));
        if let Some(old) = old {
            self.selections.let_go(old, &mut self.out);
        }
        let Some(group) = self.groups.get_mut(identity) else { return };
        group.selection = new;
        let obeys = new.map(|selection| self.selections.obeys(selection));
        if self.out.obeys.get(identity.0) == obeys.as_ref() {
            return;
        }
        match obeys {
            Some(obeys) => self.out.obeys.set(identity.0, obeys),
            None => self.out.obeys.remove(identity.0),
        };
        group.addresses.iter().for_each(|address| self.touched.address(*address));
    }

    /// Frees what nothing refers to any more.
    pub(super) fn release(&mut self) {
        for no in std::mem::take(&mut self.leaving) {
            self.table.release(no, &mut self.sets);
        }
        let gone = self.sets.release();
        for id in gone.sets {
            self.index.remove_selector(&Use::Set(id));
            self.out.sets.remove(id.0);
        }
        for id in gone.port_sets {
            self.out.port_sets.remove(id.0);
        }
    }
}

fn slices<'a>(cluster: &'a Cluster, service: &Name) -> impl Iterator<Item = &'a EndpointSlice> {
    let from = Name::new(service.namespace.clone(), "");
    let in_namespace =
        cluster.endpoint_slices.range(from..).take_while(|(name, _)| name.namespace == service.namespace);
    in_namespace.map(|(_, slice)| &**slice).filter(|slice| slice.service == service.name)
}

/// What the service's endpoints have at its ports. A port without a number is left to who reads the slice, and Felix takes
/// it for none (`serviceindex.go`): a rule that allows a service does not come to allow every port.
fn service_ports(cluster: &Cluster, service: &Name) -> PortSet {
    let mut by_port: BTreeMap<ProtocolPort, Vec<(IpAddr, IpAddr)>> = BTreeMap::new();
    for slice in slices(cluster, service) {
        let addresses = || slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses).map(|a| (*a, *a));
        for (_, protocol, port) in slice.ports.iter().filter(|(_, _, port)| port.is_some()) {
            by_port.entry((protocol.0, *port)).or_default().extend(addresses());
        }
    }
    PortSet::new(by_port.into_iter().map(|(port, ranges)| (port, AddressSet::new([], ranges))))
}

/// Ranges that are in one of the sets alone.
fn changed_ranges(old: &AddressSet, new: &AddressSet) -> Vec<(IpAddr, IpAddr)> {
    let [old, new]: [HashSet<_>; 2] = [old.ranges().collect(), new.ranges().collect()];
    old.symmetric_difference(&new).copied().collect()
}
