//! The index of the flow table: from a hash to the connections that may have the key.
//!
//! Buckets of one cache line, seven words and a count each. A connection has one word, in its home bucket, or if that
//! is full in one of the next [`PROBE`] - 1. The home bucket counts for each step how many of its connections live
//! there, so that a search goes on only where there is something to find. With every slot taken, which fills half the
//! words, 3 % of the buckets have sent a connection on, and 1.3 % of the connections live outside their home.
//!
//! # Protocol of a word
//!
//! `EMPTY -> INSERTING -> VALID -> EMPTY`, or `INSERTING -> EMPTY` if the insert gives way. A word that is not empty
//! names a connection slot, and a slot stands in one word at most, so no two threads ever mean different things by
//! one value while its owner holds the slot. Connections never move.

use super::memory::Array;
use crate::sync::{AtomicU64, Ordering};

#[cfg(not(loom))]
const ENTRIES: usize = 7;
#[cfg(not(loom))]
pub(super) const PROBE: usize = 8;
/// Models need to be tiny, and to meet full buckets with few connections.
#[cfg(loom)]
const ENTRIES: usize = 2;
#[cfg(loom)]
pub(super) const PROBE: usize = 2;

/// State (2 bits), orientation (1 bit: the Original key is ascending), tag (29 bits of the hash), slot (32 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(u64);

const EMPTY: u64 = 0;
const INSERTING: u64 = 1 << 62;
const VALID: u64 = 2 << 62;
const ASCENDING: u64 = 1 << 61;
const TAG: u64 = ((1 << 29) - 1) << 32;

impl Word {
    /// No connection's.
    pub(super) const NONE: Self = Self(EMPTY);

    pub(super) fn inserting(hash: u64, slot: u32, ascending: bool) -> Self {
        let orientation = if ascending { ASCENDING } else { 0 };
        Self(INSERTING | orientation | tag(hash) | u64::from(slot))
    }

    fn validated(self) -> Self {
        Self(self.0 & !INSERTING | VALID)
    }

    #[inline]
    pub(super) fn is_valid(self) -> bool {
        self.0 & VALID != 0
    }

    #[inline]
    pub(super) fn slot(self) -> u32 {
        self.0 as u32
    }

    /// Whether the connection's Original key is ascending.
    #[inline]
    pub(super) fn is_ascending(self) -> bool {
        self.0 & ASCENDING != 0
    }

    #[inline]
    fn matches(self, hash: u64) -> bool {
        self.0 != EMPTY && self.0 & TAG == tag(hash)
    }

    /// Which bits tell a valid word with the hash's tag, and their values.
    #[inline]
    pub(super) const fn pattern(hash: u64) -> (u64, u64) {
        (VALID | TAG, VALID | tag(hash))
    }

    /// The word, if it is valid and has the hash's tag, else `NONE`.
    #[inline]
    pub(super) fn if_valid(self, hash: u64) -> Self {
        let (mask, wanted) = Self::pattern(hash);
        if self.0 & mask == wanted { self } else { Self::NONE }
    }
}

/// The low bits: the high ones choose the bucket.
#[inline]
const fn tag(hash: u64) -> u64 {
    hash << 32 & TAG
}

/// Where a word stands: ordered as a search goes, the same for every search of one hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    step: usize,
    entry: usize,
}

#[repr(C, align(64))]
pub(super) struct Bucket {
    words: [AtomicU64; ENTRIES],
    /// Byte n: connections whose home this is that live n buckets further on, those being inserted there included.
    /// At most `ENTRIES` and one for each thread that is inserting.
    displaced: AtomicU64,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Bucket>() == 64 && std::mem::offset_of!(Bucket, words) == 0);

impl Bucket {
    /// The words now. Acquire: with a word come the contents of its slot, which were written before it.
    #[inline]
    pub(super) fn words(&self) -> impl Iterator<Item = Word> {
        self.words.iter().map(|word| Word(word.load(Ordering::Acquire)))
    }

    #[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
    #[inline]
    pub(super) fn word(&self, entry: usize) -> Word {
        Word(self.words[entry].load(Ordering::Acquire))
    }
}

pub(super) struct Index {
    buckets: Array<Bucket>,
}

impl Index {
    /// An index in which `connections` take half of the words.
    pub(super) fn new(connections: usize) -> Self {
        let buckets = (2 * connections).div_ceil(ENTRIES).max(PROBE);
        let bucket =
            || Bucket { words: std::array::from_fn(|_| AtomicU64::new(EMPTY)), displaced: AtomicU64::new(0) };
        Self { buckets: Array::new(buckets, std::iter::repeat_with(bucket)) }
    }

