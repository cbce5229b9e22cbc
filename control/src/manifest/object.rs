//! Objects by kind and name, and their way into a [`Cluster`].

use std::collections::BTreeMap;
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
pub(super) enum Object {
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
        if self.kind.is_namespaced() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}", self.kind, self.name.name)
        }
    }
}

impl Object {
    pub(super) fn insert_into(&self, cluster: &mut Cluster, name: &Name) {
        let (full, bare) = (name.clone(), name.name.clone());
        match self {
            Self::Namespace(object) => put(&mut cluster.namespaces, bare, object),
            Self::Node(object) => put(&mut cluster.nodes, bare, object),
            Self::Pod(object) => put(&mut cluster.pods, full, object),
            Self::Service(object) => put(&mut cluster.services, full, object),
            Self::EndpointSlice(object) => put(&mut cluster.endpoint_slices, full, object),
            Self::NetworkPolicy(object) => put(&mut cluster.network_policies, full, object),
            Self::IpPool(object) => put(&mut cluster.ip_pools, bare, object),
            Self::BlockAffinity(object) => put(&mut cluster.block_affinities, bare, object),
            Self::IpamBlock(object) => put(&mut cluster.ipam_blocks, bare, object),
        }
    }
}

fn put<K: Ord, V>(objects: &mut BTreeMap<K, Arc<V>>, key: K, object: &Arc<V>) {
    objects.insert(key, object.clone());
}
