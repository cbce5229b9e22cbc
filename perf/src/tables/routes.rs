//! Runs of one routing table, and the routes, addresses and changes for it.

use std::collections::HashSet;
use std::iter;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use fastrand::Rng;
use margay_flowtable::{Fib, NextHopId};

use super::addresses::Address;
use super::flows::figure;
use super::keys::lookups;
use super::route_maps::{IpNetworks, Route, RouteMap};
use super::start::{Start, on_workers};
use super::{Figure, Op, Selection};

/// Addresses of a burst.
const BURST: usize = 64;
/// Changes of one run at most, and how long they may take: some tables move all that they hold for each.
const CHANGES: usize = 1 << 13;
const PATIENCE: Duration = Duration::from_millis(200);
/// Lookups for each insert of a mixed run.
const LOOKUPS_PER_INSERT: usize = 9;
/// Next hops of all routes.
const NEXT_HOPS: u32 = 256;

pub(super) struct Routes<A> {
    held: Vec<Route<A>>,
    /// Random addresses that routes cover, and such between them that none does.
    covered: Vec<A>,
    uncovered: Vec<A>,
    /// Routes that the table does not hold, to be put in and taken out.
    fresh: Vec<Route<A>>,
}

impl<A: Address> Routes<A> {
    pub(super) fn new(entries: u32) -> Self {
        let mut rng = Rng::with_seed(7);
        let lookups = lookups(entries);
        let entries = entries as usize;
        let mut seen = HashSet::new();
        let mut unique = iter::repeat_with(|| A::random_route(&mut rng)).filter(|&route| seen.insert(route));
        let mut routed: Vec<(A, u8)> = unique.by_ref().take(entries + CHANGES).collect();
        let fresh = routed.split_off(entries);
        let mut with_next_hop = |routes: Vec<(A, u8)>| -> Vec<Route<A>> {
            routes.into_iter().map(|(network, length)| (network, length, rng.u32(..NEXT_HOPS))).collect()
        };
        let (routes, fresh) = (with_next_hop(routed), with_next_hop(fresh));
        let covered = |rng: &mut Rng| {
            let (network, length, _) = routes[rng.usize(..routes.len())];
            network.host(length, rng)
        };
        let table: IpNetworks = RouteMap::build(&routes);
        let uncovered = iter::repeat_with(|| {
            let (network, _) = A::random_route(&mut rng);
            network.host(A::ALLOCATION, &mut rng)
        });
        let uncovered =
            uncovered.filter(|&address| RouteMap::lookup(&table, address) == 0).take(lookups).collect();
        let mut rng = Rng::with_seed(8);
        let covered = iter::repeat_with(|| covered(&mut rng)).take(lookups).collect();
        Self { held: routes, covered, uncovered, fresh }
    }
}

/// A FIB of so many IPv4 routes, random addresses that they cover, and routes that it does not hold.
pub fn fib_v4(entries: u32) -> (Fib, Vec<u32>, Vec<(IpAddr, u8, NextHopId)>) {
    let Routes { held, covered, fresh, .. } = Routes::<u32>::new(entries);
    let route = |(network, length, id): Route<u32>| (network.ip(), length, NextHopId(id));
    (Fib::build(held.into_iter().map(route)), covered, fresh.into_iter().map(route).collect())
}

/// As [`fib_v4`], of IPv6 routes, and without new ones.
pub fn fib_v6(entries: u32) -> (Fib, Vec<u128>) {
    let Routes { held, covered, .. } = Routes::<u128>::new(entries);
    let route = |(network, length, id): Route<u128>| (network.ip(), length, NextHopId(id));
    (Fib::build(held.into_iter().map(route)), covered)
}

pub(super) fn run<A: Address, M: RouteMap<A>>(
    routes: &Routes<A>,
    selection: &Selection,
) -> Vec<(Op, u32, Figure)> {
    let mut map = M::build(&routes.held);
    let mut figures = Vec::new();
    for &workers in &selection.workers {
        for &op in &selection.ops {
            // Who changes a table of the crates has it to himself.
            if op.writes() && workers > 1 {
                continue;
            }
            let timed = if op.writes() {
                vec![run_changes(&mut map, op, routes)]
            } else {
                on_workers(workers, |worker, start| run_lookups(&map, op, routes, worker, start))
            };
            figures.push((op, workers, figure(&timed)));
        }
    }
    figures
}

