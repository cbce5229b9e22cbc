//! IPv4 routes: the pages that lookups read, and beside each page the routes that it was compiled from.
//!
//! The first 12 bits of an address choose a page by way of two small arrays that stay in the first cache levels; in the
//! page a lookup reads an entry and a leaf, two lines, and for prefixes longer than /24 two to four more. A burst asks
//! for all its entries, then for all its leaves, so that the waits for memory overlap.
//!
//! Pages are shared between clones. A change compiles the /18 that it is in and copies the rest of the page: a few KB in a
//! full table, but half a megabyte for 65,536 pods in a /16, where many changes are better made as one. For a prefix
//! shorter than /18 a change compiles the page, for one shorter than /13 every page inside it.

use std::sync::{Arc, LazyLock};

use hashbrown::HashSet;

use super::page::{self, ENTRY_BITS, PAGE_BITS, Route, Word, mask};
use crate::NextHopId;
use crate::prefetch::prefetch;

const SECTION_BITS: u8 = 6;
const SECTIONS: usize = 1 << SECTION_BITS;
const SECTION_PAGES: usize = (1 << PAGE_BITS) / SECTIONS;
/// Lookups that run in step: a worker's burst. (16 and 32 were measured slower.)
const LANES: usize = 64;
/// Where changes touch as many /18s of a page, compiling all of it is cheaper.
const MANY_ENTRIES: usize = 4;
/// What an `Arc` puts before its value.
const COUNTS: usize = 2 * size_of::<usize>();

/// A route to a prefix, and whether it stands there from now on.
pub(super) type Change = (Route, bool);

/// Pages side by side, so that a clone of the table copies 64 references and not 4,096.
#[derive(Clone, Debug)]
struct Section {
    pages: [Arc<[Word]>; SECTION_PAGES],
    /// What each page was compiled from: the routes longer than /12.
    routes: [Arc<[Route]>; SECTION_PAGES],
}

#[derive(Clone, Debug)]
pub(super) struct Fib4 {
    sections: [Arc<Section>; SECTIONS],
    /// The routes no longer than /12, in order.
    short: Arc<[Route]>,
}

impl Section {
    /// A section without routes, inside of one.
    fn bare(cover: Word) -> Arc<Self> {
        let page = page::build(cover, &[]);
        let none = Arc::<[Route]>::default();
        Arc::new(Self { pages: [(); _].map(|()| page.clone()), routes: [(); _].map(|()| none.clone()) })
    }
}

static EMPTY: LazyLock<Fib4> = LazyLock::new(|| {
    let section = Section::bare(0);
    Fib4 { sections: [(); _].map(|()| section.clone()), short: Arc::default() }
});

impl Default for Fib4 {
    fn default() -> Self {
        EMPTY.clone()
    }
}

impl Fib4 {
    /// `routes` in order, and no prefix twice.
    pub(super) fn build(routes: &[Route]) -> Self {
        let mut fib = Self::default();
        let (short, long): (Vec<Route>, Vec<Route>) =
            routes.iter().partition(|route| route.length <= PAGE_BITS);
        fib.short = short.into();
        for routes in long.chunk_by(|a, b| number(a.network) == number(b.network)) {
            let (section, page) = place(number(routes[0].network));
            Arc::make_mut(&mut fib.sections[section]).routes[page] = routes.into();
        }
        fib.compile(0, 0);
        fib
    }

    #[inline]
    fn page(&self, address: u32) -> &[Word] {
        let (section, page) = place(number(address));
        &self.sections[section].pages[page]
    }

    #[inline]
    pub(super) fn lookup(&self, address: u32) -> Option<NextHopId> {
        let page = self.page(address);
        page::resolve(page, address, page[page::leaf_at(page, address)])
    }

    #[inline]
    pub(super) fn lookup_burst(&self, addresses: &[u32], out: &mut [Option<NextHopId>]) {
        for (addresses, out) in addresses.chunks(LANES).zip(out.chunks_mut(LANES)) {
            let mut pages: [&[Word]; LANES] = [&[]; LANES];
            for (page, &address) in pages.iter_mut().zip(addresses) {
                *page = self.page(address);
                prefetch(&page[page::entry_at(address)]);
            }
            let mut leaves = [0; LANES];
            for ((leaf, page), &address) in leaves.iter_mut().zip(pages).zip(addresses) {
                *leaf = page::leaf_at(page, address);
                prefetch(&page[*leaf]);
            }
            for (((out, leaf), page), &address) in out.iter_mut().zip(leaves).zip(pages).zip(addresses) {
                *out = page::resolve(page, address, page[leaf]);
            }
        }
    }

    pub(super) fn insert(&mut self, route: Route) -> Option<NextHopId> {
        let old = self.get(route);
        self.change(&[(route, true)]);
        old
    }

    pub(super) fn remove(&mut self, network: u32, length: u8) -> Option<NextHopId> {
        let route = Route::new(network, length, NextHopId(0));
        let old = self.get(route)?;
        self.change(&[(route, false)]);
        Some(old)
    }

    /// Makes changes that are in order and name no prefix twice.
    pub(super) fn apply(&mut self, changes: &[Change]) {
        for changes in changes.chunk_by(|(a, _), (b, _)| list(*a) == list(*b)) {
            let parts = || changes.chunk_by(|(a, _), (b, _)| entry(*a) == entry(*b));
            if parts().count() < MANY_ENTRIES {
                parts().for_each(|changes| self.change(changes));
            } else {
                self.change(changes);
            }
        }
    }

