//! Host endpoints: items as pods are, and what is asked at the interfaces that they stand for.
//!
//! An interface belongs to one host endpoint of this node, chosen as Felix does (`endpoint_mgr.go`,
//! `resolveHostEndpoints`). There are few of both, and all is worked out anew where it may have changed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use margay_flowtable::{HostObeys, HostPolicies, Interface, Obeys};

use super::policies::PolicyNo;
use super::selections::SelectionId;
use super::{Item, PolicyCompiler, Use};
use crate::compile::interfaces::{ALL, NodeInterface};
use crate::selector::EffectiveLabels;
use crate::state::policy::{HostEndpoint, HostUse};
use crate::state::{Cluster, Edit, Protocol};

/// What is asked at the interfaces of a node, and what of it is stale.
#[derive(Debug, Default)]
pub(super) struct Host {
    node: Option<String>,
    interfaces: Vec<NodeInterface>,
    /// The host endpoints that interfaces belong to.
    endpoints: BTreeMap<Interface, String>,
    held: BTreeMap<Interface, Held>,
    is_stale: bool,
}

/// Policies in the order in which they are asked, before connection tracking, before destination NAT, and of what is
/// forwarded. A host endpoint for all interfaces has none before connection tracking, as in Felix.
#[derive(Clone, Copy, Debug)]
struct Held {
    untracked: SelectionId,
    pre_dnat: SelectionId,
    /// Those before destination NAT if what is staged were enforced.
    staged_pre_dnat: SelectionId,
    forward: SelectionId,
}

impl Held {
    fn all(self) -> [SelectionId; 4] {
        [self.untracked, self.pre_dnat, self.staged_pre_dnat, self.forward]
    }
}

impl Host {
    pub(super) fn of(node: Option<String>) -> Self {
        Self { node, ..Self::default() }
    }

    pub(super) fn set_stale(&mut self) {
        self.is_stale = true;
    }
}

impl PolicyCompiler {
    /// Has the host endpoints of another node be asked, which has these interfaces.
    pub fn set_host(&mut self, node: &str, interfaces: Vec<NodeInterface>) {
        if self.host.node.as_deref() != Some(node) {
            self.host.node = Some(node.to_owned());
            self.host.set_stale();
        }
        self.set_interfaces(interfaces);
    }

    /// The host endpoint that the interface belongs to.
    pub fn host_endpoint_at(&self, interface: Interface) -> Option<&str> {
        self.host.endpoints.get(&interface).map(String::as_str)
    }

    /// What the interface is called; pods' ports have no name together.
    pub fn interface_name(&self, interface: Interface) -> Option<&str> {
        self.host.interfaces.iter().find(|one| one.interface == interface)?.name.as_deref()
    }

    /// The interfaces of the node that is served.
    pub fn set_interfaces(&mut self, interfaces: Vec<NodeInterface>) {
        if self.host.interfaces != interfaces {
            self.host.interfaces = interfaces;
            self.host.set_stale();
        }
    }

    pub(super) fn host_endpoint(&mut self, edit: &Edit<String, HostEndpoint>) {
        if edit.old.is_some()
            && let Some(number) = self.host_endpoints.number(&edit.key)
        {
            let found = self.index.remove_item(&Item::HostEndpoint(number));
            self.build_found(found);
            self.host_endpoints.let_go(number);
        }
        if let Some(new) = &edit.new {
            let (number, _) = self.host_endpoints.hold(edit.key.clone());
            let labels = EffectiveLabels::host_endpoint(Arc::new(new.labels.clone()));
            let found = self.index.insert_item(Item::HostEndpoint(number), labels);
            self.build_found(found);
        }
        for endpoint in [&edit.old, &edit.new].into_iter().flatten() {
            for port in &endpoint.ports {
                self.sets.build_port(port.protocol, &port.name);
            }
            if self.is_here(endpoint) {
                self.host.set_stale();
            }
        }
    }

