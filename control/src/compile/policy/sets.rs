//! The sets that rules refer to: which there are, and which have to be made anew.
//!
//! What is in a set is kept elsewhere: the label index knows what selectors select, the cluster what nodes and services
//! are.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use margay_flowtable::{IdentityId, PortSetId, SetId};

use super::interned::Interned;
use super::rules::Uses;
use crate::selector::Selector;
use crate::state::policy::Peer;
use crate::state::{Name, Protocol};

/// What a set of addresses is made of: equal keys, equal sets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum SetKey {
    Selected(Selector),
    /// Blocks, each without its exceptions.
    Blocks(Vec<(IpNet, Vec<IpNet>)>),
    Nodes(Selector),
    Service(Name),
}

impl SetKey {
    /// The sets that a list of peers refers to. Its blocks are one.
    pub(super) fn of(peers: &[Peer]) -> Vec<Self> {
        let mut blocks = Vec::new();
        let mut keys = Vec::new();
        for peer in peers {
            match peer {
                Peer::Selected(selector) => keys.push(Self::Selected(selector.clone())),
                Peer::Block { cidr, except } => blocks.push((*cidr, except.clone())),
                Peer::Nodes(selector) => keys.push(Self::Nodes(selector.clone())),
                Peer::Service(name) => keys.push(Self::Service(name.clone())),
            }
        }
        if !blocks.is_empty() {
            keys.push(Self::Blocks(blocks));
        }
        keys
    }
}

/// What a set of (address, protocol, port) is made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum PortSetKey {
    /// The ports that pods declare under this name.
    Named(Protocol, String),
    /// The endpoints of a service.
    Service(Name),
}

/// What is due to a set.
#[derive(Clone, Debug)]
pub(super) enum Due {
    /// The set is new.
    Create,
    /// All of it.
    Build,
    /// Identities that came or went.
    Edit { add: BTreeSet<IdentityId>, remove: BTreeSet<IdentityId> },
}

impl Due {
    fn nothing() -> Self {
        Self::Edit { add: BTreeSet::new(), remove: BTreeSet::new() }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Sets {
    keys: Interned<SetKey>,
    port_keys: Interned<PortSetKey>,
    pub(super) due: BTreeMap<SetId, Due>,
    pub(super) due_ports: BTreeSet<PortSetId>,
    /// Sets that rules no longer use. They go when what refers to them has been made anew.
    leaving: Vec<Uses>,
}

impl Sets {
    pub(super) fn hold(&mut self, key: SetKey) -> SetId {
        let (number, is_new) = self.keys.hold(key);
        if is_new {
            self.due.insert(SetId(number), Due::Create);
        }
        SetId(number)
    }

    pub(super) fn hold_ports(&mut self, key: PortSetKey) -> PortSetId {
        let (number, is_new) = self.port_keys.hold(key);
        if is_new {
            self.due_ports.insert(PortSetId(number));
        }
        PortSetId(number)
    }

    pub(super) fn let_go(&mut self, uses: Uses) {
        self.leaving.push(uses);
    }

    /// Lets go what was to be let go, and returns the sets that nobody uses any more.
    pub(super) fn release(&mut self) -> Uses {
        let mut gone = Uses::default();
        for uses in std::mem::take(&mut self.leaving) {
            gone.sets.extend(uses.sets.into_iter().filter(|id| self.keys.let_go(id.0).is_some()));
            let ports = uses.port_sets.into_iter().filter(|id| self.port_keys.let_go(id.0).is_some());
            gone.port_sets.extend(ports);
        }
        gone
    }

    pub(super) fn key(&self, id: SetId) -> Option<&SetKey> {
        self.keys.get(id.0)
    }

    pub(super) fn port_key(&self, id: PortSetId) -> Option<&PortSetKey> {
        self.port_keys.get(id.0)
    }

    /// An identity came into the set, or went.
    pub(super) fn edit(&mut self, id: SetId, identity: IdentityId, is_in: bool) {
        let due = self.due.entry(id).or_insert_with(Due::nothing);
        let Due::Edit { add, remove } = due else { return };
        let (to, from) = if is_in { (add, remove) } else { (remove, add) };
        if !from.remove(&identity) {
            to.insert(identity);
        }
    }

    /// Has the set made anew.
    pub(super) fn build(&mut self, id: SetId) {
        let due = self.due.entry(id).or_insert(Due::Build);
        if matches!(due, Due::Edit { .. }) {
            *due = Due::Build;
        }
    }

    /// Has the sets made anew whose key is one of these.
    pub(super) fn build_where(&mut self, is_due: impl Fn(&SetKey) -> bool) {
        let due: Vec<SetId> =
            self.keys.iter().filter(|(_, key)| is_due(key)).map(|(number, _)| SetId(number)).collect();
        for id in due {
            self.build(id);
        }
    }

    pub(super) fn build_service(&mut self, service: &Name) {
        if let Some(number) = self.keys.number(&SetKey::Service(service.clone())) {
            self.build(SetId(number));
        }
        if let Some(number) = self.port_keys.number(&PortSetKey::Service(service.clone())) {
            self.due_ports.insert(PortSetId(number));
        }
    }

    pub(super) fn build_port(&mut self, protocol: Protocol, name: &str) {
        if let Some(number) = self.port_keys.number(&PortSetKey::Named(protocol, name.to_owned())) {
            self.due_ports.insert(PortSetId(number));
        }
    }
}
