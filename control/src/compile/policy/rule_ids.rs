//! Numbers of rules: what workers count by and flows remember, and what they mean to people.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use margay_flowtable::{PolicyType, RuleId};

use crate::state::policy::PolicyId;

/// A rule as people find it: a place in the list of a policy, or the end of the tier that the policy stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleName {
    pub policy: Arc<PolicyId>,
    pub direction: PolicyType,
    /// `None`: no rule of the tier matched, and its default action decided. The policy is then the first of the tier's
    /// that select the endpoint.
    pub index: Option<u32>,
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = match self.direction {
            PolicyType::Ingress => "ingress",
            PolicyType::Egress => "egress",
        };
        match self.index {
            Some(index) => write!(f, "{} {direction} rule {index}", self.policy),
            None => write!(f, "{} {direction}, end of tier", self.policy),
        }
    }
}

/// Which numbers are given out. A number that comes free rests, so that what was counted by it can be told from what
/// the next rule counts, and is then the oldest to be given again: the counters are an array by number.
#[derive(Clone, Debug, Default)]
pub struct RuleIds {
    names: Vec<Option<RuleName>>,
    resting: VecDeque<RuleId>,
    given_again: Vec<RuleId>,
}

/// Numbers that rest at least.
const REST: usize = 1024;

impl RuleIds {
    pub(crate) fn give(&mut self, name: RuleName) -> RuleId {
        if self.resting.len() > REST
            && let Some(id) = self.resting.pop_front()
        {
            self.names[id.0 as usize] = Some(name);
            self.given_again.push(id);
            return id;
        }
        self.names.push(Some(name));
        RuleId(self.names.len() as u32 - 1)
    }

    pub(crate) fn take_back(&mut self, id: RuleId) {
        self.names[id.0 as usize] = None;
        self.resting.push_back(id);
    }

    /// Numbers that mean another rule than they did when this was last asked.
    pub(crate) fn take_given_again(&mut self) -> Vec<RuleId> {
        std::mem::take(&mut self.given_again)
    }

    /// `None` for a number that means no rule now.
    pub fn name(&self, id: RuleId) -> Option<&RuleName> {
        self.names.get(id.0 as usize)?.as_ref()
    }

    /// Every rule there is, by number.
    pub fn iter(&self) -> impl Iterator<Item = (RuleId, &RuleName)> {
        (0..).map(RuleId).zip(&self.names).filter_map(|(id, name)| Some((id, name.as_ref()?)))
    }
}
