//! Policy, kept in step with the cluster: from objects to what workers classify by.
//!
//! Each change is taken in as it comes and marks what it makes stale; [`PolicyCompiler::finish`] makes that anew, in
//! the order in which one thing is made of another: address sets, segments of rules, what groups of pods obey, and
//! what addresses stand for. What a change does not touch is shared with what was there before. Besides it tells which
//! flows the changes can affect.

mod content;
mod groups;
mod holders;
mod host_endpoints;
mod interned;
mod labels;
mod not_in_force;
mod objects;
mod policies;
mod ranges;
mod rule_ids;
mod rules;
mod selections;
mod sets;
mod touched;
mod unasked;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use margay_flowtable::{EndpointId, IdentityId, Policies, RuleId, SetId};

pub use self::not_in_force::NotInForce;
pub use self::rule_ids::{RuleIds, RuleName};
pub use self::touched::Touched;

use self::groups::Groups;
use self::host_endpoints::Host;
use self::interned::Interned;
use self::policies::{PolicyNo, PolicyTable};
use self::selections::Selections;
use self::sets::Sets;
use super::owners::{Owner, OwnerChange, Owners};
use crate::selector::{EffectiveLabels, Inherited, LabelIndex};
use crate::state::{Cluster, Name, PodPort};

/// Whose policy is enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serves {
    /// Every pod's.
    All,
    /// That of the pods on this node, and on those behind it.
    Gateway(String),
}

/// The policy of a whole cluster, compiled from nothing.
pub fn compile(cluster: &Cluster, serves: Serves) -> (Policies, PolicyCompiler) {
    let mut compiler = PolicyCompiler::new(serves);
    let owners = Owners::of(cluster);
    let new = |(address, owner): (_, &Owner)| OwnerChange { address, old: None, new: Some(owner.clone()) };
    let moved: Vec<OwnerChange> = owners.iter().map(new).collect();
    compiler.apply(cluster, &owners, &cluster.clone().into_changes(), &moved);
    (compiler.finish(cluster).0, compiler)
}

/// What a selector can select.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Item {
    Group(IdentityId),
    NetworkSet(u32),
    HostEndpoint(u32),
}

/// What it is selected for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Use {
    Set(SetId),
    Subject(PolicyNo),
}

/// What has to be done about a group's selection.
#[derive(Clone, Debug)]
enum Reselect {
    /// Policies came and went.
    Edit { add: BTreeSet<PolicyNo>, remove: BTreeSet<PolicyNo> },
    /// All of it.
    Full,
}

impl Reselect {
    fn nothing() -> Self {
        Self::Edit { add: BTreeSet::new(), remove: BTreeSet::new() }
    }
}

/// What was made so far, and what of it is stale.
#[derive(Debug)]
pub struct PolicyCompiler {
    serves: Serves,
    index: LabelIndex<Item, Use>,
    groups: Groups,
    network_sets: Interned<Name>,
    host_endpoints: Interned<String>,
    host: Host,
    sets: Sets,
    table: PolicyTable,
    selections: Selections,
    /// By their names.
    endpoints: HashMap<Arc<str>, Served>,
    free_endpoints: Vec<EndpointId>,
    /// Policies whose rules have changed.
    edited: BTreeSet<PolicyNo>,
    /// Policies that are gone, whose numbers go when nothing refers to them.
    leaving: Vec<PolicyNo>,
    /// Policies whose programs have changed beyond their rules.
    reobey: BTreeSet<PolicyNo>,
    reselect: BTreeMap<IdentityId, Reselect>,
    touched: Touched,
    /// Every index knows the identities below this one.
    refreshed: IdentityId,
    /// Segments that hold these policies are to be made anew; who obeys them need not be touched.
    stale: BTreeSet<PolicyNo>,
    /// Labels that groups inherit, by namespace, and by namespace and service account.
    namespaces: HashMap<String, Arc<Inherited>>,
    service_accounts: HashMap<Name, Arc<Inherited>>,
    /// One list for all pods of a node.
    node_addresses: HashMap<String, Arc<[IpAddr]>>,
    out: Policies,
}

/// A pod whose policy is enforced here.
#[derive(Debug)]
struct Served {
    id: EndpointId,
    addresses: usize,
}

impl PolicyCompiler {
    pub fn new(serves: Serves) -> Self {
        let node = match &serves {
            Serves::All => None,
            Serves::Gateway(node) => Some(node.clone()),
        };
        Self {
            serves,
            index: LabelIndex::new(),
            groups: Groups::default(),
            network_sets: Interned::default(),
            host_endpoints: Interned::default(),
            host: Host::of(node),
            sets: Sets::default(),
            table: PolicyTable::default(),
            selections: Selections::default(),
            endpoints: HashMap::new(),
            free_endpoints: Vec::new(),
            edited: BTreeSet::new(),
            leaving: Vec::new(),
            reobey: BTreeSet::new(),
            reselect: BTreeMap::new(),
            touched: Touched::default(),
            refreshed: IdentityId(0),
            stale: BTreeSet::new(),
            namespaces: HashMap::new(),
            service_accounts: HashMap::new(),
            node_addresses: HashMap::new(),
            out: Policies::default(),
        }
    }

    /// What rules' numbers mean.
    pub fn rule_ids(&self) -> &RuleIds {
        self.table.rule_ids()
    }

    /// Numbers that mean another rule than they did when this was last asked: ask before the snapshot is published.
    pub fn take_rules_given_again(&mut self) -> Vec<RuleId> {
        self.table.take_rules_given_again()
    }

    /// What pods of this identity are selected by.
    pub fn labels_of(&self, identity: IdentityId) -> Option<&EffectiveLabels> {
        self.index.labels_of(&Item::Group(identity))
    }

    /// The named ports that pods of this identity declare.
    pub fn ports_of(&self, identity: IdentityId) -> Option<&[PodPort]> {
        Some(&self.groups.get(identity)?.key.ports)
    }

    /// Makes anew what the changes made stale. Returns what workers are to read, and which flows may have another
    /// verdict by it.
    pub fn finish(&mut self, cluster: &Cluster) -> (Policies, Touched) {
        self.purge();
        self.table.identities = self.groups.bound();
        self.build_sets(cluster);
        self.build_port_sets(cluster);
        self.rebuild_edited();
        self.reselect();
        self.reselect_host(cluster);
        self.release();
        (self.out.clone(), std::mem::take(&mut self.touched))
    }

    pub fn has_stale_indexes(&self) -> bool {
        self.refreshed != self.groups.bound()
    }

    /// Makes up to so many indexes of segments anew that do not know the newest identities: until then these are held
    /// against more rules than need be. `None` if all do.
    pub fn refresh_indexes(&mut self, most: usize) -> Option<Policies> {
        let bound = self.groups.bound();
        if self.refreshed == bound {
            return None;
        }
        self.table.identities = bound;
        if self.selections.refresh_indexes(bound, most, &self.table, &mut self.out) {
            return Some(self.out.clone());
        }
        self.refreshed = bound;
        None
    }
}
