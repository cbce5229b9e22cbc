//! Sets of rules by position: short ones as lists, others as bitmaps; equal ones stored once.

use std::hash::BuildHasher;
use std::ops::Range;

use hashbrown::{DefaultHashBuilder, HashTable};

const BITS: u32 = u32::BITS;

/// Words of two bitmaps that are compared at once.
const STRIDE: usize = 16;

/// A set's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SetId(u32);

impl SetId {
    pub(super) const EMPTY: Self = Self(0);
}

/// The sets of one index.
#[derive(Clone)]
pub(super) struct RuleSets {
    /// Words of a bitmap. A list is always shorter.
    width: usize,
    /// Where each set starts in `words`, and where the last ends.
    starts: Vec<usize>,
    words: Vec<u32>,
}

/// A set of rules.
#[derive(Clone, Copy)]
pub(super) enum RuleSet<'a> {
    /// Ascending positions.
    Listed(&'a [u32]),
    Bitmap(&'a [u32]),
}

impl RuleSets {
    pub(super) fn get(&self, set: SetId) -> RuleSet<'_> {
        let words = self.words(set);
        if words.len() == self.width { RuleSet::Bitmap(words) } else { RuleSet::Listed(words) }
    }

    /// A set that was interned as a bitmap.
    pub(super) fn bitmap(&self, set: SetId) -> &[u32] {
        self.words(set)
    }

    fn words(&self, set: SetId) -> &[u32] {
        let set = set.0 as usize;
        &self.words[self.starts[set]..self.starts[set + 1]]
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.starts) + size_of_val(&*self.words)
    }
}

/// Collects the sets of an index that is being built.
pub(super) struct Interner {
    sets: RuleSets,
    known: HashTable<SetId>,
    hash: DefaultHashBuilder,
}

impl Interner {
    pub(super) fn new(rules: usize) -> Self {
        let width = rules.div_ceil(BITS as usize);
        let sets = RuleSets { width, starts: vec![0, 0], words: Vec::new() };
        Self { sets, known: HashTable::new(), hash: DefaultHashBuilder::default() }
    }

    /// A bitmap without rules, to be filled by [`insert`] and given to [`Interner::bitmap`].
    pub(super) fn empty_bitmap(&self) -> Vec<u32> {
        vec![0; self.sets.width]
    }

    pub(super) fn bitmap(&mut self, bitmap: &[u32]) -> SetId {
        self.intern(bitmap)
    }

    fn intern(&mut self, words: &[u32]) -> SetId {
        let found = self.known.find(self.hash.hash_one(words), |known| self.sets.words(*known) == words);
        if let Some(known) = found {
            return *known;
        }
        let set = SetId(self.sets.starts.len() as u32 - 1);
        self.sets.words.extend(words);
        self.sets.starts.push(self.sets.words.len());
        let Self { sets, known, hash } = self;
        known.insert_unique(hash.hash_one(words), set, |set| hash.hash_one(sets.words(*set)));
        set
    }

    /// The set of these ascending positions. Past a quarter of a bitmap's size a list becomes one: it is then read
    /// by words, and no list takes long.
    pub(super) fn list(&mut self, positions: &[u32]) -> SetId {
        if positions.is_empty() {
            return SetId::EMPTY;
        }
        if positions.len() * 4 <= self.sets.width {
            return self.intern(positions);
        }
        let mut bitmap = self.empty_bitmap();
        for position in positions {
            insert(&mut bitmap, *position);
        }
        self.intern(&bitmap)
    }

    pub(super) fn finish(mut self) -> RuleSets {
        self.sets.starts.shrink_to_fit();
        self.sets.words.shrink_to_fit();
        self.sets
    }
}

pub(super) fn insert(bitmap: &mut [u32], position: u32) {
    bitmap[(position / BITS) as usize] |= 1 << (position % BITS);
}

fn contains(bitmap: &[u32], position: u32) -> bool {
    bitmap[(position / BITS) as usize] & 1 << (position % BITS) != 0
}

impl RuleSet<'_> {
    /// The first of the positions that is in this set and in the bitmap, else their end. What a list holds before
    /// that is forgotten: the next call is about later positions.
    pub(super) fn first_common(&mut self, bitmap: &[u32], positions: Range<u32>) -> u32 {
        match self {
            RuleSet::Bitmap(words) => first_common_bit(words, bitmap, positions),
            RuleSet::Listed(list) => {
                while let Some((&position, rest)) = list.split_first() {
                    if position >= positions.end {
                        break;
                    }
                    if position >= positions.start && contains(bitmap, position) {
                        return position;
                    }
                    *list = rest;
                }
                positions.end
            }
        }
    }
}

fn first_common_bit(a: &[u32], b: &[u32], positions: Range<u32>) -> u32 {
    if positions.is_empty() {
        return positions.end;
    }
    let (mut at, end) = ((positions.start / BITS) as usize, positions.end.div_ceil(BITS) as usize);
    let mut common = a[at] & b[at] & u32::MAX << (positions.start % BITS);
    while common == 0 {
        at += 1;
        at += STRIDE * disjoint_strides(&a[at..end], &b[at..end]);
        if at == end {
            return positions.end;
        }
        common = a[at] & b[at];
    }
    (at as u32 * BITS + common.trailing_zeros()).min(positions.end)
}

/// How many whole strides from the start have no bit in common.
fn disjoint_strides(a: &[u32], b: &[u32]) -> usize {
    let disjoint = |a: &[u32; STRIDE], b: &[u32; STRIDE]| {
        // Without a branch a word, so that it becomes a few wide instructions.
        a.iter().zip(b).fold(0, |common, (a, b)| common | a & b) == 0
    };
    let (a, b) = (a.as_chunks().0, b.as_chunks().0);
    a.iter().zip(b).take_while(|(a, b)| disjoint(a, b)).count()
}
