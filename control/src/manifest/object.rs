//! Objects by kind and name, and their way into a [`Cluster`].

use std::fmt;
use std::sync::Arc;

use crate::state::{
    BlockAffinity, Cluster, EndpointSlice, IpPool, IpamBlock, Name, Namespace, NetworkPolicy, Node, Pod,
    Service,
};

/// A kind that is read, whatever API version it was written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Namespace,
    Node,
    Pod,
    Service,
    EndpointSlice,
    NetworkPolicy,
    IpPool,
    BlockAffinity,
    IpamBlock,
}

/// What tells one object from another. The namespace of a cluster-wide one is empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    pub kind: Kind,
    pub name: Name,
}

/// An object that is valid.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    Namespace(Arc<Namespace>),
    Node(Arc<Node>),
    Pod(Arc<Pod>),
    Service(Arc<Service>),
    EndpointSlice(Arc<EndpointSlice>),
    NetworkPolicy(Arc<NetworkPolicy>),
    IpPool(Arc<IpPool>),
    BlockAffinity(Arc<BlockAffinity>),
    IpamBlock(Arc<IpamBlock>),
}

impl Kind {
    pub(super) fn of(api_version: &str, kind: &str) -> Option<Self> {
        match (api_version, kind) {
            ("v1", "Namespace") => Some(Self::Namespace),
            ("v1", "Node") => Some(Self::Node),
            ("v1", "Pod") => Some(Self::Pod),
            ("v1", "Service") => Some(Self::Service),
            ("discovery.k8s.io/v1", "EndpointSlice") => Some(Self::EndpointSlice),
            ("networking.k8s.io/v1", "NetworkPolicy") => Some(Self::NetworkPolicy),
            ("projectcalico.org/v3" | "crd.projectcalico.org/v1", kind) => match kind {
                "IPPool" => Some(Self::IpPool),
                "BlockAffinity" => Some(Self::BlockAffinity),
                "IPAMBlock" => Some(Self::IpamBlock),
                _ => None,
            },
            _ => None,
        }
    }

    pub fn is_namespaced(self) -> bool {
        matches!(self, Self::Pod | Self::Service | Self::EndpointSlice | Self::NetworkPolicy)
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
            Self::NetworkPolicy => "NetworkPolicy",
            Self::IpPool => "IPPool",
            Self::BlockAffinity => "BlockAffinity",
            Self::IpamBlock => "IPAMBlock",
        })
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind.is_namespaced() {
            true => write!(f, "{} {}", self.kind, self.name),
            false => write!(f, "{} {}", self.kind, self.name.name),
        }
    }
}

impl Object {
    pub(super) fn insert_into(&self, cluster: &mut Cluster, name: &Name) {
        let bare = || name.name.clone();
        match self {
            Self::Namespace(object) => drop(cluster.namespaces.insert(bare(), object.clone())),
            Self::Node(object) => drop(cluster.nodes.insert(bare(), object.clone())),
            Self::Pod(object) => drop(cluster.pods.insert(name.clone(), object.clone())),
            Self::Service(object) => drop(cluster.services.insert(name.clone(), object.clone())),
            Self::EndpointSlice(object) => drop(cluster.endpoint_slices.insert(name.clone(), object.clone())),
            Self::NetworkPolicy(object) => {
                drop(cluster.network_policies.insert(name.clone(), object.clone()))
            }
            Self::IpPool(object) => drop(cluster.ip_pools.insert(bare(), object.clone())),
            Self::BlockAffinity(object) => drop(cluster.block_affinities.insert(bare(), object.clone())),
            Self::IpamBlock(object) => drop(cluster.ipam_blocks.insert(bare(), object.clone())),
        }
    }
}
