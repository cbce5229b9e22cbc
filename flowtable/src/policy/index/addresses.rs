//! The dimension of the peer's address, of one family: a static tree over the ranges of all peer lists.
//!
//! The ends of all ranges cut the address space into intervals, the leaves. Each level above takes [`FANOUT`] nodes
//! together. A rule stands in the set of a node if one of its peers covers all of the node and not all of the node above.
//! So the rules of an address are those of the nodes on the way from the root to its leaf, and a block that covers many
//! leaves stands in few sets.

use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashMap;

use super::rule_sets::{Interner, SetId};
use crate::AddressSet;
use crate::address_set::Family;

/// One cache line of IPv4 addresses.
const FANOUT: usize = 16;

/// Leaves that become one where there are too many.
const COARSER: usize = 4;

/// Sets that the rules of one address can be in: one a level of a tree with 2^32 leaves, and the root's.
pub(super) const MOST_SETS: usize = 9;

/// What a rule says of the peer's address.
#[derive(Clone, Copy)]
pub(super) enum Peers<'a> {
    Any,
    In(&'a [Arc<AddressSet>]),
}

#[derive(Clone)]
pub(super) struct AddressIndex<T> {
    /// The rules that match any address.
    root: SetId,
    /// From the leaves up.
    levels: Vec<Level<T>>,
}

#[derive(Clone)]
struct Level<T> {
    /// The first address of each node; past the last node the highest address.
    starts: Vec<[T; FANOUT]>,
    sets: Vec<SetId>,
}

impl<T: Family> AddressIndex<T> {
    /// Takes at most so many nodes for all rules, besides the root for each. Where the leaves are too fine for that,
    /// neighbours become one, which has the rules of both.
    pub(super) fn of(peers: &[Peers<'_>], most_nodes: usize, sets: &mut Interner) -> Self {
        let mut starts = starts(peers);
        let (mut index, covers) = loop {
            let index = Self::of_starts(starts.clone());
            match Covers::of(peers, &index, most_nodes) {
                Some(covers) => break (index, covers),
                None => starts = starts.into_iter().step_by(COARSER).collect(),
            }
        };
        let inverted = Inverted::of(&covers, peers, index.root_node() + 1);
        let mut nodes = 0..;
        for level in &mut index.levels {
            for (set, node) in level.sets.iter_mut().zip(&mut nodes) {
                *set = sets.list(inverted.rules(node));
            }
        }
        index.root = sets.list(inverted.rules(index.root_node()));
        index
    }

    /// The tree with these leaves, ascending from the first address of the family, and without rules.
    fn of_starts(mut starts: Vec<T>) -> Self {
        let mut levels = Vec::new();
        while levels.is_empty() || starts.len() > 1 {
            let above = starts.iter().step_by(FANOUT).copied().collect();
            levels.push(Level::of(&starts));
            starts = above;
        }
        Self { root: SetId::EMPTY, levels }
    }

    /// Gives the sets that hold the rules of an address, without empty ones.
    pub(super) fn find(&self, address: T, mut give: impl FnMut(SetId)) {
        let mut give = |set| {
            if set != SetId::EMPTY {
                give(set);
            }
        };
        give(self.root);
        self.descend(address, |level, node| give(level.sets[node]));
    }

    fn leaf(&self, address: T) -> usize {
        let mut leaf = 0;
        self.descend(address, |_, node| leaf = node);
        leaf
    }

    fn descend(&self, address: T, mut visit: impl FnMut(&Level<T>, usize)) {
        let mut node = 0;
        for level in self.levels.iter().rev() {
            let not_after = level.starts[node].iter().filter(|start| **start <= address).count();
            // The filling of the last group counts too where the address is the highest.
            node = (node * FANOUT + not_after - 1).min(level.sets.len() - 1);
            visit(level, node);
        }
    }

    /// Nodes are numbered from the leaves up; the root comes last.
    fn root_node(&self) -> usize {
        self.levels.iter().map(|level| level.sets.len()).sum()
    }

    /// Adds the fewest nodes that hold the set.
    fn cover_set(&self, set: &AddressSet, nodes: &mut Vec<u32>) {
        let mut leaves = 0..0;
        for &(start, end) in T::ranges(set) {
            let first = self.leaf(start);
            let next = first..if start == end { first } else { self.leaf(end) } + 1;
            // Where leaves are coarse, ranges meet in one.
            if next.start <= leaves.end {
                leaves.end = next.end;
            } else {
                self.cover(leaves, nodes);
                leaves = next;
            }
        }
        self.cover(leaves, nodes);
    }

    /// Adds the fewest nodes that together are these leaves.
    fn cover(&self, mut leaves: Range<usize>, nodes: &mut Vec<u32>) {
        if leaves == (0..self.levels[0].sets.len()) {
            return nodes.push(self.root_node() as u32);
        }
        let mut below = 0;
        for level in &self.levels {
            let count = level.sets.len();
            let is_top = count <= FANOUT;
            while !leaves.is_empty() && (is_top || !leaves.start.is_multiple_of(FANOUT)) {
                nodes.push((below + leaves.start) as u32);
                leaves.start += 1;
            }
            while !leaves.is_empty() && !leaves.end.is_multiple_of(FANOUT) && leaves.end != count {
                leaves.end -= 1;
                nodes.push((below + leaves.end) as u32);
            }
            if leaves.is_empty() {
                return;
            }
            leaves = leaves.start / FANOUT..leaves.end.div_ceil(FANOUT);
            below += count;
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.levels.iter().map(|level| size_of_val(&*level.starts) + size_of_val(&*level.sets)).sum()
    }
}

impl<T: Family> Level<T> {
    fn of(starts: &[T]) -> Self {
        let group = |nodes: &[T]| {
            let mut group = [T::LAST; FANOUT];
            group[..nodes.len()].copy_from_slice(nodes);
            group
        };
        Self { starts: starts.chunks(FANOUT).map(group).collect(), sets: vec![SetId::EMPTY; starts.len()] }
    }
}

/// The sets that rules refer to, each once.
fn distinct<'a>(peers: &[Peers<'a>]) -> HashMap<*const AddressSet, &'a AddressSet> {
    let sets = peers.iter().flat_map(|peers| match peers {
        Peers::Any => &[],
        Peers::In(sets) => *sets,
    });
    sets.map(|set| (Arc::as_ptr(set), &**set)).collect()
}

