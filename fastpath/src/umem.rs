//! The UMEM: one memory area that every port shares: equal chunks, which the kernel receives into, and behind them large
//! buffers, each a run of chunks, for packets that no chunk holds.
//!
//! A chunk or a large buffer is owned by whoever holds its [`Frame`]; that is what makes handing out `&mut [u8]` sound.
//! While the kernel owns any of it (it stands in a FILL or TX ring) no `Frame` for it exists.

mod frame;
mod pool;

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use margay_flowtable::PortId;

pub use frame::{Frame, Gso};
pub use pool::FramePool;

/// Bytes that the kernel keeps before the packet in an RX chunk (`XDP_PACKET_HEADROOM`, include/uapi/linux/bpf.h).
pub const XDP_HEADROOM: u32 = 256;

/// Bytes that the pipeline leaves before a packet that it sends, for what a port puts there: a VLAN tag, and what it asks
/// of the kernel.
pub const PORT_HEADROOM: u32 = 32;
/// Bytes of a large buffer: room for the longest IP packet and what stands before it, in whole chunks.
const LARGE_BUFFER: u32 = 72 << 10;
/// Large buffers at most, and at least so many chunks for each.
pub(crate) const MOST_LARGE: u32 = 128;
const CHUNKS_PER_LARGE: u32 = 64;

/// Size and number of the chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of a chunk: 2048 or 4096 (the kernel takes a power of two, at most a page).
    pub chunk_size: u32,
    pub chunks: u32,
}

impl Layout {
    /// Bytes of the whole area.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.chunk_bytes() + self.large_buffers() as usize * LARGE_BUFFER as usize
    }

    /// Large buffers behind the chunks. None where they would not be of whole chunks: where chunks hold any packet.
    #[must_use]
    pub const fn large_buffers(self) -> u32 {
        let share = self.chunks / CHUNKS_PER_LARGE;
        if !LARGE_BUFFER.is_multiple_of(self.chunk_size) {
            0
        } else if share < MOST_LARGE {
            share
        } else {
            MOST_LARGE
        }
    }

    /// Bytes of the chunks, which is where the large buffers begin.
    pub(crate) const fn chunk_bytes(self) -> usize {
        self.chunk_size as usize * self.chunks as usize
    }

    /// The longest frame (Ethernet header included) that a port can receive into a chunk.
    #[must_use]
    pub const fn longest_frame(self) -> u32 {
        self.chunk_size - XDP_HEADROOM
    }
}

/// Who keeps the memory mapped. Dropped with the last [`Umem`] handle.
pub trait Mapping: Send + Sync + std::fmt::Debug {
    /// First byte; the area is readable and writable for [`Layout::bytes`] from here until the mapping is dropped.
    fn base(&self) -> NonNull<u8>;
}

#[derive(Debug)]
pub struct Umem {
    base: NonNull<u8>,
    layout: Layout,
    /// Of the layout: of all, ready for the check that every access makes, and of the chunks.
    bytes: u64,
    chunk_bytes: u64,
    _mapping: Box<dyn Mapping>,
}

// SAFETY: the pointer is only turned into slices through a `Frame`, which is the exclusive right to its chunk or
// large buffer; the mapping itself is Send + Sync and lives as long as the Umem.
#[allow(unsafe_code)]
unsafe impl Send for Umem {}
// SAFETY: as above: shared access hands out disjoint memory only.
#[allow(unsafe_code)]
unsafe impl Sync for Umem {}

impl Umem {
    /// Wraps a mapping and makes the one `Frame` of each chunk and of each large buffer.
    ///
    /// # Safety
    /// `mapping.base()` is valid for reads and writes of `layout.bytes()` bytes while `mapping` lives, and nothing
    /// but the kernel's AF_XDP rings accesses it except through the returned frames.
    #[allow(unsafe_code)]
    pub unsafe fn from_mapping(mapping: Box<dyn Mapping>, layout: Layout) -> (Arc<Self>, Vec<Frame>) {
        let base = mapping.base();
        let (bytes, chunk_bytes) = (layout.bytes() as u64, layout.chunk_bytes() as u64);
        let umem = Arc::new(Self { base, layout, bytes, chunk_bytes, _mapping: mapping });
        let chunks = (0..layout.chunks).map(|i| blank(u64::from(i) * u64::from(layout.chunk_size)));
        let large = (0..layout.large_buffers()).map(|i| umem.blank_large(i));
        let frames = chunks.chain(large).collect();
        (umem, frames)
    }

