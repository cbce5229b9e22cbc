//! Which rules of a large program a packet has to be held against: an index over all its rules.
//!
//! Two dimensions each give a set of rules: protocol and destination port one, the peer's address the other. What is
//! in both is a candidate, and candidates come in the order of the program. The index may name too many rules, never
//! too few: whoever asks holds each candidate against the packet. So a field of [`Rule`] that no dimension knows, or
//! that one knows only roughly, costs time and never a verdict.
//!
//! Memory, for a program of `n` rules: the rules of all nodes of a family's tree are at most `n` times
//! [`NODES_PER_RULE`], of 4 bytes each, or at most 16 where sets are kept as bitmaps. The nodes themselves are
//! about two for each range of the peers, of 8 bytes in IPv4 and 20 in IPv6. Ports take at most
//! [`MOST_CLASSES`](ports::MOST_CLASSES) bitmaps, of `n / 8` bytes. Equal sets are stored once.

mod addresses;
mod ports;
mod rule_sets;

use std::fmt;
use std::net::IpAddr;
use std::ops::Range;

use self::addresses::{AddressIndex, Peers};
use self::ports::PortIndex;
use self::rule_sets::{Interner, RuleSet, RuleSets};
use super::{Policy, Rule, Tier};

/// Nodes of a tree that a rule's peers may take, on average. Peers of many small ranges take one each: beyond that many
/// ranges the largest peer lists of a program are left out, and their rules are candidates whatever the address.
const NODES_PER_RULE: usize = 256;

/// The index of one program's rules; a rule's position counts from the first rule of the first tier.
#[derive(Clone)]
pub(crate) struct Index {
    places: Box<[Place]>,
    /// The position past each tier's last rule.
    tier_ends: Box<[u32]>,
    sets: RuleSets,
    ports: PortIndex,
    v4: AddressIndex<u32>,
    v6: AddressIndex<u128>,
}

/// Where a rule stands in its tier.
#[derive(Clone, Copy)]
struct Place {
    policy: u32,
    rule: u32,
}

impl Index {
    pub(crate) fn of(tiers: &[Tier]) -> Self {
        let (mut places, mut rules, mut tier_ends) = (Vec::new(), Vec::new(), Vec::new());
        for tier in tiers {
            for (policy, of_policy) in (0..).zip(&tier.policies) {
                places.extend((0..).zip(&of_policy.rules).map(|(rule, _)| Place { policy, rule }));
                rules.extend(&of_policy.rules);
            }
            tier_ends.push(places.len() as u32);
        }
        let mut sets = Interner::new(rules.len());
        let ports = PortIndex::of(&rules, &mut sets);
        let peers = peers(&rules);
        let most_nodes = rules.len() * NODES_PER_RULE;
        let v4 = AddressIndex::of(&peers, most_nodes, &mut sets);
        let v6 = AddressIndex::of(&peers, most_nodes, &mut sets);
        let (places, tier_ends) = (places.into(), tier_ends.into());
        Self { places, tier_ends, sets: sets.finish(), ports, v4, v6 }
    }

    /// The positions of a tier's rules.
    pub(crate) fn tier(&self, number: usize) -> Range<u32> {
        let start = number.checked_sub(1).map_or(0, |before| self.tier_ends[before]);
        start..self.tier_ends[number]
    }

    /// The rule at a position of this tier.
    pub(crate) fn rule<'a>(&self, tier: &'a Tier, position: u32) -> (&'a Policy, &'a Rule) {
        let Place { policy, rule } = self.places[position as usize];
        let policy = &tier.policies[policy as usize];
        (policy, &policy.rules[rule as usize])
    }

    /// The rules that a packet from or to `peer` may match.
    pub(crate) fn candidates(&self, protocol: u8, port: u16, peer: IpAddr) -> Candidates<'_> {
        let ports = self.sets.bitmap(self.ports.find(protocol, port));
        let mut candidates =
            Candidates { ports, peers: [RuleSet::Listed(&[]); addresses::MOST_SETS], count: 0 };
        let add = |set| {
            candidates.peers[candidates.count] = self.sets.get(set);
            candidates.count += 1;
        };
        match peer {
            IpAddr::V4(peer) => self.v4.find(peer.to_bits(), add),
            IpAddr::V6(peer) => self.v6.find(peer.to_bits(), add),
        }
        candidates
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>()
            + size_of_val(&*self.places)
            + size_of_val(&*self.tier_ends)
            + self.sets.bytes()
            + self.ports.bytes()
            + self.v4.bytes()
            + self.v6.bytes()
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("rules", &self.places.len()).finish_non_exhaustive()
    }
}

/// The peers of each rule, as far as the index takes them in.
fn peers<'a>(rules: &[&'a Rule]) -> Vec<Peers<'a>> {
    let ranges = |rule: &Rule| rule.peers.iter().map(|set| set.range_count()).sum::<usize>();
    let mut by_size: Vec<(usize, usize)> = rules.iter().map(|rule| ranges(rule)).zip(0..).collect();
    by_size.sort_unstable();
    let mut peers = vec![Peers::Any; rules.len()];
    let mut left = rules.len() * NODES_PER_RULE;
    for (ranges, position) in by_size {
        let Some(rest) = left.checked_sub(ranges) else { break };
        left = rest;
        let rule = rules[position];
        if !rule.peers.is_empty() {
            peers[position] = Peers::In(&rule.peers);
        }
    }
    peers
}

/// The rules that one packet has to be held against.
pub(crate) struct Candidates<'a> {
    ports: &'a [u32],
    peers: [RuleSet<'a>; addresses::MOST_SETS],
    count: usize,
}

impl Candidates<'_> {
    /// The first candidate in a stretch of positions. Later calls ask about later positions.
    pub(crate) fn first_in(&mut self, positions: Range<u32>) -> Option<u32> {
        let mut first = positions.end;
        for set in &mut self.peers[..self.count] {
            first = set.first_common(self.ports, positions.start..first);
        }
        (first < positions.end).then_some(first)
    }
}
