//! IPv6 routes: [blocks](super::block) in order, and where each begins.
//!
//! A lookup searches the beginnings, 16 bytes for each block and so in the second cache level even for a full table, then
//! one block of less than a kilobyte. A change makes the block anew that it is in, and those after it that the prefix
//! covers. Blocks are shared between clones. There is no other list of the routes: 13 bytes a route and what a block
//! costs, 21 where there are prefixes longer than /64.

use std::sync::Arc;

use super::block::{Block, MOST, Route};
use crate::NextHopId;
use crate::prefetch::prefetch;

/// Own routes of a block that is made by itself: room on both sides before blocks split or join.
const FILL: usize = 48;
/// A block with fewer joins the one after it.
const FEWEST: usize = 16;
/// Lookups that run in step.
const LANES: usize = 16;

#[derive(Clone, Debug, Default)]
pub(super) struct Fib6 {
    index: Arc<Index>,
}

#[derive(Clone, Debug, Default)]
struct Index {
    /// The network of each block's first route.
    firsts: Vec<u128>,
    blocks: Vec<Block>,
}

impl Fib6 {
    /// `routes` in order, and no prefix twice.
    pub(super) fn build(routes: &[Route]) -> Self {
        let mut index = Index::default();
        index.replace(0..0, &[], routes);
        Self { index: Arc::new(index) }
    }

    #[inline]
    pub(super) fn lookup(&self, address: u128) -> Option<NextHopId> {
        self.index.block(address)?.lookup(address)
    }

    #[inline]
    pub(super) fn lookup_burst(&self, addresses: &[u128], out: &mut [Option<NextHopId>]) {
        for (addresses, out) in addresses.chunks(LANES).zip(out.chunks_mut(LANES)) {
            let mut blocks = [None; LANES];
            for (block, &address) in blocks.iter_mut().zip(addresses) {
                *block = self.index.block(address);
                if let Some(block) = block {
                    block.for_each_line(prefetch);
                }
            }
            for ((out, block), &address) in out.iter_mut().zip(blocks).zip(addresses) {
                *out = block.and_then(|block| block.lookup(address));
            }
        }
    }

    pub(super) fn insert(&mut self, route: Route) -> Option<NextHopId> {
        self.change(&route, Some(route))
    }

    pub(super) fn remove(&mut self, network: u128, length: u8) -> Option<NextHopId> {
        self.change(&Route::new(network, length, NextHopId(0)), None)
    }

    /// Puts `new` in the place of the route to the same prefix as `route`. Returns the next hop of the old one.
    fn change(&mut self, route: &Route, new: Option<Route>) -> Option<NextHopId> {
        let at = self.index.block_of(route);
        let (covers, mut own) = self.index.blocks.get(at).map(Block::routes).unwrap_or_default();
        let old = put(&mut own, route, new);
        if old.is_none() && new.is_none() {
            return None;
        }
        let index = Arc::make_mut(&mut self.index);
        let mut end = (at + 1).min(index.blocks.len());
        if own.len() < FEWEST
            && let Some(next) = index.blocks.get(end)
        {
            own.extend(next.routes().1);
            end += 1;
        }
        let mut later = index.replace(at..end, &covers, &own);
        while later < index.blocks.len() && route.covers(index.firsts[later]) {
            let (mut covers, own) = index.blocks[later].routes();
            put(&mut covers, route, new);
            index.blocks[later] = Block::new(&covers, &own);
            later += 1;
        }
        old
    }

    pub(super) fn bytes(&self) -> usize {
        let counts = 2 * size_of::<usize>();
        let each = size_of::<u128>() + size_of::<Block>() + counts;
        self.index.blocks.iter().map(|block| each + block.bytes()).sum()
    }
}

impl Index {
    #[inline]
    fn block(&self, address: u128) -> Option<&Block> {
        let behind = self.firsts.partition_point(|first| *first <= address);
        self.blocks[..behind].last()
    }

    /// Where the block is that has the route, or would.
    fn block_of(&self, route: &Route) -> usize {
        let behind = self.firsts.partition_point(|first| *first <= route.network);
        // Several blocks may begin with one network, each with longer prefixes.
        let at = self.blocks[..behind].iter().rposition(|block| block.first().key() <= route.key());
        at.unwrap_or(0)
    }

    /// Puts blocks of these routes in the place of a range of blocks; returns where the range ends now.
    fn replace(&mut self, range: std::ops::Range<usize>, covers: &[Route], own: &[Route]) -> usize {
        let each = if own.len() <= MOST { MOST } else { own.len().div_ceil(own.len().div_ceil(FILL)) };
        let mut blocks = Vec::with_capacity(own.len().div_ceil(each));
        let mut open = covers.to_vec();
        for own in own.chunks(each) {
            while open.pop_if(|outer| !outer.covers(own[0].network)).is_some() {}
            blocks.push(Block::new(&open, own));
            for route in own {
                while open.pop_if(|outer| !outer.covers(route.network)).is_some() {}
                open.push(*route);
            }
        }
        let end = range.start + blocks.len();
        self.firsts.splice(range.clone(), blocks.iter().map(|block| block.first().network));
        self.blocks.splice(range, blocks);
        end
    }
}

/// Puts `new` in the place of the route to the same prefix in an ordered list; returns the old one's next hop.
fn put(routes: &mut Vec<Route>, route: &Route, new: Option<Route>) -> Option<NextHopId> {
    match (routes.binary_search_by_key(&route.key(), Route::key), new) {
        (Ok(at), Some(new)) => Some(std::mem::replace(&mut routes[at], new).next_hop),
        (Ok(at), None) => Some(routes.remove(at).next_hop),
        (Err(at), Some(new)) => {
            routes.insert(at, new);
            None
        }
        (Err(_), None) => None,
    }
}
