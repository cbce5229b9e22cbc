//! The kinds that are watched: where the API server has them, which of their objects, and what of each.
//!
//! This table is what `deploy/`'s `ClusterRole` has to allow, and no more: `list` and `watch` of each resource.

use super::projection::Keep;
use crate::manifest::{CNI_PREFIX, Kind};
use crate::state::policy::PolicyKind;

/// A kind that is watched.
#[derive(Clone, Copy, Debug)]
pub struct Watched {
    pub kind: Kind,
    /// Where it may be served: the first that is there counts.
    pub versions: &'static [GroupVersion],
    /// Name of the resource in URLs and in RBAC rules.
    pub plural: &'static str,
    /// Selector of fields that leaves out what nothing is made of.
    pub fields: Option<&'static str>,
    pub presence: Presence,
    pub(super) keep: Keep,
}

/// A version of an API group; the group of the core kinds is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupVersion {
    pub group: &'static str,
    pub version: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Every cluster has it.
    Always,
    /// Where a CRD is installed, or an API server of its own.
    WhereServed,
}

/// What Margay may do with each of them.
pub const VERBS: [&str; 2] = ["list", "watch"];

pub(super) const CALICO_CRD: GroupVersion = GroupVersion { group: "crd.projectcalico.org", version: "v1" };
pub(super) const CALICO: GroupVersion = GroupVersion { group: "projectcalico.org", version: "v3" };
/// Where Calico's CRDs are of `CALICO_CRD`, this kind is there, and `CALICO` is another view of the same objects.
pub(super) const CALICO_CRD_MARK: &str = "globalnetworkpolicies";

const CORE: &[GroupVersion] = &[GroupVersion { group: "", version: "v1" }];
const DISCOVERY: &[GroupVersion] = &[GroupVersion { group: "discovery.k8s.io", version: "v1" }];
const NETWORKING: &[GroupVersion] = &[GroupVersion { group: "networking.k8s.io", version: "v1" }];
const POLICY_ALPHA_1: &[GroupVersion] =
    &[GroupVersion { group: "policy.networking.k8s.io", version: "v1alpha1" }];
const POLICY_ALPHA_2: &[GroupVersion] =
    &[GroupVersion { group: "policy.networking.k8s.io", version: "v1alpha2" }];
const ANY_CALICO: &[GroupVersion] = &[CALICO_CRD, CALICO];

/// Pods that have ended hold no address any more; one that ends is reported as deleted.
const NOT_ENDED: &str = "status.phase!=Succeeded,status.phase!=Failed";

pub const WATCHED: [Watched; 23] = [
    always(Kind::Namespace, CORE, "namespaces", METADATA),
    always(Kind::Node, CORE, "nodes", NODE),
    Watched { fields: Some(NOT_ENDED), ..always(Kind::Pod, CORE, "pods", POD) },
    always(Kind::Service, CORE, "services", SPEC),
    always(Kind::EndpointSlice, DISCOVERY, "endpointslices", SLICE),
    always(Kind::ServiceAccount, CORE, "serviceaccounts", METADATA),
    always(Kind::Policy(PolicyKind::NetworkPolicy), NETWORKING, "networkpolicies", SPEC),
    policy(PolicyKind::AdminNetworkPolicy, POLICY_ALPHA_1, "adminnetworkpolicies"),
    policy(PolicyKind::BaselineAdminNetworkPolicy, POLICY_ALPHA_1, "baselineadminnetworkpolicies"),
    policy(PolicyKind::ClusterNetworkPolicy, POLICY_ALPHA_2, "clusternetworkpolicies"),
    calico(Kind::IpPool, "ippools"),
    calico(Kind::BlockAffinity, "blockaffinities"),
    calico(Kind::IpamBlock, "ipamblocks"),
    calico(Kind::Tier, "tiers"),
    policy(PolicyKind::CalicoNetworkPolicy, ANY_CALICO, "networkpolicies"),
    policy(PolicyKind::GlobalNetworkPolicy, ANY_CALICO, CALICO_CRD_MARK),
    policy(PolicyKind::StagedNetworkPolicy, ANY_CALICO, "stagednetworkpolicies"),
    policy(PolicyKind::StagedGlobalNetworkPolicy, ANY_CALICO, "stagedglobalnetworkpolicies"),
    policy(PolicyKind::StagedKubernetesNetworkPolicy, ANY_CALICO, "stagedkubernetesnetworkpolicies"),
    calico(Kind::NetworkSet, "networksets"),
    calico(Kind::GlobalNetworkSet, "globalnetworksets"),
    calico(Kind::HostEndpoint, "hostendpoints"),
    Watched { keep: Keep::Fields(FELIX), ..calico(Kind::FelixConfiguration, "felixconfigurations") },
];