    /// A UMEM on the heap, for in-memory ports.
    pub fn heap(layout: Layout) -> (Arc<Self>, Vec<Frame>) {
        #[derive(Debug)]
        struct Heap(NonNull<[u64]>);
        // SAFETY: the allocation is plain memory, freed once, by drop.
        #[allow(unsafe_code)]
        unsafe impl Send for Heap {}
        // SAFETY: as above; the Heap itself never reads or writes it.
        #[allow(unsafe_code)]
        unsafe impl Sync for Heap {}
        impl Mapping for Heap {
            fn base(&self) -> NonNull<u8> {
                self.0.cast()
            }
        }
        impl Drop for Heap {
            #[allow(unsafe_code)]
            fn drop(&mut self) {
                // SAFETY: made by Box::leak below and dropped only here.
                drop(unsafe { Box::from_raw(self.0.as_ptr()) });
            }
        }
        let memory: Box<[u64]> = vec![0u64; layout.bytes() / 8].into_boxed_slice();
        let mapping = Box::new(Heap(NonNull::from(Box::leak(memory))));
        // SAFETY: the leaked box is `layout.bytes()` long, valid until Heap drops, and reachable only through `base`.
        #[allow(unsafe_code)]
        unsafe {
            Self::from_mapping(mapping, layout)
        }
    }

