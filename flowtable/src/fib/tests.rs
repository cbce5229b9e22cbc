//! The table against a scan of all routes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::{Fib, MAX_NEXT_HOPS};
use crate::NextHopId;

/// The routes as a list, scanned for every question.
#[derive(Clone, Default)]
struct Oracle(BTreeMap<(IpAddr, u8), NextHopId>);

fn masked(network: IpAddr, length: u8) -> IpAddr {
    let mask = |bits: u32| u128::MAX.checked_shl(bits - u32::from(length)).unwrap_or(0);
    match network {
        IpAddr::V4(a) => Ipv4Addr::from_bits(a.to_bits() & mask(32) as u32).into(),
        IpAddr::V6(a) => Ipv6Addr::from_bits(a.to_bits() & mask(128)).into(),
    }
}

impl Oracle {
    fn insert(&mut self, network: IpAddr, length: u8, next_hop: NextHopId) -> Option<NextHopId> {
        self.0.insert((masked(network, length), length), next_hop)
    }

    fn remove(&mut self, network: IpAddr, length: u8) -> Option<NextHopId> {
        self.0.remove(&(masked(network, length), length))
    }

    fn lookup(&self, address: IpAddr) -> Option<NextHopId> {
        let covers = |(network, length): &(IpAddr, u8)| {
            network.is_ipv4() == address.is_ipv4() && masked(address, *length) == *network
        };
        let matching = self.0.iter().filter(|(prefix, _)| covers(prefix));
        matching.max_by_key(|((_, length), _)| *length).map(|(_, next_hop)| *next_hop)
    }

    /// Addresses where an answer can change: both ends of every prefix, and those beside them.
    fn edges(&self) -> Vec<IpAddr> {
        let edges = |&(network, length): &(IpAddr, u8)| match network {
            IpAddr::V4(a) => {
                let (first, hosts) = (a.to_bits(), u32::MAX.checked_shr(length.into()).unwrap_or(0));
                let ends = [first, first.wrapping_sub(1), first | hosts, (first | hosts).wrapping_add(1)];
                ends.map(|a| IpAddr::V4(a.into()))
            }
            IpAddr::V6(a) => {
                let (first, hosts) = (a.to_bits(), u128::MAX.checked_shr(length.into()).unwrap_or(0));
                let ends = [first, first.wrapping_sub(1), first | hosts, (first | hosts).wrapping_add(1)];
                ends.map(|a| IpAddr::V6(a.into()))
            }
        };
        self.0.keys().flat_map(edges).collect()
    }
}

/// Asks for the addresses one by one and in a burst.
fn assert_same(fib: &Fib, oracle: &Oracle, probes: &[IpAddr]) -> Result<(), TestCaseError> {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for &probe in probes {
        prop_assert_eq!(fib.lookup(probe), oracle.lookup(probe), "{}", probe);
        match probe {
            IpAddr::V4(a) => v4.push(a.to_bits()),
            IpAddr::V6(a) => v6.push(a.to_bits()),
        }
    }
    let mut out = vec![None; v4.len()];
    fib.lookup4_burst(&v4, &mut out);
    prop_assert!(v4.iter().zip(out).all(|(address, found)| found == fib.lookup4(*address)));
    let mut out = vec![None; v6.len()];
    fib.lookup6_burst(&v6, &mut out);
    prop_assert!(v6.iter().zip(out).all(|(address, found)| found == fib.lookup6(*address)));
    Ok(())
}

/// Addresses crowd into few values of each part that the table tells apart, so that prefixes nest and repeat.
fn address4() -> impl Strategy<Value = IpAddr> {
    let few = prop_oneof![Just(0u32), Just(1), Just(2), Just(63), any::<u32>()];
    (few.clone(), few.clone(), few.clone(), few)
        .prop_map(|(a, b, c, d)| a << 20 | (b & 63) << 14 | (c & 63) << 8 | (d & 255))
        .prop_map(|bits| IpAddr::V4(bits.into()))
}

fn address6() -> impl Strategy<Value = IpAddr> {
    let few = prop_oneof![Just(0u128), Just(1), Just(7), 0..64u128];
    (few.clone(), few.clone(), few.clone(), few)
        .prop_map(|(a, b, c, d)| IpAddr::V6((a << 122 | b << 80 | c << 60 | d).into()))
}

