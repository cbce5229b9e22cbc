//! Sets of rules by position: a few in place, more as lists, many as bitmaps. Equal bitmaps are stored once.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::MOST_RULES;

/// Positions that a row holds in place.
const FEW: usize = 5;
/// Positions of a list at most: a cache line.
const MOST_LISTED: usize = 32;
/// In `len`: the positions are in a bitmap.
const BITMAP: u16 = u16::MAX;
const BITS: usize = u64::BITS as usize;
/// Words of two bitmaps that are compared at once.
const STRIDE: usize = 8;
/// Words of a bitmap at most.
const MOST_WORDS: usize = MOST_RULES / BITS;

/// A set of rules of one index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Row {
    len: u16,
    /// Ascending. Of a bitmap the first two are its number, of a list where it begins; the others are its signature.
    few: [u16; FEW],
}

/// Rules in short: rows without a rule in common mostly have signatures without a bit in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Signature([u16; 3]);

impl Signature {
    pub(super) fn of(positions: impl Iterator<Item = u16>) -> Self {
        let mut words = [0; 3];
        for position in positions {
            words[usize::from(position) / 16 % 3] |= 1 << (position % 16);
        }
        Self(words)
    }

    #[inline]
    fn meets(self, other: Self) -> bool {
        self.0.iter().zip(other.0).fold(0, |common, (one, two)| common | one & two) != 0
    }
}

impl Row {
    #[inline]
    pub(super) fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Whether it may have a rule in common with the one that has this signature. Reads nothing else.
    #[inline]
    pub(super) fn may_meet(&self, signature: Signature) -> bool {
        let [_, _, own @ ..] = self.few;
        usize::from(self.len) <= FEW || Signature(own).meets(signature)
    }

    fn elsewhere(len: u16, number: u32, Signature([a, b, c]): Signature) -> Self {
        Self { len, few: [number as u16, (number >> 16) as u16, a, b, c] }
    }

    fn number(self) -> usize {
        (u32::from(self.few[0]) | u32::from(self.few[1]) << 16) as usize
    }
}

/// The lists and bitmaps of one index.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    /// Words of a bitmap.
    width: usize,
    words: Vec<u64>,
    lists: Vec<u16>,
}

impl Rows {
    fn bitmap(&self, row: Row) -> &[u64] {
        &self.words[row.number() * self.width..][..self.width]
    }

    /// The positions one by one; none for a bitmap.
    #[inline]
    fn listed<'a>(&'a self, row: &'a Row) -> Option<&'a [u16]> {
        match row.len {
            BITMAP => None,
            len if usize::from(len) <= FEW => Some(&row.few[..usize::from(len)]),
            len => Some(&self.lists[row.number()..][..usize::from(len)]),
        }
    }

    /// Gives the rules of a row in order until something comes of one.
    #[inline]
    pub(super) fn find<T>(&self, row: &Row, mut ask: impl FnMut(usize) -> Option<T>) -> Option<T> {
        match self.listed(row) {
            Some(list) => list.iter().find_map(|position| ask(usize::from(*position))),
            None => find_common(self.bitmap(*row), self.bitmap(*row), ask),
        }
    }

    /// As [`Rows::find`], of the rules that are in both rows.
    #[inline]
    pub(super) fn find_in_both<T>(&self, a: &Row, b: &Row, ask: impl FnMut(usize) -> Option<T>) -> Option<T> {
        match (self.listed(a), self.listed(b)) {
            (Some(a), Some(b)) => find_listed(a, |position| is_in(b, position), ask),
            (Some(list), None) => find_listed(list, |position| has(self.bitmap(*b), position), ask),
            (None, Some(list)) => find_listed(list, |position| has(self.bitmap(*a), position), ask),
            (None, None) => find_common(self.bitmap(*a), self.bitmap(*b), ask),
        }
    }

    /// As [`Rows::find`], of `rest`, and of those of `told` that are in one of the named rows.
    pub(super) fn find_in_any<T>(
        &self,
        rest: &Row,
        told: &Row,
        named: [&Row; 2],
        ask: impl FnMut(usize) -> Option<T>,
    ) -> Option<T> {
        let [mut candidates, mut of_told] = [[0; MOST_WORDS]; 2];
        for row in named {
            self.add(row, &mut candidates);
        }
        self.add(told, &mut of_told);
        candidates.iter_mut().zip(&of_told).take(self.width).for_each(|(word, told)| *word &= told);
        self.add(rest, &mut candidates);
        find_common(&candidates[..self.width], &candidates[..self.width], ask)
    }

    fn add(&self, row: &Row, bitmap: &mut [u64; MOST_WORDS]) {
        match self.listed(row) {
            Some(list) => list.iter().for_each(|position| insert(bitmap, *position)),
            None => bitmap.iter_mut().zip(self.bitmap(*row)).for_each(|(word, more)| *word |= more),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.words) + size_of_val(&*self.lists)
    }
}

