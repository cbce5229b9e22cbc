//! Which rules of two programs differ.
//!
//! A packet that matches none of these is decided by the rules that both have, which stand in the same order: its
//! verdict is the same. Sets are equal that hold the same of the pods that have not moved, and the same ranges.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::ops::Range;

use margay_flowtable::{
    Action, AddressSet, IdentityId, Policies, Policy, PortSetId, ProgramId, Rule, SetId, Side, TierEnd,
};

/// Longest lists whose difference is worked out exactly, as the product of their lengths.
const MOST_COMPARED: usize = 1 << 22;

/// Hashes of what a world's programs are made of, comparable with the other world's.
pub(super) struct Signatures<'a> {
    policies: &'a Policies,
    hasher: &'a RandomState,
    sets: HashMap<SetId, u64>,
    port_sets: HashMap<PortSetId, u64>,
    /// The policies of each segment.
    segments: HashMap<u32, Vec<(u64, &'a Policy)>>,
}

/// In what two programs differ.
#[derive(Debug)]
pub(super) enum Difference<'a> {
    Nothing,
    /// The rules of either that the other does not have at that place.
    Rules([Vec<&'a Rule>; 2]),
    /// Any packet may be decided otherwise.
    Everything,
}

struct Tier<'a> {
    name: &'a str,
    end: TierEnd,
    policies: Vec<(u64, &'a Policy)>,
}

impl<'a> Signatures<'a> {
    pub(super) fn of(
        policies: &'a Policies,
        stable: &HashMap<IdentityId, u64>,
        hasher: &'a RandomState,
    ) -> Self {
        let content = |set: &AddressSet| {
            let sums = set.identities().iter().filter_map(|identity| stable.get(&identity));
            let sum = sums.fold(0u64, |sum, hash| sum.wrapping_add(*hash));
            let ranges: Vec<(IpAddr, IpAddr)> = set.ranges().collect();
            hasher.hash_one((sum, ranges))
        };
        let sets = policies.sets.iter().map(|(id, set)| (SetId(id), content(set))).collect();
        let port_sets = policies.port_sets.iter().map(|(id, ports)| {
            let ports: Vec<_> = ports.iter().map(|(port, set)| (port, content(set))).collect();
            (PortSetId(id), hasher.hash_one(ports))
        });
        let (port_sets, segments) = (port_sets.collect(), HashMap::new());
        let mut signatures = Self { policies, hasher, sets, port_sets, segments };
        for (id, segment) in policies.segments.iter() {
            let list = segment.policies().iter().map(|policy| (signatures.policy(policy), &**policy));
            let list = list.collect();
            signatures.segments.insert(id, list);
        }
        signatures
    }

    fn policy(&self, policy: &Policy) -> u64 {
        self.hasher.hash_one(deciding(policy).map(|rule| self.rule(rule)).collect::<Vec<_>>())
    }

    fn rule(&self, rule: &Rule) -> u64 {
        let icmp = |icmp: Option<margay_flowtable::IcmpMatch>| icmp.map(|icmp| (icmp.kind, icmp.code));
        let conditions = (rule.protocol, rule.not_protocol, icmp(rule.icmp), icmp(rule.not_icmp));
        let (action, version) = (rule.action as u8, rule.ip_version.map(|version| version as u8));
        self.hasher.hash_one((
            action,
            version,
            conditions,
            self.side(&rule.source),
            self.side(&rule.destination),
        ))
    }

    fn side(&self, side: &Side) -> u64 {
        let sets = |ids: &[SetId]| ids.iter().map(|id| self.sets.get(id)).collect::<Vec<_>>();
        let ports = |ids: &[PortSetId]| ids.iter().map(|id| self.port_sets.get(id)).collect::<Vec<_>>();
        let mut hash = self.hasher.build_hasher();
        let all_of: Vec<_> = side.all_of.iter().map(|list| sets(list)).collect();
        (all_of, sets(&side.none_of)).hash(&mut hash);
        (&side.ports, ports(&side.named_ports)).hash(&mut hash);
        (&side.not_ports, ports(&side.not_named_ports)).hash(&mut hash);
        std::hash::Hasher::finish(&hash)
    }

    fn tiers(&self, program: ProgramId) -> Vec<Tier<'a>> {
        let tiers = self.policies.programs.get(program.0).map_or(&[][..], |program| program.tiers());
        let of_tier = |tier: &'a margay_flowtable::Tier| {
            let segments = tier.segments.iter().filter_map(|id| self.segments.get(&id.0));
            Tier { name: &tier.name, end: tier.end, policies: segments.flatten().copied().collect() }
        };
        tiers.iter().map(of_tier).collect()
    }
}

