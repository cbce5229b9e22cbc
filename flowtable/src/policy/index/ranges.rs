//! The dimension of the peer's address, of one family.

use super::intervals::{Intervals, Number};
use super::peers::Peers;
use super::rows::{Interner, Row};
use crate::address_set::Family;

#[derive(Clone, Debug)]
pub(super) struct RangeIndex<T> {
    intervals: Intervals<T>,
    /// By interval.
    rows: Box<[Row]>,
}

impl<T: Family + Number> RangeIndex<T> {
    /// `None` where no rule names a range.
    pub(super) fn of(peers: &Peers<'_>, interner: &mut Interner) -> Option<Box<Self>> {
        let ranges = peers.ranges::<T>();
        if ranges.is_empty() {
            return None;
        }
        let intervals = Intervals::of(&ranges, usize::MAX);
        let mut rows = Vec::new();
        intervals.sweep(&ranges, &mut interner.empty(), |rules| rows.push(interner.row(rules)));
        Some(Box::new(Self { intervals, rows: rows.into() }))
    }

    /// The rules of which a range holds the address.
    #[inline]
    pub(super) fn find(&self, address: T) -> Row {
        self.rows[self.intervals.find(address)]
    }

    pub(super) fn bytes(&self) -> usize {
        self.intervals.bytes() + size_of_val(&*self.rows)
    }
}
