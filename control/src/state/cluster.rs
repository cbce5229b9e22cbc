//! Objects of the cluster, reduced to what forwarding and policy depend on.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::policy::{HostEndpoint, NetworkSet, Policy, PolicyId, TierSpec};

pub type Labels = BTreeMap<String, String>;

/// Namespace and name of a namespaced object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    pub namespace: String,
    pub name: String,
}

impl Name {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// All objects. Kept in step with a source by [`Cluster::apply`]; values are shared with whatever is made of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    pub namespaces: BTreeMap<String, Arc<Namespace>>,
    pub nodes: BTreeMap<String, Arc<Node>>,
    pub pods: BTreeMap<Name, Arc<Pod>>,
    pub service_accounts: BTreeMap<Name, Arc<ServiceAccount>>,
    pub policies: BTreeMap<PolicyId, Arc<Policy>>,
    pub tiers: BTreeMap<String, Arc<TierSpec>>,
    /// A GlobalNetworkSet is one whose namespace is empty.
    pub network_sets: BTreeMap<Name, Arc<NetworkSet>>,
    pub host_endpoints: BTreeMap<String, Arc<HostEndpoint>>,
    pub services: BTreeMap<Name, Arc<Service>>,
    pub endpoint_slices: BTreeMap<Name, Arc<EndpointSlice>>,
    pub ip_pools: BTreeMap<String, Arc<IpPool>>,
    pub block_affinities: BTreeMap<String, Arc<BlockAffinity>>,
    pub ipam_blocks: BTreeMap<String, Arc<IpamBlock>>,
    pub felix_configurations: BTreeMap<String, Arc<FelixConfiguration>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// With `kubernetes.io/metadata.name`, written in the object or not.
    pub labels: Labels,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    pub labels: Labels,
    pub annotations: BTreeMap<String, String>,
    /// Underlay address with its prefix, per family: Calico's annotation, else the first InternalIP as /32 or /128.
    pub ipv4: Option<IpNet>,
    pub ipv6: Option<IpNet>,
    /// Every InternalIP and ExternalIP in `status.addresses`, the two above, and the tunnel addresses below.
    pub addresses: Vec<IpAddr>,
    /// Annotation `projectcalico.org/IPv4IPIPTunnelAddr`.
    pub ipip_tunnel: Option<IpAddr>,
    /// Annotations `projectcalico.org/IPv4VXLANTunnelAddr` and `IPv6VXLANTunnelAddr`.
    pub vxlan_tunnel_v4: Option<IpAddr>,
    pub vxlan_tunnel_v6: Option<IpAddr>,
    /// Annotation `projectcalico.org/VXLANTunnelMACAddr`; where it is absent the MAC is derived from the name.
    pub vxlan_mac_v4: Option<[u8; 6]>,
    pub vxlan_mac_v6: Option<[u8; 6]>,
    pub pod_cidrs: Vec<IpNet>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Shared by pods with equal ones, as far as their source sees to it.
    pub labels: Arc<Labels>,
    /// `spec.serviceAccountName`; `default` where the object names none.
    pub service_account: String,
    /// `spec.nodeName`; empty while not scheduled.
    pub node: String,
    pub host_network: bool,
    /// Phase Succeeded or Failed: the pod holds no address any more.
    pub finished: bool,
    /// `metadata.deletionTimestamp` is set: another pod may hold its address already.
    pub terminating: bool,
    /// `metadata.creationTimestamp` in seconds of the Unix epoch; 0 where unknown.
    pub created: i64,
    /// `status.podIPs`, else `status.podIP`.
    pub addresses: Vec<IpAddr>,
    /// Ports that its containers declare (init containers that are sidecars included).
    pub ports: Vec<PodPort>,
}

impl Pod {
    /// Whether it is an endpoint of its own: it holds addresses that are not its node's.
    pub fn is_endpoint(&self) -> bool {
        !self.host_network && !self.finished && !self.addresses.is_empty()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceAccount {
    pub labels: Labels,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn of(net: &IpNet) -> Self {
        match net {
            IpNet::V4(_) => Self::V4,
            IpNet::V6(_) => Self::V6,
        }
    }

    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// IP protocol number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub u8);

impl Protocol {
    pub const ICMP: Self = Self(1);
    pub const TCP: Self = Self(6);
    pub const UDP: Self = Self(17);
    pub const ICMPV6: Self = Self(58);
    pub const SCTP: Self = Self(132);
    pub const UDP_LITE: Self = Self(136);
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodPort {
    /// Empty where the port has no name.
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// `spec.clusterIPs` without `None`.
    pub cluster_ips: Vec<IpAddr>,
    pub ports: Vec<ServicePort>,
    pub selector: Labels,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Label kubernetes.io/service-name, in the slice's namespace.
    pub service: String,
    /// (name, protocol, target port); no port number: all ports (a headless service without ports).
    pub ports: Vec<(String, Protocol, Option<u16>)>,
    pub endpoints: Vec<SliceEndpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    pub addresses: Vec<IpAddr>,
    /// `conditions.ready`, where absent true.
    pub ready: bool,
}

/// What Calico's nodes are told of the overlay; what is not said is the configuration's, or Calico's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FelixConfiguration {
    pub vni: Option<u32>,
    pub vxlan_port: Option<u16>,
    /// Largest packet inside a tunnel of the kind, in bytes; of VXLAN over IPv6 it is the second.
    pub vxlan_mtu: Option<u16>,
    pub vxlan_mtu_v6: Option<u16>,
    pub ipip_mtu: Option<u16>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TunnelMode {
    #[default]
    Never,
    Always,
    CrossSubnet,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpPool {
    pub cidr: IpNet,
    pub ipip: TunnelMode,
    pub vxlan: TunnelMode,
    pub disabled: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockAffinity {
    pub cidr: IpNet,
    pub node: String,
    /// `spec.deleted` is "true", the state is another than confirmed (which a missing one counts as), or the type is not
    /// host.
    pub void: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpamBlock {
    pub cidr: IpNet,
    /// Node of `spec.affinity: host:NODE`.
    pub affinity: Option<String>,
    /// Addresses in use and the node that each is used on (attribute `node`), where that is known.
    pub allocations: Vec<(IpAddr, Option<String>)>,
}
