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
/// forwarded. Only uplinks have any before connection tracking, and not of a host endpoint that is everywhere, as in Felix.
#[derive(Clone, Copy, Debug)]
struct Held {
    untracked: SelectionId,
    pre_dnat: SelectionId,
    forward: SelectionId,
}

impl Held {
    fn all(self) -> [SelectionId; 3] {
        [self.untracked, self.pre_dnat, self.forward]
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
        let endpoints = self.choose(cluster);
        let held = endpoints.iter().map(|(interface, name)| {
            let held = self.hold_host(*interface, name, cluster);
            (*interface, held)
        });
        let held = held.collect();
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

    /// The interfaces that belong to a host endpoint, with its name.
    fn choose(&self, cluster: &Cluster) -> BTreeMap<Interface, String> {
        let here = || cluster.host_endpoints.iter().filter(|(_, endpoint)| self.is_here(endpoint));
        let everywhere = here().find(|(_, endpoint)| endpoint.interface.as_deref() == Some(ALL));
        let of = |interface: &NodeInterface| {
            let own = here().find(|(_, endpoint)| is_of(endpoint, interface));
            own.or(everywhere).map(|(name, _)| (interface.interface, name.clone()))
        };
        self.host.interfaces.iter().filter_map(of).collect()
    }

    fn hold_host(&mut self, interface: Interface, name: &str, cluster: &Cluster) -> Held {
        let number = self.host_endpoints.number(&name.to_owned());
        let found =
            number.map_or_else(Vec::new, |number| self.index.selectors_of(&Item::HostEndpoint(number)));
        let subjects = found.into_iter().filter_map(|found| match found {
            Use::Subject(no) => Some(no),
            Use::Set(_) => None,
        });
        let mut policies: Vec<PolicyNo> = subjects.filter(|no| self.table[*no].is_in_tier()).collect();
        policies.sort_by(|a, b| self.table.compare(*a, *b));
        let is_everywhere =
            cluster.host_endpoints.get(name).is_some_and(|e| e.interface.as_deref() == Some(ALL));
        let has_untracked = matches!(interface, Interface::Uplink(_)) && !is_everywhere;
        let untracked = |host: HostUse| host.do_not_track && has_untracked;
        let pre_dnat = |host: HostUse| host.pre_dnat;
        let forward = |host: HostUse| host.apply_on_forward && !host.pre_dnat && !host.do_not_track;
        Held {
            untracked: self.hold_list(&policies, untracked),
            pre_dnat: self.hold_list(&policies, pre_dnat),
            forward: self.hold_list(&policies, forward),
        }
    }

    fn hold_list(&mut self, policies: &[PolicyNo], is_asked: impl Fn(HostUse) -> bool) -> SelectionId {
        let asked: Arc<[PolicyNo]> =
            policies.iter().copied().filter(|no| is_asked(self.table[*no].ir.host)).collect();
        self.selections.hold(&asked, &self.table, &mut self.out)
    }

    fn host_obeys(&self, held: Held) -> HostObeys {
        let [untracked, pre_dnat, forward] = held.all().map(|id| self.selections.obeys(id));
        HostObeys {
            untracked: untracked.ingress,
            pre_dnat: pre_dnat.ingress,
            ingress: forward.ingress,
            egress: forward.egress,
        }
    }

    /// What would be asked if staged policies were enforced.
    fn host_staged(&self, held: Held) -> HostObeys {
        let [untracked, pre_dnat, forward] = held.all().map(|id| self.selections.obeys(id));
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