    pub(super) fn is_here(&self, endpoint: &HostEndpoint) -> bool {
        self.host.node.as_ref() == Some(&endpoint.node)
    }

    /// The interfaces where one of the policies is asked.
    pub(super) fn interfaces_of(&self, policies: &[PolicyNo]) -> Vec<Interface> {
        let asks = |id: SelectionId| {
            let list = self.selections.policies(id).into_iter().flat_map(|list| list.iter());
            list.into_iter().any(|no| policies.contains(no))
        };
        let held = self.host.held.iter().filter(|(_, held)| held.all().into_iter().any(asks));
        held.map(|(interface, _)| *interface).collect()
    }

    /// The programs of these selections are other ones.
    pub(super) fn note_anew(&mut self, selections: &BTreeSet<SelectionId>) {
        for (interface, held) in &self.host.held {
            if held.all().iter().any(|id| selections.contains(id)) {
                self.touched.interface(*interface);
                self.host.is_stale = true;
            }
        }
    }

    /// What is asked at interfaces, where that may have changed.
    pub(super) fn reselect_host(&mut self, cluster: &Cluster) {
        let before = self.out.host.clone();
        if !std::mem::take(&mut self.host.is_stale) {
            return;
        }
        let is_everywhere = |(_, endpoint): &(_, &HostEndpoint)| endpoint.interface.as_deref() == Some(ALL);
        let everywhere = self.here(cluster).find(is_everywhere).map(|(name, _)| name);
        let endpoints = self.choose(everywhere, cluster);
        let hold = |(interface, name): (&Interface, &String)| (*interface, self.hold_host(name, everywhere));
        let held = endpoints.iter().map(hold).collect();
        self.host.endpoints = endpoints;
        let old = std::mem::replace(&mut self.host.held, held);
        for id in old.into_values().flat_map(Held::all) {
            self.selections.let_go(id, &mut self.out);
        }
        let held = || self.host.held.iter();
        let enforced = held().map(|(interface, held)| (*interface, self.host_obeys(*held)));
        let staged = held().map(|(interface, held)| (*interface, self.host_staged(*held)));
        self.out.host = HostPolicies::new(enforced, staged);
        let after = &self.out.host;
        let asked = |host: &HostPolicies, interface| (host.at(interface), host.staged_at(interface));
        for interface in before.interfaces().chain(after.interfaces()) {
            if asked(&before, interface) != asked(after, interface) {
                self.touched.interface(interface);
            }
        }
    }

