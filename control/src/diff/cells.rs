//! Addresses by the sets whose ranges hold them: those between two neighbouring bounds are all in the same.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use margay_flowtable::{AddressSet, Policies};

/// Hashes of the sets that hold something, in the old world and in the new.
pub(super) type Sets = [u64; 2];

/// Both families' addresses, cut at the bounds of all ranges of both worlds.
#[derive(Debug)]
pub(super) struct Cells {
    v4: BTreeMap<u128, Sets>,
    v6: BTreeMap<u128, Sets>,
}

impl Cells {
    pub(super) fn of(worlds: [&Policies; 2], hasher: &impl BuildHasher) -> Self {
        let (mut v4, mut v6) = (BTreeMap::new(), BTreeMap::new());
        v4.insert(0, Sets::default());
        v6.insert(0, Sets::default());
        for (world, policies) in worlds.into_iter().enumerate() {
            each_set(policies, hasher, |hash, set| {
                for (first, last) in set.ranges() {
                    let bounds: &mut BTreeMap<u128, Sets> = if first.is_ipv4() { &mut v4 } else { &mut v6 };
                    bounds.entry(bits(first)).or_default()[world] ^= hash;
                    if last != last_of(first.is_ipv4()) {
                        bounds.entry(bits(last) + 1).or_default()[world] ^= hash;
                    }
                }
            });
        }
        for bounds in [&mut v4, &mut v6] {
            let mut held = Sets::default();
            for sets in bounds.values_mut() {
                held = [held[0] ^ sets[0], held[1] ^ sets[1]];
                *sets = held;
            }
        }
        Self { v4, v6 }
    }

    /// The sets that hold the address.
    pub(super) fn at(&self, address: IpAddr) -> Sets {
        let bounds = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        bounds.range(..=bits(address)).next_back().map(|(_, sets)| *sets).unwrap_or_default()
    }

    /// Every cell of a family, from its first to its last address.
    pub(super) fn iter(&self, is_v4: bool) -> impl Iterator<Item = (IpAddr, IpAddr, Sets)> {
        let bounds = if is_v4 { &self.v4 } else { &self.v6 };
        let ends = bounds.keys().skip(1).map(|next| next - 1).chain([bits(last_of(is_v4))]);
        bounds
            .iter()
            .zip(ends)
            .map(move |((first, sets), last)| (address(*first, is_v4), address(last, is_v4), *sets))
    }
}

/// Every set of addresses that rules refer to, with a hash that stands for it.
pub(super) fn each_set(
    policies: &Policies,
    hasher: &impl BuildHasher,
    mut take: impl FnMut(u64, &AddressSet),
) {
    for (id, set) in policies.sets.iter() {
        take(hasher.hash_one((id, 0u8)), set);
    }
    for (id, ports) in policies.port_sets.iter() {
        for (port, set) in ports.iter() {
            take(hasher.hash_one((id, 1u8, port)), set);
        }
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

pub(super) fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => Some(Ipv4Addr::from_bits(address.to_bits().checked_add(1)?).into()),
        IpAddr::V6(address) => Some(Ipv6Addr::from_bits(address.to_bits().checked_add(1)?).into()),
    }
}

fn last_of(is_v4: bool) -> IpAddr {
    if is_v4 { Ipv4Addr::BROADCAST.into() } else { Ipv6Addr::from_bits(u128::MAX).into() }
}

fn address(bits: u128, is_v4: bool) -> IpAddr {
    match u32::try_from(bits) {
        Ok(bits) if is_v4 => Ipv4Addr::from_bits(bits).into(),
        _ => Ipv6Addr::from_bits(bits).into(),
    }
}
