//! The dimension of the peer's identity: a hash table of the identities that rules name, each with its rules.

use super::peers::Peers;
use super::rows::{Interner, Row};
use crate::IdentityId;

/// Fibonacci hashing (Knuth, TAOCP 6.4): numbers in a row are spread.
const SPREAD: u32 = 0x9e37_79b9;

/// How many times as many identities as pairs make it slower to count the pairs of each than to sort them.
const SPARSE: usize = 16;

/// In `identity`: an empty slot.
const NOBODY: u32 = u32::MAX;

#[derive(Clone, Debug)]
pub(super) struct Identities {
    /// A power of two, of which at most three quarters are used; or none.
    slots: Box<[Slot]>,
    /// How far a hash is shifted to be a place.
    shift: u32,
}

/// A quarter of a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(16))]
struct Slot {
    identity: u32,
    row: Row,
}

impl Identities {
    /// Of the identities below `known`.
    pub(super) fn of(peers: &Peers<'_>, known: IdentityId, rows: &mut Interner) -> Self {
        let mut pairs = Vec::new();
        peers.for_each_identity(|identity, rule| {
            if identity < known {
                pairs.push(pair(identity, rule));
            }
        });
        let pairs = by_identity(pairs, known);
        let of_one = || pairs.chunk_by(|a, b| a >> 16 == b >> 16);
        let mut identities = Self::with_room(of_one().count());
        let mut rules = Vec::new();
        for pairs in of_one() {
            rules.clear();
            rules.extend(pairs.iter().map(|pair| *pair as u16));
            rules.dedup();
            identities.insert((pairs[0] >> 16) as u32, rows.row_of(&rules));
        }
        identities
    }

    fn with_room(count: usize) -> Self {
        let slots = if count == 0 { 0 } else { (count * 4).div_ceil(3).next_power_of_two().max(2) };
        let slot = Slot { identity: NOBODY, row: Row::default() };
        Self { slots: vec![slot; slots].into(), shift: u32::BITS - slots.max(2).ilog2() }
    }

    /// The rules that name the identity.
    #[inline]
    pub(super) fn find(&self, identity: IdentityId) -> Row {
        if self.slots.is_empty() {
            return Row::default();
        }
        let slot = self.slots[self.place(identity.0)];
        if slot.identity == identity.0 { slot.row } else { Row::default() }
    }

    fn insert(&mut self, identity: u32, row: Row) {
        let place = self.place(identity);
        self.slots[place] = Slot { identity, row };
    }

    /// The slot of an identity, or the empty one that it would get.
    #[inline]
    fn place(&self, identity: u32) -> usize {
        let mut place = (identity.wrapping_mul(SPREAD) >> self.shift) as usize;
        while self.slots[place].identity != identity && self.slots[place].identity != NOBODY {
            place = (place + 1) & (self.slots.len() - 1);
        }
        place
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.slots)
    }
}

fn pair(identity: IdentityId, rule: u16) -> u64 {
    u64::from(identity.0) << 16 | u64::from(rule)
}

/// Sorts pairs that are in the order of their rules.
fn by_identity(mut pairs: Vec<u64>, known: IdentityId) -> Vec<u64> {
    if pairs.len() < known.0 as usize / SPARSE {
        pairs.sort_unstable();
        return pairs;
    }
    let mut places = vec![0u32; known.0 as usize + 1];
    for pair in &pairs {
        places[(pair >> 16) as usize + 1] += 1;
    }
    for identity in 1..places.len() {
        places[identity] += places[identity - 1];
    }
    let mut sorted = vec![0; pairs.len()];
    for pair in pairs {
        let place = &mut places[(pair >> 16) as usize];
        sorted[*place as usize] = pair;
        *place += 1;
    }
    sorted
}
