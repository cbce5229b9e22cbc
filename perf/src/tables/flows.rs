//! Runs of one flow table: which operations, how often, and what of it is timed.

use std::iter;
use std::time::{Duration, Instant};

use super::flow_maps::FlowMap;
use super::keys::{FlowKeys, WorkerKeys};
use super::start::{Start, on_workers};
use super::{Figure, Op, Selection};

/// Keys of a burst.
const BURST: usize = 64;
/// Passes of a run that changes the table: as many as make this many operations, at least.
const CHANGES: usize = 1 << 17;
/// And no more than this, for small tables.
const PASSES: usize = 64;
/// Lookups for each insert of a mixed run.
const LOOKUPS_PER_INSERT: usize = 9;

pub(super) fn run<M: FlowMap>(keys: &FlowKeys, selection: &Selection) -> Vec<(Op, u32, Figure)> {
    let map = M::with_capacity(keys.capacity());
    let inserted = keys.entries().filter(|key| map.insert(key)).count();
    assert_eq!(inserted, keys.entries as usize, "every entry has its place");
    let mut figures = Vec::new();
    for &workers in &selection.workers {
        for &op in &selection.ops {
            let timed = on_workers(workers, |worker, start| run_op(&map, op, &keys.workers[worker], start));
            figures.push((op, workers, figure(&timed)));
        }
    }
    figures
}

/// One worker's figure is its time by its operations; together they did as much as each did in its time.
pub(super) fn figure(timed: &[(Duration, usize)]) -> Figure {
    let each = timed.iter().map(|(time, ops)| time.as_nanos() as f64 / *ops as f64);
    let ns_per_op = each.clone().sum::<f64>() / timed.len() as f64;
    Figure { ns_per_op, mops: each.map(|ns| 1000.0 / ns).sum() }
}

/// The time that this worker's operations took, and how many there were.
fn run_op<M: FlowMap>(map: &M, op: Op, keys: &WorkerKeys, start: &Start) -> (Duration, usize) {
    if op.writes() { run_changes(map, op, keys, start) } else { run_lookups(map, op, keys, start) }
}

fn run_lookups<M: FlowMap>(map: &M, op: Op, keys: &WorkerKeys, start: &Start) -> (Duration, usize) {
    let (asked, expected) = match op {
        Op::LookupMiss | Op::LookupBurstMiss => (&keys.misses, 0),
        _ => (&keys.hits, keys.hits.len() as u64),
    };
    start.wait();
    let began = Instant::now();
    let found: u64 = match op {
        Op::LookupBurst | Op::LookupBurstMiss => {
            asked.chunks(BURST).map(|burst| map.lookup_burst(burst)).sum()
        }
        _ => asked.iter().map(|key| map.lookup(key)).sum(),
    };
    let took = began.elapsed();
    assert_eq!(found, expected, "lookups find what is there");
    (took, asked.len())
}

/// Passes over the worker's fresh keys; what a pass has done is undone, untimed, before the next.
fn run_changes<M: FlowMap>(map: &M, op: Op, keys: &WorkerKeys, start: &Start) -> (Duration, usize) {
    let fresh = &keys.fresh;
    let per_key = if op == Op::Mixed { LOOKUPS_PER_INSERT + 1 } else { 1 };
    let passes = CHANGES.div_ceil(fresh.len() * per_key).min(PASSES);
    let mut lookups = keys.hits.iter().cycle();
    let timed = iter::repeat_with(|| {
        if op == Op::Remove {
            assert!(fresh.iter().all(|key| map.insert(key)));
        }
        start.wait();
        let began = Instant::now();
        let changed = match op {
            Op::Insert => fresh.iter().filter(|key| map.insert(key)).count(),
            Op::Remove => fresh.iter().filter(|key| map.remove(key)).count(),
            _ => fresh.iter().filter(|key| lookups_hit(map, &mut lookups) && map.insert(key)).count(),
        };
        let took = began.elapsed();
        assert_eq!(changed, fresh.len(), "every change is one");
        start.wait();
        if op != Op::Remove {
            assert!(fresh.iter().all(|key| map.remove(key)));
        }
        took
    });
    (timed.take(passes).sum(), passes * fresh.len() * per_key)
}

#[inline]
fn lookups_hit<'a, M: FlowMap>(
    map: &M,
    keys: &mut impl Iterator<Item = &'a margay_flowtable::FlowKey>,
) -> bool {
    keys.take(LOOKUPS_PER_INSERT).map(|key| map.lookup(key)).sum::<u64>() == LOOKUPS_PER_INSERT as u64
}
