//! A persistent vector: values by small numbers. Clones share everything; a change copies one page.
//!
//! Three levels of 64, the topmost open: a value is three dependent loads away, and at 100,000 values a clone copies 25
//! pointers, and the first change of a page after that two levels of 64.

use std::array;
use std::fmt;
use std::ops::Index;
use std::sync::Arc;

const BITS: u32 = 6;
const FANOUT: usize = 1 << BITS;

type Leaf<T> = [Option<T>; FANOUT];
type Branch<T> = [Option<Arc<Leaf<T>>>; FANOUT];

#[derive(Clone)]
pub struct Paged<T> {
    root: Vec<Option<Arc<Branch<T>>>>,
    len: usize,
}

/// Positions in root, branch and leaf.
fn places(index: u32) -> (usize, usize, usize) {
    let index = index as usize;
    (index >> (2 * BITS), index >> BITS & (FANOUT - 1), index & (FANOUT - 1))
}

impl<T> Paged<T> {
    #[inline]
    pub fn get(&self, index: u32) -> Option<&T> {
        let (root, branch, leaf) = places(index);
        self.root.get(root)?.as_ref()?[branch].as_ref()?[leaf].as_ref()
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The values by ascending number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.root.iter().zip(0u32..).filter_map(|(branch, at)| Some((branch.as_ref()?, at))).flat_map(
            |(branch, at)| {
                let leaves =
                    branch.iter().zip(at << BITS..).filter_map(|(leaf, at)| Some((leaf.as_ref()?, at)));
                leaves.flat_map(|(leaf, at)| {
                    leaf.iter().zip(at << BITS..).filter_map(|(value, at)| Some((at, value.as_ref()?)))
                })
            },
        )
    }
}

impl<T: Clone> Paged<T> {
    /// Sets a value and returns the one that had the number.
    pub fn set(&mut self, index: u32, value: T) -> Option<T> {
        let (root, branch, leaf) = places(index);
        if self.root.len() <= root {
            self.root.resize_with(root + 1, || None);
        }
        let branches = self.root[root].get_or_insert_with(|| Arc::new(array::from_fn(|_| None)));
        let leaves =
            Arc::make_mut(branches)[branch].get_or_insert_with(|| Arc::new(array::from_fn(|_| None)));
        let before = Arc::make_mut(leaves)[leaf].replace(value);
        self.len += usize::from(before.is_none());
        before
    }

    pub fn remove(&mut self, index: u32) -> Option<T> {
        self.get(index)?;
        let (root, branch, leaf) = places(index);
        let leaves = Arc::make_mut(self.root[root].as_mut()?)[branch].as_mut()?;
        let before = Arc::make_mut(leaves)[leaf].take();
        self.len -= usize::from(before.is_some());
        before
    }
}

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Self { root: Vec::new(), len: 0 }
    }
}

impl<T> Index<u32> for Paged<T> {
    type Output = T;

    fn index(&self, index: u32) -> &T {
        self.get(index).expect("a value has this number")
    }
}

impl<T: Clone> FromIterator<T> for Paged<T> {
    /// Numbers the values from 0.
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut paged = Self::default();
        for (index, value) in (0..).zip(values) {
            paged.set(index, value);
        }
        paged
    }
}

impl<T: fmt::Debug> fmt::Debug for Paged<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<T: PartialEq> PartialEq for Paged<T> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<T: Eq> Eq for Paged<T> {}