fn route() -> impl Strategy<Value = (IpAddr, u8, NextHopId)> {
    let length4 = prop_oneof![0u8..=32, 11u8..=19, 23u8..=32, Just(24)];
    let length6 = prop_oneof![0u8..=128, 40u8..=64, Just(48), Just(128)];
    let prefix = prop_oneof![(address4(), length4), (address6(), length6)];
    // Few next hops, so that neighbours have the same; and the largest.
    let next_hop = prop_oneof![0u32..4, Just(MAX_NEXT_HOPS - 1)];
    (prefix, next_hop).prop_map(|((network, length), next_hop)| (network, length, NextHopId(next_hop)))
}

/// A change: the route to add, or whose prefix to remove.
fn change() -> impl Strategy<Value = ((IpAddr, u8, NextHopId), bool)> {
    (route(), any::<bool>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn built_equals_scan(
        routes in prop::collection::vec(route(), 0..120),
        probes in prop::collection::vec(prop_oneof![address4(), address6()], 64),
    ) {
        let mut oracle = Oracle::default();
        for &(network, length, next_hop) in &routes {
            oracle.insert(network, length, next_hop);
        }
        let fib = Fib::build(routes);
        assert_same(&fib, &oracle, &probes)?;
        assert_same(&fib, &oracle, &oracle.edges())?;
    }

    #[test]
    fn changed_equals_scan_and_leaves_clones_alone(
        routes in prop::collection::vec(route(), 0..120),
        changes in prop::collection::vec((change(), any::<prop::sample::Index>()), 1..60),
        probes in prop::collection::vec(prop_oneof![address4(), address6()], 64),
    ) {
        let mut oracle = Oracle::default();
        for &(network, length, next_hop) in &routes {
            oracle.insert(network, length, next_hop);
        }
        let mut fib = Fib::build(routes);
        let before = (fib.clone(), oracle.clone());
        for (((network, length, next_hop), is_insert), index) in changes {
            if is_insert {
                prop_assert_eq!(fib.insert(network, length, next_hop), oracle.insert(network, length, next_hop));
            } else if length % 2 == 0 && !oracle.0.is_empty() {
                let (network, length) = *oracle.0.keys().nth(index.index(oracle.0.len())).unwrap();
                prop_assert_eq!(fib.remove(network, length), oracle.remove(network, length));
            } else {
                prop_assert_eq!(fib.remove(network, length), oracle.remove(network, length));
            }
        }
        assert_same(&fib, &oracle, &probes)?;
        assert_same(&fib, &oracle, &oracle.edges())?;
        let rebuilt = Fib::build(oracle.0.iter().map(|(&(network, length), &next_hop)| (network, length, next_hop)));
        assert_same(&rebuilt, &oracle, &oracle.edges())?;
        assert_same(&before.0, &before.1, &probes)?;
        assert_same(&before.0, &before.1, &before.1.edges())?;
    }
}

/// Every route taken out again, in another order, leaves nothing.
#[test]
fn emptied_is_empty() {
    let hosts = (0..2000u32).map(|n| (n.wrapping_mul(0x9e37_79b9), (n % 33) as u8));
    let routes: Vec<(IpAddr, u8)> = hosts
        .flat_map(|(bits, length)| {
            let wide = u128::from(bits) << 96 | u128::from(bits);
            [(IpAddr::V4(bits.into()), length), (IpAddr::V6(wide.into()), length * 4)]
        })
        .collect();
    let mut oracle = Oracle::default();
    let mut fib = Fib::default();
    for &(network, length) in &routes {
        let next_hop = NextHopId(u32::from(length));
        assert_eq!(fib.insert(network, length, next_hop), oracle.insert(network, length, next_hop));
    }
    for &(network, length) in routes.iter().step_by(2).chain(routes.iter().skip(1).step_by(2)) {
        assert_eq!(fib.remove(network, length), oracle.remove(network, length), "{network}/{length}");
    }
    assert!(routes.iter().all(|(address, _)| fib.lookup(*address).is_none()));
}