/// Where the intervals start that the ends of all ranges cut the address space into.
fn starts<T: Family>(peers: &[Peers<'_>]) -> Vec<T> {
    let mut starts = vec![T::FIRST];
    for set in distinct(peers).values() {
        for &(start, end) in T::ranges(set) {
            starts.push(start);
            starts.extend(end.successor());
        }
    }
    starts.sort_unstable();
    starts.dedup();
    starts
}

/// The nodes that together hold each set.
struct Covers {
    of_sets: HashMap<*const AddressSet, Range<usize>>,
    nodes: Vec<u32>,
    root: u32,
}

impl Covers {
    /// `None` if rules take more nodes in all.
    fn of<T: Family>(peers: &[Peers<'_>], index: &AddressIndex<T>, most_nodes: usize) -> Option<Self> {
        let mut covers = Self { of_sets: HashMap::new(), nodes: Vec::new(), root: index.root_node() as u32 };
        for (identity, set) in distinct(peers) {
            let before = covers.nodes.len();
            index.cover_set(set, &mut covers.nodes);
            covers.of_sets.insert(identity, before..covers.nodes.len());
            if covers.nodes.len() > most_nodes {
                return None;
            }
        }
        let in_sets = peers.iter().filter(|peers| matches!(peers, Peers::In(_)));
        let in_all: usize = in_sets.map(|peers| covers.of_rule(*peers).count()).sum();
        (in_all <= most_nodes).then_some(covers)
    }

    fn of_rule(&self, peers: Peers<'_>) -> impl Iterator<Item = usize> {
        let (root, sets) = match peers {
            Peers::Any => (Some(&self.root), [].as_slice()),
            Peers::In(sets) => (None, sets),
        };
        let covered = sets.iter().flat_map(|set| &self.nodes[self.of_sets[&Arc::as_ptr(set)].clone()]);
        root.into_iter().chain(covered).map(|node| *node as usize)
    }
}

/// The rules of each node.
struct Inverted {
    /// Where each node's rules end in `rules`; they start where those of the node before end.
    ends: Vec<usize>,
    rules: Vec<u32>,
}

impl Inverted {
    fn of(covers: &Covers, peers: &[Peers<'_>], nodes: usize) -> Self {
        let mut counts = vec![0; nodes];
        each_once(covers, peers, nodes, |node, _| counts[node] += 1);
        let mut sum = 0;
        // Each end starts as the node's start and moves as its rules come.
        let mut ends: Vec<usize> = counts
            .iter()
            .map(|count| {
                sum += count;
                sum - count
            })
            .collect();
        let mut rules = vec![0; sum];
        each_once(covers, peers, nodes, |node, rule| {
            rules[ends[node]] = rule;
            ends[node] += 1;
        });
        Self { ends, rules }
    }

    fn rules(&self, node: usize) -> &[u32] {
        let start = node.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.rules[start..self.ends[node]]
    }
}

/// Visits each node of each rule, rules in order. Sets of one rule may overlap: its nodes still come once.
fn each_once(covers: &Covers, peers: &[Peers<'_>], nodes: usize, mut visit: impl FnMut(usize, u32)) {
    let mut last = vec![u32::MAX; nodes];
    for (rule, peers) in (0..).zip(peers) {
        for node in covers.of_rule(*peers) {
            if last[node] != rule {
                last[node] = rule;
                visit(node, rule);
            }
        }
    }
}
