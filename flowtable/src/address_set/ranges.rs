//! Addresses as sorted ranges: a CIDR with `except` blocks, a single host and `0.0.0.0/0` are one form, and membership is
//! one binary search.

use std::net::IpAddr;

/// Addresses of both families as sorted, disjoint, non-adjacent inclusive ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl Ranges {
    pub(super) fn new(ranges: impl IntoIterator<Item = (IpAddr, IpAddr)>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for range in ranges {
            match range {
                (IpAddr::V4(a), IpAddr::V4(b)) => v4.push((a.to_bits(), b.to_bits())),
                (IpAddr::V6(a), IpAddr::V6(b)) => v6.push((a.to_bits(), b.to_bits())),
                (a, b) => debug_assert!(false, "range of two families: {a}-{b}"),
            }
        }
        Self { v4: merge(v4), v6: merge(v6) }
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => contains(&self.v4, address.to_bits()),
            IpAddr::V6(address) => contains(&self.v6, address.to_bits()),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> {
        let v4 = self.v4.iter().map(|&(a, b)| (IpAddr::V4(a.into()), IpAddr::V4(b.into())));
        let v6 = self.v6.iter().map(|&(a, b)| (IpAddr::V6(a.into()), IpAddr::V6(b.into())));
        v4.chain(v6)
    }
}

/// The addresses of one family as numbers.
pub(crate) trait Family: Copy + Ord {
    const FIRST: Self;

    fn ranges(ranges: &Ranges) -> &[(Self, Self)];
    fn successor(self) -> Option<Self>;
}

macro_rules! family {
    ($number:ty, $ranges:ident) => {
        impl Family for $number {
            const FIRST: Self = Self::MIN;

            fn ranges(ranges: &Ranges) -> &[(Self, Self)] {
                &ranges.$ranges
            }

            fn successor(self) -> Option<Self> {
                self.checked_add(1)
            }
        }
    };
}

family!(u32, v4);
family!(u128, v6);

fn merge<T: Family>(mut ranges: Vec<(T, T)>) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (start, end) in ranges {
        match merged.last_mut() {
            // Overlapping or adjacent: there is no successor where the last range already ends at the top.
            Some(last) if last.1.successor().is_none_or(|next| start <= next) => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    merged.into()
}

fn contains<T: Copy + Ord>(ranges: &[(T, T)], value: T) -> bool {
    let after = ranges.partition_point(|&(start, _)| start <= value);
    after > 0 && value <= ranges[after - 1].1
}
