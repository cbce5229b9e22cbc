//! The frames that nobody uses.

use super::{Frame, MOST_LARGE};

/// Free frames of one worker: chunks, and large buffers by themselves.
#[derive(Debug, Default)]
pub struct FramePool {
    free: Vec<Frame>,
    large: Vec<Frame>,
}

impl FramePool {
    /// A pool that can hold so many chunks, and all large buffers, without allocating.
    pub fn with_capacity(chunks: usize) -> Self {
        Self { free: Vec::with_capacity(chunks), large: Vec::with_capacity(MOST_LARGE as usize) }
    }

    /// A chunk.
    #[inline]
    pub fn get(&mut self) -> Option<Frame> {
        self.free.pop()
    }

    /// A large buffer.
    pub fn get_large(&mut self) -> Option<Frame> {
        self.large.pop()
    }

    #[inline]
    pub fn put(&mut self, frame: Frame) {
        if frame.is_large() {
            self.put_large(frame);
        } else {
            self.free.push(frame);
        }
    }

    #[cold]
    fn put_large(&mut self, frame: Frame) {
        self.large.push(frame);
    }

    /// How many chunks it has.
    pub fn len(&self) -> usize {
        self.free.len()
    }

    /// How many large buffers it has.
    pub fn large(&self) -> usize {
        self.large.len()
    }

    /// Whether it has no chunk.
    pub fn is_empty(&self) -> bool {
        self.free.is_empty()
    }
}

impl Extend<Frame> for FramePool {
    fn extend<I: IntoIterator<Item = Frame>>(&mut self, frames: I) {
        frames.into_iter().for_each(|frame| self.put(frame));
    }
}
