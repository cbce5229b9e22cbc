//! The rules that admitted a connection, as its entry keeps them.

use std::fmt;

use super::action::{ActionWord, FlowAction};
use super::slot::incarnation;
use super::{FlowRef, FlowTable};
use crate::conntrack::Direction;
use crate::policy::RuleId;
use crate::sync::Ordering;

/// What one snapshot has decided of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// What to do with packets of the Original and of the Reply direction.
    pub actions: [FlowAction; 2],
    /// The rules by which the first packet's sender may send and its receiver may receive it, or the one that denies
    /// it; [`RuleId::NONE`] where no rule decided. An entry tells rules below [`Judged::RULES`] apart, and keeps those
    /// beyond as the number `RULES`.
    pub rules: [RuleId; 2],
}

impl Judged {
    /// Rules that an entry can name: a number has 20 bits, one of them its sign, so that no rule is -1.
    pub const RULES: u32 = (1 << (BITS - 1)) - 1;
}

/// Without rules.
impl From<[FlowAction; 2]> for Judged {
    fn from(actions: [FlowAction; 2]) -> Self {
        Self { actions, rules: [RuleId::NONE; 2] }
    }
}

const BITS: u32 = 20;
const MASK: u32 = (1 << BITS) - 1;

/// Egress rule and ingress rule as an entry keeps them: in 20 bits each, so that both are compared at once.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowRules(u64);

impl FlowRules {
    pub const NONE: Self = Self((1 << (2 * BITS)) - 1);

    pub fn new(rules: [RuleId; 2]) -> Self {
        let kept = |rule: RuleId| if rule == RuleId::NONE { MASK } else { rule.0.min(Judged::RULES) };
        let [egress, ingress] = rules.map(|rule| u64::from(kept(rule)));
        Self(egress << BITS | ingress)
    }

    /// The rules of egress and ingress; [`Judged::RULES`] is any beyond.
    #[inline]
    pub fn ids(self) -> [RuleId; 2] {
        let above = |bits: u32| {
            let number = (self.0 << bits).cast_signed() >> (u64::BITS - BITS);
            RuleId(number.cast_unsigned() as u32)
        };
        [above(u64::BITS - 2 * BITS), above(u64::BITS - BITS)]
    }
}

impl Default for FlowRules {
    fn default() -> Self {
        Self::NONE
    }
}

impl fmt::Debug for FlowRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ids().fmt(f)
    }
}

/// The rules (40 bits) and incarnation of the entry (24 bits) in one word: both rules change together, and not at all
/// once the entry is another's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct RulesWord(pub(super) u64);

impl RulesWord {
    pub(super) fn new(rules: FlowRules, incarnation: u32) -> Self {
        Self(rules.0 << INCARNATION_BITS | u64::from(incarnation))
    }

    #[inline]
    pub(super) fn rules(self) -> FlowRules {
        FlowRules(self.0 >> INCARNATION_BITS)
    }
}

const INCARNATION_BITS: u32 = u64::BITS - 2 * BITS;

impl FlowTable {
    /// Writes the rules beside an action that this generation has set. Of two that judge a connection again, the later
    /// generation's rules stay: who comes late finds its stamp in the action. (Only if the later ones are the same that
    /// stood there before both may a swap of the earlier one succeed after it; its rules then count until the flow is
    /// judged again.) Lock-free: a swap fails when another's has succeeded.
    pub(super) fn set_rules(&self, flow: FlowRef, way: Direction, rules: [RuleId; 2], generation: u32) {
        let half = self.slots.half(flow.slot, way);
        let new = RulesWord::new(FlowRules::new(rules), flow.incarnation);
        let mut old = half.rules.load(Ordering::Acquire);
        while incarnation(old) == flow.incarnation
            && !ActionWord(half.action.load(Ordering::Acquire)).is_after(generation)
        {
            match half.rules.compare_exchange(old, new.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(now) => old = now,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_survive_in_twenty_bits_and_what_is_beyond_stays_beyond() {
        let numbers = [0, 1, 131_071, Judged::RULES - 1, Judged::RULES];
        for egress in numbers.map(RuleId).into_iter().chain([RuleId::NONE]) {
            for ingress in numbers.map(RuleId).into_iter().chain([RuleId::NONE]) {
                let word = RulesWord::new(FlowRules::new([egress, ingress]), 0xff_fffe);
                assert_eq!(word.rules().ids(), [egress, ingress]);
                assert_eq!(incarnation(word.0), 0xff_fffe);
            }
        }
        let beyond = [RuleId(Judged::RULES + 1), RuleId(u32::MAX - 1)];
        assert_eq!(FlowRules::new(beyond).ids(), [RuleId(Judged::RULES); 2]);
        assert_eq!(FlowRules::new([RuleId::NONE; 2]), FlowRules::NONE);
    }
}
