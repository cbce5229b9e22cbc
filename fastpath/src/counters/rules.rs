//! Counters by rule, of one worker.
//!
//! Arrays from fresh pages, which cost nothing before they are touched. What every packet counts stands by itself, and by
//! what entries of flows name: rules, and trails of several ([`TrailId`]); four of them on a cache line, so an established
//! packet touches two lines at most, whatever it passed. First packets and flows count by rules, as many as are configured.

use std::cell::Cell;

use margay_flowtable::{FlowTrails, RuleId, TrailId};
use zerocopy::{FromZeros, KnownLayout};

use super::Counter;

/// Rules that are counted each by itself where nothing else is configured.
pub const DEFAULT_RULES: u32 = 1 << 17;
/// The most that can be configured: what a flow's entry tells apart.
pub const MAX_RULES: u32 = TrailId::RULES;

/// What packets count.
#[derive(Debug, FromZeros, KnownLayout)]
#[repr(C)]
struct Traffic {
    packets: Counter,
    bytes: Counter,
}

/// What first packets count.
#[derive(Debug, FromZeros, KnownLayout)]
#[repr(C)]
struct Verdicts {
    allowed: Counter,
    denied: Counter,
}

/// What one rule has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleCount {
    /// IP packets and their bytes, without tunnel headers: those of the flows that the rule admitted, in both directions,
    /// and those that it denied; of a rule that does not decide what becomes of a packet (Log, Pass and staged ones), those
    /// of the flows that it matched.
    pub packets: u64,
    pub bytes: u64,
    /// Flows that the rule admitted when they began or were judged again; for a Log or Pass rule, those that it matched.
    pub flows: u64,
    /// First packets that the rule denied, and flows that it ended; for a staged rule, flows that it would deny.
    pub denied: u64,
}

#[derive(Debug)]
pub struct RuleCounters {
    /// By number of a trail. A rule's own is what it counted where nothing was passed; that of the first number beyond the
    /// capacity is all rules' beyond.
    traffic: Box<[Traffic]>,
    /// By rule; the last is that of all rules beyond.
    verdicts: Box<[Verdicts]>,
    /// Flows that passed more rules than their trail has room for: those count the first packet alone.
    pub flows_cut_short: Counter,
}

impl Default for RuleCounters {
    fn default() -> Self {
        Self::new(DEFAULT_RULES)
    }
}

impl RuleCounters {
    /// Counters for so many rules, or [`MAX_RULES`].
    ///
    /// Panics where the address space does not hold them, as any allocation does.
    pub fn new(rules: u32) -> Self {
        let len = rules.min(MAX_RULES) as usize + 1;
        let (traffic, verdicts) =
            (FromZeros::new_box_zeroed_with_elems, FromZeros::new_box_zeroed_with_elems);
        Self {
            traffic: traffic(TrailId::NUMBERS).expect("address space for the rules' counters"),
            verdicts: verdicts(len).expect("address space for the rules' counters"),
            flows_cut_short: Counter::default(),
        }
    }

    /// Rules that are counted each by itself.
    pub fn capacity(&self) -> u32 {
        self.verdicts.len() as u32 - 1
    }

    /// What has been counted by the rule itself; `None` for one that is counted together with others. What trails that
    /// hold the rule have counted comes on top: [`RuleCounters::by_trail`].
    pub fn get(&self, rule: RuleId) -> Option<RuleCount> {
        (rule.0 < self.capacity()).then(|| self.at(rule.0))
    }

    /// The same of all rules beyond the capacity.
    pub fn beyond(&self) -> RuleCount {
        self.at(self.capacity())
    }

    fn at(&self, number: u32) -> RuleCount {
        let (traffic, verdicts) = (&self.traffic[number as usize], &self.verdicts[number as usize]);
        RuleCount {
            packets: traffic.packets.get(),
            bytes: traffic.bytes.get(),
            flows: verdicts.allowed.get(),
            denied: verdicts.denied.get(),
        }
    }

    /// Packets and bytes that flows have counted by the trail.
    pub fn by_trail(&self, trail: TrailId) -> RuleCount {
        let traffic = self.traffic.get(trail.number() as usize);
        let of = |traffic: &Traffic| RuleCount {
            packets: traffic.packets.get(),
            bytes: traffic.bytes.get(),
            ..RuleCount::default()
        };
        traffic.map(of).unwrap_or_default()
    }

    /// The number that the rule is counted by.
    pub fn counted(&self, rule: RuleId) -> RuleId {
        if rule == RuleId::NONE { rule } else { RuleId(rule.0.min(self.capacity())) }
    }

