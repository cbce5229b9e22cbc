//! What the index takes of each rule's peers: identities and ranges that together hold all ends that can match.

use std::sync::Arc;

use super::intervals::Ranged;
use crate::address_set::Family;
use crate::policy::{PolicyType, Rule, SetId};
use crate::{AddressSet, IdentityId, Paged};

/// Members that a rule's peers may have, on average, and that any index may hold.
const MEMBERS_PER_RULE: usize = 128;
const MEMBERS: usize = 4096;
/// As much for ranges, which cost more each.
const RANGES_PER_RULE: usize = 8;
const RANGES: usize = 1024;

/// Members that are always worth it, and the part of all identities that no longer is.
const FEW_MEMBERS: usize = 64;
const LARGE_SHARE: usize = 4;

/// The rules of one index by what they say of the peer.
pub(super) struct Peers<'a> {
    sets: &'a Paged<Arc<AddressSet>>,
    /// Rules that are told apart, in order, and sets of which one must hold the peer.
    lists: Vec<(u16, &'a [SetId])>,
    /// Rules that anybody can match: they name no peers, or too many to be told apart.
    pub(super) anybody: Vec<u16>,
}

impl<'a> Peers<'a> {
    pub(super) fn of(
        policy_type: PolicyType,
        rules: &[&'a Rule],
        sets: &'a Paged<Arc<AddressSet>>,
        known: IdentityId,
    ) -> Self {
        let mut peers = Self { sets, lists: Vec::new(), anybody: Vec::new() };
        let mut rest = Vec::new();
        for (position, rule) in (0u16..).zip(rules) {
            let side = match policy_type {
                PolicyType::Ingress => &rule.source,
                PolicyType::Egress => &rule.destination,
            };
            // Every list must hold the end: the one that holds the fewest says the most.
            match side.all_of.iter().map(|list| (Size::of(list, sets), list)).min_by_key(|(size, _)| *size) {
                Some((size, list)) if size.tells(known) => rest.push((size, position, list)),
                _ => peers.anybody.push(position),
            }
        }
        // Where there are too many members for all, the largest lists are left out.
        rest.sort_unstable_by_key(|(size, position, _)| (*size, *position));
        let mut members = rules.len() * MEMBERS_PER_RULE + MEMBERS;
        let mut ranges = rules.len() * RANGES_PER_RULE + RANGES;
        for (size, position, list) in rest {
            match members.checked_sub(size.members).zip(ranges.checked_sub(size.ranges)) {
                Some(left) => {
                    (members, ranges) = left;
                    peers.lists.push((position, list));
                }
                None => peers.anybody.push(position),
            }
        }
        peers.lists.sort_unstable_by_key(|(position, _)| *position);
        peers
    }

    /// Whether any rule is told apart.
    pub(super) fn tell_any(&self) -> bool {
        !self.lists.is_empty()
    }

    fn told(&self) -> impl Iterator<Item = (u16, &'a AddressSet)> {
        let sets_of = |list: &'a [SetId]| list.iter().filter_map(|id| self.sets.get(id.0));
        self.lists.iter().flat_map(move |(position, list)| sets_of(list).map(|set| (*position, &**set)))
    }

    /// Gives the identities that each rule names, rule by rule.
    pub(super) fn for_each_identity(&self, mut give: impl FnMut(IdentityId, u16)) {
        for (position, set) in self.told() {
            set.identities().iter().for_each(|identity| give(identity, position));
        }
    }

    pub(super) fn ranges<T: Family>(&self) -> Vec<Ranged<T>> {
        let of_set = |(position, set): (u16, &'a AddressSet)| {
            set.ranges_of::<T>().iter().map(move |(start, end)| (*start, *end, position))
        };
        self.told().flat_map(of_set).collect()
    }
}

/// How much a list of sets holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Size {
    ranges: usize,
    members: usize,
}

impl Size {
    /// Whether it holds so few of the identities that it is worth to tell it apart. What holds a large share is soon
    /// found to match, or not.
    fn tells(self, known: IdentityId) -> bool {
        self.members <= FEW_MEMBERS || self.members < known.0 as usize / LARGE_SHARE
    }

    fn of(list: &[SetId], sets: &Paged<Arc<AddressSet>>) -> Self {
        let mut size = Self { ranges: 0, members: 0 };
        for set in list.iter().filter_map(|id| sets.get(id.0)) {
            size.members += set.identities().len();
            size.ranges += set.ranges_of::<u32>().len() + set.ranges_of::<u128>().len();
        }
        size
    }
}
