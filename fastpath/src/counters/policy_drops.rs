//! What policy has dropped of late: from one worker to control, in fixed memory.
//!
//! One record for each first packet that is denied and each flow that a change ends, not for the packets that such a
//! flow still sends. Under a flood records are lost, and counted; the rules' counters are not.

use crossbeam::queue::ArrayQueue;
use margay_flowtable::{EndpointId, PolicyType, RuleId, Tuple};

use super::Counter;

/// Records that wait for control.
const WAITING: usize = 1024;

/// A first packet that policy has denied, or a flow that it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyDrop {
    /// What decided; [`RuleId::NONE`] where a part of policy was missing.
    pub rule: RuleId,
    /// Whether the sender's egress policy decided or the receiver's ingress policy.
    pub direction: PolicyType,
    /// Whose policy that was, as the snapshot numbered it.
    pub endpoint: Option<EndpointId>,
    /// In the direction of the first packet.
    pub tuple: Tuple,
}

#[derive(Debug)]
pub struct PolicyDrops {
    waiting: ArrayQueue<PolicyDrop>,
    /// Records that found no room.
    pub lost: Counter,
}

impl Default for PolicyDrops {
    fn default() -> Self {
        Self { waiting: ArrayQueue::new(WAITING), lost: Counter::default() }
    }
}

impl PolicyDrops {
    pub fn record(&self, drop: PolicyDrop) {
        if self.waiting.push(drop).is_err() {
            self.lost.add(1);
        }
    }

    /// Takes what waits, the oldest first, but no more than a queue holds: a worker that drops on and on does not keep
    /// who asks.
    pub fn take(&self) -> impl Iterator<Item = PolicyDrop> {
        std::iter::from_fn(|| self.waiting.pop()).take(WAITING)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn what_finds_no_room_is_counted() {
        let drops = PolicyDrops::default();
        let address = Ipv4Addr::LOCALHOST.into();
        let tuple = Tuple { src: address, dst: address, protocol: 6, sport: 1, dport: 2, icmp: None };
        let drop = |n| PolicyDrop { rule: RuleId(n), direction: PolicyType::Egress, endpoint: None, tuple };
        for round in 0..2 {
            (0..WAITING as u32 + 3).for_each(|n| drops.record(drop(n)));
            assert_eq!(drops.lost.get(), 3 * (round + 1));
            assert!(drops.take().eq((0..WAITING as u32).map(drop)), "the first ones, in order");
        }
    }
}
