//! Trails: what a flow met on its way to a verdict, as one number. That is the rule that decided, and those that matched and
//! decided nothing: Log, Pass, and the rules of staged policies.
//!
//! Where there is only the rule that decided, the trail is that: most are. Another is a cell of a table that all workers
//! share, and its number is the cell's place: a cell names a rule and the rest of the trail, down to what decided. So an
//! entry, which has room for one number a direction, and one counter by that number stand for any set of rules; who reads
//! the counters adds those of a trail to each rule that it holds ([`Trails::rules`]). An established packet never looks here.
//!
//! A cell is one word: what it says and that it is there become visible together, and no order between words has to be
//! kept. It is found or entered by compare-and-swap at one of `PROBES` places, which hang on its content alone. Within a
//! half no cell goes while another is entered, so a place once passed over stays filled: two workers that enter one trail
//! meet at the same first free place, and one of them finds there what it was about to write.
//!
//! # Life of a cell
//!
//! Rules come and go for years; a trail of rules that are gone is dead, and nothing in the table says so. So there are two
//! halves, and each snapshot names the one that is in use ([`TrailEra`]). When that is rather full, control empties the
//! other and publishes a snapshot by which it is in use instead. What was judged before that and has a trail is judged
//! again when its next packet comes, and has then one of the new half. When the half that went out of use is emptied, which
//! is when the other is full and every worker has taken a snapshot of its era, no packet counts by its numbers any more but
//! in two cases. An entry's next hop is written before its trails: who reads between the two counts one packet by the
//! earlier number. And of two workers that judge a flow at once the earlier one's number can stay beside the later one's
//! next hop (`set_trails`), until the flow is judged again. Such a number, if its cell is another's by then, counts for the
//! wrong rules: one packet, or those of one flow up to the next change that touches it. It misleads nobody but the reader
//! of a counter, and takes two eras that pass within one packet, or within one flow's life and that race before it.

use crate::hash::mix;
use crate::policy::RuleId;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// A trail: a rule below [`TrailId::RULES`], any rule beyond as that number, a cell, or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrailId(u32);

/// Bits of a number.
pub(super) const BITS: u32 = 20;
const MASK: u32 = (1 << BITS) - 1;
/// The number of the first cell.
const FIRST: u32 = 1 << (BITS - 1);

/// Cells of a half.
#[cfg(not(any(loom, fuzzing)))]
const HALF: u32 = 1 << 17;
#[cfg(loom)]
const HALF: u32 = 2;
/// Each input has a table of its own.
#[cfg(all(fuzzing, not(loom)))]
const HALF: u32 = 1 << 8;
/// Places where a cell can be. In a half that is half full, one cell in four thousand million finds none.
const PROBES: u32 = if HALF < 32 { HALF } else { 32 };
/// Rules of a trail that are read at most: no trail of a packet is so long, and one that is read while its cells give way
/// to others ends.
const LONGEST: usize = 64;

impl TrailId {
    /// No rule at all.
    pub const NONE: Self = Self(MASK);
    /// Rules that a number tells apart. The other half of the numbers is the cells'.
    pub const RULES: u32 = FIRST - 1;
    /// One more than the highest number that counts.
    pub const NUMBERS: usize = (FIRST + 2 * HALF) as usize;

    #[inline]
    pub(super) fn new(number: u64) -> Self {
        Self(number as u32 & MASK)
    }

    /// What counters of trails are arrays by. That of no rule at all is beyond [`TrailId::NUMBERS`].
    #[inline]
    pub fn number(self) -> u32 {
        self.0
    }

    /// Whether the trail has a cell, which goes out of use with its era.
    #[inline]
    pub fn is_cell(self) -> bool {
        self.0 >= FIRST && self != Self::NONE
    }
}

impl From<RuleId> for TrailId {
    #[inline]
    fn from(rule: RuleId) -> Self {
        Self(if rule == RuleId::NONE { MASK } else { rule.0.min(Self::RULES) })
    }
}

/// Which half of the cells is in use, and from which snapshot on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrailEra {
    half: u32,
    since: u32,
}

impl TrailEra {
    /// The era after this one, which begins with the snapshot of this generation.
    #[must_use]
    pub fn next(self, generation: u32) -> Self {
        Self { half: 1 - self.half, since: generation }
    }

    /// Whether trails that were made at this generation (a serial number, RFC 1982) are of this era.
    #[inline]
    pub fn covers(self, generation: u32) -> bool {
        generation.wrapping_sub(self.since).cast_signed() >= 0
    }
}

