//! Sets of addresses and of address-and-port pairs that policy rules refer to.
//!
//! An [`AddressSet`] is sorted, disjoint, inclusive ranges, so a CIDR with `except` blocks, a single pod and
//! `0.0.0.0/0` are one form, and membership is one binary search.

use std::collections::BTreeSet;
use std::net::IpAddr;

/// Addresses of both families as sorted, disjoint, non-adjacent inclusive ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressSet {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl AddressSet {
    /// Builds the set from inclusive ranges in any order; both ends of a range are of one family and ascending.
    pub fn from_ranges(ranges: impl IntoIterator<Item = (IpAddr, IpAddr)>) -> Self {
        let mut set = Self::default();
        for range in ranges {
            match range {
                (IpAddr::V4(a), IpAddr::V4(b)) => set.v4.push((a.into(), b.into())),
                (IpAddr::V6(a), IpAddr::V6(b)) => set.v6.push((a.into(), b.into())),
                (a, b) => debug_assert!(false, "range of two families: {a}-{b}"),
            }
        }
        merge(&mut set.v4, |end| end.checked_add(1));
        merge(&mut set.v6, |end| end.checked_add(1));
        set
    }

    /// Builds the set from single addresses.
    pub fn from_addresses(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self::from_ranges(addresses.into_iter().map(|a| (a, a)))
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(a) => range_contains(&self.v4, u32::from(a)),
            IpAddr::V6(a) => range_contains(&self.v6, u128::from(a)),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// The addresses in exactly one of the two sets, as ranges.
    pub fn difference_ranges(&self, other: &Self) -> Vec<(IpAddr, IpAddr)> {
        let v4 = symmetric_difference(&self.v4, &other.v4, |v| v.checked_add(1), |v| v - 1);
        let v6 = symmetric_difference(&self.v6, &other.v6, |v| v.checked_add(1), |v| v - 1);
        let v4 = v4.into_iter().map(|(a, b)| (IpAddr::V4(a.into()), IpAddr::V4(b.into())));
        let v6 = v6.into_iter().map(|(a, b)| (IpAddr::V6(a.into()), IpAddr::V6(b.into())));
        v4.chain(v6).collect()
    }
}

fn merge<T: Copy + Ord>(ranges: &mut Vec<(T, T)>, successor: impl Fn(T) -> Option<T>) {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for &(start, end) in ranges.iter() {
        match merged.last_mut() {
            // Overlapping or adjacent: `successor` is None where the last range already ends at the top.
            Some(last) if successor(last.1).is_none_or(|next| start <= next) => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    *ranges = merged;
}

fn range_contains<T: Copy + Ord>(ranges: &[(T, T)], value: T) -> bool {
    let after = ranges.partition_point(|&(start, _)| start <= value);
    after > 0 && value <= ranges[after - 1].1
}

/// Sweeps both range lists at once: every boundary flips membership on one side, and a stretch belongs to the
/// difference while exactly one side is inside.
fn symmetric_difference<T: Copy + Ord>(
    a: &[(T, T)],
    b: &[(T, T)],
    successor: impl Fn(T) -> Option<T>,
    predecessor: impl Fn(T) -> T,
) -> Vec<(T, T)> {
    // Boundaries as (first value of the new stretch, side); a range that ends at the top of the space has no closing one.
    let mut boundaries: Vec<(T, bool)> = Vec::with_capacity(2 * (a.len() + b.len()));
    for (ranges, side) in [(a, false), (b, true)] {
        for &(start, end) in ranges {
            boundaries.push((start, side));
            boundaries.extend(successor(end).map(|next| (next, side)));
        }
    }
    boundaries.sort_unstable();
    let top = a.last().into_iter().chain(b.last()).map(|r| r.1).max();
    let mut inside = [false; 2];
    let mut open: Option<T> = None;
    let mut out = Vec::new();
    for (at, side) in boundaries {
        if let Some(start) = open.take_if(|_| inside[0] != inside[1])
            && start < at
        {
            out.push((start, predecessor(at)));
        }
        inside[usize::from(side)] = !inside[usize::from(side)];
        open = (inside[0] != inside[1]).then_some(at);
    }
    if let (Some(start), Some(top)) = (open, top) {
        out.push((start, top));
    }
    out
}

/// (address, protocol, port) triples: what a named port means on the pods that declare it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSet(pub BTreeSet<(IpAddr, u8, u16)>);

impl PortSet {
    pub fn contains(&self, address: IpAddr, protocol: u8, port: u16) -> bool {
        self.0.contains(&(address, protocol, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(a: u32, b: u32) -> (IpAddr, IpAddr) {
        (IpAddr::V4(a.into()), IpAddr::V4(b.into()))
    }

    #[test]
    fn ranges_merge_and_contain() {
        let set =
            AddressSet::from_ranges([v4(10, 20), v4(21, 30), v4(5, 5), v4(28, 40), v4(u32::MAX, u32::MAX)]);
        assert_eq!(set.v4, [(5, 5), (10, 40), (u32::MAX, u32::MAX)]);
        for (value, inside) in
            [(4, false), (5, true), (6, false), (10, true), (40, true), (41, false), (u32::MAX, true)]
        {
            assert_eq!(set.contains(IpAddr::V4(value.into())), inside, "{value}");
        }
    }

    #[test]
    fn difference_is_where_membership_differs() {
        type Ranges = &'static [(u32, u32)];
        let cases: &[(Ranges, Ranges)] = &[
            (&[(1, 5)], &[(3, 8)]),
            (&[(1, 5)], &[]),
            (&[(1, 5), (7, 9)], &[(1, 9)]),
            (&[(0, 3), (250, 255)], &[(3, 3), (255, 255)]),
            (&[(0, 9)], &[(0, 9)]),
        ];
        for (a, b) in cases {
            let (a, b) = (
                AddressSet::from_ranges(a.iter().map(|r| v4(r.0, r.1))),
                AddressSet::from_ranges(b.iter().map(|r| v4(r.0, r.1))),
            );
            let difference = AddressSet::from_ranges(a.difference_ranges(&b));
            for value in 0..300u32 {
                let address = IpAddr::V4(value.into());
                assert_eq!(
                    difference.contains(address),
                    a.contains(address) != b.contains(address),
                    "{value} in {a:?} {b:?}"
                );
            }
        }
        let all = AddressSet::from_ranges([v4(0, u32::MAX)]);
        assert_eq!(all.difference_ranges(&AddressSet::default()), [v4(0, u32::MAX)]);
    }
}
