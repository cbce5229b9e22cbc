//! Policy at the size of a large cluster: 100,000 endpoints, 10,000 policies of one rule, and packets for them.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::sync::Arc;

use margay_encap::protocol;
use margay_flowtable::{
    Action, AddressSet, Endpoint, EndpointId, Holder, IdentityId, Obeys, Policies, Policy, PolicyType,
    Program, ProgramId, Rule, RuleId, Segment, SegmentId, SetId, Side, Tier, TierEnd, Tuple,
};

use crate::traffic::Visits;

pub const ENDPOINTS: u32 = 100_000;
/// Endpoints that selectors treat alike.
const GROUP: u32 = 10;
const IDENTITIES: u32 = ENDPOINTS / GROUP;
const POLICIES: u32 = 10_000;
const NAMESPACES: u32 = 1000;
/// Policies of a segment at most.
const SEGMENT: usize = 1024;

/// Whom the policies select.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subjects {
    /// Each all endpoints of one namespace of a thousand.
    Namespaces,
    /// All of them one endpoint.
    One,
}

/// Whom the only rule of a policy names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peers {
    /// Each identity is named by so many policies.
    Identities(u32),
    /// Each names half of all identities.
    Half,
    /// Each names all identities.
    All,
    /// Each names a block of so many addresses.
    Block(u32),
    /// None names any.
    Anybody,
}

/// What ports that rule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// One of so many.
    One(u32),
    All,
}

#[derive(Clone, Copy, Debug)]
pub struct World {
    pub subjects: Subjects,
    pub peers: Peers,
    pub ports: Ports,
}

impl World {
    pub fn policies(&self) -> Policies {
        let mut policies = Policies::default();
        for number in 0..ENDPOINTS {
            let endpoint = Endpoint { name: format!("ns/pod-{number}").into(), node_addresses: [].into() };
            policies.endpoints.set(number, endpoint.into());
            let holder = Holder { identity: IdentityId(number / GROUP), endpoint: Some(EndpointId(number)) };
            policies.addresses.insert(address(number).into(), holder);
        }
        for number in 0..POLICIES {
            policies.sets.set(number, self.set(number).into());
        }
        match self.subjects {
            Subjects::One => {
                self.add_program(&mut policies, 0..POLICIES, 0..1);
            }
            Subjects::Namespaces => {
                let (count, each) = (POLICIES / NAMESPACES, IDENTITIES / NAMESPACES);
                for namespace in 0..NAMESPACES {
                    let own = namespace * count..(namespace + 1) * count;
                    self.add_program(&mut policies, own, namespace * each..(namespace + 1) * each);
                }
            }
        }
        policies
    }

    fn add_program(&self, policies: &mut Policies, own: Range<u32>, of: Range<u32>) {
        let list: Vec<Arc<Policy>> = own.map(|number| self.policy(number).into()).collect();
        let mut segments = Vec::new();
        for run in list.chunks(SEGMENT) {
            let segment = self.segment(policies, run.to_vec());
            segments.push(SegmentId(policies.segments.len() as u32));
            policies.segments.set(policies.segments.len() as u32, segment.into());
        }
        let tier = Tier { name: "default".into(), segments, end: TierEnd::Deny, end_rule: RuleId::NONE };
        let program = ProgramId(policies.programs.len() as u32);
        policies.programs.set(program.0, Program::new(vec![tier]).into());
        for identity in of {
            policies.obeys.set(identity, Obeys { ingress: program, ..Obeys::default() });
        }
    }

    /// A segment as control makes it.
    pub fn segment(&self, policies: &Policies, list: Vec<Arc<Policy>>) -> Segment {
        let known = IdentityId(IDENTITIES);
        Segment::new(PolicyType::Ingress, list, &policies.sets, &policies.port_sets, known)
    }

    fn set(&self, policy: u32) -> AddressSet {
        let all = (0..IDENTITIES).map(IdentityId);
        match self.peers {
            Peers::Identities(count) => {
                let member = |n| IdentityId((policy + n * 1009) % IDENTITIES);
                AddressSet::new((0..count).map(member), [])
            }
            Peers::Half => AddressSet::new(all.filter(|id| mixed(id.0 * POLICIES + policy) & 1 == 0), []),
            Peers::All => AddressSet::new(all, []),
            Peers::Anybody => AddressSet::default(),
            Peers::Block(size) => {
                let first = address(policy * (ENDPOINTS / POLICIES) / size * size).to_bits();
                let [first, last] = [first, first + size - 1].map(|bits| IpAddr::V4(bits.into()));
                AddressSet::new([], [(first, last)])
            }
        }
    }

    fn policy(&self, number: u32) -> Policy {
        let all_of = if self.peers == Peers::Anybody { vec![] } else { vec![vec![SetId(number)]] };
        let ports = match self.ports {
            Ports::One(of) => {
                let port = 1000 + (number % of) as u16;
                vec![port..=port]
            }
            Ports::All => vec![],
        };
        let rule = Rule {
            id: RuleId(number),
            action: Action::Allow,
            protocol: Some(protocol::TCP),
            source: Side { all_of, ..Side::default() },
            destination: Side { ports, ..Side::default() },
            ..Rule::default()
        };
        Policy { name: format!("ns/policy-{number:05}").into(), rules: vec![rule], end: RuleId::NONE }
    }

    /// First packets from all endpoints, in no order, to ports of theirs.
    pub fn packets(&self) -> impl Iterator<Item = Tuple> {
        let (subjects, ports) = (self.subjects, self.ports);
        Visits::new(ENDPOINTS).enumerate().map(move |(n, src)| {
            let random = mixed(n as u32);
            let dst = match subjects {
                Subjects::One => 0,
                Subjects::Namespaces => random % ENDPOINTS,
            };
            let port = match ports {
                Ports::One(of) => mixed(random) % of,
                Ports::All => mixed(random) % 1000,
            };
            Tuple {
                src: address(src).into(),
                dst: address(dst).into(),
                protocol: protocol::TCP,
                sport: 40_000,
                dport: 1000 + port as u16,
                icmp: None,
            }
        })
    }
}

fn address(endpoint: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a80_0000 + endpoint)
}

/// The finalizer of `MurmurHash3`.
fn mixed(number: u32) -> u32 {
    let number = (number ^ number >> 16).wrapping_mul(0x85eb_ca6b);
    let number = (number ^ number >> 13).wrapping_mul(0xc2b2_ae35);
    number ^ number >> 16
}
