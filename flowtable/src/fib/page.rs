//! The compiled form of the IPv4 routes inside one /12: what lookups read.
//!
//! A page is one array of words. It begins with 64 entries, one for each /18; the regions of those entries follow, in
//! order. An entry is a Poptrie node (Asai and Ohara, SIGCOMM 2015) with its vector inside: a bit for each /24 whose
//! next hop differs from that of the /24 before it, so the number of bits up to an address's /24 is the index of its
//! leaf. A leaf is a next hop, or leads to a node of the next six bits; that one's leaves lie in the same region.
//!
//! An entry that one next hop fills (half of a full table) has no region: its only leaf is the entry's own last word.
//! Everything in a region counts words from the region's start, so a region moves without being rewritten.

use std::sync::Arc;

use crate::NextHopId;

/// A leaf: 0 = no route; top bit set = a node, at this offset in the region; else next hop + 1.
pub(super) type Word = u32;
const NODE: Word = 1 << 31;

/// Bits of an address that choose the page.
pub(super) const PAGE_BITS: u8 = 12;
/// Bits of an address that choose the entry in all pages.
pub(super) const ENTRY_BITS: u8 = PAGE_BITS + STRIDE;
const STRIDE: u8 = 6;
const SLOTS: usize = 1 << STRIDE;

/// Words of an entry: vector (low, high), index of the first leaf, the only leaf.
const ENTRY: usize = 4;
const REGIONS: usize = SLOTS * ENTRY;
/// Words of a node below an entry: vector (low, high), offset of the first leaf in the region.
const HEADER: usize = 3;

/// A route to a prefix. Ordered by network, then by length: a prefix stands before those inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Route {
    pub(super) network: u32,
    pub(super) length: u8,
    next_hop: [u8; 3],
}

impl Route {
    pub(super) fn new(network: u32, length: u8, next_hop: NextHopId) -> Self {
        let [a, b, c, _] = next_hop.0.to_le_bytes();
        Self { network: network & mask(length), length, next_hop: [a, b, c] }
    }

    pub(super) fn key(self) -> (u32, u8) {
        (self.network, self.length)
    }

    pub(super) fn next_hop(self) -> NextHopId {
        let [a, b, c] = self.next_hop;
        NextHopId(u32::from_le_bytes([a, b, c, 0]))
    }

    pub(super) fn word(self) -> Word {
        self.next_hop().0 + 1
    }
}

pub(super) fn mask(length: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
}

/// The six bits of the address that follow the first `depth`; below bit 30, the two that are left.
#[inline]
fn slot(address: u32, depth: u8) -> usize {
    let bits = STRIDE.min(32 - depth);
    (address >> (32 - depth - bits)) as usize & ((1 << bits) - 1)
}

#[inline]
fn vector(low: Word, high: Word) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// How many leaves precede the one of this slot. The compiler counts bits by arithmetic: POPCNT is not in every x86-64.
#[inline]
fn rank(vector: u64, slot: usize) -> usize {
    (vector << (SLOTS - 1 - slot)).count_ones() as usize
}

/// Where in the page the entry of the address is.
#[inline]
pub(super) fn entry_at(address: u32) -> usize {
    slot(address, PAGE_BITS) * ENTRY
}

/// Where the leaf of the address is, as its entry says.
#[inline]
pub(super) fn leaf_at(page: &[Word], address: u32) -> usize {
    let at = entry_at(address);
    page[at + 2] as usize + rank(vector(page[at], page[at + 1]), slot(address, ENTRY_BITS))
}

/// The next hop of the address, from the leaf that its entry led to.
#[inline]
pub(super) fn resolve(page: &[Word], address: u32, leaf: Word) -> Option<NextHopId> {
    let leaf = if leaf & NODE == 0 { leaf } else { descend(page, address, leaf) };
    leaf.checked_sub(1).map(NextHopId)
}

/// Follows the nodes for prefixes longer than /24.
fn descend(page: &[Word], address: u32, mut leaf: Word) -> Word {
    let region = &page[page[entry_at(address) + 2] as usize..];
    // Two levels are all that there are, and with their depths known the shifts are too.
    for depth in [ENTRY_BITS + STRIDE, ENTRY_BITS + 2 * STRIDE] {
        if leaf & NODE == 0 {
            break;
        }
        let node = &region[(leaf & !NODE) as usize..][..HEADER];
        leaf = region[node[2] as usize + rank(vector(node[0], node[1]), slot(address, depth))];
    }
    leaf
}