/// Collects the rows of an index that is being built.
pub(super) struct Interner {
    rows: Rows,
    /// Of all rules.
    count: usize,
    known: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Interner {
    pub(super) fn new(rules: usize) -> Self {
        let rows = Rows { width: rules.div_ceil(BITS), words: Vec::new(), lists: Vec::new() };
        Self { rows, count: rules, known: HashTable::new(), hasher: DefaultHashBuilder::default() }
    }

    /// How many rules there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// A bitmap without rules.
    pub(super) fn empty(&self) -> Vec<u64> {
        vec![0; self.rows.width]
    }

    fn bitmap(&mut self, bitmap: &[u64]) -> Row {
        let Self { rows, known, hasher, .. } = self;
        let hash = hasher.hash_one(bitmap);
        let signature = Signature::of(positions(bitmap));
        let row = |number: u32| Row::elsewhere(BITMAP, number, signature);
        if let Some(number) = known.find(hash, |number| rows.bitmap(row(*number)) == bitmap) {
            return row(*number);
        }
        let number = (rows.words.len() / rows.width.max(1)) as u32;
        rows.words.extend(bitmap);
        known.insert_unique(hash, number, |number| hasher.hash_one(rows.bitmap(row(*number))));
        row(number)
    }

    /// Whether so many positions are better not a bitmap.
    fn are_listed(&self, count: usize) -> bool {
        // Four positions take as much as a word.
        count <= FEW || count <= MOST_LISTED.min(4 * self.rows.width)
    }

    pub(super) fn row(&mut self, bitmap: &[u64]) -> Row {
        let count: u32 = bitmap.iter().map(|word| word.count_ones()).sum();
        if !self.are_listed(count as usize) {
            return self.bitmap(bitmap);
        }
        let mut list = [0; MOST_LISTED];
        for (slot, position) in list.iter_mut().zip(positions(bitmap)) {
            *slot = position;
        }
        self.row_of(&list[..count as usize])
    }

    /// The row of these positions, which ascend.
    pub(super) fn row_of(&mut self, positions: &[u16]) -> Row {
        let count = positions.len();
        if !self.are_listed(count) {
            let mut bitmap = self.empty();
            for position in positions {
                insert(&mut bitmap, *position);
            }
            return self.bitmap(&bitmap);
        }
        if count > FEW {
            let begin = self.rows.lists.len() as u32;
            self.rows.lists.extend(positions);
            return Row::elsewhere(count as u16, begin, Signature::of(positions.iter().copied()));
        }
        let mut row = Row { len: count as u16, ..Row::default() };
        row.few[..count].copy_from_slice(positions);
        row
    }

    pub(super) fn finish(mut self) -> Rows {
        self.rows.words.shrink_to_fit();
        self.rows.lists.shrink_to_fit();
        self.rows
    }
}

pub(super) fn insert(bitmap: &mut [u64], position: u16) {
    bitmap[usize::from(position) / BITS] |= 1 << (usize::from(position) % BITS);
}

pub(super) fn remove(bitmap: &mut [u64], position: u16) {
    bitmap[usize::from(position) / BITS] &= !(1 << (usize::from(position) % BITS));
}

#[inline]
fn has(bitmap: &[u64], position: u16) -> bool {
    bitmap[usize::from(position) / BITS] >> (usize::from(position) % BITS) & 1 != 0
}

#[inline]
fn is_in(list: &[u16], position: u16) -> bool {
    // Not `contains`, whose branches are not foreseen; this is a few wide instructions.
    list.iter().fold(0, |found, other| found | u8::from(*other == position)) != 0
}

/// Gives the positions of a list, 32 at most, that are also elsewhere, until something comes of one.
#[inline]
fn find_listed<T>(
    list: &[u16],
    is_elsewhere: impl Fn(u16) -> bool,
    mut ask: impl FnMut(usize) -> Option<T>,
) -> Option<T> {
    // All before any is asked, for a branch on each would rarely be foreseen.
    let mut both = 0u32;
    for (at, position) in list.iter().enumerate() {
        both |= u32::from(is_elsewhere(*position)) << at;
    }
    while both != 0 {
        let found = ask(usize::from(list[both.trailing_zeros() as usize]));
        if found.is_some() {
            return found;
        }
        both &= both - 1;
    }
    None
}

pub(super) fn positions(bitmap: &[u64]) -> impl Iterator<Item = u16> {
    bitmap.iter().enumerate().flat_map(|(at, word)| {
        let mut rest = *word;
        std::iter::from_fn(move || {
            let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
            rest &= rest - 1;
            Some((at * BITS + bit) as u16)
        })
    })
}

fn find_common<T>(a: &[u64], b: &[u64], mut ask: impl FnMut(usize) -> Option<T>) -> Option<T> {
    let mut at = 0;
    loop {
        at += STRIDE * disjoint_strides(&a[at..], &b[at..]);
        for _ in 0..STRIDE {
            let mut common = a.get(at)? & b[at];
            while common != 0 {
                let found = ask(at * BITS + common.trailing_zeros() as usize);
                if found.is_some() {
                    return found;
                }
                common &= common - 1;
            }
            at += 1;
        }
    }
}

/// How many whole strides from the start have no bit in common.
fn disjoint_strides(a: &[u64], b: &[u64]) -> usize {
    let disjoint = |a: &[u64; STRIDE], b: &[u64; STRIDE]| {
        // Without a branch a word, so that it becomes a few wide instructions.
        a.iter().zip(b).fold(0, |common, (a, b)| common | a & b) == 0
    };
    let (a, b) = (a.as_chunks().0, b.as_chunks().0);
    a.iter().zip(b).take_while(|(a, b)| disjoint(a, b)).count()
}
