//! A burst of frames.

use arrayvec::ArrayVec;

pub use crate::umem::{Frame, Gso};

/// Frames in one burst at most.
pub const BURST: usize = 64;

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

    pub fn into_frames(self) -> impl Iterator<Item = Frame> {
        self.frames.into_iter()
    }

    /// Takes the first `count` frames out, in order.
    #[inline]
    pub fn drain_front(&mut self, count: usize) -> arrayvec::Drain<'_, Frame, BURST> {
        self.frames.drain(..count)
    }
}
