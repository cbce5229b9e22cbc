//! Policies that are valid and count for nobody here.

use std::borrow::Cow;
use std::fmt;

use super::PolicyCompiler;
use crate::state::Cluster;
use crate::state::policy::PolicyId;

/// A policy that counts for nobody, and the field that makes it so. Displays as `POLICY: spec.FIELD: WHY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotInForce<'a> {
    pub policy: &'a PolicyId,
    pub field: &'static str,
    pub why: Cow<'static, str>,
}

impl fmt::Display for NotInForce<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: spec.{}: {}", self.policy, self.field, self.why)
    }
}

impl PolicyCompiler {
    pub fn not_in_force<'a>(&'a self, cluster: &'a Cluster) -> impl Iterator<Item = NotInForce<'a>> + 'a {
        let tierless = self.table.without_tier().map(|entry| {
            let why =
                format!("there is no Tier {:?}: the policy is not in force until there is", entry.ir.tier);
            NotInForce { policy: &entry.id, field: "tier", why: why.into() }
        });
        tierless.chain(self.unasked(cluster))
    }
}
