//! Buckets: a word that names up to two slots, and for each the life that is meant.

use super::DatagramRef;
use crate::sync::{AtomicU64, Ordering};

/// A slot and its life, in 32 bits: the slot plus one, so that 0 is none, and the life's low half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name(u32);

impl Name {
    pub(super) fn of(at: DatagramRef) -> Self {
        Self((at.slot + 1) << 16 | at.life & 0xffff)
    }

    pub(super) fn slot(self) -> u32 {
        (self.0 >> 16) - 1
    }

    pub(super) fn is_of(self, life: u32) -> bool {
        self.0 & 0xffff == life & 0xffff
    }
}

/// What a bucket held at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(u64);

impl Word {
    pub(super) fn names(self) -> [Option<Name>; 2] {
        [self.0 as u32, (self.0 >> 32) as u32].map(|name| (name != 0).then_some(Name(name)))
    }
}

#[derive(Debug)]
pub(super) struct Bucket(AtomicU64);

impl Default for Bucket {
    fn default() -> Self {
        Self(AtomicU64::new(0))
    }
}

impl Bucket {
    pub(super) fn load(&self) -> Word {
        Word(self.0.load(Ordering::Acquire))
    }

    /// Puts a name in one of the places of a bucket that still holds `old`; else says what it holds.
    pub(super) fn put(&self, old: Word, place: usize, name: Name) -> Result<(), Word> {
        let shift = 32 * place as u32;
        let new = old.0 & !(0xffff_ffff << shift) | u64::from(name.0) << shift;
        // Release: who finds the name finds the key. Acquire on failure: for the name that came between.
        match self.0.compare_exchange(old.0, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(()),
            Err(changed) => Err(Word(changed)),
        }
    }
}
