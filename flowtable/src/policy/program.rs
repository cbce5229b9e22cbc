//! What an identity obeys in one direction: tiers, and the same as steps that lie together.

use std::sync::Arc;

use super::{RuleId, SegmentId};

/// Steps that a program keeps with itself. Nearly every one has a tier or two, of a segment or two each.
const FEW: usize = 6;

/// The tiers that apply in one direction. No tier: no policy selects the end, and its profiles allow.
#[derive(Clone, Debug, Default)]
pub struct Program {
    steps: Steps,
    tiers: Vec<Tier>,
}

/// The policies of one tier that select the end in this direction (at least one), in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    pub name: Arc<str>,
    pub segments: Vec<SegmentId>,
    /// What happens at the end of the tier when no rule decided.
    pub end: TierEnd,
    /// Counted where the end of the tier decided.
    pub end_rule: RuleId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TierEnd {
    Allow,
    Deny,
    /// Go on with the next tier.
    Pass,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Ask(SegmentId),
    End(TierEnd, RuleId),
}

#[derive(Clone, Debug)]
enum Steps {
    Few(u8, [Step; FEW]),
    Many(Box<[Step]>),
}

impl Default for Steps {
    fn default() -> Self {
        Self::Few(0, [Step::End(TierEnd::Pass, RuleId::NONE); FEW])
    }
}

impl Program {
    pub fn new(tiers: Vec<Tier>) -> Self {
        let of_tier = |tier: &Tier| {
            let end = Step::End(tier.end, tier.end_rule);
            tier.segments.iter().map(|id| Step::Ask(*id)).chain([end]).collect::<Vec<_>>()
        };
        let all: Vec<Step> = tiers.iter().flat_map(of_tier).collect();
        let mut steps = Steps::default();
        match &mut steps {
            Steps::Few(len, few) if all.len() <= FEW => {
                *len = all.len() as u8;
                few[..all.len()].copy_from_slice(&all);
            }
            _ => steps = Steps::Many(all.into()),
        }
        Self { steps, tiers }
    }

    pub fn tiers(&self) -> &[Tier] {
        &self.tiers
    }

    pub(crate) fn steps(&self) -> &[Step] {
        match &self.steps {
            Steps::Few(len, few) => &few[..usize::from(*len)],
            Steps::Many(many) => many,
        }
    }
}

impl PartialEq for Program {
    fn eq(&self, other: &Self) -> bool {
        self.tiers == other.tiers
    }
}

impl Eq for Program {}