    /// The host endpoints of the node.
    fn here<'a>(&self, cluster: &'a Cluster) -> impl Iterator<Item = (&'a str, &'a HostEndpoint)> {
        let all = cluster.host_endpoints.iter().map(|(name, endpoint)| (name.as_str(), &**endpoint));
        all.filter(|(_, endpoint)| self.is_here(endpoint))
    }

    /// The interfaces that belong to a host endpoint, with its name.
    fn choose(&self, everywhere: Option<&str>, cluster: &Cluster) -> BTreeMap<Interface, String> {
        let of = |interface: &NodeInterface| {
            let own = self.here(cluster).find(|(_, endpoint)| is_of(endpoint, interface));
            own.map(|(name, _)| name).or(everywhere).map(|name| (interface.interface, name.to_owned()))
        };
        self.host.interfaces.iter().filter_map(of).collect()
    }

    /// What is asked where an interface belongs to the host endpoint of that name. `everywhere`: the one for all.
    fn hold_host(&mut self, name: &str, everywhere: Option<&str>) -> Held {
        let own = self.policies_at(name);
        let others = everywhere.map_or_else(Vec::new, |name| self.policies_at(name));
        let [pre_dnat, staged_pre_dnat] = self.pre_dnat(&own, &others);
        let untracked = self.only(&own, |host| host.do_not_track && everywhere != Some(name));
        let forward = self.only(&own, |host| host.apply_on_forward && !host.pre_dnat && !host.do_not_track);
        let mut hold = |policies| self.selections.hold(&policies, &self.table, &mut self.out);
        Held {
            untracked: hold(untracked),
            pre_dnat: hold(pre_dnat),
            staged_pre_dnat: hold(staged_pre_dnat),
            forward: hold(forward),
        }
    }

    /// The policies that select the host endpoint, in the order in which they are asked.
    fn policies_at(&self, name: &str) -> Vec<PolicyNo> {
        let number = self.host_endpoints.number(&name.to_owned());
        let found =
            number.map_or_else(Vec::new, |number| self.index.selectors_of(&Item::HostEndpoint(number)));
        let subjects = found.into_iter().filter_map(|found| match found {
            Use::Subject(no) => Some(no),
            Use::Set(_) => None,
        });
        let mut policies: Vec<PolicyNo> = subjects.filter(|no| self.table[*no].is_in_tier()).collect();
        policies.sort_by(|a, b| self.table.compare(*a, *b));
        policies
    }

    fn only(&self, policies: &[PolicyNo], is_asked: impl Fn(HostUse) -> bool) -> Arc<[PolicyNo]> {
        policies.iter().copied().filter(|no| is_asked(self.table[*no].ir.host)).collect()
    }

    /// Those before destination NAT, as they are and if what is staged were enforced: where an interface's own host endpoint
    /// has none, those of the one for all interfaces, as in Felix (`endpoint_mgr.go`, `updateHostEndpoints`).
    fn pre_dnat(&self, own: &[PolicyNo], everywhere: &[PolicyNo]) -> [Arc<[PolicyNo]>; 2] {
        let [own, everywhere] = [own, everywhere].map(|policies| self.only(policies, |host| host.pre_dnat));
        let has_enforced = own.iter().any(|no| !self.table[*no].is_staged());
        let would_have = self.table.as_if_enforced(&own).map_or(has_enforced, |list| !list.is_empty());
        [has_enforced, would_have].map(|has_own| Arc::clone(if has_own { &own } else { &everywhere }))
    }

    fn host_obeys(&self, held: Held) -> HostObeys {
        let [untracked, pre_dnat, _, forward] = held.all().map(|id| self.selections.obeys(id));
        HostObeys {
            untracked: untracked.ingress,
            pre_dnat: pre_dnat.ingress,
            ingress: forward.ingress,
            egress: forward.egress,
        }
    }

    /// What would be asked if staged policies were enforced.
    fn host_staged(&self, held: Held) -> HostObeys {
        let [untracked, _, pre_dnat, forward] = held.all().map(|id| self.selections.obeys(id));
        let ingress = |obeys: Obeys| obeys.staged_ingress.unwrap_or(obeys.ingress);
        HostObeys {
            untracked: ingress(untracked),
            pre_dnat: ingress(pre_dnat),
            ingress: ingress(forward),
            egress: forward.staged_egress.unwrap_or(forward.egress),
        }
    }

    /// The addresses of the host endpoint of that number.
    pub(super) fn expected<'a>(&self, number: u32, cluster: &'a Cluster) -> &'a [IpAddr] {
        let name = self.host_endpoints.get(number);
        name.and_then(|name| cluster.host_endpoints.get(name)).map_or(&[], |endpoint| &endpoint.expected)
    }
}

fn is_of(endpoint: &HostEndpoint, interface: &NodeInterface) -> bool {
    match &endpoint.interface {
        Some(name) => interface.name.as_ref() == Some(name),
        None => endpoint.expected.iter().any(|address| interface.addresses.contains(address)),
    }
}

/// What host endpoints declare a port of this name: its number, and an address that has it.
pub(super) fn hosts_with_port(
    protocol: Protocol,
    name: &str,
    cluster: &Cluster,
) -> impl Iterator<Item = (u16, IpAddr)> {
    cluster.host_endpoints.values().flat_map(move |endpoint| {
        let named = endpoint.ports.iter().filter(move |port| port.protocol == protocol && port.name == name);
        named.flat_map(|port| endpoint.expected.iter().map(|address| (port.port, *address)))
    })
}
