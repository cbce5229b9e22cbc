//! Longest-prefix match from destination address to [`NextHopId`].
//!
//! IPv4 is a multibit trie of strides 16, 8 and 8: a lookup reads one to three words. IPv6 tries the prefix lengths
//! that exist, longest first. A `Fib` is built once per snapshot and never changes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hashbrown::HashMap;

use crate::NextHopId;

/// A trie word: 0 = no route; top bit set = index of a 256-word node; else next hop + 1.
type Word = u32;
const NODE: Word = 1 << 31;
const NODE_WORDS: usize = 256;

#[derive(Clone, Debug)]
pub struct Fib {
    root: Box<[Word]>,
    nodes: Vec<[Word; NODE_WORDS]>,
    /// (prefix length, network -> next hop), longest first.
    v6: Vec<(u8, HashMap<u128, NextHopId>)>,
}

impl Default for Fib {
    fn default() -> Self {
        Self::build([])
    }
}

impl Fib {
    /// Builds the table. Host bits of a prefix are ignored; of two routes to one prefix the later stands.
    pub fn build(routes: impl IntoIterator<Item = (IpAddr, u8, NextHopId)>) -> Self {
        let mut v4: Vec<(u8, u32, NextHopId)> = Vec::new();
        let mut v6: BTreeMap<u8, HashMap<u128, NextHopId>> = BTreeMap::new();
        for (address, length, next_hop) in routes {
            match address {
                IpAddr::V4(a) => v4.push((length, u32::from(a) & mask4(length), next_hop)),
                IpAddr::V6(a) => {
                    v6.entry(length).or_default().insert(u128::from(a) & mask6(length), next_hop);
                }
            }
        }
        // Shorter prefixes first: a longer one then overwrites its part of them. The sort is stable.
        v4.sort_by_key(|&(length, ..)| length);
        let mut fib = Self {
            root: vec![0; 1 << 16].into_boxed_slice(),
            nodes: Vec::new(),
            v6: v6.into_iter().rev().collect(),
        };
        for (length, network, next_hop) in v4 {
            fib.insert4(network, length, next_hop.0 + 1);
        }
        fib
    }

    fn insert4(&mut self, network: u32, length: u8, word: Word) {
        let slot = (network >> 16) as usize;
        if length <= 16 {
            self.root[slot..slot + (1 << (16 - length))].fill(word);
            return;
        }
        let second = self.root[slot];
        let second = self.node_of(second);
        self.root[slot] = NODE | second;
        let slot = (network >> 8 & 0xff) as usize;
        if length <= 24 {
            self.nodes[second as usize][slot..slot + (1 << (24 - length))].fill(word);
            return;
        }
        let third = self.nodes[second as usize][slot];
        let third = self.node_of(third);
        self.nodes[second as usize][slot] = NODE | third;
        let slot = (network & 0xff) as usize;
        self.nodes[third as usize][slot..slot + (1 << (32 - length))].fill(word);
    }

    /// The node that `word` points to, or a new one that repeats what `word` said for all of its range.
    fn node_of(&mut self, word: Word) -> u32 {
        if word & NODE != 0 {
            return word & !NODE;
        }
        self.nodes.push([word; NODE_WORDS]);
        (self.nodes.len() - 1) as u32
    }

    #[inline]
    pub fn lookup4(&self, address: u32) -> Option<NextHopId> {
        let mut word = self.root[(address >> 16) as usize];
        if word & NODE != 0 {
            word = self.nodes[(word & !NODE) as usize][(address >> 8 & 0xff) as usize];
            if word & NODE != 0 {
                word = self.nodes[(word & !NODE) as usize][(address & 0xff) as usize];
            }
        }
        word.checked_sub(1).map(NextHopId)
    }

    pub fn lookup6(&self, address: u128) -> Option<NextHopId> {
        self.v6.iter().find_map(|(length, networks)| networks.get(&(address & mask6(*length))).copied())
    }

    pub fn lookup(&self, address: IpAddr) -> Option<NextHopId> {
        match address {
            IpAddr::V4(a) => self.lookup4(Ipv4Addr::to_bits(a)),
            IpAddr::V6(a) => self.lookup6(Ipv6Addr::to_bits(a)),
        }
    }
}

fn mask4(length: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
}

fn mask6(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn linear(routes: &[(IpAddr, u8, NextHopId)], address: IpAddr) -> Option<NextHopId> {
        let covers = |net: IpAddr, length: u8| match (net, address) {
            (IpAddr::V4(n), IpAddr::V4(a)) => (n.to_bits() ^ a.to_bits()) & mask4(length) == 0,
            (IpAddr::V6(n), IpAddr::V6(a)) => (n.to_bits() ^ a.to_bits()) & mask6(length) == 0,
            _ => false,
        };
        let matching = routes.iter().filter(|(net, length, _)| covers(*net, *length));
        // max_by_key returns the last of equals: the later of two routes to one prefix.
        matching.max_by_key(|(_, length, _)| *length).map(|r| r.2)
    }

    /// Routes and addresses crowd into few bits, so that prefixes nest and addresses hit.
    fn address4() -> impl Strategy<Value = IpAddr> {
        (0u32..4, 0u32..4, 0u32..256, 0u32..256)
            .prop_map(|(a, b, c, d)| IpAddr::V4(Ipv4Addr::from_bits(a << 30 | b << 16 | c << 8 | d)))
    }

    fn address6() -> impl Strategy<Value = IpAddr> {
        (0u128..4, 0u128..16).prop_map(|(a, b)| IpAddr::V6(Ipv6Addr::from_bits(a << 126 | b << 62 | b)))
    }

    proptest! {
        #[test]
        fn equals_linear_scan(
            routes4 in prop::collection::vec((address4(), 0u8..=32), 0..40),
            routes6 in prop::collection::vec((address6(), 0u8..=128), 0..20),
            probes in prop::collection::vec(prop_oneof![address4(), address6()], 64),
        ) {
            let routes: Vec<_> = routes4.into_iter().chain(routes6).enumerate()
                .map(|(i, (net, length))| (net, length, NextHopId(i as u32))).collect();
            let fib = Fib::build(routes.iter().copied());
            for probe in probes.into_iter().chain(routes.iter().map(|r| r.0)) {
                prop_assert_eq!(fib.lookup(probe), linear(&routes, probe), "{}", probe);
            }
        }
    }
}
