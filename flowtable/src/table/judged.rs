//! What admitted a connection, as its entry keeps it.

use std::fmt;

use super::action::{ActionWord, FlowAction};
use super::slot::incarnation;
use super::trails::{BITS, TrailId};
use super::{FlowRef, FlowTable};
use crate::conntrack::Direction;
use crate::sync::Ordering;

/// What one snapshot has decided of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// What to do with packets of the Original and of the Reply direction.
    pub actions: [FlowAction; 2],
    /// By which trails the first packet's sender may send and its receiver may receive it, or are denied it. The rule that
    /// decided is a trail's last.
    pub trails: [TrailId; 2],
}

/// Without rules.
impl From<[FlowAction; 2]> for Judged {
    fn from(actions: [FlowAction; 2]) -> Self {
        Self { actions, trails: [TrailId::NONE; 2] }
    }
}

/// The trails of egress and ingress as an entry keeps them: in 20 bits each, so that both are compared at once.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowTrails(u64);

impl FlowTrails {
    pub const NONE: Self = Self((1 << (2 * BITS)) - 1);

    pub fn new(trails: [TrailId; 2]) -> Self {
        let [egress, ingress] = trails.map(|trail| u64::from(trail.number()));
        Self(egress << BITS | ingress)
    }

    /// Those of egress and ingress.
    #[inline]
    pub fn ids(self) -> [TrailId; 2] {
        [TrailId::new(self.0 >> BITS), TrailId::new(self.0)]
    }
}

impl Default for FlowTrails {
    fn default() -> Self {
        Self::NONE
    }
}

impl fmt::Debug for FlowTrails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ids().fmt(f)
    }
}

/// The trails (40 bits) and incarnation of the entry (its low 24 bits) in one word: both trails change together, and not at all
/// once the entry is another's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct TrailsWord(pub(super) u64);

impl TrailsWord {
    pub(super) fn new(trails: FlowTrails, incarnation: u32) -> Self {
        Self(trails.0 << INCARNATION_BITS | u64::from(incarnation))
    }

    #[inline]
    pub(super) fn trails(self) -> FlowTrails {
        FlowTrails(self.0 >> INCARNATION_BITS)
    }
}

const INCARNATION_BITS: u32 = u64::BITS - 2 * BITS;

impl FlowTable {
    /// Writes the trails beside an action that this generation has set. Of two that judge a connection again, the later
    /// generation's trails stay: who comes late finds its stamp in the action. (Only if the later ones are the same that
    /// stood there before both may a swap of the earlier one succeed after it; its trails then count until the flow is
    /// judged again.) Lock-free: a swap fails when another's has succeeded.
    pub(super) fn set_trails(&self, flow: FlowRef, way: Direction, trails: [TrailId; 2], generation: u32) {
        let half = self.slots.half(flow.slot, way);
        let new = TrailsWord::new(FlowTrails::new(trails), flow.incarnation);
        let mut old = half.trails.load(Ordering::Acquire);
        while incarnation(old) == flow.incarnation
            && !ActionWord(half.action.load(Ordering::Acquire)).is_after(generation)
        {
            match half.trails.compare_exchange(old, new.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(now) => old = now,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::RuleId;

    #[test]
    fn trails_survive_in_twenty_bits_and_rules_beyond_stay_beyond() {
        let rules = [0, 1, 131_071, TrailId::RULES - 1, TrailId::RULES].map(|rule| RuleId(rule).into());
        let cells = [TrailId::RULES + 1, TrailId::NUMBERS as u32 - 1].map(|n| TrailId::new(n.into()));
        let trails = || rules.into_iter().chain(cells).chain([TrailId::NONE]);
        for egress in trails() {
            for ingress in trails() {
                let word = TrailsWord::new(FlowTrails::new([egress, ingress]), 0x7f_fffe);
                assert_eq!(word.trails().ids(), [egress, ingress]);
                assert_eq!(incarnation(word.0), 0x7f_fffe);
            }
        }
        assert!(cells.into_iter().all(TrailId::is_cell) && !rules.into_iter().any(TrailId::is_cell));
        let beyond = [RuleId(TrailId::RULES + 1), RuleId(u32::MAX - 1)].map(TrailId::from);
        assert_eq!(beyond, [RuleId(TrailId::RULES).into(); 2]);
        assert_eq!(FlowTrails::new([RuleId::NONE.into(); 2]), FlowTrails::NONE);
    }
}