    fn routes(&self, list: Option<usize>) -> &[Route] {
        list.map_or(&self.short, |number| {
            let (section, page) = place(number);
            &self.sections[section].routes[page]
        })
    }

    /// The next hop of the route to the same prefix.
    fn get(&self, route: Route) -> Option<NextHopId> {
        let routes = self.routes(list(route));
        let at = routes.binary_search_by_key(&route.key(), |route| route.key()).ok()?;
        Some(routes[at].next_hop())
    }

    /// Changes routes of one list, and compiles what depends on them.
    fn change(&mut self, changes: &[Change]) {
        let Some(&(first, _)) = changes.first() else { return };
        let routes: Arc<[Route]> = merge(self.routes(list(first)), changes).into();
        let Some(number) = list(first) else {
            self.short = routes;
            return changes.iter().for_each(|(route, _)| self.compile(route.network, route.length));
        };
        let cover = cover(&self.short, first.network, PAGE_BITS).unwrap_or(0);
        let (section, page) = place(number);
        let section = Arc::make_mut(&mut self.sections[section]);
        section.pages[page] = match entry(first) {
            Some(start) if changes.iter().all(|(route, _)| entry(*route) == Some(start)) => {
                let cover = self::cover(&routes, start, ENTRY_BITS).unwrap_or(cover);
                let from = routes.partition_point(|route| route.key() <= (start, ENTRY_BITS));
                let to = routes.partition_point(|route| route.network <= start | !mask(ENTRY_BITS));
                page::replace(&section.pages[page], start, cover, &routes[from..to])
            }
            _ => page::build(cover, &routes),
        };
        section.routes[page] = routes;
    }

    /// Compiles the pages inside a prefix no longer than /12.
    fn compile(&mut self, network: u32, length: u8) {
        // What has one next hop throughout is one page, and one section: the one last asked for.
        let mut bare = (0, EMPTY.sections[0].clone());
        let mut next = number(network);
        let end = next + (1 << (PAGE_BITS - length));
        while next < end {
            let (section, page) = place(next);
            let routes = &self.sections[section].routes[page];
            let cover = cover(&self.short, (next as u32) << (32 - PAGE_BITS), PAGE_BITS).unwrap_or(0);
            if bare.0 != cover && routes.is_empty() {
                bare = (cover, Section::bare(cover));
            }
            if page == 0 && next + SECTION_PAGES <= end && self.is_bare(section) {
                self.sections[section] = bare.1.clone();
                next += SECTION_PAGES;
                continue;
            }
            let new = if routes.is_empty() { bare.1.pages[0].clone() } else { page::build(cover, routes) };
            if !Arc::ptr_eq(&new, &self.sections[section].pages[page]) {
                Arc::make_mut(&mut self.sections[section]).pages[page] = new;
            }
            next += 1;
        }
    }

    /// Whether all of a section has the same next hop: no route ends inside it.
    fn is_bare(&self, section: usize) -> bool {
        let first = (section as u32) << (32 - SECTION_BITS);
        let inside = self.short.partition_point(|route| route.key() <= (first, SECTION_BITS));
        let route = self.short.get(inside);
        route.is_none_or(|route| route.network & mask(SECTION_BITS) != first)
            && self.sections[section].routes.iter().all(|routes| routes.is_empty())
    }

    /// Bytes of what lookups read, and of the routes beside it.
    pub(super) fn bytes(&self) -> (usize, usize) {
        let mut seen = HashSet::new();
        let pages = self.sections.iter().flat_map(|section| &section.pages);
        let pages = pages.filter(|page| seen.insert(page.as_ptr()));
        let lists = self.sections.iter().flat_map(|section| &section.routes).chain([&self.short]);
        let references = SECTIONS * SECTION_PAGES * size_of::<Arc<[Word]>>();
        (
            references + pages.map(|page| COUNTS + size_of_val(&**page)).sum::<usize>(),
            references
                + lists.filter(|l| !l.is_empty()).map(|list| COUNTS + size_of_val(&**list)).sum::<usize>(),
        )
    }
}

/// The page that the route is compiled into; `None` where it is one of the short ones.
fn list(route: Route) -> Option<usize> {
    (route.length > PAGE_BITS).then(|| number(route.network))
}

/// The /18 that the route is inside of.
fn entry(route: Route) -> Option<u32> {
    (route.length >= ENTRY_BITS).then(|| route.network & mask(ENTRY_BITS))
}

/// Routes in order, and changes in order: the routes after the changes.
fn merge(mut routes: &[Route], changes: &[Change]) -> Vec<Route> {
    let mut merged = Vec::with_capacity(routes.len() + changes.len());
    for &(route, stays) in changes {
        let (before, rest) = routes.split_at(routes.partition_point(|old| old.key() < route.key()));
        merged.extend_from_slice(before);
        merged.extend(stays.then_some(route));
        routes = &rest[usize::from(rest.first().is_some_and(|old| old.key() == route.key()))..];
    }
    merged.extend_from_slice(routes);
    merged
}

/// The next hop of the longest route no longer than `length` that the network is inside of.
fn cover(routes: &[Route], network: u32, length: u8) -> Option<Word> {
    let of_length =
        |length: u8| routes.binary_search_by_key(&(network & mask(length), length), |route| route.key());
    (0..=length).rev().find_map(|length| of_length(length).ok()).map(|at| routes[at].word())
}

/// The number of the page of an address.
#[inline]
fn number(address: u32) -> usize {
    (address >> (32 - PAGE_BITS)) as usize
}

#[inline]
fn place(number: usize) -> (usize, usize) {
    (number / SECTION_PAGES, number % SECTION_PAGES)
}
