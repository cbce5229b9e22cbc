//! `margay perf pipeline`: cycles of the packet function, path by path in turns.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use margay_fastpath::frame::BURST;
use margay_fastpath::pipeline::{Probe, Stage};
use serde::Serialize;

use crate::clock::Clock;
use crate::count;
use crate::rig::{Case, Rig};

/// Paths are interleaved while their tables together take no more than this; larger ones are measured one by one.
const TABLES: u64 = 3 << 30;
/// Bytes of a flow table for each connection that it is made for, about.
const CONNECTION: u64 = 185;

/// Bursts over which the passes are measured, after the rest: a mark between them costs a little.
const STAGE_BURSTS: u32 = 2000;

/// A turn begins with a round over the flows, untimed: the other paths' tables have taken the cache. Bursts at most: a
/// table of more flows does not fit there anyway.
const WARM_UP: u32 = 4096;

/// How much is run.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Turns that each path gets; the figures are those of the median turn.
    pub rounds: u32,
    /// Bursts in all of them.
    pub bursts: u32,
    /// Whether callgrind counts instructions too.
    pub instructions: bool,
}

/// What a run measured of one path. Times are of `Pipeline::process` alone: what is between rx and tx.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    #[serde(flatten)]
    pub case: Case,
    /// Packets of a burst.
    pub burst: usize,
    pub cycles_per_packet: f64,
    pub ns_per_packet: f64,
    /// Of the burst that 99 in 100 are faster than.
    pub ns_per_packet_p99: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<f64>,
    pub allocations_per_packet: f64,
    /// Cycles a packet of each pass over the burst.
    pub stages: BTreeMap<&'static str, f64>,
}

/// Cycles of one burst: of the median burst of a turn, and of its slow ones.
#[derive(Clone, Copy, Debug)]
struct Turn {
    median: f64,
    p99: f64,
}

pub fn measure(cases: &[Case], effort: &Effort) -> anyhow::Result<Vec<Report>> {
    let clock = Clock::new()?;
    let bytes: u64 = cases.iter().map(|case| u64::from(case.capacity()) * CONNECTION).sum();
    let together = if bytes <= TABLES { cases.len() } else { 1 };
    let mut reports = Vec::new();
    for cases in cases.chunks(together) {
        // First, while no table takes memory.
        let counted: Vec<_> = cases.iter().map(|case| count(case, effort)).collect::<anyhow::Result<_>>()?;
        let mut rigs: Vec<(Rig, Vec<Turn>)> = cases.iter().map(|case| (Rig::new(case), Vec::new())).collect();
        for _ in 0..effort.rounds {
            for ((rig, turns), case) in rigs.iter_mut().zip(cases) {
                let warm_up = case.flows.div_ceil(BURST as u32).min(WARM_UP);
                turns.push(turn(rig, &clock, warm_up, effort.bursts.div_ceil(effort.rounds)));
            }
        }
        for ((case, (mut rig, turns)), (allocations_per_packet, instructions)) in
            cases.iter().zip(rigs).zip(counted)
        {
            let stages = stages(&mut rig, &clock);
            rig.check()?;
            let per_packet = |of: fn(&Turn) -> f64| median(turns.iter().map(of).collect()) / BURST as f64;
            let cycles_per_packet = per_packet(|turn| turn.median);
            reports.push(Report {
                case: *case,
                burst: BURST,
                cycles_per_packet,
                ns_per_packet: clock.nanoseconds(cycles_per_packet),
                ns_per_packet_p99: clock.nanoseconds(per_packet(|turn| turn.p99)),
                instructions,
                allocations_per_packet,
                stages,
            });
        }
    }
    Ok(reports)
}

fn count(case: &Case, effort: &Effort) -> anyhow::Result<(f64, Option<f64>)> {
    let instructions = effort.instructions.then(|| count::instructions(case)).transpose()?;
    Ok((count::allocations(case)?, instructions.map(|counted| counted.per_packet)))
}

/// Cycles of each pass over a burst, from mark to mark.
struct Marks<'a> {
    clock: &'a Clock,
    last: u64,
    cycles: [u64; Stage::ALL.len()],
}

impl Probe for Marks<'_> {
    #[inline]
    fn mark(&mut self, stage: Stage) {
        let now = self.clock.cycles();
        self.cycles[stage as usize] = now - self.last;
        self.last = now;
    }
}

/// Cycles of each pass in the median burst of that pass.
fn stages(rig: &mut Rig, clock: &Clock) -> BTreeMap<&'static str, f64> {
    let mut bursts = Stage::ALL.map(|_| Cycles::new());
    for _ in 0..STAGE_BURSTS {
        let marks =
            rig.run_probed_burst(|| Marks { clock, last: clock.cycles(), cycles: Default::default() });
        for (bursts, cycles) in bursts.iter_mut().zip(marks.cycles) {
            bursts.record(cycles);
        }
    }
    let names = Stage::ALL.map(name);
    names.into_iter().zip(bursts).map(|(name, bursts)| (name, bursts.quantile(0.5) / BURST as f64)).collect()
}

/// What reports call a pass.
pub(crate) fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::Ingress => "ingress",
        Stage::Search => "search",
        Stage::Flow => "flow",
        Stage::Rewrite => "rewrite",
    }
}

fn turn(rig: &mut Rig, clock: &Clock, warm_up: u32, bursts: u32) -> Turn {
    for _ in 0..warm_up {
        rig.run_burst(|process| process());
    }
    let burst = || {
        rig.run_burst(|process| {
            let start = clock.cycles();
            process();
            clock.cycles() - start
        })
    };
    let mut cycles = Cycles::new();
    std::iter::repeat_with(burst).take(bursts.max(1) as usize).for_each(|burst| cycles.record(burst));
    Turn { median: cycles.quantile(0.5), p99: cycles.quantile(0.99) }
}

/// Of cycles a burst, a tenth of a percent fine.
#[derive(Debug)]
struct Cycles(Histogram<u64>);

impl Cycles {
    fn new() -> Self {
        Self(Histogram::new(3).expect("three digits are as many as it can have"))
    }

    fn record(&mut self, cycles: u64) {
        // Saturating, it would keep to the range that it began with.
        self.0.record(cycles).expect("it grows to any value");
    }

    fn quantile(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64
    }
}

/// The middle one, or the lower of two.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[(values.len() - 1) / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        let mut cycles = Cycles::new();
        (1..=1000).for_each(|n| cycles.record(n * 10_000));
        for (quantile, expected) in [(0.5, 5e6), (0.99, 9.9e6)] {
            let found = cycles.quantile(quantile);
            assert!((found / expected - 1.0).abs() < 0.002, "{quantile}: {found}");
        }
    }
}
