//! What is not in force as written: said once in the log, always in status, and to whoever writes Events of it.

use std::collections::{BTreeSet, HashMap};
use std::mem;
use std::sync::Arc;

use crate::compile::policy::NotInForce;
use crate::manifest::{FieldPath, Id, Invalid, Kind, Place, Problem, Reason, Reference, Step};
use crate::source::References;
use crate::state::policy::PolicyId;

#[derive(Debug, Default)]
pub(super) struct Problems {
    /// Those of objects that the API server has, and of manifests.
    all: Arc<Vec<Problem>>,
    /// What the API server calls policies that may be valid and yet count for nobody.
    references: HashMap<PolicyId, Arc<Reference>>,
}

impl Problems {
    /// Takes what the source has found wrong, and what counts for nobody. `said` is what status says of it.
    pub(super) fn take<'a>(
        &mut self,
        mut problems: Vec<Problem>,
        references: References,
        not_in_force: impl Iterator<Item = NotInForce<'a>>,
        said: &mut Vec<String>,
    ) {
        for (policy, reference) in references {
            match reference {
                Some(reference) => self.references.insert(policy, reference),
                None => self.references.remove(&policy),
            };
        }
        let known: BTreeSet<String> = mem::take(said).into_iter().collect();
        said.extend(problems.iter().map(ToString::to_string));
        for policy in not_in_force {
            said.push(policy.to_string());
            let reference = self.references.get(policy.policy);
            problems.extend(reference.map(|reference| problem(&policy, Arc::clone(reference))));
        }
        for problem in said.iter().filter(|problem| !known.contains(*problem)) {
            tracing::warn!("{problem}");
        }
        self.all = Arc::new(problems);
    }

    pub(super) fn all(&self) -> Arc<Vec<Problem>> {
        Arc::clone(&self.all)
    }
}

/// What is the matter with a policy of the API server's that counts for nobody.
fn problem(policy: &NotInForce<'_>, reference: Arc<Reference>) -> Problem {
    let PolicyId { kind, name } = policy.policy;
    let field = FieldPath(["spec", policy.field].map(|key| Step::Key(key.to_owned())).into());
    let reason = Reason::Invalid(Invalid { field, why: policy.why.to_string() });
    Problem::new(Place::Api(reference), Some(Id { kind: Kind::Policy(*kind), name: name.clone() }), reason)
}
