//! Things that many refer to, each kept once under a number, for as long as anybody does.

use std::collections::HashMap;
use std::hash::Hash;

/// Keys under numbers. A key is counted: it goes with its last user, and its number is given again.
#[derive(Clone, Debug)]
pub(super) struct Interned<K> {
    numbers: HashMap<K, u32>,
    entries: Vec<Option<Entry<K>>>,
    free: Vec<u32>,
}

#[derive(Clone, Debug)]
struct Entry<K> {
    key: K,
    users: u32,
}

impl<K> Default for Interned<K> {
    fn default() -> Self {
        Self { numbers: HashMap::new(), entries: Vec::new(), free: Vec::new() }
    }
}

impl<K: Clone + Eq + Hash> Interned<K> {
    /// One user more. True where the key is new.
    pub(super) fn hold(&mut self, key: K) -> (u32, bool) {
        if let Some(&number) = self.numbers.get(&key) {
            self.hold_again(number);
            return (number, false);
        }
        let entry = Some(Entry { key: key.clone(), users: 1 });
        let number = if let Some(number) = self.free.pop() {
            self.entries[number as usize] = entry;
            number
        } else {
            self.entries.push(entry);
            self.entries.len() as u32 - 1
        };
        self.numbers.insert(key, number);
        (number, true)
    }

    pub(super) fn hold_again(&mut self, number: u32) {
        if let Some(entry) = &mut self.entries[number as usize] {
            entry.users += 1;
        }
    }

    /// One user less. The key, where that was the last.
    pub(super) fn let_go(&mut self, number: u32) -> Option<K> {
        let entry = self.entries[number as usize].as_mut()?;
        entry.users -= 1;
        if entry.users > 0 {
            return None;
        }
        let key = self.entries[number as usize].take()?.key;
        self.numbers.remove(&key);
        self.free.push(number);
        Some(key)
    }

    pub(super) fn number(&self, key: &K) -> Option<u32> {
        self.numbers.get(key).copied()
    }

    /// `None` for a number that is free.
    pub(super) fn get(&self, number: u32) -> Option<&K> {
        Some(&self.entries.get(number as usize)?.as_ref()?.key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &K)> {
        (0..).zip(&self.entries).filter_map(|(number, entry)| Some((number, &entry.as_ref()?.key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_goes_with_its_last_user_and_its_number_is_given_again() {
        let mut interned = Interned::default();
        assert_eq!(interned.hold("a"), (0, true));
        assert_eq!(interned.hold("b"), (1, true));
        assert_eq!(interned.hold("a"), (0, false));
        assert_eq!(interned.let_go(0), None);
        assert_eq!(interned.let_go(0), Some("a"));
        assert_eq!((interned.number(&"a"), interned.get(0)), (None, None));
        assert_eq!(interned.hold("c"), (0, true));
        assert_eq!(interned.iter().collect::<Vec<_>>(), [(0, &"c"), (1, &"b")]);
    }
}
