//! Lookup of a burst of keys. Every step is taken for all keys before the next, so that the lines that one key waits
//! for come while the others are worked on: hash all and ask for the buckets, search the buckets and ask for the
//! entries, read the entries.

use super::index::Word;
use super::slot::Slots;
use super::{FlowTable, Hit, direction, prefetch};
use crate::key::{FlowKey, KeyWords};

/// The number of no half.
const NOWHERE: u32 = u32::MAX;

/// One key on its way through a burst.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    key: KeyWords,
    hash: u64,
    /// Number of the half that the home bucket names for the key; `NOWHERE` if it names none.
    half: u32,
    is_ascending: bool,
}

impl Default for Query {
    /// A query that nobody asks.
    fn default() -> Self {
        Self { key: KeyWords::default(), hash: 0, half: NOWHERE, is_ascending: true }
    }
}

impl Query {
    #[inline]
    pub fn key(&self) -> FlowKey {
        self.key.into()
    }

    #[inline]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Takes what the search of its home bucket found, and asks for the entry.
    #[inline(always)]
    pub(super) fn found(&mut self, word: Word, slots: &Slots) {
        self.half = NOWHERE;
        if word.is_valid() {
            self.half = Slots::number(word.slot(), direction(self.is_ascending, word));
            if let Some(half) = slots.numbered(self.half) {
                prefetch(half);
            }
        }
    }
}

impl FlowTable {
    /// The first step: hashes the key, and asks for its bucket.
    #[inline(always)]
    pub fn query(&self, key: KeyWords) -> Query {
        let (hash, is_ascending) = self.hash.hash_words(key);
        self.prefetch(hash);
        Query { key, hash, half: NOWHERE, is_ascending }
    }

    /// The second step: searches the buckets, and asks for the entries.
    #[inline]
    pub fn search<'q>(&self, queries: impl Iterator<Item = &'q mut Query>) {
        self.isa.search(&self.index, &self.slots, queries);
    }

    /// The last step: the connection, if it is where the search has found it. Where this finds nothing,
    /// [`FlowTable::lookup`] may: the key may live in another bucket, or share its tag, or the entry has come since.
    #[inline]
    pub fn fetch(&self, query: &Query, generation: u32) -> Option<Hit> {
        self.slots.read(query.half, query.key, generation)
    }

    /// Looks all keys up; `hits` is as long.
    pub fn lookup_burst(&self, keys: &[FlowKey], generation: u32, hits: &mut [Option<Hit>]) {
        const BURST: usize = 64;
        let mut queries = [Query::default(); BURST];
        for (keys, hits) in keys.chunks(BURST).zip(hits.chunks_mut(BURST)) {
            let queries = &mut queries[..keys.len()];
            for (query, key) in queries.iter_mut().zip(keys) {
                *query = self.query(key.words());
            }
            self.search(queries.iter_mut());
            for (hit, query) in hits.iter_mut().zip(&*queries) {
                *hit = self
                    .fetch(query, generation)
                    .or_else(|| self.lookup(&query.key(), query.hash, generation));
            }
        }
    }
}
