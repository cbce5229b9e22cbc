//! An `AF_XDP` socket on one queue of a device, and its four rings (`Documentation/networking/af_xdp.rst`).
//!
//! Every socket registers the UMEM for itself rather than binding with `XDP_SHARED_UMEM`. A shared bind hangs on the
//! first socket: it fails with EBADF once that one's device is gone, and has that one's mode, so that a NIC in
//! zero-copy mode and a veth could not stand together. The frames are the same either way; registering again costs
//! the kernel 16 bytes a page.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::time::Duration;

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::error::step;
use super::ring::{Consumer, Memory, Producer, Raw};
use crate::umem::{Layout, Umem};

/// `XDP_MAX_TX_SKB_BUDGET` (`include/uapi/linux/if_xdp.h`, Linux 6.17).
const XDP_MAX_TX_SKB_BUDGET: i32 = 9;
/// `XDP_USE_SG` of `sxdp_flags` (`include/uapi/linux/if_xdp.h`, Linux 6.6).
const XDP_USE_SG: u16 = 1 << 4;
/// In a descriptor's options: the packet goes on in the next.
pub(crate) const XDP_PKT_CONTD: u32 = 1;
/// `XDP_UMEM_PGOFF_FILL_RING` and `XDP_UMEM_PGOFF_COMPLETION_RING`, which libc has as unsigned.
const FILL_PAGES: i64 = libc::XDP_UMEM_PGOFF_FILL_RING.cast_signed();
const COMPLETION_PAGES: i64 = libc::XDP_UMEM_PGOFF_COMPLETION_RING.cast_signed();
/// Bytes before a frame in which the kernel is asked for something (`struct xsk_tx_metadata`).
pub(crate) const TX_METADATA_LEN: u32 = 24;
/// The kernel lets go of a queue in a work item of its own, some time after the socket on it was closed.
const BIND_TRIES: u32 = 200;
const BIND_PAUSE: Duration = Duration::from_millis(5);

/// Slots of the four rings; powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSizes {
    pub fill: u32,
    pub rx: u32,
    pub tx: u32,
    pub completion: u32,
}

/// Descriptor of a packet in an RX or TX ring (`struct xdp_desc`).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Descriptor {
    pub(crate) addr: u64,
    pub(crate) len: u32,
    pub(crate) options: u32,
}

/// The rings stand before the descriptor: the kernel releases a socket when its mappings and descriptors are all gone.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) fill: Producer<u64>,
    pub(crate) completion: Consumer<u64>,
    pub(crate) rx: Consumer<Descriptor>,
    pub(crate) tx: Producer<Descriptor>,
    ifindex: u32,
    queue: u32,
    is_zero_copy: bool,
    takes_several_chunks: bool,
    has_metadata: bool,
    fd: OwnedFd,
}

/// A step that the kernel refused.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) step: &'static str,
    pub(crate) source: io::Error,
}

/// How a socket is to be bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    /// Unless this is set the kernel takes zero-copy mode where the driver has it.
    pub(crate) copy_only: bool,
    /// To receive packets in several chunks: without it the kernel drops what no chunk holds.
    pub(crate) several_chunks: bool,
    /// To ask for checksums: each descriptor then has [`TX_METADATA_LEN`] bytes before it in its chunk.
    pub(crate) metadata: bool,
}

/// What came of asking the kernel to transmit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wakeup {
    Done,
    /// Out of buffers or budget for now: entries are left in the ring.
    Again,
    /// The device is down or gone.
    Down,
}

impl Socket {
    /// Opens a socket on a queue.
    pub(crate) fn open(
        umem: &Umem,
        ifindex: u32,
        queue: u32,
        sizes: RingSizes,
        wish: Wish,
    ) -> Result<Self, Refused> {
        let at = |step| move |source| Refused { step, source };
        let fd = socket().map_err(at(step::SOCKET))?;
        let has_metadata = register(&fd, umem, wish).map_err(at(step::REGISTER))?;
        for (option, size) in [
            (libc::XDP_UMEM_FILL_RING, sizes.fill),
            (libc::XDP_UMEM_COMPLETION_RING, sizes.completion),
            (libc::XDP_RX_RING, sizes.rx),
            (libc::XDP_TX_RING, sizes.tx),
        ] {
            set_option(&fd, option, &size).map_err(at(step::RINGS))?;
        }
        // Kernels before 6.17 do not know it and send 32 frames a call: `Wakeup::Again` then asks for the rest.
        let _ = set_option(&fd, XDP_MAX_TX_SKB_BUDGET, &sizes.tx);
        let rings = Rings::map(&fd, sizes).map_err(at(step::MAP))?;
        let takes_several_chunks = bind(&fd, ifindex, queue, wish).map_err(at(step::BIND))?;
        let options: libc::xdp_options = get_option(&fd, libc::XDP_OPTIONS).map_err(at(step::BIND))?;
        let Rings { fill, completion, rx, tx } = rings;
        let socket = Self {
            fill,
            completion,
            rx,
            tx,
            ifindex,
            queue,
            is_zero_copy: options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0,
            takes_several_chunks,
            has_metadata,
            fd,
        };
        Ok(socket)
    }

