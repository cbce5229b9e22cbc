//! The memory of the UMEM: mapped by xsk-rs, shared, on huge pages where there are any.

use std::num::NonZeroU32;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use xsk_rs::config::{FrameSize, UmemConfig};
use xsk_rs::umem::frame::FrameDesc;

use super::SetupError;
use crate::frame::Frame;
use crate::umem::{Layout, Mapping, Umem, XDP_HEADROOM};

const HUGE_PAGE: usize = 2 << 20;
const PAGE: u32 = 4096;

/// xsk-rs's handle, which keeps the memory mapped, and where it starts.
#[derive(Debug)]
struct Area {
    base: NonNull<u8>,
    _umem: xsk_rs::Umem,
}

// SAFETY: plain memory, which any thread may use; the handle is Send and Sync itself.
unsafe impl Send for Area {}
// SAFETY: as above.
unsafe impl Sync for Area {}

impl Mapping for Area {
    fn base(&self) -> NonNull<u8> {
        self.base
    }
}

/// Maps a UMEM, and says whether it lies on huge pages.
pub(super) fn map(layout: Layout) -> Result<(Arc<Umem>, Vec<Frame>, bool), SetupError> {
    let Layout { chunk_size, chunks } = layout;
    if !chunk_size.is_power_of_two() || !(2048..=PAGE).contains(&chunk_size) {
        return Err(SetupError::Layout(format!(
            "chunks of {chunk_size} bytes: the kernel takes 2048 or 4096"
        )));
    }
    debug_assert!(XDP_HEADROOM < chunk_size);
    if chunks == 0 {
        return Err(SetupError::Layout("0 chunks are no memory".to_owned()));
    }
    // The kernel counts what sockets register against this limit unless CAP_IPC_LOCK is there. Where it may not be
    // raised the registration says so.
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    let mut config = UmemConfig::builder();
    config.frame_size(FrameSize::new(chunk_size).map_err(|error| SetupError::Layout(error.to_string()))?);
    let config = config.build().map_err(|error| SetupError::Layout(error.to_string()))?;
    let create = |bytes: usize, on_huge_pages| {
        let count = NonZeroU32::new((bytes / chunk_size as usize) as u32).expect("there are chunks");
        xsk_rs::Umem::new(config, count, on_huge_pages)
    };
    // Huge pages are mapped and unmapped whole, and there is no use in them for less than one.
    let whole = layout.bytes().next_multiple_of(HUGE_PAGE);
    let on_huge_pages =
        layout.chunk_bytes().is_multiple_of(HUGE_PAGE).then(|| create(whole, true).ok()).flatten();
    let is_huge = on_huge_pages.is_some();
    let (umem, frames) = match on_huge_pages {
        Some(umem) => umem,
        None => create(layout.bytes(), false)
            .map_err(|source| SetupError::Memory { bytes: layout.bytes(), source })?,
    };
    let area = Area { base: base(&umem, &frames[0]), _umem: umem };
    // SAFETY: the memory is readable and writable for `layout.bytes()` bytes while xsk-rs's handle lives, and nothing
    // else uses that handle.
    let (umem, frames) = unsafe { Umem::from_mapping(Box::new(area), layout) };
    Ok((umem, frames, is_huge))
}

/// Where the memory starts, which xsk-rs does not tell: where a frame's data lies, less its offset.
fn base(umem: &xsk_rs::Umem, frame: &FrameDesc) -> NonNull<u8> {
    // SAFETY: the frame is this UMEM's, and nobody writes to it yet.
    let data = unsafe { umem.data(frame) };
    let start = data.contents().as_ptr().addr() - frame.addr();
    // xsk-rs passed the pointer to the mapping to C, and so exposed what may be reached from it.
    NonNull::new(ptr::with_exposed_provenance_mut(start)).expect("memory does not lie at address 0")
}