/// The cells. Fixed memory, wait-free.
#[derive(Debug)]
pub struct Trails {
    /// Both halves: 0, or what [`cell`] makes.
    cells: Box<[AtomicU64]>,
    used: [AtomicU32; 2],
}

/// Rule and rest in one word that is never 0.
fn cell(rule: RuleId, rest: TrailId) -> u64 {
    (u64::from(TrailId::from(rule).0) << BITS | u64::from(rest.0)) + 1
}

impl Trails {
    /// Cells that an era has.
    pub const ERA: u32 = HALF;

    pub(super) fn new() -> Self {
        let cells = (0..2 * HALF).map(|_| AtomicU64::new(0)).collect();
        Self { cells, used: [AtomicU32::new(0), AtomicU32::new(0)] }
    }

    /// The trail of `rest` and one rule more. `None` where there is no place for it: the era's half is too full.
    ///
    /// `rest` is of the same era.
    pub fn extend(&self, era: TrailEra, rest: TrailId, rule: RuleId) -> Option<TrailId> {
        let cell = cell(rule, rest);
        let hash = mix(cell);
        // An odd step leads to every place of the half.
        let (home, step) = (hash as u32, (hash >> 32) as u32 | 1);
        for probe in 0..PROBES {
            let place = era.half * HALF + home.wrapping_add(probe.wrapping_mul(step)) % HALF;
            let word = &self.cells[place as usize];
            let mut found = word.load(Ordering::Acquire);
            if found == 0 {
                // Release, and acquire wherever a cell is read: who finds a cell finds the rest of its trail.
                match word.compare_exchange(0, cell, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => {
                        self.used[era.half as usize].fetch_add(1, Ordering::Relaxed);
                        return Some(TrailId(FIRST + place));
                    }
                    Err(other) => found = other,
                }
            }
            if found == cell {
                return Some(TrailId(FIRST + place));
            }
        }
        None
    }

