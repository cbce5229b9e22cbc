//! Which interval a number is in, and which rules' ranges hold it: of ports, and of addresses of either family.
//!
//! The ends of all ranges cut the numbers into intervals, and each interval has a set of rules of its own. So a search
//! ends at one set, however ranges nest.

use crate::address_set::Family;

/// Numbers that ranges are of.
pub(super) trait Number: Copy + Ord {
    const FIRST: Self;

    fn successor(self) -> Option<Self>;
}

impl<T: Family> Number for T {
    const FIRST: Self = T::FIRST;

    fn successor(self) -> Option<Self> {
        Family::successor(self)
    }
}

/// A rule by position, and an inclusive range that it names.
pub(super) type Ranged<T> = (T, T, u16);

/// Finds the interval of a number.
#[derive(Clone, Debug)]
pub(super) struct Intervals<T> {
    /// The first number of each, ascending; the first of all is the lowest.
    starts: Box<[T]>,
}

impl<T: Number> Intervals<T> {
    /// Cuts at the ends of the ranges, or at every so many of them, so that there are at most `most` intervals.
    pub(super) fn of(ranges: &[Ranged<T>], most: usize) -> Self {
        let mut starts = Vec::with_capacity(2 * ranges.len() + 1);
        starts.push(T::FIRST);
        for &(start, end, _) in ranges {
            starts.push(start);
            starts.extend(end.successor());
        }
        starts.sort_unstable();
        starts.dedup();
        let every = starts.len().div_ceil(most);
        Self { starts: starts.into_iter().step_by(every).collect() }
    }

    #[inline]
    pub(super) fn find(&self, number: T) -> usize {
        // A tree of cache lines takes fewer loads and more instructions; these wait for nothing, and so overlap.
        self.starts.partition_point(|start| *start <= number) - 1
    }

    /// The first number of each interval.
    pub(super) fn starts(&self) -> impl Iterator<Item = T> {
        self.starts.iter().copied()
    }

    /// Gives the rules of each interval in turn, as a bitmap, which has room for them all.
    pub(super) fn sweep(&self, ranges: &[Ranged<T>], bitmap: &mut [u64], mut give: impl FnMut(&[u64])) {
        let mut begin: Vec<(u32, u16)> = Vec::with_capacity(ranges.len());
        let mut end: Vec<(u32, u16)> = Vec::with_capacity(ranges.len());
        for &(first, last, rule) in ranges {
            let first_at = self.find(first) as u32;
            let last_at = if first == last { first_at } else { self.find(last) as u32 };
            begin.push((first_at, rule));
            end.push((last_at, rule));
        }
        begin.sort_unstable();
        end.sort_unstable();
        // Ranges of one rule may overlap, or meet in one interval.
        let mut depth = vec![0u32; bitmap.len() * u64::BITS as usize];
        let (mut begin, mut end) = (begin.into_iter().peekable(), end.into_iter().peekable());
        for at in 0..self.starts.len() as u32 {
            while let Some((_, rule)) = begin.next_if(|(first, _)| *first == at) {
                depth[usize::from(rule)] += 1;
                super::rows::insert(bitmap, rule);
            }
            give(bitmap);
            while let Some((_, rule)) = end.next_if(|(last, _)| *last == at) {
                depth[usize::from(rule)] -= 1;
                if depth[usize::from(rule)] == 0 {
                    super::rows::remove(bitmap, rule);
                }
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.starts)
    }
}