    /// First byte of the area, for registering it with the kernel.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Bytes of the frame's packet.
    #[inline]
    pub fn bytes<'a>(&self, frame: &'a Frame) -> &'a [u8] {
        let start = self.checked_offset(frame);
        // SAFETY: the packet is inside the chunk or the large buffer that the frame is the right to (see its `addr`), and
        // `checked_offset` has it inside the area; `&Frame` excludes writers.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.base.as_ptr().add(start), frame.len())
        }
    }

    /// Bytes of the frame's packet, to rewrite.
    #[inline]
    pub fn bytes_mut<'a>(&self, frame: &'a mut Frame) -> &'a mut [u8] {
        let start = self.checked_offset(frame);
        // SAFETY: as in `bytes`; `&mut Frame` is the exclusive right to that memory.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts_mut(self.base.as_ptr().add(start), frame.len())
        }
    }

    /// Free bytes of the chunk before the packet: in a large buffer of the one of its chunks that the packet begins in.
    #[inline]
    pub fn headroom(&self, frame: &Frame) -> u32 {
        (frame.addr & u64::from(self.layout.chunk_size - 1)) as u32
    }

    /// Moves the start of the packet `count` bytes toward the start of the chunk, and returns its bytes. `None`, and
    /// nothing done, where the headroom is too small.
    #[inline]
    #[must_use]
    pub fn push<'a>(&self, frame: &'a mut Frame, count: u32) -> Option<&'a mut [u8]> {
        if self.headroom(frame) < count {
            return None;
        }
        frame.addr -= u64::from(count);
        frame.len += count;
        Some(self.bytes_mut(frame))
    }

    /// Cuts the packet to this part of it, which is not empty: it might begin where the frame's memory ends.
    #[inline]
    pub fn narrow(&self, frame: &mut Frame, part: Range<usize>) {
        assert!(part.start < part.end && part.end <= frame.len(), "{part:?} of a frame of {}", frame.len());
        frame.addr += part.start as u64;
        frame.len = (part.end - part.start) as u32;
    }

    /// Cuts the packet to `len` bytes.
    #[inline]
    pub fn truncate(&self, frame: &mut Frame, len: u32) {
        frame.len = frame.len.min(len);
    }

    /// Empties the frame and puts `packet` into it, after [`XDP_HEADROOM`]. False where the frame cannot hold it.
    pub fn fill(&self, frame: &mut Frame, packet: &[u8]) -> bool {
        let Some(bytes) = self.lay_out(frame, packet.len()) else { return false };
        bytes.copy_from_slice(packet);
        true
    }

    /// Empties the frame and makes its packet `len` bytes, of whatever value, after [`XDP_HEADROOM`]. `None` where it cannot
    /// hold so many.
    pub fn lay_out<'a>(&self, frame: &'a mut Frame, len: usize) -> Option<&'a mut [u8]> {
        let (blank, room) = match self.large_index(frame.addr) {
            Some(index) if frame.is_large => (self.blank_large(index), LARGE_BUFFER),
            _ => (blank(self.chunk_of(frame.addr)), self.layout.chunk_size),
        };
        if len > (room - XDP_HEADROOM) as usize {
            return None;
        }
        *frame = Frame { addr: blank.addr + u64::from(XDP_HEADROOM), len: len as u32, ..blank };
        Some(self.bytes_mut(frame))
    }

    /// Offset of the chunk that holds `addr`.
    #[inline]
    pub(crate) fn chunk_of(&self, addr: u64) -> u64 {
        addr & !u64::from(self.layout.chunk_size - 1)
    }

    /// A frame for the packet that a ring handed over. `None` where the descriptor does not lie in one chunk.
    #[inline]
    pub(crate) fn adopt(&self, addr: u64, len: u32, port: PortId) -> Option<Frame> {
        let frame = Frame { addr, len, port, ..blank(addr) };
        self.fits(&frame).then_some(frame)
    }

    /// The frame of the large buffer that holds this offset, which has come back from the kernel whole.
    pub(crate) fn adopt_large(&self, offset: u64) -> Option<Frame> {
        self.large_index(offset).map(|index| self.blank_large(index))
    }

    /// Puts the packet of `part` behind that of a frame in a large buffer. False, and nothing done, where there is no room.
    pub(crate) fn append(&self, frame: &mut Frame, part: &Frame) -> bool {
        let len = frame.len();
        let has_room = frame.is_large && u64::from(part.len) <= self.end_of_large(frame) - frame.end();
        if has_room {
            frame.len += part.len;
            self.bytes_mut(frame)[len..].copy_from_slice(self.bytes(part));
        }
        has_room
    }

    /// The packet of a frame in a large buffer as the kernel takes it: offset and length of what lies in each chunk.
    pub(crate) fn slices(&self, frame: &Frame) -> impl ExactSizeIterator<Item = (u64, u32)> + use<> {
        let size = u64::from(self.layout.chunk_size);
        let (start, end) = (frame.addr, frame.end());
        let chunks = (start / size) as u32..end.div_ceil(size) as u32;
        chunks.map(move |chunk| {
            let from = start.max(u64::from(chunk) * size);
            (from, (end.min(u64::from(chunk + 1) * size) - from) as u32)
        })
    }

    /// The offsets of the chunks of the large buffer that holds this offset.
    pub(crate) fn chunks_of_large(&self, offset: u64) -> impl Iterator<Item = u64> + use<> {
        let start = self.large_index(offset).map_or(0, |index| self.blank_large(index).addr);
        (start..start + u64::from(LARGE_BUFFER)).step_by(self.layout.chunk_size as usize)
    }

    fn large_index(&self, offset: u64) -> Option<u32> {
        let beyond = offset.checked_sub(self.chunk_bytes)?;
        (offset < self.bytes).then_some((beyond / u64::from(LARGE_BUFFER)) as u32)
    }

    fn blank_large(&self, index: u32) -> Frame {
        let start = self.chunk_bytes + u64::from(index) * u64::from(LARGE_BUFFER);
        Frame { is_large: true, ..blank(start) }
    }

    /// Offset one past the large buffer that the frame is the right to.
    fn end_of_large(&self, frame: &Frame) -> u64 {
        let index = self.large_index(frame.addr).unwrap_or_default();
        self.blank_large(index + 1).addr
    }

    /// Whether the frame is of a chunk, and does not reach beyond it.
    #[inline]
    fn fits(&self, frame: &Frame) -> bool {
        let in_chunk = frame.addr & u64::from(self.layout.chunk_size - 1);
        frame.addr < self.chunk_bytes && in_chunk + u64::from(frame.len) <= u64::from(self.layout.chunk_size)
    }

    fn fits_large(&self, frame: &Frame) -> bool {
        frame.is_large && self.large_index(frame.addr).is_some() && frame.end() <= self.end_of_large(frame)
    }

    #[inline]
    fn checked_offset(&self, frame: &Frame) -> usize {
        debug_assert!(self.fits(frame) || self.fits_large(frame), "frame outside its memory: {frame:?}");
        // One of another UMEM, whose memory may end elsewhere.
        assert!(frame.end() <= self.bytes, "frame outside the UMEM: {frame:?}");
        frame.addr as usize
    }
}

#[inline]
fn blank(addr: u64) -> Frame {
    Frame {
        addr,
        len: 0,
        is_large: false,
        port: PortId(u16::MAX),
        csum_start: 0,
        csum_offset: 0,
        stripped: 0,
        is_cut: false,
        gso: Gso::Never,
        gso_size: 0,
    }
}

#[cfg(test)]
mod tests;