    /// The rules of a trail; the one that decided, if one did, is the last.
    pub fn rules(&self, trail: TrailId) -> impl Iterator<Item = RuleId> + '_ {
        let mut left = trail;
        let next = move || {
            if left == TrailId::NONE {
                return None;
            }
            if !left.is_cell() {
                let rule = RuleId(left.0);
                left = TrailId::NONE;
                return Some(rule);
            }
            let word = self.cells.get((left.0 - FIRST) as usize)?.load(Ordering::Acquire).checked_sub(1)?;
            left = TrailId::new(word);
            Some(RuleId((word >> BITS) as u32))
        };
        std::iter::from_fn(next).take(LONGEST)
    }

    /// Every trail that has a cell, those of the era that is over too.
    pub fn iter(&self) -> impl Iterator<Item = TrailId> + '_ {
        (0..2).flat_map(|half| self.of_half(half))
    }

    fn of_half(&self, half: u32) -> impl Iterator<Item = TrailId> + '_ {
        let all = if self.used[half as usize].load(Ordering::Relaxed) == 0 { 0..0 } else { 0..HALF };
        let places = all.map(move |n| half * HALF + n);
        let filled = places.filter(|place| self.cells[*place as usize].load(Ordering::Relaxed) != 0);
        filled.map(|place| TrailId(FIRST + place))
    }

    /// The trails of the era before this one.
    pub fn before(&self, era: TrailEra) -> impl Iterator<Item = TrailId> + '_ {
        self.of_half(1 - era.half)
    }

    /// Cells in use of the [`Trails::ERA`] that the era has.
    pub fn used(&self, era: TrailEra) -> u32 {
        self.used[era.half as usize].load(Ordering::Relaxed)
    }

    /// Makes room for the era after this one. Every worker has taken a snapshot of this era, and so none makes trails
    /// where they are taken away.
    pub fn make_room(&self, era: TrailEra) {
        let half = 1 - era.half;
        for place in half * HALF..(half + 1) * HALF {
            self.cells[place as usize].store(0, Ordering::Release);
        }
        self.used[half as usize].store(0, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    use super::*;

    fn rule() -> impl Strategy<Value = RuleId> {
        prop_oneof![
            (0u32..8).prop_map(RuleId),
            (TrailId::RULES - 3..TrailId::RULES).prop_map(RuleId),
            (0u32..TrailId::RULES).prop_map(RuleId),
        ]
    }

    fn rules(trails: &Trails, trail: TrailId) -> Vec<RuleId> {
        trails.rules(trail).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Lists of rules and their trails, over several eras: each list has one trail in an era, each trail one list.
        #[test]
        fn a_trail_is_its_list_of_rules(
            eras in prop::collection::vec(prop::collection::vec(prop::collection::vec(rule(), 0..6), 0..40), 1..4),
        ) {
            let (trails, mut era) = (Trails::new(), TrailEra::default());
            let mut before: HashMap<Vec<RuleId>, TrailId> = HashMap::new();
            for (generation, lists) in (1..).zip(eras) {
                let mut known: HashMap<Vec<RuleId>, TrailId> = HashMap::new();
                for list in &lists {
                    let Some((decided, passed)) = list.split_first() else { continue };
                    let extend =
                        |trail: TrailId, rule: &RuleId| trails.extend(era, trail, *rule).expect("room");
                    let trail = passed.iter().fold((*decided).into(), extend);
                    let last_first: Vec<RuleId> = list.iter().rev().copied().collect();
                    prop_assert_eq!(rules(&trails, trail), last_first);
                    prop_assert_eq!(trail.is_cell(), list.len() > 1);
                    prop_assert_eq!(*known.entry(list.clone()).or_insert(trail), trail);
                }
                let distinct: HashSet<TrailId> = known.values().copied().collect();
                prop_assert_eq!(distinct.len(), known.len());
                let listed: HashSet<TrailId> = trails.iter().collect();
                prop_assert!(distinct.iter().filter(|trail| trail.is_cell()).all(|trail| listed.contains(trail)));
                // The era before stands until room is made.
                for (list, trail) in &before {
                    prop_assert_eq!(&rules(&trails, *trail), list);
                }
                prop_assert_eq!(listed.len(), trails.used(era) as usize + trails.before(era).count());
                trails.make_room(era);
                prop_assert_eq!(trails.iter().count(), trails.used(era) as usize);
                before = known.into_iter().map(|(list, trail)| (list.into_iter().rev().collect(), trail)).collect();
                era = era.next(generation);
                prop_assert_eq!(trails.used(era), 0);
            }
        }
    }

    #[test]
    fn where_there_is_no_place_it_says_so_and_what_is_there_stays() {
        let (trails, era) = (Trails::new(), TrailEra::default());
        let pairs = (0..).flat_map(|a| (0..512).map(move |b| (RuleId(a), RuleId(b))));
        let mut made = Vec::new();
        for (first, second) in pairs.take(2 * HALF as usize) {
            if let Some(trail) = trails.extend(era, first.into(), second) {
                made.push(([second, first], trail));
            }
        }
        assert_eq!(made.len(), trails.used(era) as usize);
        assert!(made.len() > HALF as usize * 9 / 10, "{} of {HALF}", made.len());
        for (rules, trail) in made {
            assert!(trails.rules(trail).eq(rules));
            assert_eq!(trails.extend(era, rules[1].into(), rules[0]), Some(trail));
        }
        assert_eq!(trails.extend(era.next(1), RuleId(1).into(), RuleId(0)).map(TrailId::is_cell), Some(true));
    }

    #[test]
    fn an_era_covers_what_was_judged_in_it() {
        let era = TrailEra::default().next(u32::MAX - 1);
        assert!([u32::MAX - 1, u32::MAX, 0, 7].into_iter().all(|generation| era.covers(generation)));
        assert!([u32::MAX - 2, 1 << 31].into_iter().all(|generation| !era.covers(generation)));
        assert!(TrailEra::default().covers(0));
    }

    #[test]
    fn numbers_of_cells_are_no_rules_and_not_that_of_none() {
        let (trails, era) = (Trails::new(), TrailEra::default().next(1));
        for rest in [TrailId::NONE, RuleId(TrailId::RULES).into()] {
            let trail = trails.extend(era, rest, RuleId(u32::MAX - 1)).expect("room");
            assert!(trail.number() > TrailId::RULES && (trail.number() as usize) < TrailId::NUMBERS);
            let beyond = RuleId(TrailId::RULES);
            assert_eq!(rules(&trails, trail).len(), 1 + usize::from(rest != TrailId::NONE));
            assert!(trails.rules(trail).all(|rule| rule == beyond));
        }
        assert!(TrailId::NONE.number() as usize >= TrailId::NUMBERS);
    }
}
