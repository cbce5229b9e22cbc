//! Workers that start together, each on a core of its own.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::ensure;

/// Fails where there are fewer cores than workers: they would wait for each other.
pub(super) fn check_cores(workers: u32) -> anyhow::Result<()> {
    let cores = core_affinity::get_core_ids().map_or(0, |cores| cores.len());
    ensure!(
        workers as usize <= cores,
        "{workers} workers need as many cores, and this process may use {cores}"
    );
    Ok(())
}

/// Where workers wait for each other. They spin: to be woken takes longer than what some runs take.
#[derive(Debug)]
pub(super) struct Start {
    workers: u32,
    arrived: AtomicU32,
}

impl Start {
    fn new(workers: u32) -> Self {
        Self { workers, arrived: AtomicU32::new(0) }
    }

    /// Returns when every worker has called this as often as the caller has.
    pub(super) fn wait(&self) {
        let arrived = self.arrived.fetch_add(1, Ordering::AcqRel);
        let all = (arrived / self.workers + 1) * self.workers;
        while self.arrived.load(Ordering::Acquire) < all {
            spin_loop();
        }
    }
}

/// Runs `work` on so many pinned workers, and returns what each returned. From the last core down: interrupts tend to
/// come to the first.
pub(super) fn on_workers<T: Send>(workers: u32, work: impl Fn(usize, &Start) -> T + Sync) -> Vec<T> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let start = Start::new(workers);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..workers as usize)
            .map(|worker| {
                let (work, start, core) = (&work, &start, cores.iter().rev().nth(worker).copied());
                scope.spawn(move || {
                    // Unpinned it measures as well, less steadily.
                    core.map(core_affinity::set_for_current);
                    work(worker, start)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("workers do not panic")).collect()
    })
}