    /// Where a search for the hash begins.
    #[inline]
    #[allow(unsafe_code)]
    pub(super) fn home_bucket(&self, hash: u64) -> &Bucket {
        // SAFETY: hash < 2^64, so the high half of its product with the number of buckets is below that number.
        unsafe { self.buckets.get_unchecked(self.home(hash)) }
    }

    #[inline]
    fn home(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.buckets.len() as u128) >> 64) as usize
    }

    #[inline]
    fn bucket(&self, home: usize, step: usize) -> &Bucket {
        let at = home + step;
        &self.buckets[if at < self.buckets.len() { at } else { at - self.buckets.len() }]
    }

    /// Whether a connection whose home is that of the hash lives elsewhere. To be asked after the home was searched.
    #[inline]
    pub(super) fn has_displaced(&self, hash: u64) -> bool {
        self.home_bucket(hash).displaced.load(Ordering::Acquire) != 0
    }

    fn word(&self, hash: u64, position: Position) -> &AtomicU64 {
        &self.bucket(self.home(hash), position.step).words[position.entry]
    }

    /// The first result of `examine` among the words that may be the hash's. A word that is `VALID` before the search
    /// begins and stays so is examined: `claim` counts a displaced word before the word can be seen.
    #[inline]
    pub(super) fn find<R>(
        &self,
        hash: u64,
        mut examine: impl FnMut(Position, Word) -> Option<R>,
    ) -> Option<R> {
        let home = self.home(hash);
        let found = self.find_in(hash, home, 0, &mut examine);
        if found.is_some() {
            return found;
        }
        let displaced = self.buckets[home].displaced.load(Ordering::Acquire);
        if displaced == 0 {
            return None;
        }
        (1..PROBE)
            .filter(|step| displaced >> (8 * step) & 0xff != 0)
            .find_map(|step| self.find_in(hash, home, step, &mut examine))
    }

    #[inline]
    fn find_in<R>(
        &self,
        hash: u64,
        home: usize,
        step: usize,
        examine: &mut impl FnMut(Position, Word) -> Option<R>,
    ) -> Option<R> {
        self.bucket(home, step).words.iter().enumerate().find_map(|(entry, word)| {
            // Acquire: with the word come the contents of the slot, which were written before it.
            let word = Word(word.load(Ordering::Acquire));
            if word.matches(hash) { examine(Position { step, entry }, word) } else { None }
        })
    }

    /// Puts the word into the first empty place of the hash. Bounded: every place is tried once.
    pub(super) fn claim(&self, hash: u64, word: Word) -> Option<Position> {
        let home = self.home(hash);
        (0..PROBE).find_map(|step| {
            let bucket = self.bucket(home, step);
            if bucket.words.iter().all(|word| word.load(Ordering::Relaxed) != EMPTY) {
                return None;
            }
            self.count(home, step, 1);
            let entry = bucket.words.iter().position(|place| {
                place.load(Ordering::Relaxed) == EMPTY
                    && place.compare_exchange(EMPTY, word.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            });
            if entry.is_none() {
                self.count(home, step, -1);
            }
            entry.map(|entry| Position { step, entry })
        })
    }

    /// `INSERTING -> VALID` by the inserter. False if another insert has taken the word out; the place is then lost.
    pub(super) fn validate(&self, hash: u64, position: Position, word: Word) -> bool {
        let valid = self.exchange(hash, position, word.0, word.validated().0);
        if !valid {
            self.count(self.home(hash), position.step, -1);
        }
        valid
    }

    /// Gives a place up by whoever claimed it or, for a valid word, by whoever has won its removal.
    pub(super) fn release(&self, hash: u64, position: Position, word: Word) {
        self.exchange(hash, position, word.0, EMPTY);
        self.count(self.home(hash), position.step, -1);
    }

    /// Takes out the word of another insert. False if it has become valid; true if it is out, by whomsoever.
    pub(super) fn evict(&self, hash: u64, position: Position, word: Word) -> bool {
        let out = self.exchange(hash, position, word.0, EMPTY);
        out || self.word(hash, position).load(Ordering::Acquire) != word.validated().0
    }

    fn exchange(&self, hash: u64, position: Position, from: u64, to: u64) -> bool {
        let word = self.word(hash, position);
        word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    fn count(&self, home: usize, step: usize, change: i64) {
        if step > 0 {
            let change = (change << (8 * step)).cast_unsigned();
            self.buckets[home].displaced.fetch_add(change, Ordering::AcqRel);
        }
    }
}
