//! One side of a single-producer single-consumer ring in memory shared with the kernel (`net/xdp/xsk_queue.h`): two
//! cursors that run over the whole of `u32`, and a power of two of slots.
//!
//! The side that owns a cursor keeps it here and publishes it with a release store; the peer's cursor is read with an
//! acquire load, and only when what is known of it runs out. Slots are addressed by the masked cursor, so no value that
//! the peer may write leads out of the memory.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where the parts of a ring lie, and who keeps them there.
#[derive(Debug)]
pub(crate) struct Raw<T> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    slots: NonNull<T>,
    mask: u32,
    _memory: Box<dyn Memory>,
    _slots: PhantomData<T>,
}

/// Memory that stays where it is, readable and writable, until it is dropped.
pub(crate) trait Memory: Send + std::fmt::Debug {}

// SAFETY: the pointers lead into `_memory`, which is Send and moves along; `Raw` is not Sync, so that this side of the
// ring has one user at a time.
unsafe impl<T: Send> Send for Raw<T> {}

impl<T: Copy> Raw<T> {
    /// A ring of `size` slots at these places in `memory`.
    ///
    /// # Panics
    /// Where `size` is no power of two.
    ///
    /// # Safety
    /// The pointers are aligned and lead into `memory`, `slots` to `size` of them. Any bytes are a `T`. Of all users
    /// of the memory one produces and one consumes by the protocol above, and the value made here is one of them.
    pub(crate) unsafe fn new(
        memory: Box<dyn Memory>,
        [producer, consumer, flags]: [NonNull<AtomicU32>; 3],
        slots: NonNull<T>,
        size: u32,
    ) -> Self {
        assert!(size.is_power_of_two(), "ring of {size} slots");
        Self { producer, consumer, flags, slots, mask: size - 1, _memory: memory, _slots: PhantomData }
    }

    #[inline]
    fn producer(&self) -> &AtomicU32 {
        // SAFETY: valid while `_memory` is, by the contract of `new`; both sides access cursors as atomics.
        unsafe { self.producer.as_ref() }
    }

    #[inline]
    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as for `producer`.
        unsafe { self.consumer.as_ref() }
    }

    #[inline]
    fn needs_wakeup(&self) -> bool {
        // SAFETY: as for `producer`.
        unsafe { self.flags.as_ref() }.load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    #[inline]
    fn slot(&self, cursor: u32) -> *mut T {
        // SAFETY: the masked cursor is below the number of slots, which are one allocation by the contract of `new`.
        unsafe { self.slots.as_ptr().add((cursor & self.mask) as usize) }
    }
}

/// The end that writes entries: of a FILL or a TX ring.
#[derive(Debug)]
pub(crate) struct Producer<T> {
    ring: Raw<T>,
    cursor: u32,
    /// Where the consumer stood when last looked at.
    seen: u32,
}

impl<T: Copy> Producer<T> {
    pub(crate) fn new(ring: Raw<T>) -> Self {
        let cursor = ring.producer().load(Ordering::Relaxed);
        let seen = ring.consumer().load(Ordering::Acquire);
        Self { ring, cursor, seen }
    }

    /// Writes an entry, for the consumer to see after [`submit`](Self::submit). False where the ring is full.
    #[inline]
    #[must_use]
    pub(crate) fn push(&mut self, entry: T) -> bool {
        if self.is_full_as_seen() {
            self.seen = self.ring.consumer().load(Ordering::Acquire);
            if self.is_full_as_seen() {
                return false;
            }
        }
        // SAFETY: `slot` leads to one of the ring's slots. The consumer has released it (the acquire load of its
        // cursor), and does not look at it again before `submit`.
        unsafe { self.ring.slot(self.cursor).write(entry) };
        self.cursor = self.cursor.wrapping_add(1);
        true
    }

    /// Whether so many entries fit.
    pub(crate) fn has_room(&mut self, count: u32) -> bool {
        let has_room = |this: &Self| {
            let taken = this.cursor.wrapping_sub(this.seen);
            taken.saturating_add(count) <= this.ring.mask + 1
        };
        if !has_room(self) {
            self.seen = self.ring.consumer().load(Ordering::Acquire);
        }
        has_room(self)
    }

    /// Publishes what was pushed.
    #[inline]
    pub(crate) fn submit(&mut self) {
        self.ring.producer().store(self.cursor, Ordering::Release);
    }

    /// Whether the kernel asks for a system call before it looks at the ring again.
    #[inline]
    pub(crate) fn needs_wakeup(&self) -> bool {
        self.ring.needs_wakeup()
    }

    #[inline]
    fn is_full_as_seen(&self) -> bool {
        self.cursor.wrapping_sub(self.seen) > self.ring.mask
    }
}

/// The end that takes entries: of an RX or a COMPLETION ring.
#[derive(Debug)]
pub(crate) struct Consumer<T> {
    ring: Raw<T>,
    cursor: u32,
    /// Where the producer stood when last looked at.
    seen: u32,
}

impl<T: Copy> Consumer<T> {
    pub(crate) fn new(ring: Raw<T>) -> Self {
        let cursor = ring.consumer().load(Ordering::Relaxed);
        Self { ring, cursor, seen: cursor }
    }

    /// The next entry. Its slot stays taken until [`release`](Self::release).
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<T> {
        if self.cursor == self.seen {
            self.seen = self.ring.producer().load(Ordering::Acquire);
            if self.cursor == self.seen {
                return None;
            }
        }
        // SAFETY: `slot` leads to one of the ring's slots, and any bytes are a `T`. The producer has published it (the
        // acquire load of its cursor), and does not write it again before `release`.
        let entry = unsafe { self.ring.slot(self.cursor).read() };
        self.cursor = self.cursor.wrapping_add(1);
        Some(entry)
    }

    /// Has the entry that was popped last be the next again, where nothing was released since.
    pub(crate) fn put_back(&mut self) {
        self.cursor = self.cursor.wrapping_sub(1);
    }

    /// Gives the slots of what was popped back to the producer.
    #[inline]
    pub(crate) fn release(&mut self) {
        self.ring.consumer().store(self.cursor, Ordering::Release);
    }

    /// Entries published and not yet released.
    #[inline]
    pub(crate) fn len(&self) -> u32 {
        let consumer = self.ring.consumer().load(Ordering::Acquire);
        self.ring.producer().load(Ordering::Acquire).wrapping_sub(consumer).min(self.ring.mask + 1)
    }
}

#[cfg(test)]
mod tests;
