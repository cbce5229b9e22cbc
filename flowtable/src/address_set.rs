//! Sets of addresses and of address-and-port pairs that policy rules refer to.
//!
//! An [`AddressSet`] is sorted, disjoint, inclusive ranges, so a CIDR with `except` blocks, a single pod and
//! `0.0.0.0/0` are one form, and membership is one binary search.

use std::collections::BTreeMap;
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
        merge(&mut set.v4);
        merge(&mut set.v6);
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

    /// In how many ranges the set is kept.
    pub(crate) fn range_count(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// The addresses in exactly one of the two sets, as ranges.
    pub fn difference_ranges(&self, other: &Self) -> Vec<(IpAddr, IpAddr)> {
        let v4 = symmetric_difference(&self.v4, &other.v4);
        let v6 = symmetric_difference(&self.v6, &other.v6);
        let v4 = v4.into_iter().map(|(a, b)| (IpAddr::V4(a.into()), IpAddr::V4(b.into())));
        let v6 = v6.into_iter().map(|(a, b)| (IpAddr::V6(a.into()), IpAddr::V6(b.into())));
        v4.chain(v6).collect()
    }
}

/// The addresses of one family as numbers.
pub(crate) trait Family: Copy + Ord {
    const FIRST: Self;
    const LAST: Self;

    fn ranges(set: &AddressSet) -> &[(Self, Self)];
    fn successor(self) -> Option<Self>;
    fn predecessor(self) -> Option<Self>;
}

macro_rules! family {
    ($number:ty, $ranges:ident) => {
        impl Family for $number {
            const FIRST: Self = Self::MIN;
            const LAST: Self = Self::MAX;

            fn ranges(set: &AddressSet) -> &[(Self, Self)] {
                &set.$ranges
            }

            fn successor(self) -> Option<Self> {
                self.checked_add(1)
            }

            fn predecessor(self) -> Option<Self> {
                self.checked_sub(1)
            }
        }
    };
}

family!(u32, v4);
family!(u128, v6);

fn merge<T: Family>(ranges: &mut Vec<(T, T)>) {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for &(start, end) in ranges.iter() {
        match merged.last_mut() {
            // Overlapping or adjacent: there is no successor where the last range already ends at the top.
            Some(last) if last.1.successor().is_none_or(|next| start <= next) => last.1 = last.1.max(end),
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
fn symmetric_difference<T: Family>(a: &[(T, T)], b: &[(T, T)]) -> Vec<(T, T)> {
    // Boundaries as (first value of the new stretch, side); a range that ends at the top of the space has no closing one.
    let mut boundaries: Vec<(T, bool)> = Vec::with_capacity(2 * (a.len() + b.len()));
    for (ranges, side) in [(a, false), (b, true)] {
        for &(start, end) in ranges {
            boundaries.push((start, side));
            boundaries.extend(end.successor().map(|next| (next, side)));
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
            && let Some(end) = at.predecessor()
        {
            out.push((start, end));
        }
        inside[usize::from(side)] = !inside[usize::from(side)];
        open = (inside[0] != inside[1]).then_some(at);
    }
    if let (Some(start), Some(top)) = (open, top) {
        out.push((start, top));
    }
    out
}

/// (address, protocol, port) triples: what a named port means on the pods that declare it. Pods mostly agree on the
/// number, so addresses stand by protocol and port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSet {
    services: Vec<((u8, u16), AddressSet)>,
}

impl PortSet {
    pub fn contains(&self, address: IpAddr, protocol: u8, port: u16) -> bool {
        self.services.iter().any(|(service, set)| *service == (protocol, port) && set.contains(address))
    }

    /// The protocols and ports in it.
    pub(crate) fn services(&self) -> impl Iterator<Item = (u8, u16)> {
        self.services.iter().map(|(service, _)| *service)
    }
}

impl FromIterator<(IpAddr, u8, u16)> for PortSet {
    fn from_iter<I: IntoIterator<Item = (IpAddr, u8, u16)>>(triples: I) -> Self {
        let mut services: BTreeMap<(u8, u16), Vec<IpAddr>> = BTreeMap::new();
        for (address, protocol, port) in triples {
            services.entry((protocol, port)).or_default().push(address);
        }
        let set = |(service, addresses)| (service, AddressSet::from_addresses(addresses));
        Self { services: services.into_iter().map(set).collect() }
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
