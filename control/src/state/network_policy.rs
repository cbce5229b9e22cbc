//! Kubernetes NetworkPolicy v1 with its defaults applied and its values parsed: it cannot be wrong any more.

use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::Protocol;
use crate::selector::Selector;

/// `networking.k8s.io/v1` `NetworkPolicySpec`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkPolicy {
    /// Pods of the policy's namespace that it isolates.
    pub pods: Selector,
    /// `None`: `policyTypes` leave this direction alone. No rule: nothing is allowed.
    pub ingress: Option<Vec<NetworkPolicyRule>>,
    pub egress: Option<Vec<NetworkPolicyRule>>,
}

/// Allows what comes from (or goes to) any of `peers` at any of `ports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkPolicyRule {
    /// Empty: everyone, in the cluster or not.
    pub peers: Vec<Peer>,
    /// Empty: every port of every protocol.
    pub ports: Vec<PolicyPort>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Pods in the namespaces that `namespaces` selects, where it is `None` in the policy's own.
    Pods { namespaces: Option<Selector>, pods: Selector },
    /// Addresses inside `cidr` and inside none of `except`.
    Block { cidr: IpNet, except: Vec<IpNet> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyPort {
    /// TCP where the object names none.
    pub protocol: Protocol,
    pub port: PortMatch,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortMatch {
    Any,
    /// `port`, or `port` to `endPort`.
    Range(RangeInclusive<u16>),
    /// The port that the receiving pod declares under this name, for the same protocol.
    Name(String),
}
