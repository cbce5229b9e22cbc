//! The memory of the UMEM: a memfd, so that a descriptor can map it again, on huge pages where there are any.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::Arc;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

use super::SetupError;
use crate::frame::Frame;
use crate::umem::{Layout, Mapping, Umem, XDP_HEADROOM};

const HUGE_PAGE: usize = 2 << 20;
const PAGE: u32 = 4096;

/// A shared mapping of memory that nothing else has mapped yet.
#[derive(Debug)]
struct Area {
    base: NonNull<u8>,
    len: NonZeroUsize,
}

// SAFETY: plain memory, which any thread may use and unmap; `Area` itself neither reads nor writes it.
unsafe impl Send for Area {}
// SAFETY: as above.
unsafe impl Sync for Area {}

impl Mapping for Area {
    fn base(&self) -> NonNull<u8> {
        self.base
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: `map` made this mapping of this length, and users of the memory hold the `Area`. Only a wrong
        // address or length fails.
        let _ = unsafe { munmap(self.base.cast(), self.len.get()) };
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
    let bytes = NonZeroUsize::new(layout.bytes())
        .ok_or_else(|| SetupError::Layout(format!("{chunks} chunks are no memory")))?;
    // The kernel counts what sockets register against this limit unless CAP_IPC_LOCK is there. Where it may not be
    // raised the registration says so.
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    let (area, is_huge) = match area(bytes, true) {
        Ok(area) => (area, true),
        Err(_) => {
            (area(bytes, false).map_err(|source| SetupError::Memory { bytes: bytes.get(), source })?, false)
        }
    };
    // SAFETY: the area is readable and writable for `layout.bytes()` bytes until dropped, and known to nobody else.
    let (umem, frames) = unsafe { Umem::from_mapping(Box::new(area), layout) };
    Ok((umem, frames, is_huge))
}

fn area(bytes: NonZeroUsize, on_huge_pages: bool) -> io::Result<Area> {
    let (flags, page) = if on_huge_pages {
        (MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_HUGETLB | MFdFlags::MFD_HUGE_2MB, HUGE_PAGE)
    } else {
        (MFdFlags::MFD_CLOEXEC, PAGE as usize)
    };
    let len =
        NonZeroUsize::new(bytes.get().next_multiple_of(page)).expect("a multiple of a page that is not zero");
    let memory: OwnedFd = memfd_create(c"margay-umem", flags)?;
    nix::unistd::ftruncate(&memory, i64::try_from(len.get()).map_err(io::Error::other)?)?;
    // Populated now: a page fault would stall a worker, and missing memory is better known at the start.
    let flags = MapFlags::MAP_SHARED | MapFlags::MAP_POPULATE;
    // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
    let base = unsafe { mmap(None, len, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, flags, &memory, 0)? };
    Ok(Area { base: base.cast(), len })
}
