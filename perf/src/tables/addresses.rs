//! Addresses of both families as numbers, and routes that lie and are long as those of the Internet's full table.

use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fastrand::Rng;
use ip_network::{IpNetwork, Ipv4Network, Ipv6Network};
use ip_network_table::IpNetworkTable;
use margay_flowtable::{Fib, NextHopId};

pub(super) trait Address: Copy + Eq + Hash + Send + Sync + 'static {
    const BITS: u8;
    /// Prefix length of what registries give out: routes crowd in these.
    const ALLOCATION: u8;

    fn ip(self) -> IpAddr;
    fn network(self, length: u8) -> IpNetwork;
    /// A random address of the network that this one is in.
    fn host(self, length: u8, rng: &mut Rng) -> Self;
    fn random_route(rng: &mut Rng) -> (Self, u8);
    fn longest_match(self, table: &IpNetworkTable<u32>) -> Option<u32>;
    fn look_up(self, fib: &Fib) -> Option<NextHopId>;
    fn look_up_burst(fib: &Fib, addresses: &[Self], found: &mut [Option<NextHopId>]);
}

/// Of 10,000 IPv4 routes, how many have which length (as route collectors saw it in 2024, rounded).
const LENGTHS_V4: [(u8, u32); 14] = [
    (24, 5980),
    (23, 1000),
    (22, 1100),
    (21, 510),
    (20, 450),
    (19, 260),
    (18, 145),
    (17, 90),
    (16, 140),
    (15, 200),
    (14, 75),
    (13, 30),
    (12, 15),
    (11, 5),
];

/// The same of IPv6.
const LENGTHS_V6: [(u8, u32); 12] = [
    (48, 4700),
    (44, 1000),
    (40, 950),
    (32, 1150),
    (36, 550),
    (29, 300),
    (46, 350),
    (47, 300),
    (45, 200),
    (42, 250),
    (38, 150),
    (34, 100),
];

/// The first 12 bits of what the registries give IPv6 allocations out of.
const REGISTRIES_V6: [u32; 6] = [0x200, 0x240, 0x260, 0x280, 0x2a0, 0x2c0];

fn length(of_10_000: &[(u8, u32)], rng: &mut Rng) -> u8 {
    let all: u32 = of_10_000.iter().map(|(_, count)| count).sum();
    let mut at = rng.u32(..all);
    for &(length, count) in of_10_000 {
        match at.checked_sub(count) {
            None => return length,
            Some(rest) => at = rest,
        }
    }
    unreachable!("`at` is below the sum of the counts")
}

impl Address for u32 {
    const BITS: u8 = 32;
    const ALLOCATION: u8 = 16;

    fn ip(self) -> IpAddr {
        Ipv4Addr::from_bits(self).into()
    }

    fn network(self, length: u8) -> IpNetwork {
        Ipv4Network::new(Ipv4Addr::from_bits(self), length).expect("host bits are zero").into()
    }

    fn host(self, length: u8, rng: &mut Rng) -> Self {
        let hosts = u32::MAX.checked_shr(length.into()).unwrap_or(0);
        self & !hosts | rng.u32(..) & hosts
    }

    /// Every other /16 of the unicast space, chosen by a hash, is in use.
    fn random_route(rng: &mut Rng) -> (Self, u8) {
        let allocation = loop {
            let candidate = rng.u32(0x0100..0xe000);
            if candidate.wrapping_mul(0x9e37_79b9) >> 31 == 0 {
                break candidate;
            }
        };
        let length = length(&LENGTHS_V4, rng);
        let address = (allocation << 16).host(16, rng);
        (address & !(u32::MAX >> length), length)
    }

    #[inline]
    fn longest_match(self, table: &IpNetworkTable<u32>) -> Option<u32> {
        table.longest_match_ipv4(Ipv4Addr::from_bits(self)).map(|(_, &id)| id)
    }

    #[inline]
    fn look_up(self, fib: &Fib) -> Option<NextHopId> {
        fib.lookup4(self)
    }

    #[inline]
    fn look_up_burst(fib: &Fib, addresses: &[Self], found: &mut [Option<NextHopId>]) {
        fib.lookup4_burst(addresses, found);
    }
}

impl Address for u128 {
    const BITS: u8 = 128;
    const ALLOCATION: u8 = 32;

    fn ip(self) -> IpAddr {
        Ipv6Addr::from_bits(self).into()
    }

    fn network(self, length: u8) -> IpNetwork {
        Ipv6Network::new(Ipv6Addr::from_bits(self), length).expect("host bits are zero").into()
    }

    fn host(self, length: u8, rng: &mut Rng) -> Self {
        let hosts = u128::MAX.checked_shr(length.into()).unwrap_or(0);
        self & !hosts | rng.u128(..) & hosts
    }

    /// One /32 in 64 of each registry's space, chosen by a hash, is in use.
    fn random_route(rng: &mut Rng) -> (Self, u8) {
        let allocation = loop {
            let registry = REGISTRIES_V6[rng.usize(..REGISTRIES_V6.len())];
            let candidate = registry << 20 | rng.u32(..1 << 20);
            if candidate.wrapping_mul(0x9e37_79b9) >> 26 == 0 {
                break candidate;
            }
        };
        let length = length(&LENGTHS_V6, rng);
        let address = (u128::from(allocation) << 96).host(32, rng);
        (address & !(u128::MAX >> length), length)
    }

    #[inline]
    fn longest_match(self, table: &IpNetworkTable<u32>) -> Option<u32> {
        table.longest_match_ipv6(Ipv6Addr::from_bits(self)).map(|(_, &id)| id)
    }

    #[inline]
    fn look_up(self, fib: &Fib) -> Option<NextHopId> {
        fib.lookup6(self)
    }

    #[inline]
    fn look_up_burst(fib: &Fib, addresses: &[Self], found: &mut [Option<NextHopId>]) {
        fib.lookup6_burst(addresses, found);
    }
}
