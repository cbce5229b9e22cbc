//! A frame in the UMEM, and a burst of them.

use arrayvec::ArrayVec;
use margay_flowtable::PortId;

/// Frames in one burst at most.
pub const BURST: usize = 64;

/// One frame: the right to one chunk of the UMEM, and where in it the packet lies. Not `Clone`: whoever holds the
/// `Frame` owns the bytes. Dropping one leaks its chunk, so every path hands frames on or back to the pool.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a frame that is dropped is a chunk lost"]
pub struct Frame {
    /// Offset of the packet's first byte in the UMEM.
    pub(crate) addr: u64,
    pub(crate) len: u32,
    /// Port that it came in by.
    pub port: PortId,
    /// Offset of the L4 header that the checksum starts at, and of the field from there, where the sender left the
    /// checksum to offload and the port says so (`csum_offset` 0: nothing is left to do).
    pub csum_start: u16,
    pub csum_offset: u16,
    /// GSO type and segment size as in `virtio_net_hdr`; 0: not a GSO frame.
    pub gso_type: u8,
    pub gso_size: u16,
}

impl Frame {
    /// Length of the packet in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Up to [`BURST`] frames, oldest first, in place.
#[derive(Debug, Default)]
pub struct Burst {
    frames: ArrayVec<Frame, BURST>,
}

impl Burst {
    #[inline]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// How many more frames fit.
    #[inline]
    pub fn room(&self) -> usize {
        self.frames.remaining_capacity()
    }

    /// Appends a frame; the caller has seen that there is room.
    #[inline]
    pub fn push(&mut self, frame: Frame) {
        self.frames.push(frame);
    }

    /// Appends a frame, or gives it back where there is no room.
    #[inline]
    pub fn try_push(&mut self, frame: Frame) -> Result<(), Frame> {
        self.frames.try_push(frame).map_err(arrayvec::CapacityError::element)
    }

    #[inline]
    pub fn as_slice(&self) -> &[Frame] {
        &self.frames
    }

    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [Frame] {
        &mut self.frames
    }

    /// Takes out one frame; those behind it move up.
    pub fn remove(&mut self, at: usize) -> Frame {
        self.frames.remove(at)
    }

    /// Takes the first `count` frames out, in order.
    #[inline]
    pub fn drain_front(&mut self, count: usize) -> arrayvec::Drain<'_, Frame, BURST> {
        self.frames.drain(..count)
    }
}
