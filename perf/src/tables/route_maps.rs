//! The FIB and the crates that are compared with it.

use std::array;

use ip_network_table::IpNetworkTable;
use margay_flowtable::{Fib, NextHopId};
use poptrie::Poptrie;
use prefix_trie::PrefixMap;

use super::addresses::Address;

/// Network, prefix length, next hop.
pub(super) type Route<A> = (A, u8, u32);

/// A table of routes over addresses of one family.
pub(super) trait RouteMap<A: Copy>: Sync {
    fn build(routes: &[Route<A>]) -> Self;
    fn next_hop(&self, address: A) -> Option<u32>;
    fn insert(&mut self, route: Route<A>);
    fn remove(&mut self, route: Route<A>);

    /// 1 where the address has a route, else 0.
    #[inline]
    fn lookup(&self, address: A) -> u64 {
        u64::from(self.next_hop(address).is_some())
    }

    /// How many of the addresses have a route.
    #[inline]
    fn lookup_burst(&self, addresses: &[A]) -> u64 {
        addresses.iter().map(|&address| self.lookup(address)).sum()
    }
}

pub(super) struct MargayFib(Fib);

impl<A: Address> RouteMap<A> for MargayFib {
    fn build(routes: &[Route<A>]) -> Self {
        Self(Fib::build(routes.iter().map(|&(network, length, id)| (network.ip(), length, NextHopId(id)))))
    }

    #[inline]
    fn next_hop(&self, address: A) -> Option<u32> {
        address.look_up(&self.0).map(|id| id.0)
    }

    #[inline]
    fn lookup_burst(&self, addresses: &[A]) -> u64 {
        let mut found: [_; 64] = array::from_fn(|_| None);
        A::look_up_burst(&self.0, addresses, &mut found);
        found.iter().map(|next_hop| u64::from(next_hop.is_some())).sum()
    }

    fn insert(&mut self, (network, length, id): Route<A>) {
        self.0.insert(network.ip(), length, NextHopId(id));
    }

    fn remove(&mut self, (network, length, _): Route<A>) {
        self.0.remove(network.ip(), length);
    }
}

pub(super) struct IpNetworks(IpNetworkTable<u32>);

impl<A: Address> RouteMap<A> for IpNetworks {
    fn build(routes: &[Route<A>]) -> Self {
        let mut table = Self(IpNetworkTable::new());
        for &route in routes {
            table.insert(route);
        }
        table
    }

    #[inline]
    fn next_hop(&self, address: A) -> Option<u32> {
        address.longest_match(&self.0)
    }

    fn insert(&mut self, (network, length, id): Route<A>) {
        self.0.insert(network.network(length), id);
    }

    fn remove(&mut self, (network, length, _): Route<A>) {
        self.0.remove(network.network(length));
    }
}

pub(super) struct PrefixTrie<A: Copy>(PrefixMap<(A, u8), u32>)
where
    (A, u8): prefix_trie::Prefix;

impl<A: Address> RouteMap<A> for PrefixTrie<A>
where
    (A, u8): prefix_trie::Prefix,
{
    fn build(routes: &[Route<A>]) -> Self {
        Self(routes.iter().map(|&(network, length, id)| ((network, length), id)).collect())
    }

    #[inline]
    fn next_hop(&self, address: A) -> Option<u32> {
        self.0.get_lpm(&(address, A::BITS)).map(|(_, &id)| id)
    }

    fn insert(&mut self, (network, length, id): Route<A>) {
        self.0.insert((network, length), id);
    }

    fn remove(&mut self, (network, length, _): Route<A>) {
        self.0.remove(&(network, length));
    }
}

pub(super) struct PopTrie<A: poptrie::Address>(Poptrie<(A, u8), u32>);

impl<A: Address + poptrie::Address> RouteMap<A> for PopTrie<A> {
    fn build(routes: &[Route<A>]) -> Self {
        Self(routes.iter().map(|&(network, length, id)| ((network, length), id)).collect())
    }

    #[inline]
    fn next_hop(&self, address: A) -> Option<u32> {
        self.0.lookup(address).copied()
    }

    fn insert(&mut self, (network, length, id): Route<A>) {
        self.0.insert((network, length), id);
    }

    fn remove(&mut self, (network, length, _): Route<A>) {
        self.0.remove((network, length));
    }
}
