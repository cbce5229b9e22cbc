//! Where the API keeps each kind that Margay reads, and the definition that makes a server keep it.

use serde_json::{Value, json};

/// A kind as an API group serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource {
    /// Empty for the core group.
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub namespaced: bool,
}

const fn cluster(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
) -> Resource {
    Resource { group, version, kind, plural, namespaced: false }
}

const fn namespaced(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
) -> Resource {
    Resource { group, version, kind, plural, namespaced: true }
}

/// What every cluster has.
pub const CORE: &[Resource] = &[
    cluster("", "v1", "Namespace", "namespaces"),
    cluster("", "v1", "Node", "nodes"),
    namespaced("", "v1", "Pod", "pods"),
    namespaced("", "v1", "Service", "services"),
    namespaced("", "v1", "ServiceAccount", "serviceaccounts"),
    namespaced("", "v1", "Event", "events"),
    namespaced("events.k8s.io", "v1", "Event", "events"),
    namespaced("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
    namespaced("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
];

const ADMIN: &str = "policy.networking.k8s.io";
const CRD: &str = "crd.projectcalico.org";

/// What clusters have that take network-policy-api.
pub const POLICY: &[Resource] = &[
    cluster(ADMIN, "v1alpha2", "ClusterNetworkPolicy", "clusternetworkpolicies"),
    cluster(ADMIN, "v1alpha1", "AdminNetworkPolicy", "adminnetworkpolicies"),
    cluster(ADMIN, "v1alpha1", "BaselineAdminNetworkPolicy", "baselineadminnetworkpolicies"),
];

/// What clusters have that run Calico.
pub const CALICO: &[Resource] = &[
    cluster(CRD, "v1", "IPPool", "ippools"),
    cluster(CRD, "v1", "BlockAffinity", "blockaffinities"),
    cluster(CRD, "v1", "IPAMBlock", "ipamblocks"),
    cluster(CRD, "v1", "Tier", "tiers"),
    namespaced(CRD, "v1", "NetworkPolicy", "networkpolicies"),
    cluster(CRD, "v1", "GlobalNetworkPolicy", "globalnetworkpolicies"),
    namespaced(CRD, "v1", "NetworkSet", "networksets"),
    cluster(CRD, "v1", "GlobalNetworkSet", "globalnetworksets"),
    namespaced(CRD, "v1", "StagedNetworkPolicy", "stagednetworkpolicies"),
    cluster(CRD, "v1", "StagedGlobalNetworkPolicy", "stagedglobalnetworkpolicies"),
    namespaced(CRD, "v1", "StagedKubernetesNetworkPolicy", "stagedkubernetesnetworkpolicies"),
    cluster(CRD, "v1", "HostEndpoint", "hostendpoints"),
    cluster(CRD, "v1", "FelixConfiguration", "felixconfigurations"),
];

const DEFINITION: Resource =
    cluster("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions");

/// What only the tests themselves write.
const OTHERS: &[Resource] = &[
    DEFINITION,
    cluster("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles"),
    cluster("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings"),
];

impl Resource {
    /// The resource of an object's type; Calico's `projectcalico.org/v3` is kept where its nodes keep it.
    pub fn of(api_version: &str, kind: &str) -> Option<Self> {
        let api_version =
            if api_version == "projectcalico.org/v3" { "crd.projectcalico.org/v1" } else { api_version };
        [CORE, POLICY, CALICO, OTHERS]
            .into_iter()
            .flatten()
            .find(|resource| resource.kind == kind && resource.api_version() == api_version)
            .copied()
    }

    /// The resource of an object.
    pub fn of_object(object: &Value) -> Option<Self> {
        Self::of(object["apiVersion"].as_str()?, object["kind"].as_str()?)
    }

    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Path of the group's version.
    pub fn root(&self) -> String {
        let under = if self.group.is_empty() { "api" } else { "apis" };
        format!("/{under}/{}", self.api_version())
    }

    /// Path of all objects of the kind, or of those of one namespace.
    pub fn collection(&self, namespace: Option<&str>) -> String {
        match namespace {
            Some(namespace) => format!("{}/namespaces/{namespace}/{}", self.root(), self.plural),
            None => format!("{}/{}", self.root(), self.plural),
        }
    }

    /// Path that an object of the kind is created at.
    pub fn home(&self, object: &Value) -> String {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
        self.collection(self.namespaced.then_some(namespace))
    }

    /// Path of one object.
    pub fn path(&self, object: &Value) -> String {
        format!("{}/{}", self.home(object), object["metadata"]["name"].as_str().unwrap_or_default())
    }

    /// A definition that takes every field as it is: what a field means is the reader's to check.
    pub fn definition(&self) -> Value {
        json!({
            "apiVersion": DEFINITION.api_version(),
            "kind": DEFINITION.kind,
            "metadata": {
                "name": format!("{}.{}", self.plural, self.group),
                // Required of groups of Kubernetes' own.
                "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"},
            },
            "spec": {
                "group": self.group,
                "scope": if self.namespaced { "Namespaced" } else { "Cluster" },
                "names": {"kind": self.kind, "listKind": format!("{}List", self.kind), "plural": self.plural},
                "versions": [{
                    "name": self.version,
                    "served": true,
                    "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
                }],
            },
        })
    }
}