/// In what a program of the old world differs from one of the new.
pub(super) fn difference<'a>(signatures: &[Signatures<'a>; 2], programs: [ProgramId; 2]) -> Difference<'a> {
    let [old, new] = [0, 1].map(|world: usize| signatures[world].tiers(programs[world]));
    let mut rules = [Vec::new(), Vec::new()];
    // A tier that is in one world alone and passes what it does not decide adds its rules and nothing else.
    for gap in gaps(&old, &new, |a, b| a.name == b.name) {
        for (world, tiers) in [(0, &old[gap.0.clone()]), (1, &new[gap.1.clone()])] {
            if tiers.iter().any(|tier| tier.end != TierEnd::Pass) {
                return Difference::Everything;
            }
            rules[world]
                .extend(tiers.iter().flat_map(|tier| tier.policies.iter()).flat_map(|(_, p)| deciding(p)));
        }
    }
    for was in &old {
        let Some(is) = new.iter().find(|is| is.name == was.name) else { continue };
        if was.end != is.end {
            return Difference::Everything;
        }
        uncommon(signatures, [&was.policies, &is.policies], &mut rules);
    }
    if rules.iter().all(Vec::is_empty) { Difference::Nothing } else { Difference::Rules(rules) }
}

/// Adds the rules that one of the two lists alone has.
fn uncommon<'a>(
    signatures: &[Signatures<'a>; 2],
    lists: [&[(u64, &'a Policy)]; 2],
    rules: &mut [Vec<&'a Rule>; 2],
) {
    for (old, new) in gaps(lists[0], lists[1], |a, b| a.0 == b.0) {
        let of = |world: usize, gap: Range<usize>| {
            let written = lists[world][gap].iter().flat_map(|(_, policy)| deciding(policy));
            written.map(|rule| (signatures[world].rule(rule), rule)).collect::<Vec<_>>()
        };
        let (old, new) = (of(0, old), of(1, new));
        for (gone, come) in gaps(&old, &new, |a, b| a.0 == b.0) {
            rules[0].extend(old[gone].iter().map(|(_, rule)| *rule));
            rules[1].extend(new[come].iter().map(|(_, rule)| *rule));
        }
    }
}

fn deciding(policy: &Policy) -> impl Iterator<Item = &Rule> {
    policy.rules.iter().filter(|rule| rule.action != Action::Log)
}

/// The runs of two lists that lie between what they have in common, in order.
fn gaps<T>(old: &[T], new: &[T], same: impl Fn(&T, &T) -> bool) -> Vec<(Range<usize>, Range<usize>)> {
    let front = old.iter().zip(new).take_while(|(a, b)| same(a, b)).count();
    let (old_rest, new_rest) = (&old[front..], &new[front..]);
    let back = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(|(a, b)| same(a, b)).count();
    let (rows, columns) = (old_rest.len() - back, new_rest.len() - back);
    if rows == 0 && columns == 0 {
        return Vec::new();
    }
    if rows * columns > MOST_COMPARED || rows == 0 || columns == 0 {
        return vec![(front..front + rows, front..front + columns)];
    }
    // Lengths of the longest common subsequences of what is behind each place.
    let mut common = vec![vec![0u32; columns + 1]; rows + 1];
    for row in (0..rows).rev() {
        for column in (0..columns).rev() {
            common[row][column] = if same(&old_rest[row], &new_rest[column]) {
                common[row + 1][column + 1] + 1
            } else {
                common[row + 1][column].max(common[row][column + 1])
            };
        }
    }
    let mut gaps = Vec::new();
    let ((mut row, mut column), (mut from_row, mut from_column)) = ((0, 0), (0, 0));
    loop {
        let is_end = row == rows || column == columns;
        if is_end || same(&old_rest[row], &new_rest[column]) {
            let (to_row, to_column) = if is_end { (rows, columns) } else { (row, column) };
            if from_row < to_row || from_column < to_column {
                gaps.push((front + from_row..front + to_row, front + from_column..front + to_column));
            }
            if is_end {
                return gaps;
            }
            (row, column) = (row + 1, column + 1);
            (from_row, from_column) = (row, column);
        } else if common[row + 1][column] >= common[row][column + 1] {
            row += 1;
        } else {
            column += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_what_two_lists_do_not_have_in_common() {
        for (old, new, expected) in [
            ("abc", "abc", vec![]),
            ("", "ab", vec![("", "ab")]),
            ("abc", "", vec![("abc", "")]),
            ("abcd", "abxd", vec![("c", "x")]),
            ("abcde", "bxdye", vec![("a", ""), ("c", "x"), ("", "y")]),
            ("aab", "ab", vec![("a", "")]),
            ("ab", "ba", vec![("a", ""), ("", "a")]),
        ] {
            let (a, b) = (old.as_bytes(), new.as_bytes());
            let found = gaps(a, b, |a, b| a == b);
            let found: Vec<_> = found.into_iter().map(|(a, b)| (&old[a], &new[b])).collect();
            assert_eq!(found, expected, "{old} {new}");
        }
    }
}
