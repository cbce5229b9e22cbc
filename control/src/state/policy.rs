//! Policies of every kind in one form, with their defaults applied and their values parsed: they cannot be wrong any more.
//!
//! What Kubernetes and Calico say with different fields is said here by few: an ordered list of rules a direction, each a
//! conjunction of conditions on the packet and on its two ends.

use std::cmp::Ordering;
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::{Family, Labels, Name, PodPort, Protocol};
use crate::selector::Selector;

/// What tells a policy from another. The namespace of a cluster-wide one is empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyId {
    pub kind: PolicyKind,
    pub name: Name,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyKind {
    /// `networking.k8s.io/v1`.
    NetworkPolicy,
    ClusterNetworkPolicy,
    AdminNetworkPolicy,
    BaselineAdminNetworkPolicy,
    /// `projectcalico.org/v3` NetworkPolicy.
    CalicoNetworkPolicy,
    GlobalNetworkPolicy,
    StagedNetworkPolicy,
    StagedGlobalNetworkPolicy,
    StagedKubernetesNetworkPolicy,
}

impl PolicyKind {
    /// Whether it never comes between a pod and its own node, as the API of Kubernetes' NetworkPolicy says of that kind. The
    /// cluster's kinds have nodes for peers, the pod's own too: so their conformance tests.
    pub fn spares_own_node(self) -> bool {
        matches!(self, Self::NetworkPolicy | Self::StagedKubernetesNetworkPolicy)
    }

    /// The kind that a staged policy would be if it were enforced.
    pub fn staged_target(self) -> Option<Self> {
        match self {
            Self::StagedNetworkPolicy => Some(Self::CalicoNetworkPolicy),
            Self::StagedGlobalNetworkPolicy => Some(Self::GlobalNetworkPolicy),
            Self::StagedKubernetesNetworkPolicy => Some(Self::NetworkPolicy),
            _ => None,
        }
    }

    /// The kind of the staged policies that would take the place of one of this kind.
    pub fn staged_by(self) -> Option<Self> {
        let staged =
            [Self::StagedNetworkPolicy, Self::StagedGlobalNetworkPolicy, Self::StagedKubernetesNetworkPolicy];
        staged.into_iter().find(|staged| staged.staged_target() == Some(self))
    }

    pub fn is_namespaced(self) -> bool {
        matches!(
            self,
            Self::NetworkPolicy
                | Self::CalicoNetworkPolicy
                | Self::StagedNetworkPolicy
                | Self::StagedKubernetesNetworkPolicy
        )
    }
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NetworkPolicy => "NetworkPolicy",
            Self::ClusterNetworkPolicy => "ClusterNetworkPolicy",
            Self::AdminNetworkPolicy => "AdminNetworkPolicy",
            Self::BaselineAdminNetworkPolicy => "BaselineAdminNetworkPolicy",
            // Both groups call theirs NetworkPolicy.
            Self::CalicoNetworkPolicy => "CalicoNetworkPolicy",
            Self::GlobalNetworkPolicy => "GlobalNetworkPolicy",
            Self::StagedNetworkPolicy => "StagedNetworkPolicy",
            Self::StagedGlobalNetworkPolicy => "StagedGlobalNetworkPolicy",
            Self::StagedKubernetesNetworkPolicy => "StagedKubernetesNetworkPolicy",
        })
    }
}

impl PolicyId {
    /// `NAMESPACE/NAME`, or `NAME` of one that is cluster-wide.
    pub fn full_name(&self) -> String {
        if self.name.namespace.is_empty() { self.name.name.clone() } else { self.name.to_string() }
    }
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.full_name())
    }
}

/// Position in a tier, or of a tier; what has none comes last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Order(Option<f64>);

impl Order {
    pub const NONE: Self = Self(None);

    /// NaN is no position.
    pub fn new(order: f64) -> Self {
        // Adding zero makes -0.0, which is the same position, 0.0.
        Self((!order.is_nan()).then_some(order + 0.0))
    }

    pub fn get(self) -> Option<f64> {
        self.0
    }
}

impl Ord for Order {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.0, other.0) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            (a, b) => a.is_none().cmp(&b.is_none()),
        }
    }
}

impl PartialOrd for Order {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Order {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Order {}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(order) => write!(f, "{order}"),
            None => f.write_str("none"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub tier: String,
    pub order: Order,
    /// Whom it is for, by effective labels; requirements on namespace and orchestrator are part of it.
    pub subject: Selector,
    /// `None` leaves the direction alone; no rule isolates.
    pub ingress: Option<Vec<Rule>>,
    pub egress: Option<Vec<Rule>>,
    /// `None` for the kinds that are enforced.
    pub staged: Option<StagedAction>,
    pub host: HostUse,
}

/// What a staged policy stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StagedAction {
    /// The policy as it would be enforced.
    Set,
    /// The enforced policy of its name would be gone.
    Delete,
    /// A recommendation under way: counted as `Set`.
    Learn,
    Ignore,
}

/// Where a policy holds for host endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostUse {
    /// For traffic that the host forwards too.
    pub apply_on_forward: bool,
    /// Before destination NAT; ingress alone.
    pub pre_dnat: bool,
    /// Before connection tracking, each packet by itself.
    pub do_not_track: bool,
}

