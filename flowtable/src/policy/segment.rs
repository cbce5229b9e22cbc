//! A run of consecutive policies of a tier, shared by all programs that hold that run.

use std::sync::Arc;

use super::check::Check;
use super::index::{FEW_FOR_PORTS, Index, MOST_RULES};
use super::{IdentityId, Policy, PolicyType, Rule};
use crate::{AddressSet, Paged, PortSet};

/// Rules up to which asking each in turn costs less than an index.
const MOST_LINEAR: usize = 2;

/// Policies that are asked one after another, as packets need them.
#[derive(Clone, Debug)]
pub struct Segment {
    policy_type: PolicyType,
    policies: Vec<Arc<Policy>>,
    known: IdentityId,
    /// Their rules in order.
    checks: Box<[Check]>,
    /// One for so many rules, the last for fewer; none where the rules are few.
    indexes: Box<[Index]>,
}

impl Segment {
    /// Takes the policies in order, and the sets that their rules name, whose identities are below `known`: the first
    /// number that no identity has. Later any identity may leave the sets, and those from `known` on may join. Where
    /// another joins, or ranges change, or the protocols and ports of a port set, segments that name the set are to be
    /// made anew.
    pub fn new(
        policy_type: PolicyType,
        policies: Vec<Arc<Policy>>,
        sets: &Paged<Arc<AddressSet>>,
        port_sets: &Paged<Arc<PortSet>>,
        known: IdentityId,
    ) -> Self {
        let mut checks = Vec::new();
        for (at, policy) in (0..).zip(&policies) {
            checks.extend((0..).zip(&policy.rules).map(|(n, rule)| Check::of(policy_type, rule, (at, n))));
        }
        let rules: Vec<&Rule> = policies.iter().flat_map(|policy| &policy.rules).collect();
        let indexed = if rules.len() > MOST_LINEAR { &*rules } else { &[] };
        let runs = indexed.chunks(MOST_RULES);
        let mut indexes: Vec<Index> =
            runs.map(|rules| Index::of(policy_type, rules, sets, port_sets, known)).collect();
        if !indexes.iter().any(|index| index.pays) {
            indexes.clear();
        }
        Self { policy_type, policies, known, checks: checks.into(), indexes: indexes.into() }
    }

    pub fn policies(&self) -> &[Arc<Policy>] {
        &self.policies
    }

    pub fn policy_type(&self) -> PolicyType {
        self.policy_type
    }

    /// The first identity that is not known yet: rules for it and those after it are found by port alone. When there are
    /// many of them a segment is better made anew. None where there are so few rules that it does not matter.
    pub fn known(&self) -> Option<IdentityId> {
        (!self.indexes.is_empty() && self.checks.len() > FEW_FOR_PORTS).then_some(self.known)
    }

    pub fn rule_count(&self) -> usize {
        self.checks.len()
    }

    /// Memory beside the policies.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.checks) + self.indexes.iter().map(Index::bytes).sum::<usize>()
    }

    /// Whether it has no index.
    pub(crate) fn is_linear(&self) -> bool {
        self.indexes.is_empty()
    }

    pub(crate) fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// The indexes, each with the rules that it is of.
    pub(crate) fn indexes(&self) -> impl Iterator<Item = (&Index, &[Check])> {
        self.indexes.iter().zip(self.checks.chunks(MOST_RULES))
    }
}

/// By what is enforced.
impl PartialEq for Segment {
    fn eq(&self, other: &Self) -> bool {
        self.policy_type == other.policy_type && self.policies == other.policies
    }
}

impl Eq for Segment {}
