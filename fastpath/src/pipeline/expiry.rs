//! A worker's part of the sweep that takes expired connections out of the table.

use margay_flowtable::table::SweepCursor;

use super::Pipeline;

/// Cache lines that a turn of the sweep costs at most: bounds the pause to a few microseconds.
const BUDGET: usize = 256;

#[derive(Debug, Default)]
pub struct Expiry {
    cursor: SweepCursor,
}

impl Expiry {
    /// Does what is due of this second's pass, up to a bound. True if more is due.
    pub fn run(&mut self, pipeline: &Pipeline, now: u64, generation: u32) -> bool {
        let swept = pipeline.flows.table().sweep(&mut self.cursor, now, generation, BUDGET);
        pipeline.counters.flows_expired.add(swept.expired as u64);
        !swept.done
    }
}
