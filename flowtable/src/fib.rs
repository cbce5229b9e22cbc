//! Longest-prefix match from destination address to [`NextHopId`], for a full table of both families.
//!
//! IPv4 (`v4.rs`) is a Poptrie (Asai and Ohara, SIGCOMM 2015) with a direct root of 18 bits: at a million routes 13 bytes
//! a route for lookups, and 8 beside them for the writer. IPv6 (`v6.rs`) is a search among ordered prefixes (after DXR:
//! Zec, Rizzo and Mikuc, CCR 2012): at 200,000 routes 14.2 to 14.6 bytes a route, and no list beside it.
//!
//! A `Fib` is a value: a clone shares everything, and [`Fib::insert`] and [`Fib::remove`] copy what they change. So a
//! writer can clone the table of the snapshot in force, make a batch of changes and publish; readers of the old one never
//! see them.

mod block;
mod page;
mod v4;
mod v6;

use std::net::IpAddr;

use self::v4::Fib4;
use self::v6::Fib6;
use crate::{FlowAction, NextHopId};

#[derive(Clone, Debug, Default)]
pub struct Fib {
    v4: Fib4,
    v6: Fib6,
}

/// Memory of a [`Fib`] in bytes, what it shares with clones included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FibBytes {
    /// What IPv4 lookups read.
    pub v4: usize,
    /// What IPv6 lookups read. Changes read it too.
    pub v6: usize,
    /// IPv4 routes as [`Fib::insert`] and [`Fib::remove`] read them.
    pub routes: usize,
}

impl Fib {
    /// Builds the table. Host bits of a prefix are ignored; of two routes to one prefix the later stands.
    ///
    /// # Panics
    /// Where a prefix is longer than its address, or a next hop not below [`FlowAction::NEXT_HOPS`]; changes do the same.
    pub fn build(routes: impl IntoIterator<Item = (IpAddr, u8, NextHopId)>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (network, length, next_hop) in routes {
            check(network, length, next_hop);
            match network {
                IpAddr::V4(network) => v4.push(page::Route::new(network.to_bits(), length, next_hop)),
                IpAddr::V6(network) => v6.push(block::Route::new(network.to_bits(), length, next_hop)),
            }
        }
        order(&mut v4, |route| route.key());
        order(&mut v6, block::Route::key);
        Self { v4: Fib4::build(&v4), v6: Fib6::build(&v6) }
    }

    /// Adds a route, or gives the one to this prefix another next hop; returns the one it had.
    pub fn insert(&mut self, network: IpAddr, length: u8, next_hop: NextHopId) -> Option<NextHopId> {
        check(network, length, next_hop);
        match network {
            IpAddr::V4(network) => self.v4.insert(page::Route::new(network.to_bits(), length, next_hop)),
            IpAddr::V6(network) => self.v6.insert(block::Route::new(network.to_bits(), length, next_hop)),
        }
    }

    /// Takes the route to this prefix out, if there is one; returns its next hop.
    pub fn remove(&mut self, network: IpAddr, length: u8) -> Option<NextHopId> {
        check(network, length, NextHopId(0));
        match network {
            IpAddr::V4(network) => self.v4.remove(network.to_bits(), length),
            IpAddr::V6(network) => self.v6.remove(network.to_bits(), length),
        }
    }

    /// Makes many changes, and compiles once what several of them touch: routes to [insert](Self::insert) and, without
    /// a next hop, prefixes to [remove](Self::remove). Of two for one prefix the later stands.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = (IpAddr, u8, Option<NextHopId>)>) {
        let mut v4 = Vec::new();
        for (network, length, new) in changes {
            let next_hop = new.unwrap_or(NextHopId(0));
            match network {
                IpAddr::V4(network) => {
                    check(network.into(), length, next_hop);
                    v4.push((page::Route::new(network.to_bits(), length, next_hop), new.is_some()));
                }
                IpAddr::V6(_) if new.is_some() => drop(self.insert(network, length, next_hop)),
                IpAddr::V6(_) => drop(self.remove(network, length)),
            }
        }
        order(&mut v4, |(route, _)| route.key());
        self.v4.apply(&v4);
    }

    #[inline]
    pub fn lookup4(&self, address: u32) -> Option<NextHopId> {
        self.v4.lookup(address)
    }

    #[inline]
    pub fn lookup6(&self, address: u128) -> Option<NextHopId> {
        self.v6.lookup(address)
    }

    pub fn lookup(&self, address: IpAddr) -> Option<NextHopId> {
        match address {
            IpAddr::V4(address) => self.lookup4(address.to_bits()),
            IpAddr::V6(address) => self.lookup6(address.to_bits()),
        }
    }

    /// Looks all addresses up in step, so that the waits for memory overlap. `out` is as long as `addresses`.
    pub fn lookup4_burst(&self, addresses: &[u32], out: &mut [Option<NextHopId>]) {
        assert_eq!(addresses.len(), out.len());
        self.v4.lookup_burst(addresses, out);
    }

    /// As [`Fib::lookup4_burst`].
    pub fn lookup6_burst(&self, addresses: &[u128], out: &mut [Option<NextHopId>]) {
        assert_eq!(addresses.len(), out.len());
        self.v6.lookup_burst(addresses, out);
    }

    pub fn bytes(&self) -> FibBytes {
        let (v4, routes) = self.v4.bytes();
        FibBytes { v4, v6: self.v6.bytes(), routes }
    }
}

fn check(network: IpAddr, length: u8, next_hop: NextHopId) {
    let longest = if network.is_ipv4() { 32 } else { 128 };
    assert!(length <= longest, "prefix {network}/{length}");
    assert!(next_hop.0 < FlowAction::NEXT_HOPS, "next hop {}", next_hop.0);
}

/// Puts routes, or changes of them, in order, and of those for one prefix keeps the last.
fn order<R: Copy, K: Ord>(routes: &mut Vec<R>, key: impl Fn(&R) -> K) {
    // The sort is stable.
    routes.sort_by_key(&key);
    routes.dedup_by(|later, kept| {
        let same = key(later) == key(kept);
        if same {
            *kept = *later;
        }
        same
    });
}

#[cfg(test)]
mod tests;
