//! Compiled policy: programs of tiers, policies and rules, in the order in which they are asked.
//!
//! A [`Program`] is what one endpoint obeys in one direction. Policies and sets are shared between programs by
//! `Arc`; two programs are the same policy if they compare equal.

mod index;

use std::ops::RangeInclusive;
use std::sync::Arc;

pub(crate) use self::index::Index;
use crate::{AddressSet, PortSet};

/// Rules up to which asking each in turn costs less than an index.
const MOST_LINEAR: usize = 64;

/// The tiers that apply to an endpoint in one direction. No tier: no policy selects it, and the profiles allow.
#[derive(Clone, Debug, Default)]
pub struct Program {
    tiers: Vec<Tier>,
    /// Derived from the tiers where they hold many rules.
    index: Option<Box<Index>>,
}

impl Program {
    pub fn new(tiers: Vec<Tier>) -> Self {
        let rules: usize =
            tiers.iter().flat_map(|tier| &tier.policies).map(|policy| policy.rules.len()).sum();
        let index = (rules > MOST_LINEAR).then(|| Box::new(Index::of(&tiers)));
        Self { tiers, index }
    }

    pub fn tiers(&self) -> &[Tier] {
        &self.tiers
    }

    pub(crate) fn index(&self) -> Option<&Index> {
        self.index.as_deref()
    }

    /// Memory that the index of a large program takes beside its rules and their sets.
    pub fn index_bytes(&self) -> usize {
        self.index.as_ref().map_or(0, |index| index.bytes())
    }
}

impl PartialEq for Program {
    fn eq(&self, other: &Self) -> bool {
        self.tiers == other.tiers
    }
}

impl Eq for Program {}

/// The policies of one tier that select the endpoint in this direction (at least one), in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    pub name: Arc<str>,
    pub policies: Vec<Arc<Policy>>,
    /// What happens at the end of the tier when no rule matched: `Deny`, or `Pass` to the next tier.
    pub end: Action,
}

/// One policy in one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// As operators name it: `NAMESPACE/NAME`, or `NAME` for one that is cluster-wide.
    pub name: Arc<str>,
    pub rules: Vec<Rule>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Allow,
    Deny,
    /// Go on with the next tier.
    Pass,
}

/// A rule matches when every field that is set matches. An empty list of sets or ports matches everything; what can
/// match nothing (a peer list that selects nobody) is a list that holds an empty set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub action: Action,
    /// Position of the source rule in the policy's ingress or egress list.
    pub index: u32,
    /// IP protocol number; with neither `ports` nor `named_ports` it covers all ports.
    pub protocol: Option<u8>,
    /// The other end: any of these sets.
    pub peers: Vec<Arc<AddressSet>>,
    /// Destination ports: any of these ranges, or any of `named_ports`.
    pub ports: Vec<RangeInclusive<u16>>,
    /// (destination address, protocol, destination port) is in any of these sets.
    pub named_ports: Vec<Arc<PortSet>>,
}
