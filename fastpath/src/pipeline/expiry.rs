//! What a worker does as time goes by: its part of the sweep that takes expired connections out of the table, and telling
//! of denials that it has added up.

use margay_flowtable::table::SweepCursor;

use super::Pipeline;

/// Cache lines that a turn of the sweep costs at most: bounds the pause to a few microseconds.
const BUDGET: usize = 256;

#[derive(Debug, Default)]
pub struct Expiry {
    cursor: SweepCursor,
}

impl Expiry {
    /// Does what is due, up to a bound. True if more of this second's pass is due.
    pub fn run(&mut self, pipeline: &Pipeline, now: u64, generation: u32) -> bool {
        let swept = pipeline.flows.table().sweep(&mut self.cursor, now, generation, BUDGET);
        pipeline.flows.judge.settle_denials(now);
        pipeline.counters.flows_expired.add(swept.expired as u64);
        !swept.done
    }
}
