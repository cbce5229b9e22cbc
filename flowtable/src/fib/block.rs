//! A run of IPv6 routes in order, with the routes that cover it: what lookups read, and what changes are made from.
//!
//! An address lies behind the last route that begins at or before it, or behind one that this route is inside of: each
//! entry names the next one out, in the same block. So that no lookup leaves its block, a block begins with a copy of
//! every route from before it that reaches into it. The order of prefixes as one sorted array, in place of ranges with
//! two ends, is what keeps an isolated /48 at one entry; the search by interval is DXR's (Zec, Rizzo and Mikuc, CCR 2012).

use std::sync::Arc;

use crate::NextHopId;

/// Own routes of a block, at most: with 128 that cover it, an index is a byte.
pub(super) const MOST: usize = 64;
/// What `Entry::outer` says of a route that is inside no other.
const NONE: u8 = u8::MAX;

/// A route to a prefix. Ordered by network, then by length: a prefix stands before those inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) network: u128,
    pub(super) length: u8,
    pub(super) next_hop: NextHopId,
}

impl Route {
    pub(super) fn new(network: u128, length: u8, next_hop: NextHopId) -> Self {
        Self { network: network & mask(length), length, next_hop }
    }

    pub(super) fn key(&self) -> (u128, u8) {
        (self.network, self.length)
    }

    /// Whether the address is inside the prefix.
    pub(super) fn covers(&self, address: u128) -> bool {
        (address ^ self.network) & mask(self.length) == 0
    }
}

fn mask(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

/// A route in a block: bytes, so that nothing is lost to alignment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<const N: usize> {
    /// The first `N` bytes of the network, as a little-endian number.
    network: [u8; N],
    next_hop: [u8; 3],
    length: u8,
    /// The longest other prefix that this one is inside of.
    outer: u8,
}

impl<const N: usize> Entry<N> {
    fn new(route: &Route, outer: u8) -> Self {
        let [a, b, c, _] = route.next_hop.0.to_le_bytes();
        let network = *route.network.to_le_bytes().last_chunk().expect("N is 8 or 16");
        Self { network, next_hop: [a, b, c], length: route.length, outer }
    }

    #[inline]
    fn network(&self) -> u128 {
        let mut bytes = [0; 16];
        bytes[16 - N..].copy_from_slice(&self.network);
        u128::from_le_bytes(bytes)
    }

    #[inline]
    fn route(&self) -> Route {
        let [a, b, c] = self.next_hop;
        Route {
            network: self.network(),
            length: self.length,
            next_hop: NextHopId(u32::from_le_bytes([a, b, c, 0])),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Block {
    entries: Entries,
}

/// `covers` of the entries, at the beginning, are copies of routes before the block.
#[derive(Clone, Debug)]
enum Entries {
    /// No route here is longer than /64: half of the network is enough.
    Half {
        covers: u8,
        entries: Arc<[Entry<8>]>,
    },
    Whole {
        covers: u8,
        entries: Arc<[Entry<16>]>,
    },
}

impl Block {
    /// `covers` are the routes before the block that its first route is inside of. Both in order, `own` not empty.
    pub(super) fn new(covers: &[Route], own: &[Route]) -> Self {
        let count = covers.len() as u8;
        let all = || covers.iter().chain(own);
        let entries = if all().all(|route| route.length <= 64) {
            Entries::Half { covers: count, entries: nest(all()) }
        } else {
            Entries::Whole { covers: count, entries: nest(all()) }
        };
        Self { entries }
    }

    /// The routes that cover the block, and its own.
    pub(super) fn routes(&self) -> (Vec<Route>, Vec<Route>) {
        let (covers, mut all): (_, Vec<_>) = match &self.entries {
            Entries::Half { covers, entries } => (covers, entries.iter().map(Entry::route).collect()),
            Entries::Whole { covers, entries } => (covers, entries.iter().map(Entry::route).collect()),
        };
        let own = all.split_off(usize::from(*covers));
        (all, own)
    }

    /// The first of its own routes.
    pub(super) fn first(&self) -> Route {
        match &self.entries {
            Entries::Half { covers, entries } => entries[usize::from(*covers)].route(),
            Entries::Whole { covers, entries } => entries[usize::from(*covers)].route(),
        }
    }

    #[inline]
    pub(super) fn lookup(&self, address: u128) -> Option<NextHopId> {
        match &self.entries {
            Entries::Half { entries, .. } => search(entries, address),
            Entries::Whole { entries, .. } => search(entries, address),
        }
    }

    /// Calls `line` with bytes of each cache line that a lookup may read.
    #[inline]
    pub(super) fn for_each_line(&self, mut line: impl FnMut(&[u8; 3])) {
        match &self.entries {
            Entries::Half { entries, .. } => entries.iter().step_by(5).for_each(|e| line(&e.next_hop)),
            Entries::Whole { entries, .. } => entries.iter().step_by(3).for_each(|e| line(&e.next_hop)),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match &self.entries {
            Entries::Half { entries, .. } => size_of_val(&**entries),
            Entries::Whole { entries, .. } => size_of_val(&**entries),
        }
    }
}

/// Entries of routes in order, each with the place of the next one out.
fn nest<'a, const N: usize>(routes: impl Iterator<Item = &'a Route>) -> Arc<[Entry<N>]> {
    let mut open: Vec<(u8, &Route)> = Vec::new();
    let entries = routes.zip(0..NONE).map(|(route, index)| {
        while open.pop_if(|(_, outer)| !outer.covers(route.network)).is_some() {}
        let outer = open.last().map_or(NONE, |(index, _)| *index);
        open.push((index, route));
        Entry::new(route, outer)
    });
    entries.collect()
}

#[inline]
fn search<const N: usize>(entries: &[Entry<N>], address: u128) -> Option<NextHopId> {
    let behind = entries.partition_point(|entry| entry.network() <= address);
    let mut route = entries[..behind].last()?;
    while !route.route().covers(address) {
        route = entries.get(usize::from(route.outer))?;
    }
    Some(route.route().next_hop)
}
