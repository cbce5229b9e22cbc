//! The walk: every connection once, in bounded memory, and no faster than the workers bear.
//!
//! It rests as long as it has worked, so that it takes half a core and half of what memory it could ask for, at most.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use margay_flowtable::{Flow, FlowCounts, FlowRef, FlowTable};

use super::asked::{Filter, Sort};
use super::cursor::Cursor;
use crate::admin::Refusal;

/// Slots that are walked between two rests: a fraction of a millisecond.
const STRETCH: u32 = 8192;
/// Between the two looks that a rate is the difference of.
const LOOKS: Duration = Duration::from_secs(1);

pub(super) struct Walk {
    pub(super) table: Arc<FlowTable>,
    pub(super) filter: Filter,
    pub(super) sort: Option<Sort>,
    pub(super) rates: bool,
    pub(super) cursor: Option<Cursor>,
    pub(super) limit: usize,
}

/// A page.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) met: Vec<Met>,
    pub(super) next: Option<Cursor>,
    /// `None` where the walk was not to the end.
    pub(super) matched: Option<u64>,
    pub(super) measured: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Met {
    pub(super) flow: Flow,
    /// Where the table counts.
    pub(super) counts: Option<FlowCounts>,
    pub(super) rate: Option<Rate>,
}

/// Both ways together, a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rate {
    pub(super) packets: f64,
    pub(super) bytes: f64,
}

/// What a connection had carried at an earlier look, both ways together: 24 bytes.
#[derive(Clone, Copy)]
struct Look {
    flow: FlowRef,
    bytes: u64,
    /// The low bits: what comes in a second is less.
    packets: u32,
}

impl Look {
    fn of(flow: FlowRef, counts: &FlowCounts) -> Self {
        let FlowCounts { original, reply, .. } = counts;
        let packets = original.packets.wrapping_add(reply.packets) as u32;
        Self { flow, bytes: original.bytes.wrapping_add(reply.bytes), packets }
    }

    /// What came since the earlier look of the same connection; of one that is new, all.
    fn since(&self, earlier: Option<&Self>) -> (u64, u64) {
        match earlier.filter(|earlier| earlier.flow == self.flow) {
            // Counts may have been taken by whoever logs flows, and begun anew.
            Some(earlier) if earlier.bytes > self.bytes => (self.packets.into(), self.bytes),
            Some(earlier) => (self.packets.wrapping_sub(earlier.packets).into(), self.bytes - earlier.bytes),
            None => (self.packets.into(), self.bytes),
        }
    }
}

impl Walk {
    pub(super) fn run(&self) -> Result<Found, Refusal> {
        let Some(sort) = self.sort else { return Ok(self.measured(self.in_order())) };
        if !self.table.keeps_accounts() {
            let why =
                "the flow table does not count what connections carry: flow_table.accounting turns it on";
            return Err(Refusal::bad_request(why));
        }
        Ok(match sort {
            Sort::Rate => self.by_rate(),
            Sort::Bytes => self.measured(self.most(sort, |met| Some(carried(met)?.1))),
            Sort::Packets => self.measured(self.most(sort, |met| Some(carried(met)?.0))),
        })
    }

    /// Those that are wanted, from a slot on, until `visit` has enough. True if it went to the end.
    fn each(&self, from: u32, mut visit: impl FnMut(Flow) -> ControlFlow<()>) -> bool {
        let capacity = self.table.capacity() as u32;
        let mut slot = from;
        while slot < capacity {
            let begun = Instant::now();
            let end = slot.saturating_add(STRETCH);
            for flow in self.table.flows_in(slot..end) {
                if self.filter.wants(&flow, &self.table) && visit(flow).is_break() {
                    return false;
                }
            }
            slot = end;
            thread::sleep(begun.elapsed());
        }
        true
    }

    /// As they stand in the table.
    fn in_order(&self) -> Found {
        let from = if let Some(Cursor::At(slot)) = self.cursor { slot } else { 0 };
        let mut found = Found::default();
        let is_whole = self.each(from, |flow| {
            if found.met.len() == self.limit {
                found.next = Some(Cursor::At(flow.flow.slot()));
                return ControlFlow::Break(());
            }
            found.met.push(self.met(flow));
            ControlFlow::Continue(())
        });
        let is_all = is_whole && from == 0;
        found.matched = is_all.then_some(found.met.len() as u64);
        found
    }

