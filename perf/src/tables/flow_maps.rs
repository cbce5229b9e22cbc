//! The flow table and the maps that are compared with it, each used as its documentation advises for many readers.
//!
//! All have the hash function of Margay's table, the same keys and a value of 40 bytes, which a lookup copies out.

use std::hash::{Hash, Hasher};
use std::hint::black_box;

use ahash::RandomState;
use dashmap::DashMap;
use margay_flowtable::{FlowAction, FlowKey, FlowTable, Insert, Timeouts};
use parking_lot::RwLock;
use scc::{Guard, HashIndex};

/// A table from flow keys to what is known of a flow.
pub(super) trait FlowMap: Sync {
    /// An empty one with room for so many entries.
    fn with_capacity(entries: u32) -> Self;
    /// 1 where the key is there, else 0.
    fn lookup(&self, key: &FlowKey) -> u64;
    /// How many of the keys are there.
    fn lookup_burst(&self, keys: &[FlowKey]) -> u64;
    /// True if the key was not there.
    fn insert(&self, key: &FlowKey) -> bool;
    /// True if the key was there.
    fn remove(&self, key: &FlowKey) -> bool;
}

/// What Margay's table keeps of one direction, as plain data.
#[derive(Clone, Copy, Debug)]
struct Value {
    next_hop: u32,
    _generation: u32,
    _last_seen: u32,
    _attributes: u32,
    _rules: u64,
    _owner: u64,
    _translation: u64,
}

const VALUE: Value = Value {
    next_hop: 1,
    _generation: 1,
    _last_seen: 1,
    _attributes: 0,
    _rules: 0,
    _owner: 0,
    _translation: 0,
};

const _: () = assert!(size_of::<Value>() == size_of::<margay_flowtable::Hit>());

#[inline]
fn found(value: Option<&Value>) -> u64 {
    value.map_or(0, |value| u64::from(black_box(*value).next_hop))
}

/// The key with the hash input that Margay's own table gives its hash: two words, not five fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key(FlowKey);

impl Hash for Key {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let FlowKey { src, dst, sport, dport, protocol } = self.0;
        let ports = u64::from(sport) << 24 | u64::from(dport) << 8 | u64::from(protocol);
        state.write_u128(u128::from(u64::from(src) << 32 | u64::from(dst)) << 64 | u128::from(ports));
    }
}

fn hasher() -> RandomState {
    RandomState::with_seeds(1, 2, 3, 4)
}

pub(super) struct Margay(FlowTable);

const GENERATION: u32 = 1;
const ACTION: FlowAction = FlowAction { next_hop: 1, generation: GENERATION, flags: 0 };

impl FlowMap for Margay {
    fn with_capacity(entries: u32) -> Self {
        Self(FlowTable::new(entries, [1, 2, 3, 4], Timeouts::default()))
    }

    #[inline]
    fn lookup(&self, key: &FlowKey) -> u64 {
        let hit = self.0.lookup(key, self.0.hash(key), GENERATION);
        hit.map_or(0, |hit| u64::from(black_box(hit).action.next_hop))
    }

    #[inline]
    fn lookup_burst(&self, keys: &[FlowKey]) -> u64 {
        let mut hits = [None; 64];
        self.0.lookup_burst(keys, GENERATION, &mut hits[..keys.len()]);
        hits.iter().flatten().map(|hit| u64::from(black_box(*hit).action.next_hop)).sum()
    }

    #[inline]
    fn insert(&self, key: &FlowKey) -> bool {
        matches!(self.0.insert(key, self.0.hash(key), [ACTION; 2].into(), key.src, 0, 1), Insert::New(_))
    }

    #[inline]
    fn remove(&self, key: &FlowKey) -> bool {
        let hit = self.0.lookup(key, self.0.hash(key), GENERATION);
        hit.is_some_and(|hit| self.0.remove(hit.flow))
    }
}

pub(super) struct HashbrownRwlock(RwLock<hashbrown::HashMap<Key, Value, RandomState>>);

impl FlowMap for HashbrownRwlock {
    fn with_capacity(entries: u32) -> Self {
        Self(RwLock::new(hashbrown::HashMap::with_capacity_and_hasher(entries as usize, hasher())))
    }

    #[inline]
    fn lookup(&self, key: &FlowKey) -> u64 {
        found(self.0.read().get(&Key(*key)))
    }

    /// One lock for the burst.
    #[inline]
    fn lookup_burst(&self, keys: &[FlowKey]) -> u64 {
        let map = self.0.read();
        keys.iter().map(|key| found(map.get(&Key(*key)))).sum()
    }

    #[inline]
    fn insert(&self, key: &FlowKey) -> bool {
        self.0.write().insert(Key(*key), VALUE).is_none()
    }