/// All of its conditions hold; the default ones hold for any packet. Several may come of one written rule, one for each
/// protocol that it names, and stand side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub action: RuleAction,
    /// Position of the written rule in its list.
    pub index: u32,
    pub name: Option<String>,
    pub ip_version: Option<Family>,
    pub protocol: Option<Protocol>,
    pub not_protocol: Option<Protocol>,
    pub icmp: Option<Icmp>,
    pub not_icmp: Option<Icmp>,
    pub source: Side,
    pub destination: Side,
}

impl Rule {
    /// A rule without a condition.
    pub fn new(action: RuleAction, index: u32) -> Self {
        Self {
            action,
            index,
            name: None,
            ip_version: None,
            protocol: None,
            not_protocol: None,
            icmp: None,
            not_icmp: None,
            source: Side::default(),
            destination: Side::default(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleAction {
    Allow,
    Deny,
    /// On to the next tier.
    Pass,
    /// Counted; the rules behind it decide.
    Log,
}

/// ICMP type and code (RFC 792, RFC 4443), each where it is given. A code never stands alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Icmp {
    pub kind: Option<u8>,
    pub code: Option<u8>,
}

/// Conditions on one end of a packet. The default holds for any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// Of each list one must hold the end; a list without peers holds none.
    pub all_of: Vec<Vec<Peer>>,
    /// None of these may hold it.
    pub none_of: Vec<Peer>,
    /// One must hold the port; empty: any port, and packets without ports.
    pub ports: Vec<PortMatch>,
    pub not_ports: Vec<PortMatch>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Pods, network sets and host endpoints, by effective labels.
    Selected(Selector),
    /// Addresses inside `cidr` and inside none of `except`.
    Block { cidr: IpNet, except: Vec<IpNet> },
    /// Every address of the nodes whose own labels match.
    Nodes(Selector),
    /// The addresses of the service's endpoints.
    Service(Name),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortMatch {
    Range(RangeInclusive<u16>),
    /// The port that the end declares under this name for the packet's protocol; a rule without a protocol takes the name
    /// in any.
    Name(String),
    /// Address, protocol and port are together those of an endpoint of the service.
    Service(Name),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TierSpec {
    pub order: Order,
    pub default_action: TierAction,
}

impl TierSpec {
    /// The tiers that are there without an object, as Calico makes them.
    pub const IMPLIED: [(&str, Self); 5] = [
        ("adminnetworkpolicy", Self { order: Order(Some(1e3)), default_action: TierAction::Pass }),
        ("kube-admin", Self { order: Order(Some(1e3)), default_action: TierAction::Pass }),
        ("default", Self { order: Order(Some(1e6)), default_action: TierAction::Deny }),
        ("baselineadminnetworkpolicy", Self { order: Order(Some(1e7)), default_action: TierAction::Pass }),
        ("kube-baseline", Self { order: Order(Some(1e7)), default_action: TierAction::Pass }),
    ];

    /// The tier of that name, if it is one of those.
    pub fn implied(name: &str) -> Option<Self> {
        Self::IMPLIED.iter().find(|(implied, _)| *implied == name).map(|(_, spec)| *spec)
    }
}

/// What becomes of what a tier's policies select and none of their rules decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TierAction {
    Deny,
    Pass,
}

impl fmt::Display for TierAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deny => "Deny",
            Self::Pass => "Pass",
        })
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkSet {
    pub labels: Labels,
    pub nets: Vec<IpNet>,
}

/// An interface of a node, or all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostEndpoint {
    pub labels: Labels,
    pub node: String,
    /// `*`: all interfaces. `None`: the one that has one of the `expected` addresses.
    pub interface: Option<String>,
    pub expected: Vec<IpAddr>,
    pub ports: Vec<PodPort>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_ascend_and_none_is_last() {
        let mut orders = [Order::NONE, Order::new(1e9), Order::new(-2.5), Order::new(0.5), Order::new(0.0)];
        orders.sort();
        let shown: Vec<_> = orders.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["-2.5", "0", "0.5", "1000000000", "none"]);
        assert_eq!(Order::new(-0.0), Order::new(0.0));
        assert_eq!(Order::new(f64::NAN), Order::NONE);
    }

    #[test]
    fn ids_are_shown_with_a_namespace_where_they_have_one() {
        let id = |kind, namespace| PolicyId { kind, name: Name::new(namespace, "p") }.to_string();
        assert_eq!(id(PolicyKind::NetworkPolicy, "x"), "NetworkPolicy x/p");
        assert_eq!(id(PolicyKind::GlobalNetworkPolicy, ""), "GlobalNetworkPolicy p");
    }
}