/// Compiles a page. `routes` are those inside the /12, longer than it and in order; `cover` is what the rest of it has.
pub(super) fn build(cover: Word, routes: &[Route]) -> Arc<[Word]> {
    let mut page = vec![0; REGIONS];
    let covers = fill(cover, routes, PAGE_BITS);
    let mut rest = routes;
    for (slot, &cover) in covers.iter().enumerate() {
        let inside = rest.partition_point(|route| self::slot(route.network, PAGE_BITS) == slot);
        let (routes, later) = rest.split_at(inside);
        rest = later;
        let longer = routes.partition_point(|route| route.length <= ENTRY_BITS);
        let first = page.len();
        let (vector, only) = region(&mut page, cover, &routes[longer..]);
        set_entry(&mut page, slot, vector, first, only);
    }
    page.into()
}

/// The page with the entry that `network` is in compiled anew, from the routes of that /18 alone.
pub(super) fn replace(page: &[Word], network: u32, cover: Word, routes: &[Route]) -> Arc<[Word]> {
    let changed = slot(network, PAGE_BITS);
    let (start, end) = region_of(page, changed);
    let mut words = Vec::new();
    let (vector, only) = region(&mut words, cover, routes);
    let grown = words.len() as Word;
    let mut new = [&page[..start], &words, &page[end..]].concat();
    for later in changed + 1..SLOTS {
        let at = later * ENTRY;
        if new[at] | new[at + 1] != 0 {
            new[at + 2] = new[at + 2] - (end - start) as Word + grown;
        }
    }
    set_entry(&mut new, changed, vector, start, only);
    new.into()
}

/// Where the region of an entry is, or would be.
fn region_of(page: &[Word], slot: usize) -> (usize, usize) {
    let first_leaf = |slot: usize| {
        let entry = &page[slot * ENTRY..][..ENTRY];
        (entry[0] | entry[1] != 0).then_some(entry[2] as usize)
    };
    let end = (slot + 1..SLOTS).find_map(first_leaf).unwrap_or(page.len());
    (first_leaf(slot).unwrap_or(end), end)
}

fn set_entry(page: &mut [Word], slot: usize, vector: u64, first: usize, only: Word) {
    let at = slot * ENTRY;
    let first = if vector == 0 { at + ENTRY - 1 } else { first };
    page[at..at + ENTRY].copy_from_slice(&[vector as Word, (vector >> 32) as Word, first as Word, only]);
}

/// What each slot of a node has from the routes that end in it. `routes` are all longer than `depth`.
fn fill(cover: Word, routes: &[Route], depth: u8) -> [Word; SLOTS] {
    let mut slots = [cover; SLOTS];
    let end = (depth + STRIDE).min(32);
    // In order, so that a prefix overwrites its part of those that it is in.
    for route in routes.iter().filter(|route| route.length <= end) {
        slots[slot(route.network, depth)..][..1 << (end - route.length)].fill(route.word());
    }
    slots
}

/// Appends the region of an entry. Returns its vector and, where that is 0 and the region empty, the only leaf.
fn region(words: &mut Vec<Word>, cover: Word, routes: &[Route]) -> (u64, Word) {
    if routes.is_empty() {
        return (0, cover);
    }
    let start = words.len();
    let vector = node(words, start, cover, routes, ENTRY_BITS);
    let only = words[start];
    if vector == 0 {
        words.truncate(start);
    }
    (vector, only)
}

/// Appends the leaves of a node, then the nodes below it, to a region that starts at `region`. Returns the vector.
/// A node of one leaf leads nowhere: a slot that does differs from every other.
fn node(words: &mut Vec<Word>, region: usize, cover: Word, routes: &[Route], depth: u8) -> u64 {
    let end = (depth + STRIDE).min(32);
    let covers = fill(cover, routes, depth);
    let below = || {
        let by_slot = routes.chunk_by(|a, b| slot(a.network, depth) == slot(b.network, depth));
        // Routes that end in this node stand before those inside the slot that they begin with.
        let longer = by_slot.map(|group| &group[group.partition_point(|route| route.length <= end)..]);
        longer.filter(|group| !group.is_empty())
    };
    let mut slots = covers;
    for group in below() {
        let slot = slot(group[0].network, depth);
        slots[slot] = NODE | slot as Word;
    }
    let first = words.len();
    let vector = compress(words, &slots[..1 << (end - depth)]);
    for group in below() {
        let slot = slot(group[0].network, depth);
        let header = words.len();
        words[first + rank(vector, slot)] = NODE | (header - region) as Word;
        words.extend([0; HEADER]);
        let below = node(words, region, covers[slot], group, end);
        words[header..header + HEADER].copy_from_slice(&[
            below as Word,
            (below >> 32) as Word,
            (header + HEADER - region) as Word,
        ]);
    }
    vector
}

/// Appends a leaf for each run of equal slots. Returns the vector: where runs begin, but for the first.
fn compress(words: &mut Vec<Word>, slots: &[Word]) -> u64 {
    words.push(slots[0]);
    let mut vector = 0;
    for (slot, pair) in slots.windows(2).enumerate() {
        if pair[0] != pair[1] {
            vector |= 2 << slot;
            words.push(pair[1]);
        }
    }
    vector
}
