//! Objects by kind and name, and the changes of a [`Cluster`](crate::state::Cluster) that they are.

use std::fmt;
use std::sync::Arc;

use super::shared_labels::SharedLabels;
use crate::state::policy::{HostEndpoint, NetworkSet, Policy, PolicyId, PolicyKind, TierSpec};
use crate::state::{
    BlockAffinity, Change, Edit, EndpointSlice, FelixConfiguration, IpPool, IpamBlock, Name, Namespace, Node,
    Pod, Service, ServiceAccount,
};

/// A kind that is read, whatever API version it was written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Namespace,
    Node,
    Pod,
    Service,
    EndpointSlice,
    ServiceAccount,
    Policy(PolicyKind),
    Tier,
    NetworkSet,
    GlobalNetworkSet,
    HostEndpoint,
    IpPool,
    BlockAffinity,
    IpamBlock,
    FelixConfiguration,
}

/// What tells one object from another. The namespace of a cluster-wide one is empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    pub kind: Kind,
    pub name: Name,
}

/// An object that is valid.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Object {
    Namespace(Arc<Namespace>),
    Node(Arc<Node>),
    Pod(Arc<Pod>),
    Service(Arc<Service>),
    EndpointSlice(Arc<EndpointSlice>),
    ServiceAccount(Arc<ServiceAccount>),
    Policy(PolicyKind, Arc<Policy>),
    Tier(Arc<TierSpec>),
    NetworkSet(Arc<NetworkSet>),
    HostEndpoint(Arc<HostEndpoint>),
    IpPool(Arc<IpPool>),
    BlockAffinity(Arc<BlockAffinity>),
    IpamBlock(Arc<IpamBlock>),
    FelixConfiguration(Arc<FelixConfiguration>),
}

impl Kind {
    pub(super) fn of(api_version: &str, kind: &str) -> Option<Self> {
        match api_version {
            "v1" => Self::of_core(kind),
            "discovery.k8s.io/v1" if kind == "EndpointSlice" => Some(Self::EndpointSlice),
            "projectcalico.org/v3" | "crd.projectcalico.org/v1" => Self::of_calico(kind),
            _ => policy_kind(api_version, kind).map(Self::Policy),
        }
    }

    fn of_core(kind: &str) -> Option<Self> {
        match kind {
            "Namespace" => Some(Self::Namespace),
            "Node" => Some(Self::Node),
            "Pod" => Some(Self::Pod),
            "Service" => Some(Self::Service),
            "ServiceAccount" => Some(Self::ServiceAccount),
            _ => None,
        }
    }

    fn of_calico(kind: &str) -> Option<Self> {
        match kind {
            "NetworkPolicy" => Some(Self::Policy(PolicyKind::CalicoNetworkPolicy)),
            "GlobalNetworkPolicy" => Some(Self::Policy(PolicyKind::GlobalNetworkPolicy)),
            "StagedNetworkPolicy" => Some(Self::Policy(PolicyKind::StagedNetworkPolicy)),
            "StagedGlobalNetworkPolicy" => Some(Self::Policy(PolicyKind::StagedGlobalNetworkPolicy)),
            "StagedKubernetesNetworkPolicy" => Some(Self::Policy(PolicyKind::StagedKubernetesNetworkPolicy)),
            "Tier" => Some(Self::Tier),
            "NetworkSet" => Some(Self::NetworkSet),
            "GlobalNetworkSet" => Some(Self::GlobalNetworkSet),
            "HostEndpoint" => Some(Self::HostEndpoint),
            "IPPool" => Some(Self::IpPool),
            "BlockAffinity" => Some(Self::BlockAffinity),
            "IPAMBlock" => Some(Self::IpamBlock),
            "FelixConfiguration" => Some(Self::FelixConfiguration),
            _ => None,
        }
    }

    pub fn is_namespaced(self) -> bool {
        match self {
            Self::Policy(kind) => kind.is_namespaced(),
            Self::Pod | Self::Service | Self::EndpointSlice | Self::ServiceAccount | Self::NetworkSet => true,
            _ => false,
        }
    }
}

/// Policies of the API groups of Kubernetes.
fn policy_kind(api_version: &str, kind: &str) -> Option<PolicyKind> {
    match (api_version, kind) {
        ("networking.k8s.io/v1", "NetworkPolicy") => Some(PolicyKind::NetworkPolicy),
        ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy") => {
            Some(PolicyKind::ClusterNetworkPolicy)
        }
        ("policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy") => Some(PolicyKind::AdminNetworkPolicy),
        ("policy.networking.k8s.io/v1alpha1", "BaselineAdminNetworkPolicy") => {
            Some(PolicyKind::BaselineAdminNetworkPolicy)
        }
        _ => None,
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::ServiceAccount => "ServiceAccount",
            Self::Policy(kind) => return kind.fmt(f),
            Self::Tier => "Tier",
            Self::NetworkSet => "NetworkSet",
            Self::GlobalNetworkSet => "GlobalNetworkSet",
            Self::HostEndpoint => "HostEndpoint",
            Self::IpPool => "IPPool",
            Self::BlockAffinity => "BlockAffinity",
            Self::IpamBlock => "IPAMBlock",
            Self::FelixConfiguration => "FelixConfiguration",
        })
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind.is_namespaced() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}", self.kind, self.name.name)
        }
    }
}

impl Object {
    /// What happens to the object of this name: it is now as here, or gone.
    pub(crate) fn change(&self, name: &Name, is_there: bool) -> Change {
        let (full, bare) = (name.clone(), name.name.clone());
        let id = |kind| PolicyId { kind, name: name.clone() };
        match self {
            Self::Namespace(object) => Change::Namespace(edit(bare, object, is_there)),
            Self::Node(object) => Change::Node(edit(bare, object, is_there)),
            Self::Pod(object) => Change::Pod(edit(full, object, is_there)),
            Self::Service(object) => Change::Service(edit(full, object, is_there)),
            Self::EndpointSlice(object) => Change::EndpointSlice(edit(full, object, is_there)),
            Self::ServiceAccount(object) => Change::ServiceAccount(edit(full, object, is_there)),
            Self::Policy(kind, policy) => Change::Policy(edit(id(*kind), policy, is_there)),
            Self::Tier(object) => Change::Tier(edit(bare, object, is_there)),
            Self::NetworkSet(object) => Change::NetworkSet(edit(full, object, is_there)),
            Self::HostEndpoint(object) => Change::HostEndpoint(edit(bare, object, is_there)),
            Self::IpPool(object) => Change::IpPool(edit(bare, object, is_there)),
            Self::BlockAffinity(object) => Change::BlockAffinity(edit(bare, object, is_there)),
            Self::IpamBlock(object) => Change::IpamBlock(edit(bare, object, is_there)),
            Self::FelixConfiguration(object) => Change::FelixConfiguration(edit(bare, object, is_there)),
        }
    }

    pub(crate) fn share_labels(&mut self, shared: &mut SharedLabels) {
        if let Self::Pod(pod) = self
            && let Some(pod) = Arc::get_mut(pod)
        {
            shared.share(&mut pod.labels);
        }
    }
}

fn edit<K, V>(key: K, object: &Arc<V>, is_there: bool) -> Edit<K, V> {
    if is_there { Edit::put(key, Arc::clone(object)) } else { Edit::remove(key) }
}
