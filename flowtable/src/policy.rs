//! Compiled policy: programs of tiers, segments, policies and rules, in the order in which they are asked.
//!
//! A [`Program`] is what an identity obeys in one direction. Its parts refer to each other by number into [`Policies`],
//! and so stay as they are when what they refer to changes: members come and go in sets, and no rule is touched; an edit
//! of a policy is new segments in the place of those that hold it, and no program is touched.

mod check;
mod host;
mod ids;
mod index;
mod program;
mod segment;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use hashbrown::HashSet;

pub(crate) use self::check::Check;
pub use self::host::{HostObeys, HostPolicies, Interface};
pub use self::ids::{EndpointId, IdentityId, PortSetId, ProgramId, RuleId, SegmentId, SetId};
#[cfg(test)]
pub(crate) use self::index::Index;
pub(crate) use self::program::Step;
pub use self::program::{Program, Tier, TierEnd};
pub use self::segment::Segment;
use crate::{AddressSet, Addresses, Endpoint, Paged, PortSet};

/// All that decides what may pass. A clone shares everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    pub addresses: Addresses,
    pub endpoints: Paged<Arc<Endpoint>>,
    /// The addresses of all nodes: the only ones that are looked for among those of endpoints' nodes.
    pub nodes: Arc<HashSet<IpAddr>>,
    /// By [`IdentityId`]. An identity without an entry obeys nothing.
    pub obeys: Paged<Obeys>,
    pub programs: Paged<Arc<Program>>,
    pub segments: Paged<Arc<Segment>>,
    pub sets: Paged<Arc<AddressSet>>,
    pub port_sets: Paged<Arc<PortSet>>,
    pub host: HostPolicies,
}

impl Policies {
    /// The endpoint that is served here and holds the address.
    pub fn endpoint(&self, address: IpAddr) -> Option<&Arc<Endpoint>> {
        self.endpoints.get(self.addresses.get(address)?.endpoint?.0)
    }
}

/// The programs of an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Obeys {
    pub egress: ProgramId,
    pub ingress: ProgramId,
    /// As `egress`, for packets to the sender's own node: without Kubernetes' NetworkPolicy, which does not cut that off.
    pub to_node: ProgramId,
    /// As if staged policies were enforced; none where there are no such.
    pub staged_egress: Option<ProgramId>,
    pub staged_ingress: Option<ProgramId>,
}

impl Default for Obeys {
    fn default() -> Self {
        let none = ProgramId::NONE;
        Self { egress: none, ingress: none, to_node: none, staged_egress: None, staged_ingress: None }
    }
}

/// The types of Kubernetes' and Calico's policies: which way they look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyType {
    /// Asked for packets to the selected end.
    Ingress,
    /// Asked for packets from the selected end.
    Egress,
}

/// One policy in one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// As operators name it: `NAMESPACE/NAME`, or `NAME` for one that is cluster-wide.
    pub name: Arc<str>,
    pub rules: Vec<Rule>,
    /// Counted where the end of the tier decides in this policy's name.
    pub end: RuleId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Allow,
    Deny,
    /// Go on with the next tier.
    Pass,
    /// Count, and go on with the next rule.
    Log,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpVersion {
    V4,
    V6,
}

/// ICMP or ICMPv6 messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IcmpMatch {
    /// The type; none: any.
    pub kind: Option<u8>,
    pub code: Option<u8>,
}

/// A rule matches when every condition that it has holds. `Default` matches every packet, and denies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub id: RuleId,
    pub action: Action,
    pub ip_version: Option<IpVersion>,
    /// IP protocol number.
    pub protocol: Option<u8>,
    pub not_protocol: Option<u8>,
    /// Holds of no packet of another protocol.
    pub icmp: Option<IcmpMatch>,
    /// As `icmp`: of ICMP, all but these.
    pub not_icmp: Option<IcmpMatch>,
    pub source: Side,
    pub destination: Side,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            id: RuleId::NONE,
            action: Action::Deny,
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

/// What a rule asks of one end. `Default` asks nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// Of each list one set must hold the end. An empty list among them holds nobody.
    pub all_of: Vec<Vec<SetId>>,
    /// None of these may hold the end.
    pub none_of: Vec<SetId>,
    /// The port is in one of these, or (end, protocol, port) in one of `named_ports`; both empty: any port. Where a rule
    /// has any condition on ports, packets of protocols without ports do not match it.
    pub ports: Vec<RangeInclusive<u16>>,
    pub named_ports: Vec<PortSetId>,
    /// The port is in none of these.
    pub not_ports: Vec<RangeInclusive<u16>>,
    pub not_named_ports: Vec<PortSetId>,
}

impl Side {
    pub(crate) fn asks_port(&self) -> bool {
        let lists = [self.named_ports.is_empty(), self.not_named_ports.is_empty()];
        !(self.ports.is_empty() && self.not_ports.is_empty() && lists == [true, true])
    }
}