    /// Counts a packet of so many bytes by one or two rules.
    pub fn count(&self, rules: [RuleId; 2], bytes: u16) {
        self.count_trails(rules.map(|rule| self.counted(rule).into()), bytes);
    }

    /// Counts a packet of a flow with these trails.
    pub fn count_trails(&self, trails: [TrailId; 2], bytes: u16) {
        self.count_all(trails, 1, bytes.into());
    }

    fn count_all(&self, trails: [TrailId; 2], packets: u32, bytes: u32) {
        for trail in trails {
            // That of no rule is the highest number, and beyond the end.
            if let Some(traffic) = self.traffic.get(trail.number() as usize) {
                traffic.packets.add(packets.into());
                traffic.bytes.add(bytes.into());
            }
        }
    }

    /// Counts a flow that begins, or that is judged again, by the rule that admits it.
    pub fn count_flow(&self, rule: RuleId) {
        if let Some(verdicts) = self.verdicts.get(self.counted(rule).0 as usize) {
            verdicts.allowed.add(1);
        }
    }

    /// Counts a first packet or a flow that the rule denies.
    pub fn count_denied(&self, rule: RuleId) {
        if let Some(verdicts) = self.verdicts.get(self.counted(rule).0 as usize) {
            verdicts.denied.add(1);
        }
    }
}

/// Packets of a burst that no counter has yet: those of flows with the same trails, one after another, are counted
/// together. In cells, not variables of the loop over the burst, which has no registers left for them.
#[derive(Debug, Default)]
pub(crate) struct RuleRun {
    trails: Cell<FlowTrails>,
    packets: Cell<u32>,
    bytes: Cell<u32>,
}

impl RuleRun {
    /// A packet of a flow, whose entry has these trails.
    #[inline(always)]
    pub(crate) fn count(&self, counters: &RuleCounters, trails: FlowTrails, bytes: u16) {
        if trails != self.trails.get() {
            self.settle(counters);
            self.trails.set(trails);
        }
        self.packets.set(self.packets.get() + 1);
        self.bytes.set(self.bytes.get() + u32::from(bytes));
    }

    /// What is left of the burst.
    #[inline(never)]
    pub(crate) fn settle(&self, counters: &RuleCounters) {
        let (trails, packets, bytes) = (self.trails.take(), self.packets.take(), self.bytes.take());
        counters.count_all(trails.ids(), packets, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_counts_for_itself_and_those_beyond_together() {
        let counters = RuleCounters::new(2);
        for (rule, bytes) in [(0, 100), (1, 7), (1, 8), (2, 30), (3, 40), (u32::MAX - 1, 50)] {
            let rule = counters.counted(RuleId(rule));
            counters.count([rule, RuleId::NONE], bytes);
            counters.count_flow(rule);
        }
        counters.count_denied(RuleId(9));
        counters.count([RuleId::NONE; 2], 1000);
        counters.count_flow(RuleId::NONE);
        counters.count_denied(RuleId::NONE);
        let count = |packets, bytes, flows, denied| RuleCount { packets, bytes, flows, denied };
        assert_eq!(counters.get(RuleId(0)), Some(count(1, 100, 1, 0)));
        assert_eq!(counters.get(RuleId(1)), Some(count(2, 15, 2, 0)));
        assert_eq!(counters.get(RuleId(2)), None);
        assert_eq!(counters.get(RuleId::NONE), None);
        assert_eq!(counters.beyond(), count(3, 120, 3, 1));
    }

    #[test]
    fn a_run_counts_as_its_packets_would_one_by_one() {
        let (counters, run) = (RuleCounters::new(10), RuleRun::default());
        let (both, one) = ([RuleId(1), RuleId(2)], [RuleId::NONE, RuleId(2)]);
        for (rules, bytes) in [(both, 10), (both, 20), (one, 5), ([RuleId::NONE; 2], 1000), (both, 40)] {
            run.count(&counters, FlowTrails::new(rules.map(TrailId::from)), bytes);
        }
        run.settle(&counters);
        run.settle(&counters);
        let count = |packets, bytes| Some(RuleCount { packets, bytes, ..RuleCount::default() });
        assert_eq!([1, 2].map(|rule| counters.get(RuleId(rule))), [count(3, 70), count(4, 75)]);
    }

    #[test]
    fn no_more_rules_than_an_entry_tells_apart() {
        let counters = RuleCounters::new(u32::MAX);
        assert_eq!(counters.capacity(), MAX_RULES);
        assert_eq!(counters.counted(RuleId(MAX_RULES - 1)), RuleId(MAX_RULES - 1));
        assert_eq!(counters.counted(RuleId(MAX_RULES)), RuleId(MAX_RULES));
    }
}
