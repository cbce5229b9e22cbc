//! Extendible hashing (Fagin, Nievergelt, Pippenger and Strong, TODS 1979) with shared pages: the high bits of a key's
//! hash choose its page in a directory, the low bits where in the page to look first.
//!
//! A full page splits in two, so no insert moves more than one page; the directory, which may double then, holds
//! pointers alone. The hash has a seed of its own: nobody chooses addresses that meet in one page.

use std::hash::{BuildHasher, Hash};
use std::ops::Range;
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;

use super::Holder;
use crate::{EndpointId, IdentityId};

/// In `identity` of a slot: nobody. In `endpoint`: not served here.
const NONE: u32 = u32::MAX;

#[derive(Clone)]
pub(super) struct Table<K, const SLOTS: usize> {
    /// Two to the `depth` pages, in the order of the hash bits that lead there; a page may stand several times in a row.
    directory: Arc<[Option<Arc<Page<K, SLOTS>>>]>,
    depth: u32,
    len: usize,
    hasher: DefaultHashBuilder,
}

#[derive(Clone)]
struct Page<K, const SLOTS: usize> {
    slots: [Slot<K>; SLOTS],
    /// How many leading bits all hashes in it share.
    depth: u32,
    len: usize,
}

#[derive(Clone, Copy)]
#[repr(align(16))]
struct Slot<K> {
    key: K,
    identity: u32,
    endpoint: u32,
}

impl<K, const SLOTS: usize> Default for Table<K, SLOTS> {
    fn default() -> Self {
        Self { directory: Arc::new([None]), depth: 0, len: 0, hasher: DefaultHashBuilder::default() }
    }
}

impl<K: Copy + Default + Eq + Hash, const SLOTS: usize> Table<K, SLOTS> {
    #[inline]
    pub(super) fn get(&self, key: K) -> Option<Holder> {
        let hash = self.hasher.hash_one(key);
        let page = self.directory[self.place(hash)].as_ref()?;
        page.slots[page.find(key, hash)].holder()
    }

    pub(super) fn insert(&mut self, key: K, holder: Holder) -> Option<Holder> {
        assert!(holder.identity.0 != NONE, "an identity has this number");
        let hash = self.hasher.hash_one(key);
        let endpoint = holder.endpoint.map_or(NONE, |endpoint| endpoint.0);
        let slot = Slot { key, identity: holder.identity.0, endpoint };
        while self.directory[self.place(hash)].as_ref().is_some_and(|page| page.len == Page::<K, SLOTS>::FULL)
        {
            self.split(hash);
        }
        let before = self.change(hash, |page| page.insert(slot, hash));
        self.len += usize::from(before.is_none());
        before
    }

    pub(super) fn remove(&mut self, key: K) -> Option<Holder> {
        self.get(key)?;
        let hasher = self.hasher.clone();
        let hash = hasher.hash_one(key);
        self.len -= 1;
        self.change(hash, |page| page.remove(key, hash, |key| hasher.hash_one(key)))
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (K, Holder)> {
        let pages = self.directory.chunk_by(|a, b| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        });
        let slots = pages.filter_map(|places| places[0].as_ref()).flat_map(|page| &page.slots);
        slots.filter_map(|slot| Some((slot.key, slot.holder()?)))
    }

    #[inline]
    fn place(&self, hash: u64) -> usize {
        // In two steps, for at depth 0 it is a shift by all bits.
        (hash >> 1 >> (u64::BITS - 1 - self.depth)) as usize
    }

    /// Where the page that stands at this place stands.
    fn places(&self, place: usize) -> Range<usize> {
        let depth = self.directory[place].as_ref().map_or(self.depth, |page| page.depth);
        let count = 1 << (self.depth - depth);
        let first = place & !(count - 1);
        first..first + count
    }

    fn change<T>(&mut self, hash: u64, change: impl FnOnce(&mut Page<K, SLOTS>) -> T) -> T {
        let place = self.place(hash);
        let (places, depth) = (self.places(place), self.depth);
        let directory = Arc::make_mut(&mut self.directory);
        let page = directory[place].take();
        // Where no clone holds the page, nobody else does now, and it is changed as it is.
        directory[places.clone()].fill(None);
        let mut page = page.unwrap_or_else(|| Arc::new(Page::empty(depth)));
        let changed = change(Arc::make_mut(&mut page));
        directory[places].fill(Some(page));
        changed
    }

    /// Splits the page of a hash.
    fn split(&mut self, hash: u64) {
        let mut places = self.places(self.place(hash));
        if places.len() == 1 {
            self.directory = self.directory.iter().flat_map(|page| [page.clone(), page.clone()]).collect();
            self.depth += 1;
            places = self.places(self.place(hash));
        }
        let Some(page) = self.directory[places.start].clone() else { return };
        let mut halves = [Page::empty(page.depth + 1), Page::empty(page.depth + 1)];
        for slot in page.slots.iter().filter(|slot| slot.identity != NONE) {
            let hash = self.hasher.hash_one(slot.key);
            halves[(hash >> (u64::BITS - 1 - page.depth)) as usize & 1].insert(*slot, hash);
        }
        let middle = places.start.midpoint(places.end);
        let directory = Arc::make_mut(&mut self.directory);
        let [low, high] = halves.map(|half| Some(Arc::new(half)));
        directory[places.start..middle].fill(low);
        directory[middle..places.end].fill(high);
    }
}

impl<K: Copy + Default + Eq, const SLOTS: usize> Page<K, SLOTS> {
    /// Slots that are used at most, so that a search ends soon.
    const FULL: usize = SLOTS / 4 * 3;

    fn empty(depth: u32) -> Self {
        let slot = Slot { key: K::default(), identity: NONE, endpoint: NONE };
        Self { slots: [slot; SLOTS], depth, len: 0 }
    }

    /// The slot of the key, or the empty one that it would get.
    #[inline]
    fn find(&self, key: K, hash: u64) -> usize {
        let mut at = Self::home(hash);
        while self.slots[at].identity != NONE && self.slots[at].key != key {
            at = (at + 1) % SLOTS;
        }
        at
    }

    #[inline]
    fn home(hash: u64) -> usize {
        hash as usize % SLOTS
    }

    fn insert(&mut self, slot: Slot<K>, hash: u64) -> Option<Holder> {
        let at = self.find(slot.key, hash);
        let before = std::mem::replace(&mut self.slots[at], slot).holder();
        self.len += usize::from(before.is_none());
        before
    }

    /// Takes a key out and closes the gap, so that a search still ends at the first empty slot.
    fn remove(&mut self, key: K, hash: u64, hash_of: impl Fn(K) -> u64) -> Option<Holder> {
        let mut gap = self.find(key, hash);
        let before = self.slots[gap].holder()?;
        self.len -= 1;
        let mut at = gap;
        loop {
            at = (at + 1) % SLOTS;
            let slot = self.slots[at];
            if slot.identity == NONE {
                self.slots[gap].identity = NONE;
                return Some(before);
            }
            let from_home = |to: usize| to.wrapping_sub(Self::home(hash_of(slot.key))) % SLOTS;
            if from_home(gap) < from_home(at) {
                self.slots[gap] = slot;
                gap = at;
            }
        }
    }
}

impl<K> Slot<K> {
    #[inline]
    fn holder(&self) -> Option<Holder> {
        let endpoint = (self.endpoint != NONE).then_some(EndpointId(self.endpoint));
        (self.identity != NONE).then_some(Holder { identity: IdentityId(self.identity), endpoint })
    }
}
