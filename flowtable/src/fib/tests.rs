//! The table against a scan of all routes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::Fib;
use crate::{FlowAction, NextHopId};

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

fn build(oracle: &Oracle) -> Fib {
    Fib::build(oracle.0.iter().map(|(&(network, length), &next_hop)| (network, length, next_hop)))
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
    let next_hop = prop_oneof![0u32..4, Just(FlowAction::NEXT_HOPS - 1)];
    (prefix, next_hop).prop_map(|((network, length), next_hop)| (network, length, NextHopId(next_hop)))
}

/// A change: the route to add, or whose prefix to remove.
fn change() -> impl Strategy<Value = ((IpAddr, u8, NextHopId), bool)> {
    (route(), any::<bool>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

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
        let mut applied = Vec::new();
        for (((network, length, next_hop), is_insert), index) in changes {
            if is_insert {
                prop_assert_eq!(fib.insert(network, length, next_hop), oracle.insert(network, length, next_hop));
                applied.push((network, length, Some(next_hop)));
                continue;
            }
            // A prefix that is there, or one that may not be.
            let there = oracle.0.keys().nth(index.index(oracle.0.len() * 2 + 1)).copied();
            let (network, length) = there.unwrap_or((network, length));
            prop_assert_eq!(fib.remove(network, length), oracle.remove(network, length));
            applied.push((network, length, None));
        }
        let mut at_once = before.0.clone();
        at_once.apply(applied);
        assert_same(&fib, &oracle, &probes)?;
        assert_same(&fib, &oracle, &oracle.edges())?;
        assert_same(&at_once, &oracle, &oracle.edges())?;
        assert_same(&build(&oracle), &oracle, &oracle.edges())?;
        assert_same(&before.0, &before.1, &probes)?;
        assert_same(&before.0, &before.1, &before.1.edges())?;
    }
}

/// Enough routes, nested and of every length, that IPv6 blocks split, cover one another and join again.
#[test]
fn filled_and_emptied_equals_scan() {
    let prefix = |n: u32| {
        let bits = n.wrapping_mul(0x9e37_79b9);
        let wide = u128::from(bits >> 28) << 124 | u128::from(bits & 0xffff) << 60;
        [(IpAddr::V4(bits.into()), (n % 33) as u8), (IpAddr::V6(wide.into()), (n % 129) as u8)]
    };
    let prefixes: Vec<(IpAddr, u8)> = (0..1500).flat_map(prefix).collect();
    let mut oracle = Oracle::default();
    let mut fib = Fib::default();
    let check = |fib: &Fib, oracle: &Oracle, step: usize| {
        if step.is_multiple_of(500) {
            let probes: Vec<_> = oracle.edges().into_iter().skip(step / 500).step_by(31).collect();
            assert_same(fib, oracle, &probes).unwrap();
        }
    };
    for (step, &(network, length)) in prefixes.iter().enumerate() {
        let next_hop = NextHopId(u32::from(length));
        assert_eq!(fib.insert(network, length, next_hop), oracle.insert(network, length, next_hop));
        check(&fib, &oracle, step);
    }
    let every_other = prefixes.iter().step_by(2).chain(prefixes.iter().skip(1).step_by(2));
    for (step, &(network, length)) in every_other.enumerate() {
        assert_eq!(fib.remove(network, length), oracle.remove(network, length), "{network}/{length}");
        check(&fib, &oracle, step);
    }
    assert!(prefixes.iter().all(|(address, _)| fib.lookup(*address).is_none()));
}

/// The lengths of a full table at the density of a full table: 62,500 IPv4 routes in a sixteenth of the address space.
#[test]
fn full_table_takes_at_most_16_bytes_a_route() {
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as usize % below
    };
    let lengths4 = [24; 60].into_iter().chain([23; 10]).chain([22; 11]).chain([21, 20].repeat(4));
    let lengths4: Vec<u8> = lengths4.chain([32, 32, 19, 19, 18, 18, 17, 16, 16, 13, 12]).collect();
    let lengths6 = [48; 50].into_iter().chain([32; 12]).chain([44, 40].repeat(10)).chain([36; 8]);
    let lengths6: Vec<u8> = lengths6.chain([29, 46, 56, 64].repeat(2)).collect();
    let mut oracle = Oracle::default();
    while oracle.0.len() < 62_500 {
        let (length, bits) = (lengths4[random(lengths4.len())], 0x4000_0000 | random(0x1000_0000) as u32);
        oracle.insert(IpAddr::V4(bits.into()), length, NextHopId(random(300) as u32));
    }
    let empty = Fib::default().bytes().v4;
    let v4 = build(&oracle).bytes().v4 - empty;
    assert!(v4 <= 16 * 62_500, "{v4}");
    oracle.0.clear();
    while oracle.0.len() < 20_000 {
        let bits = 0x2000 << 112 | (random(1 << 29) as u128) << 96 | (random(1 << 32) as u128) << 64;
        oracle.insert(
            IpAddr::V6(bits.into()),
            lengths6[random(lengths6.len())],
            NextHopId(random(300) as u32),
        );
    }
    let v6 = build(&oracle).bytes().v6;
    assert!(v6 <= 16 * 20_000, "{v6}");
}