impl Watched {
    /// The row of a kind, if it is watched.
    pub fn of(kind: Kind) -> Option<&'static Self> {
        WATCHED.iter().find(|watched| watched.kind == kind)
    }
}

impl GroupVersion {
    /// Path of the URL that lists what the version serves, and that its resources lie below.
    pub(super) fn path(self) -> String {
        match self.group {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        }
    }
}

const fn always(
    kind: Kind,
    versions: &'static [GroupVersion],
    plural: &'static str,
    part: &'static [(&'static str, Keep)],
) -> Watched {
    let keep = Keep::Fields(part);
    Watched { kind, versions, plural, fields: None, presence: Presence::Always, keep }
}

const fn policy(kind: PolicyKind, versions: &'static [GroupVersion], plural: &'static str) -> Watched {
    Watched { presence: Presence::WhereServed, ..always(Kind::Policy(kind), versions, plural, POLICY) }
}

const fn calico(kind: Kind, plural: &'static str) -> Watched {
    Watched { presence: Presence::WhereServed, ..always(kind, ANY_CALICO, plural, SPEC) }
}

/// Fields of an object, each with what of it is kept.
type Part = &'static [(&'static str, Keep)];

/// Of annotations those that Calico writes. Others change often, and one is what Margay itself says of its state: read
/// here, it would have each snapshot make the next.
const NAMES: Keep = Keep::Fields(&[
    ("name", Keep::All),
    ("namespace", Keep::All),
    ("uid", Keep::All),
    ("resourceVersion", Keep::All),
    ("labels", Keep::All),
    ("annotations", Keep::Prefixed("projectcalico.org/")),
    ("creationTimestamp", Keep::All),
    ("deletionTimestamp", Keep::All),
]);
/// Of a pod's annotations those that tell of its addresses.
const POD_NAMES: Keep = Keep::Fields(&[
    ("name", Keep::All),
    ("namespace", Keep::All),
    ("uid", Keep::All),
    ("resourceVersion", Keep::All),
    ("labels", Keep::All),
    ("annotations", Keep::Prefixed(CNI_PREFIX)),
    ("creationTimestamp", Keep::All),
    ("deletionTimestamp", Keep::All),
]);

const METADATA: Part = &[("metadata", NAMES)];
const SPEC: Part = &[("metadata", NAMES), ("spec", Keep::All)];
/// What a policy is called depends on the form that it has.
const POLICY: Part = &[("apiVersion", Keep::All), ("metadata", NAMES), ("spec", Keep::All)];
/// Of some hundred settings those that are Margay's too.
const FELIX: Part = &[
    ("metadata", NAMES),
    (
        "spec",
        Keep::Fields(&[
            ("vxlanVNI", Keep::All),
            ("vxlanPort", Keep::All),
            ("vxlanMTU", Keep::All),
            ("ipipMTU", Keep::All),
        ]),
    ),
];
const NODE: Part = &[
    ("metadata", NAMES),
    ("spec", Keep::Fields(&[("podCIDR", Keep::All), ("podCIDRs", Keep::All)])),
    ("status", Keep::Fields(&[("addresses", Keep::All)])),
];
const POD: Part = &[
    ("metadata", POD_NAMES),
    (
        "spec",
        Keep::Fields(&[
            ("serviceAccountName", Keep::All),
            ("serviceAccount", Keep::All),
            ("nodeName", Keep::All),
            ("hostNetwork", Keep::All),
            ("containers", CONTAINERS),
            ("initContainers", CONTAINERS),
        ]),
    ),
    ("status", Keep::Fields(&[("phase", Keep::All), ("podIP", Keep::All), ("podIPs", Keep::All)])),
];
const CONTAINERS: Keep =
    Keep::Items(&Keep::Fields(&[("name", Keep::All), ("ports", Keep::All), ("restartPolicy", Keep::All)]));
const SLICE: Part = &[
    ("metadata", NAMES),
    ("addressType", Keep::All),
    ("ports", Keep::All),
    ("endpoints", Keep::Items(&Keep::Fields(&[("addresses", Keep::All), ("conditions", Keep::All)]))),
];