    #[inline]
    fn remove(&self, key: &FlowKey) -> bool {
        self.0.write().remove(&Key(*key)).is_some()
    }
}

pub(super) struct Dashmap(DashMap<Key, Value, RandomState>);

impl FlowMap for Dashmap {
    fn with_capacity(entries: u32) -> Self {
        Self(DashMap::with_capacity_and_hasher(entries as usize, hasher()))
    }

    #[inline]
    fn lookup(&self, key: &FlowKey) -> u64 {
        found(self.0.get(&Key(*key)).as_deref())
    }

    #[inline]
    fn lookup_burst(&self, keys: &[FlowKey]) -> u64 {
        keys.iter().map(|key| self.lookup(key)).sum()
    }

    #[inline]
    fn insert(&self, key: &FlowKey) -> bool {
        self.0.insert(Key(*key), VALUE).is_none()
    }

    #[inline]
    fn remove(&self, key: &FlowKey) -> bool {
        self.0.remove(&Key(*key)).is_some()
    }
}

pub(super) struct Papaya(papaya::HashMap<Key, Value, RandomState>);

impl FlowMap for Papaya {
    fn with_capacity(entries: u32) -> Self {
        Self(papaya::HashMap::builder().capacity(entries as usize).hasher(hasher()).build())
    }

    #[inline]
    fn lookup(&self, key: &FlowKey) -> u64 {
        found(self.0.pin().get(&Key(*key)))
    }

    /// One pin for the burst.
    #[inline]
    fn lookup_burst(&self, keys: &[FlowKey]) -> u64 {
        let map = self.0.pin();
        keys.iter().map(|key| found(map.get(&Key(*key)))).sum()
    }

    #[inline]
    fn insert(&self, key: &FlowKey) -> bool {
        self.0.pin().insert(Key(*key), VALUE).is_none()
    }

    #[inline]
    fn remove(&self, key: &FlowKey) -> bool {
        self.0.pin().remove(&Key(*key)).is_some()
    }
}

/// `HashIndex`, scc's map for reading: its `HashMap` locks a bucket for every lookup.
pub(super) struct Scc(HashIndex<Key, Value, RandomState>);

impl FlowMap for Scc {
    fn with_capacity(entries: u32) -> Self {
        Self(HashIndex::with_capacity_and_hasher(entries as usize, hasher()))
    }

    #[inline]
    fn lookup(&self, key: &FlowKey) -> u64 {
        found(self.0.peek(&Key(*key), &Guard::new()))
    }

    /// One guard for the burst.
    #[inline]
    fn lookup_burst(&self, keys: &[FlowKey]) -> u64 {
        let guard = Guard::new();
        keys.iter().map(|key| found(self.0.peek(&Key(*key), &guard))).sum()
    }

    #[inline]
    fn insert(&self, key: &FlowKey) -> bool {
        self.0.insert_sync(Key(*key), VALUE).is_ok()
    }

    #[inline]
    fn remove(&self, key: &FlowKey) -> bool {
        self.0.remove_sync(&Key(*key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::keys::FlowKeys;

    fn holds_what_it_is_given<M: FlowMap>() {
        let keys = FlowKeys::new(1000, 1);
        let map = M::with_capacity(keys.capacity());
        assert!(keys.entries().all(|key| map.insert(&key)));
        let worker = &keys.workers[0];
        for (burst, absent) in worker.hits.chunks(64).zip(worker.misses.chunks(64)).take(100) {
            assert_eq!(map.lookup_burst(burst), burst.len() as u64);
            assert_eq!(map.lookup_burst(absent), 0);
            assert_eq!((map.lookup(&burst[0]), map.lookup(&absent[0])), (1, 0));
        }
        assert!(worker.fresh.iter().all(|key| map.insert(key) && map.lookup(key) == 1));
        assert!(worker.fresh.iter().all(|key| map.remove(key) && map.lookup(key) == 0 && !map.remove(key)));
    }

    #[test]
    fn every_map_holds_what_it_is_given() {
        holds_what_it_is_given::<Margay>();
        holds_what_it_is_given::<HashbrownRwlock>();
        holds_what_it_is_given::<Dashmap>();
        holds_what_it_is_given::<Papaya>();
        holds_what_it_is_given::<Scc>();
    }

    #[test]
    fn the_hash_is_keyed_and_sees_every_field() {
        let key = FlowKey { src: 1, dst: 2, sport: 3, dport: 4, protocol: 17 };
        let others = [
            FlowKey { src: 9, ..key },
            FlowKey { dst: 9, ..key },
            FlowKey { sport: 9, ..key },
            FlowKey { dport: 9, ..key },
            FlowKey { protocol: 6, ..key },
        ];
        assert!(others.iter().all(|other| hasher().hash_one(Key(*other)) != hasher().hash_one(Key(key))));
    }
}
