//! The UMEM: one memory area of equal chunks that every port shares, and the pool of its free chunks.
//!
//! A chunk is owned by whoever holds its [`Frame`]; that is what makes handing out `&mut [u8]` sound. While the
//! kernel owns a chunk (it stands in a FILL or TX ring) no `Frame` for it exists.

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use margay_flowtable::PortId;

use crate::frame::Frame;

/// Bytes that the kernel keeps before the packet in an RX chunk (`XDP_PACKET_HEADROOM`, include/uapi/linux/bpf.h).
pub const XDP_HEADROOM: u32 = 256;

/// Bytes that the pipeline leaves before a packet that it sends, for what a port puts there: a VLAN tag.
pub const PORT_HEADROOM: u32 = 32;

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
    /// Of the layout, ready for the check that every access makes.
    bytes: u64,
    _mapping: Box<dyn Mapping>,
}

// SAFETY: the pointer is only turned into slices through a `Frame`, which is the exclusive right to its chunk; the
// mapping itself is Send + Sync and lives as long as the Umem.
#[allow(unsafe_code)]
unsafe impl Send for Umem {}
// SAFETY: as above: shared access hands out disjoint chunks only.
#[allow(unsafe_code)]
unsafe impl Sync for Umem {}

impl Umem {
    /// Wraps a mapping and makes the one `Frame` of each chunk.
    ///
    /// # Safety
    /// `mapping.base()` is valid for reads and writes of `layout.bytes()` bytes while `mapping` lives, and nothing
    /// but the kernel's AF_XDP rings accesses it except through the returned frames.
    #[allow(unsafe_code)]
    pub unsafe fn from_mapping(mapping: Box<dyn Mapping>, layout: Layout) -> (Arc<Self>, Vec<Frame>) {
        let base = mapping.base();
        let umem = Arc::new(Self { base, layout, bytes: layout.bytes() as u64, _mapping: mapping });
        let frames =
            (0..layout.chunks).map(|i| umem.blank(u64::from(i) * u64::from(layout.chunk_size))).collect();
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
        // SAFETY: `checked_offset` has the packet inside one chunk of the area, `&Frame` excludes writers.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.base.as_ptr().add(start), frame.len())
        }
    }

    /// Bytes of the frame's packet, to rewrite.
    #[inline]
    pub fn bytes_mut<'a>(&self, frame: &'a mut Frame) -> &'a mut [u8] {
        let start = self.checked_offset(frame);
        // SAFETY: as in `bytes`; `&mut Frame` is the exclusive right to the chunk.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts_mut(self.base.as_ptr().add(start), frame.len())
        }
    }

    /// Free bytes of the chunk before the packet.
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

    /// Cuts the packet to this part of it.
    #[inline]
    pub fn narrow(&self, frame: &mut Frame, part: Range<usize>) {
        assert!(part.start <= part.end && part.end <= frame.len(), "{part:?} of a frame of {}", frame.len());
        frame.addr += part.start as u64;
        frame.len = (part.end - part.start) as u32;
    }

    /// Cuts the packet to `len` bytes.
    #[inline]
    pub fn truncate(&self, frame: &mut Frame, len: u32) {
        frame.len = frame.len.min(len);
    }

    /// Empties the frame and puts `packet` into it, after [`XDP_HEADROOM`]. False where a chunk cannot hold it.
    pub fn fill(&self, frame: &mut Frame, packet: &[u8]) -> bool {
        if packet.len() > self.layout.longest_frame() as usize {
            return false;
        }
        let chunk = self.chunk_of(frame.addr);
        *frame =
            Frame { addr: chunk + u64::from(XDP_HEADROOM), len: packet.len() as u32, ..self.blank(chunk) };
        self.bytes_mut(frame).copy_from_slice(packet);
        true
    }

    /// Offset of the chunk that holds `addr`.
    #[inline]
    pub(crate) fn chunk_of(&self, addr: u64) -> u64 {
        addr & !u64::from(self.layout.chunk_size - 1)
    }

    /// A frame for the packet that a ring handed over. `None` where the descriptor does not lie in one chunk.
    #[inline]
    pub(crate) fn adopt(&self, addr: u64, len: u32, port: PortId) -> Option<Frame> {
        let frame = Frame { addr, len, port, ..self.blank(addr) };
        self.fits(&frame).then_some(frame)
    }

    fn blank(&self, addr: u64) -> Frame {
        debug_assert!(addr < self.layout.bytes() as u64);
        Frame {
            addr,
            len: 0,
            port: PortId(u16::MAX),
            csum_start: 0,
            csum_offset: 0,
            gso_type: 0,
            gso_size: 0,
        }
    }

    #[inline]
    fn fits(&self, frame: &Frame) -> bool {
        let in_chunk = frame.addr & u64::from(self.layout.chunk_size - 1);
        frame.addr < self.bytes && in_chunk + u64::from(frame.len) <= u64::from(self.layout.chunk_size)
    }

    #[inline]
    fn checked_offset(&self, frame: &Frame) -> usize {
        assert!(self.fits(frame), "frame outside its chunk: {frame:?}");
        frame.addr as usize
    }
}

/// Free chunks of one worker.
#[derive(Debug, Default)]
pub struct FramePool {
    free: Vec<Frame>,
}

impl FramePool {
    /// A pool that can hold `capacity` frames without allocating.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { free: Vec::with_capacity(capacity) }
    }

    #[inline]
    pub fn get(&mut self) -> Option<Frame> {
        self.free.pop()
    }

    #[inline]
    pub fn put(&mut self, frame: Frame) {
        self.free.push(frame);
    }

    pub fn len(&self) -> usize {
        self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.free.is_empty()
    }
}

impl Extend<Frame> for FramePool {
    fn extend<I: IntoIterator<Item = Frame>>(&mut self, frames: I) {
        self.free.extend(frames);
    }
}
