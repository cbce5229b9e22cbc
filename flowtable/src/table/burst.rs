//! Lookup of a burst of keys. Every step is taken for all keys before the next, so that the lines that one key waits
//! for come while the others are worked on: hash all and ask for the buckets, search these, load the entries, read them.

use super::index::Word;
use super::slot::Slots;
use super::{FlowTable, Hit, direction};
use crate::key::{FlowKey, Key, KeyWords};
use crate::prefetch::touch;

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
    pub(super) fn of(key: KeyWords, hash: u64, is_ascending: bool) -> Self {
        Self { key, hash, half: NOWHERE, is_ascending }
    }

    /// Whether the search has found nothing.
    #[inline]
    pub(super) fn is_absent(&self) -> bool {
        self.half == NOWHERE
    }

    /// The key, if it is one of IPv4.
    #[inline]
    pub fn key(&self) -> FlowKey {
        self.key.into()
    }

    #[inline]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Takes what the search of its home bucket found.
    #[inline(always)]
    pub(super) fn found(&mut self, word: Word) {
        let half = Slots::number(word.slot(), direction(self.is_ascending, word));
        self.half = if word.is_valid() { half } else { NOWHERE };
    }
}

impl AsMut<Self> for Query {
    fn as_mut(&mut self) -> &mut Self {
        self
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

    /// The first step of a key that is no packet's words.
    pub fn query_key<K: Key>(&self, key: &K) -> Query {
        let query = self.query(key.words(&self.hash));
        Query { is_ascending: key.is_ascending(), ..query }
    }

    /// The second step: searches the buckets, and has the entries come.
    #[inline]
    pub fn search<Q: AsMut<Query>>(&self, queries: &mut [Q]) {
        self.isa.search(&self.index, queries);
        for query in queries {
            if let Some(half) = self.slots.numbered(query.as_mut().half) {
                touch(half);
                self.slots.accounts.touch(query.as_mut().half / 2);
            }
        }
    }

    /// The last step: the connection, if it is where the search has found it. Where this finds nothing,
    /// [`FlowTable::lookup`] may: the key may live in another bucket, or share its tag, or the entry has come since.
    #[inline]
    pub fn fetch(&self, query: &Query, generation: u32) -> Option<Hit> {
        self.slots.read(query.half, query.key, generation)
    }

    /// The same of a key whose words may not be all of it.
    #[inline]
    pub fn fetch_key<K: Key>(&self, query: &Query, key: &K, generation: u32) -> Option<Hit> {
        self.fetch(query, generation).filter(|hit| self.slots.has_key(hit, key))
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
            // Here is no other work for the hints to hide behind.
            for query in &*queries {
                touch(self.index.home_bucket(query.hash));
            }
            self.search(queries);
            for (hit, query) in hits.iter_mut().zip(&*queries) {
                *hit = self
                    .fetch(query, generation)
                    .or_else(|| self.lookup(&query.key(), query.hash, generation));
            }
        }
    }
}