    /// Closes the socket. False where the driver may yet write to chunks that it was given.
    ///
    /// In copy mode the kernel writes to them as it receives, which closing waits for (`xsk_unbind_dev`), and reads them
    /// in `sendto`. In zero-copy mode the driver lets go in a work item, with which the queue comes free.
    pub(crate) fn close(self) -> bool {
        let (ifindex, queue, is_zero_copy) = (self.ifindex, self.queue, self.is_zero_copy);
        drop(self);
        !is_zero_copy || is_free(ifindex, queue)
    }

    pub(crate) fn is_zero_copy(&self) -> bool {
        self.is_zero_copy
    }

    /// Whether metadata may stand before a frame.
    pub(crate) fn has_metadata(&self) -> bool {
        self.has_metadata
    }

    /// Whether packets come in that no chunk holds.
    pub(crate) fn takes_several_chunks(&self) -> bool {
        self.takes_several_chunks
    }

    /// Has the kernel transmit what stands in the TX ring.
    #[inline]
    pub(crate) fn wake_tx(&self) -> Wakeup {
        if !self.tx.needs_wakeup() {
            return Wakeup::Done;
        }
        // SAFETY: no buffer and no address: the call reads no memory of ours.
        let sent = unsafe {
            libc::sendto(self.fd.as_raw_fd(), std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0)
        };
        if sent >= 0 {
            return Wakeup::Done;
        }
        match io::Error::last_os_error().raw_os_error().unwrap_or_default() {
            libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::ENOMEM | libc::EINTR => Wakeup::Again,
            _ => Wakeup::Down,
        }
    }

    /// Has the driver look at the FILL ring again, if it waits for that.
    #[inline]
    pub(crate) fn wake_rx(&self) {
        if !self.fill.needs_wakeup() {
            return;
        }
        // An error means that the device is down: there is nothing to receive then.
        // SAFETY: no buffer and no address: the call writes no memory of ours.
        unsafe {
            libc::recvfrom(
                self.fd.as_raw_fd(),
                std::ptr::null_mut(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
        };
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn socket() -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointers.
    let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether a queue has no socket, or none any more within the time that `bind` grants. A device that is gone has let
/// go.
fn is_free(ifindex: u32, queue: u32) -> bool {
    let Ok((umem, ..)) = super::umem::map(Layout { chunk_size: 4096, chunks: 1 }) else {
        return false;
    };
    let sizes = RingSizes { fill: 1, rx: 1, tx: 1, completion: 1 };
    let wish = Wish { copy_only: true, several_chunks: false, metadata: false };
    let probe = Socket::open(&umem, ifindex, queue, sizes, wish);
    !probe.is_err_and(|refused| refused.source.raw_os_error() == Some(libc::EBUSY))
}

/// Registers the UMEM's memory with the socket. The kernel pins the pages, so they outlive even our mapping. Says whether
/// frames have metadata: kernels before 6.11 refuse the flag.
fn register(fd: &OwnedFd, umem: &Umem, wish: Wish) -> io::Result<bool> {
    let layout = umem.layout();
    // SAFETY: all zeros are a value of this struct of integers; the fields that stay zero ask for no feature.
    let mut area: libc::xdp_umem_reg = unsafe { std::mem::zeroed() };
    area.addr = umem.base().as_ptr() as u64;
    area.len = layout.bytes() as u64;
    area.chunk_size = layout.chunk_size;
    if wish.metadata {
        let with = libc::xdp_umem_reg {
            flags: libc::XDP_UMEM_TX_METADATA_LEN,
            tx_metadata_len: TX_METADATA_LEN,
            ..area
        };
        match set_option(fd, libc::XDP_UMEM_REG, &with) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            outcome => return outcome.map(|()| true),
        }
    }
    set_option(fd, libc::XDP_UMEM_REG, &area).map(|()| false)
}

/// Binds to the queue, and says whether packets may come in several chunks: Linux before 6.6 knows nothing of that.
fn bind(fd: &OwnedFd, ifindex: u32, queue: u32, wish: Wish) -> io::Result<bool> {
    let copy = if wish.copy_only { libc::XDP_COPY } else { 0 };
    let several_chunks = if wish.several_chunks { XDP_USE_SG } else { 0 };
    let mut address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: libc::XDP_USE_NEED_WAKEUP | copy | several_chunks,
        sxdp_ifindex: ifindex,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: 0,
    };
    let len = size_of_val(&address) as libc::socklen_t;
    for _ in 0..BIND_TRIES {
        // SAFETY: the address is a live sockaddr_xdp of `len` bytes, which the call only reads.
        if unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) } == 0 {
            return Ok(address.sxdp_flags & XDP_USE_SG != 0);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EBUSY) => std::thread::sleep(BIND_PAUSE),
            Some(libc::EINVAL) if address.sxdp_flags & XDP_USE_SG != 0 => address.sxdp_flags &= !XDP_USE_SG,
            _ => return Err(error),
        }
    }
    Err(io::Error::from_raw_os_error(libc::EBUSY))
}

