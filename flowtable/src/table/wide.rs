//! IPv6 addresses of connections, apart from their entries: an entry has 32 bits of each, which tell nearly all
//! connections apart, and these tell all.
//!
//! The owner of a slot writes them before `Slots::fill` writes the entry's `ports` even: a reader that saw those and
//! then loads these has them, or words of a later life, and sees in its second look at `ports` that this has begun.

use super::memory::Array;
use crate::key::Wide;
use crate::sync::{AtomicU64, Ordering};

pub(super) struct WideAddresses(Array<[AtomicU64; 4]>);

impl WideAddresses {
    /// Of a table that takes no IPv6.
    pub(super) fn none() -> Self {
        Self::new(0)
    }

    pub(super) fn new(connections: u32) -> Self {
        let empty = (0..connections).map(|_| std::array::from_fn(|_| AtomicU64::new(0)));
        Self(Array::new(connections as usize, empty))
    }

    /// Source and destination of the slot's first packet.
    #[inline]
    pub(super) fn get(&self, slot: u32) -> Option<Wide> {
        let words = self.0.get(slot as usize)?;
        Some(std::array::from_fn(|n| words[n].load(Ordering::Acquire)))
    }

    /// The caller owns the slot. False where the table takes no IPv6.
    pub(super) fn set(&self, slot: u32, wide: Wide) -> bool {
        let Some(words) = self.0.get(slot as usize) else { return false };
        for (word, value) in words.iter().zip(wide) {
            word.store(value, Ordering::Release);
        }
        true
    }

    pub(super) fn is_none(&self) -> bool {
        self.0.is_empty()
    }
}
