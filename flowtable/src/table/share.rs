//! Shares: how many connections each endpoint holds, so that none holds more than its share of the table.
//!
//! A connection is charged to one address, its owner, which the caller chooses. Counters are few and stand by the
//! owner's hash under the table's secret: two owners that fall on one counter share a share, and nobody can choose whom
//! to fall together with. A connection remembers its counter in its entry, whose owner gives it back: whoever ends a
//! connection owns its slot, so that happens once.

use crate::sync::{AtomicU32, Ordering};

#[cfg(not(loom))]
pub(super) const COUNTERS: usize = 1 << 16;
#[cfg(loom)]
pub(super) const COUNTERS: usize = 2;

/// A counter, as an entry remembers it.
pub(super) type ShareId = u16;

pub(super) struct Shares {
    limit: u32,
    held: Box<[AtomicU32]>,
}

impl Shares {
    pub(super) fn new(limit: u32) -> Self {
        Self { limit, held: (0..COUNTERS).map(|_| AtomicU32::new(0)).collect() }
    }

    /// The counter of whoever has this hash.
    pub(super) fn id(hash: u64) -> ShareId {
        (hash % COUNTERS as u64) as ShareId
    }

    /// Counts one connection more, if that is within the limit. Lock-free: a swap fails when another has succeeded.
    /// (Adding first and taking back what is too much would refuse others meanwhile that are within it.)
    pub(super) fn charge(&self, id: ShareId) -> bool {
        let counter = &self.held[usize::from(id)];
        let mut held = counter.load(Ordering::Relaxed);
        while held < self.limit {
            match counter.compare_exchange_weak(held, held + 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => held = now,
            }
        }
        false
    }

    pub(super) fn uncharge(&self, id: ShareId) {
        self.held[usize::from(id)].fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn held(&self, id: ShareId) -> u32 {
        self.held[usize::from(id)].load(Ordering::Relaxed)
    }
}
