//! Counters per worker, by port and by rule. One worker writes, anyone reads.
//!
//! A worker is the only writer of its counters, so an increment is a plain load and store, not an atomic add.

mod latency;
mod policy_drops;
mod rules;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use margay_flowtable::PortId;
use zerocopy::{FromZeros, KnownLayout};

pub use latency::{Latency, LatencyBucket};
pub use policy_drops::{PolicyDrop, PolicyDrops};
pub(crate) use rules::RuleRun;
pub use rules::{DEFAULT_RULES, MAX_RULES, RuleCount, RuleCounters};

use crate::drop::DropReason;
use crate::events::Events;

/// Ports that a worker can have: every `PortId` is below this.
pub const MAX_PORTS: usize = 1024;

/// A counter with one writer.
#[derive(Debug, Default, FromZeros, KnownLayout)]
#[repr(transparent)]
pub struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What one worker saw on one port. Frames that entered: `rx`; each is counted out once: as `forwarded` when it was
/// given to an output port, or as one of `drops`. What a port was given and then lost is that port's `tx_lost`.
#[derive(Debug)]
pub struct PortCounters {
    /// Frames and bytes received.
    pub rx: Counter,
    pub rx_bytes: Counter,
    /// Frames of this input port that were handed to an output.
    pub forwarded: Counter,
    /// Frames and bytes given to this port for transmission, ICMP errors of our own included.
    pub tx: Counter,
    pub tx_bytes: Counter,
    /// Frames given to this port that did not leave: the ring to the worker who owns it was full, or it went away.
    pub tx_lost: Counter,
    /// ICMP errors that answered frames of this input port.
    pub answered: Counter,
    /// Frames of this input port dropped, by reason.
    pub drops: [Counter; DropReason::COUNT],
}

impl Default for PortCounters {
    fn default() -> Self {
        Self {
            rx: Counter::default(),
            rx_bytes: Counter::default(),
            forwarded: Counter::default(),
            tx: Counter::default(),
            tx_bytes: Counter::default(),
            tx_lost: Counter::default(),
            answered: Counter::default(),
            drops: std::array::from_fn(|_| Counter::default()),
        }
    }
}

/// Counters of one worker.
#[derive(Debug)]
pub struct Counters {
    ports: Box<[PortCounters]>,
    pub rules: RuleCounters,
    pub policy_drops: PolicyDrops,
    pub events: Events,
    /// Turns of the loop, and those of them that moved at least one frame.
    pub turns: Counter,
    pub busy_turns: Counter,
    /// What the latter took.
    pub busy_nanoseconds: Counter,
    /// How long frames were in the worker's hands, of those bursts that it timed
    /// ([`BURSTS_PER_SAMPLE`](crate::worker::BURSTS_PER_SAMPLE)).
    pub latency: Latency,
    /// Connections entered into the flow table, and taken out by expiry.
    pub flows_inserted: Counter,
    pub flows_expired: Counter,
    /// Flows that a change touched and that were judged again.
    pub flows_reclassified: Counter,
    /// Free frames in the worker's pool, as of the last turn.
    pub pool: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            ports: (0..MAX_PORTS).map(|_| PortCounters::default()).collect(),
            rules: RuleCounters::default(),
            policy_drops: PolicyDrops::default(),
            events: Events::default(),
            turns: Counter::default(),
            busy_turns: Counter::default(),
            busy_nanoseconds: Counter::default(),
            latency: Latency::default(),
            flows_inserted: Counter::default(),
            flows_expired: Counter::default(),
            flows_reclassified: Counter::default(),
            pool: AtomicU64::default(),
        }
    }
}

impl Counters {
    /// Counters for so many rules.
    pub fn with_rules(rules: u32) -> Self {
        Self { rules: RuleCounters::new(rules), ..Self::default() }
    }

    #[inline]
    pub fn port(&self, id: PortId) -> &PortCounters {
        &self.ports[usize::from(id.0)]
    }

    #[inline]
    pub fn count_drop(&self, id: PortId, reason: DropReason) {
        self.port(id).drops[reason as usize].add(1);
    }
}