fn run_lookups<A: Address, M: RouteMap<A>>(
    map: &M,
    op: Op,
    routes: &Routes<A>,
    worker: usize,
    start: &Start,
) -> (Duration, usize) {
    let (asked, expected) = match op {
        Op::LookupMiss | Op::LookupBurstMiss => (&routes.uncovered, 0),
        _ => (&routes.covered, routes.covered.len() as u64),
    };
    // The same addresses, from another one on.
    let (first, last) = asked.split_at(worker * asked.len() / 2 % asked.len());
    start.wait();
    let began = Instant::now();
    let found: u64 = [last, first]
        .iter()
        .map(|asked| match op {
            Op::LookupBurst | Op::LookupBurstMiss => {
                asked.chunks(BURST).map(|burst| map.lookup_burst(burst)).sum()
            }
            _ => asked.iter().map(|&address| map.lookup(address)).sum::<u64>(),
        })
        .sum();
    let took = began.elapsed();
    assert_eq!(found, expected, "lookups find the routes that there are");
    (took, asked.len())
}

/// Puts fresh routes in, or takes them out, until patience ends; what was done is undone, untimed.
fn run_changes<A: Address, M: RouteMap<A>>(map: &mut M, op: Op, routes: &Routes<A>) -> (Duration, usize) {
    let mut count = CHANGES;
    if op == Op::Remove {
        count = until_impatient(&routes.fresh, |&route| map.insert(route)).1;
    }
    let mut covered = routes.covered.iter().cycle();
    let (took, done) = match op {
        Op::Remove => until_impatient(&routes.fresh[..count], |&route| map.remove(route)),
        Op::Insert => until_impatient(&routes.fresh, |&route| map.insert(route)),
        _ => until_impatient(&routes.fresh, |&route| {
            let lookups = covered.by_ref().take(LOOKUPS_PER_INSERT);
            assert_eq!(lookups.map(|&address| map.lookup(address)).sum::<u64>(), LOOKUPS_PER_INSERT as u64);
            map.insert(route);
        }),
    };
    let left = if op == Op::Remove { done..count } else { 0..done };
    routes.fresh[left].iter().for_each(|&route| map.remove(route));
    (took, if op == Op::Mixed { done * (LOOKUPS_PER_INSERT + 1) } else { done })
}

/// How long, and for how many.
fn until_impatient<T>(items: &[T], mut each: impl FnMut(&T)) -> (Duration, usize) {
    let began = Instant::now();
    let mut done = 0;
    for item in items {
        each(item);
        done += 1;
        // Not each time: the clock would be part of what is measured.
        if done % 64 == 0 && began.elapsed() > PATIENCE {
            break;
        }
    }
    (began.elapsed(), done)
}

#[cfg(test)]
mod tests {
    use super::super::route_maps::{MargayFib, PopTrie, PrefixTrie};
    use super::*;

    fn answers<A: Address, M: RouteMap<A>>(routes: &Routes<A>) -> Vec<Option<u32>> {
        let mut map = M::build(&routes.held);
        let fresh = &routes.fresh[..200];
        for &route in fresh {
            map.insert(route);
        }
        let asked = routes.covered.iter().chain(&routes.uncovered).step_by(97);
        let changed = fresh.iter().map(|route| &route.0);
        let with: Vec<_> = asked.clone().chain(changed).map(|&address| map.next_hop(address)).collect();
        for &route in fresh {
            map.remove(route);
        }
        let burst: Vec<A> = asked.clone().copied().take(64).collect();
        let found = burst.iter().map(|&address| map.lookup(address)).sum::<u64>();
        assert_eq!(map.lookup_burst(&burst), found);
        with.into_iter().chain(asked.map(|&address| map.next_hop(address))).collect()
    }

    fn agree<A>()
    where
        PrefixTrie<A>: RouteMap<A>,
        PopTrie<A>: RouteMap<A>,
        A: Address + poptrie::Address,
        (A, u8): prefix_trie::Prefix,
    {
        let routes = Routes::<A>::new(20_000);
        let expected = answers::<A, IpNetworks>(&routes);
        assert!(expected.iter().any(Option::is_some) && expected.iter().any(Option::is_none));
        assert!(answers::<A, MargayFib>(&routes) == expected);
        assert!(answers::<A, PrefixTrie<A>>(&routes) == expected);
        assert!(answers::<A, PopTrie<A>>(&routes) == expected);
    }

    #[test]
    fn every_table_gives_the_same_answers() {
        agree::<u32>();
        agree::<u128>();
    }
}
