//! What the control loop knows at one moment of all that is told as figures.

use jiff::Timestamp;

use super::Latencies;
use crate::admin::Status;

#[derive(Clone, Debug)]
pub struct Figures {
    pub status: Status,
    /// When the snapshot in force was published, by the clock.
    pub published: Option<Timestamp>,
    /// In the order of the workers in `status`.
    pub times: Vec<WorkerTime>,
    /// First packets and flows that policy has dropped, and of which no record was kept.
    pub policy_drops_lost: u64,
    /// Flows that passed more rules than are kept of a flow.
    pub flows_cut_short: u64,
}

/// What a worker's time went into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerTime {
    /// In turns that moved frames.
    pub busy_nanoseconds: u64,
    pub latencies: Latencies,
}
