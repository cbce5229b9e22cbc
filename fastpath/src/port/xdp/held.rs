//! What the kernel has of a port.

use margay_flowtable::PortId;

use crate::frame::Frame;
use crate::umem::{Layout, Umem};

/// The chunks of the UMEM that a port has handed to the kernel, those of large buffers too: a bit each.
#[derive(Debug)]
pub(super) struct Held {
    bits: Box<[u64]>,
    chunk_bits: u32,
}

impl Held {
    pub(super) fn new(layout: Layout) -> Self {
        let chunk_bits = layout.chunk_size.trailing_zeros();
        let bits = vec![0; (layout.bytes() >> chunk_bits).div_ceil(64)].into_boxed_slice();
        Self { bits, chunk_bits }
    }

    /// Notes the chunk of `addr`, which is a frame's.
    #[inline]
    pub(super) fn give(&mut self, addr: u64) {
        let chunk = (addr >> self.chunk_bits) as usize;
        self.bits[chunk / 64] |= 1 << (chunk % 64);
    }

    /// Strikes the chunk of `addr` out. False where the kernel does not have it.
    #[inline]
    pub(super) fn take(&mut self, addr: u64) -> bool {
        let chunk = (addr >> self.chunk_bits) as usize;
        let Some(word) = self.bits.get_mut(chunk / 64) else {
            return false;
        };
        let bit = 1 << (chunk % 64);
        let was_held = *word & bit != 0;
        *word &= !bit;
        was_held
    }

    /// Strikes a slice of a large buffer out, and gives the frame of the buffer where it was the last.
    #[cold]
    pub(super) fn take_slice(&mut self, umem: &Umem, addr: u64) -> Option<Frame> {
        let buffer = umem.adopt_large(addr).filter(|_| self.take(addr));
        let is_held = |addr| self.has(addr);
        buffer.filter(|_| !umem.chunks_of_large(addr).any(is_held))
    }

    fn has(&self, addr: u64) -> bool {
        let chunk = (addr >> self.chunk_bits) as usize;
        self.bits.get(chunk / 64).is_some_and(|word| word & 1 << (chunk % 64) != 0)
    }

    /// Strikes all out, and gives the frames that the kernel had, whole or in part.
    pub(super) fn drain_frames(&mut self, umem: &Umem) -> impl Iterator<Item = Frame> {
        let mut last = None;
        self.drain().filter_map(move |addr| {
            let frame = umem.adopt(addr, 0, PortId(u16::MAX)).or_else(|| umem.adopt_large(addr))?;
            // Slices of one large buffer follow each other.
            (last.replace(frame.addr()) != Some(frame.addr())).then_some(frame)
        })
    }

    /// Strikes all out, and gives the offset of each.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = u64> {
        let chunk_bits = self.chunk_bits;
        self.bits.iter_mut().enumerate().flat_map(move |(index, word)| {
            let word = std::mem::take(word);
            (0..64)
                .filter(move |bit| word >> bit & 1 != 0)
                .map(move |bit| (index as u64 * 64 + bit) << chunk_bits)
        })
    }
}