struct Rings {
    fill: Producer<u64>,
    completion: Consumer<u64>,
    rx: Consumer<Descriptor>,
    tx: Producer<Descriptor>,
}

impl Rings {
    fn map(fd: &OwnedFd, sizes: RingSizes) -> io::Result<Self> {
        let offsets: libc::xdp_mmap_offsets = get_option(fd, libc::XDP_MMAP_OFFSETS)?;
        let fill = map_ring(fd, FILL_PAGES, offsets.fr, sizes.fill)?;
        let completion = map_ring(fd, COMPLETION_PAGES, offsets.cr, sizes.completion)?;
        let rx = map_ring(fd, libc::XDP_PGOFF_RX_RING, offsets.rx, sizes.rx)?;
        let tx = map_ring(fd, libc::XDP_PGOFF_TX_RING, offsets.tx, sizes.tx)?;
        Ok(Self {
            fill: Producer::new(fill),
            completion: Consumer::new(completion),
            rx: Consumer::new(rx),
            tx: Producer::new(tx),
        })
    }
}

/// A mapping of one ring.
#[derive(Debug)]
struct RingMapping {
    base: NonNull<u8>,
    len: NonZeroUsize,
}

// SAFETY: plain memory, which any thread may use and unmap.
unsafe impl Send for RingMapping {}

impl Memory for RingMapping {}

impl Drop for RingMapping {
    fn drop(&mut self) {
        // SAFETY: `map_ring` made this mapping of this length; the `Raw` that points into it owns it. Only a wrong
        // address or length fails.
        let _ = unsafe { munmap(self.base.cast(), self.len.get()) };
    }
}

/// Maps a ring of `size` slots of `T`, which is what the kernel keeps in the ring at this page offset.
fn map_ring<T: Integers>(
    fd: &OwnedFd,
    page_offset: i64,
    offset: libc::xdp_ring_offset,
    size: u32,
) -> io::Result<Raw<T>> {
    let len = offset.desc as usize + size as usize * size_of::<T>();
    let len = NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidInput)?;
    let flags = MapFlags::MAP_SHARED | MapFlags::MAP_POPULATE;
    // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
    let base =
        unsafe { mmap(None, len, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, flags, fd, page_offset)? };
    let memory = RingMapping { base: base.cast(), len };
    // SAFETY: the kernel gives offsets that are aligned for what lies there, below the `desc` that `len` adds the slots
    // to (xsk_getsockopt of XDP_MMAP_OFFSETS). Any bytes are an `Integers`. The kernel is the ring's other user, by the
    // protocol of `net/xdp/xsk_queue.h`, and the caller maps each ring once, as the end that is not the kernel's.
    let raw = unsafe {
        let at = |offset: u64| memory.base.add(offset as usize);
        let cursors = [at(offset.producer).cast(), at(offset.consumer).cast(), at(offset.flags).cast()];
        let slots = at(offset.desc).cast();
        Raw::new(Box::new(memory), cursors, slots, size)
    };
    Ok(raw)
}

/// # Safety
/// Any bytes are a value of the type.
unsafe trait Integers: Copy {}
// SAFETY: an integer.
unsafe impl Integers for u64 {}
// SAFETY: a struct of integers without padding.
unsafe impl Integers for Descriptor {}
// SAFETY: a struct of integers.
unsafe impl Integers for libc::xdp_options {}
// SAFETY: structs of integers.
unsafe impl Integers for libc::xdp_mmap_offsets {}

fn set_option<T>(fd: &OwnedFd, option: i32, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    let raw: RawFd = fd.as_raw_fd();
    // SAFETY: `value` is live and `len` bytes long; the call only reads it.
    let result = unsafe { libc::setsockopt(raw, libc::SOL_XDP, option, (&raw const *value).cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn get_option<T: Integers>(fd: &OwnedFd, option: i32) -> io::Result<T> {
    let mut len = size_of::<T>() as libc::socklen_t;
    let mut value = std::mem::MaybeUninit::<T>::zeroed();
    // SAFETY: the kernel writes at most `len` bytes, which `value` has.
    let result = unsafe {
        libc::getsockopt(fd.as_raw_fd(), libc::SOL_XDP, option, value.as_mut_ptr().cast(), &raw mut len)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if len as usize != size_of::<T>() {
        // The struct of kernels before 5.4 is shorter and has no flags.
        return Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel is older than Linux 5.4"));
    }
    // SAFETY: zeroed and then written by the kernel; any bytes are an `Integers`.
    Ok(unsafe { value.assume_init() })
}

#[cfg(test)]
mod tests;