    /// Those with the highest numbers behind the cursor, in memory for as many as there may be on a page.
    fn most(&self, sort: Sort, number: impl FnMut(&mut Met) -> Option<u64>) -> Found {
        let mut number = number;
        let bound = match self.cursor {
            Some(Cursor::Behind { number, slot, .. }) => Some((number, Reverse(slot))),
            _ => None,
        };
        let mut best: BinaryHeap<Reverse<Ranked>> = BinaryHeap::new();
        let mut matched = 0;
        self.each(0, |flow| {
            matched += 1;
            let mut met = self.met(flow);
            let rank = number(&mut met).map(|number| (number, Reverse(flow.flow.slot())));
            if let Some(rank) = rank.filter(|rank| bound.is_none_or(|bound| *rank < bound)) {
                best.push(Reverse(Ranked { rank, met }));
                // One more than a page has, to know whether there is another.
                if best.len() > self.limit + 1 {
                    best.pop();
                }
            }
            ControlFlow::Continue(())
        });
        let mut ranked: Vec<Ranked> =
            best.into_sorted_vec().into_iter().map(|Reverse(ranked)| ranked).collect();
        let is_more = ranked.len() > self.limit;
        ranked.truncate(self.limit);
        let last = ranked.last().filter(|_| is_more);
        let next = last.map(|Ranked { rank: (number, Reverse(slot)), .. }| Cursor::Behind {
            sort,
            number: *number,
            slot: *slot,
        });
        Found {
            met: ranked.into_iter().map(|ranked| ranked.met).collect(),
            next,
            matched: Some(matched),
            measured: None,
        }
    }

    /// By two walks, of which the first leaves a look at each connection. A connection is come to at about the same time
    /// of either.
    fn by_rate(&self) -> Found {
        let begun = Instant::now();
        let mut looks: Vec<Look> = Vec::new();
        self.each(0, |flow| {
            looks.extend(self.table.counts(flow.flow).map(|counts| Look::of(flow.flow, &counts)));
            ControlFlow::Continue(())
        });
        thread::sleep(LOOKS.saturating_sub(begun.elapsed()));
        let between = begun.elapsed();
        // Both go by slots.
        let mut looks = looks.iter().peekable();
        let found = self.most(Sort::Rate, |met| {
            let slot = met.flow.flow.slot();
            while looks.next_if(|look| look.flow.slot() < slot).is_some() {}
            let (packets, bytes) = Look::of(met.flow.flow, met.counts.as_ref()?).since(looks.peek().copied());
            met.rate = Some(rate(packets, bytes, between));
            Some(bytes)
        });
        Found { measured: Some(between), ..found }
    }

    /// The page with its rates, where they are asked for.
    fn measured(&self, mut found: Found) -> Found {
        if !self.rates || found.met.is_empty() {
            return found;
        }
        let begun = Instant::now();
        let counts = |met: &Met| self.table.counts(met.flow.flow);
        let before: Vec<Option<FlowCounts>> = found.met.iter().map(counts).collect();
        thread::sleep(LOOKS);
        let between = begun.elapsed();
        for (met, before) in found.met.iter_mut().zip(before) {
            let flow = met.flow.flow;
            if let (Some(before), Some(now)) = (before, self.table.counts(flow)) {
                let (packets, bytes) = Look::of(flow, &now).since(Some(&Look::of(flow, &before)));
                met.rate = Some(rate(packets, bytes, between));
            }
        }
        Found { measured: Some(between), ..found }
    }

    fn met(&self, flow: Flow) -> Met {
        Met { flow, counts: self.table.counts(flow.flow), rate: None }
    }
}

fn rate(packets: u64, bytes: u64, between: Duration) -> Rate {
    let seconds = between.as_secs_f64();
    Rate { packets: packets as f64 / seconds, bytes: bytes as f64 / seconds }
}

/// Packets and bytes, both ways together.
fn carried(met: &Met) -> Option<(u64, u64)> {
    let FlowCounts { original, reply, .. } = met.counts?;
    Some((original.packets + reply.packets, original.bytes + reply.bytes))
}

/// Ordered by what it is sorted by; of the same number, the earlier slot is the higher.
struct Ranked {
    rank: (u64, Reverse<u32>),
    met: Met,
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}

impl Eq for Ranked {}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank.cmp(&other.rank)
    }
}

#[cfg(test)]
mod tests;
