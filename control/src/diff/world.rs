//! One of the two worlds, compiled from nothing with every pod taken as served.

use std::net::IpAddr;

use margay_flowtable::{Classification, Decision, IdentityId, Policies, ProgramId, Tuple, classify};
use serde::Serialize;

use crate::check::spoken;
use crate::compile::policy::{self, PolicyCompiler, RuleIds, Serves};
use crate::probe::Expect;
use crate::selector::EffectiveLabels;
use crate::state::{Cluster, Name, PodPort};

#[derive(Debug)]
pub(super) struct World<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) policies: Policies,
    compiler: PolicyCompiler,
}

/// What pods of an identity obey.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Programs {
    pub(super) egress: ProgramId,
    pub(super) ingress: ProgramId,
    pub(super) to_node: ProgramId,
}

impl Default for Programs {
    fn default() -> Self {
        Self { egress: ProgramId::NONE, ingress: ProgramId::NONE, to_node: ProgramId::NONE }
    }
}

/// A verdict and what decided it on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judged {
    pub verdict: Expect,
    pub egress: Half,
    pub ingress: Half,
}

/// What one end's policy says, and what decided: no policy where none selects the end; no rule where the end of a tier
/// did, whose first policy that selects the end it then is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Half {
    pub verdict: Expect,
    pub kind: Option<String>,
    /// `NAMESPACE/NAME`, or `NAME` of one that is cluster-wide.
    pub policy: Option<String>,
    /// Position in the policy's ingress or egress list.
    pub rule: Option<u32>,
}

impl Half {
    fn of(decision: Decision, rules: &RuleIds) -> Self {
        let name = rules.name(decision.rule);
        Self {
            verdict: spoken(decision.verdict),
            kind: name.map(|name| name.policy.kind.to_string()),
            policy: name.map(|name| name.policy.full_name()),
            rule: name.and_then(|name| name.index),
        }
    }
}

impl<'a> World<'a> {
    pub(super) fn of(cluster: &'a Cluster) -> Self {
        let (policies, compiler) = policy::compile(cluster, Serves::All);
        Self { cluster, policies, compiler }
    }

    pub(super) fn classify(&self, tuple: &Tuple) -> Classification {
        classify(&self.policies, tuple, &mut |_, _| {})
    }

    pub(super) fn judged(&self, classification: &Classification) -> Judged {
        let half = |decision| Half::of(decision, self.compiler.rule_ids());
        Judged {
            verdict: spoken(classification.verdict()),
            egress: half(classification.egress),
            ingress: half(classification.ingress),
        }
    }

    /// The identity of the pod of this name, where the address is its.
    pub(super) fn identity(&self, pod: &Name, address: IpAddr) -> Option<IdentityId> {
        let endpoint = self.policies.endpoint(address)?;
        let is_its = endpoint.name.split_once('/') == Some((&pod.namespace, &pod.name));
        is_its.then_some(self.policies.addresses.get(address)?.identity)
    }

    pub(super) fn programs(&self, identity: IdentityId) -> Programs {
        let obeys = self.policies.obeys.get(identity.0).copied().unwrap_or_default();
        Programs { egress: obeys.egress, ingress: obeys.ingress, to_node: obeys.to_node }
    }

    /// What selectors and port names see of an identity.
    pub(super) fn seen(&self, identity: IdentityId) -> (Option<&EffectiveLabels>, Option<&[PodPort]>) {
        (self.compiler.labels_of(identity), self.compiler.ports_of(identity))
    }
}
