//! A port on an `AF_XDP` socket: one queue of one device, as a worker sees it.
//!
//! The port remembers which chunks it has handed to the kernel. A ring gives a frame back only for one of those, so no
//! chunk can have two owners whatever stands in a ring; and when the socket is closed the rest of them, wherever in the
//! kernel they were, are the port's again.
//!
//! A packet that no chunk holds comes in several, and is copied together into a large buffer: the kernel would not take
//! large buffers to receive into. It leaves from there in slices, one for each chunk that it lies in, uncopied.

mod gathering;
mod held;

use std::os::fd::{AsFd, BorrowedFd};

use margay_flowtable::{Checksums, PortId};

use self::gathering::Gathering;
use self::held::Held;
use crate::frame::{BURST, Burst, Frame, Gso};
use crate::port::{Census, Port};
use crate::umem::{FramePool, Layout, Umem};
use crate::xdp::gso::{self, TOLD_LEN, Told};
use crate::xdp::program::Slot;
use crate::xdp::socket::{Descriptor, Socket, TX_METADATA_LEN, Wakeup, XDP_PKT_CONTD};

/// Bytes that the segments of a packet have at least, or nearly: so many bytes take a place in a burst on their way out.
const SEGMENT: usize = 1024;

#[derive(Debug)]
pub struct XdpPort {
    id: PortId,
    /// Both `None` once drained.
    slot: Option<Slot>,
    socket: Option<Socket>,
    held: Held,
    /// Chunks handed over to receive into and to send, and not yet back.
    receiving: usize,
    sending: usize,
    /// How many chunks the port has the kernel receive into.
    fill: usize,
    /// Whether the kernel has left frames in the TX ring that a further call may send.
    has_rest: bool,
    /// What of packets that are several in one.
    gso: Told,
    gathering: Gathering,
}

impl XdpPort {
    pub(crate) fn new(id: PortId, slot: Slot, socket: Socket, fill: u32, gso: Told, layout: Layout) -> Self {
        Self {
            id,
            slot: Some(slot),
            socket: Some(socket),
            held: Held::new(layout),
            receiving: 0,
            sending: 0,
            fill: fill as usize,
            has_rest: false,
            gso,
            gathering: Gathering::default(),
        }
    }

    pub fn is_zero_copy(&self) -> bool {
        self.socket.as_ref().is_some_and(Socket::is_zero_copy)
    }

    /// Which checksums frames may leave to it. In zero-copy mode drivers look for the header themselves, in copy mode the
    /// kernel hands on where it is.
    pub fn takes_checksums(&self) -> Checksums {
        match &self.socket {
            Some(socket) if !socket.has_metadata() => Checksums::None,
            Some(socket) if socket.is_zero_copy() => Checksums::Outermost,
            Some(_) => Checksums::Any,
            None => Checksums::None,
        }
    }
}

impl Port for XdpPort {
    fn id(&self) -> PortId {
        self.id
    }

    fn rx(&mut self, umem: &Umem, burst: &mut Burst, pool: &mut FramePool) {
        let Self { socket: Some(socket), gathering, held, id, gso, .. } = self else {
            return;
        };
        // A packet that has come in part has its place already.
        let Some(mut room) = burst.room().checked_sub(gathering.is_open().into()) else {
            return;
        };
        let mut popped = 0;
        while (room > 0 || gathering.is_open())
            && let Some(Descriptor { addr, len, options }) = socket.rx.pop()
        {
            let goes_on = options & XDP_PKT_CONTD != 0;
            // `None`: the kernel wrote what it never had. Its chunk, if it is one, comes back by `drain`.
            let mut frame = umem.adopt(addr, len, *id).filter(|_| held.take(addr));
            if !gathering.is_open() {
                if *gso != Told::Never
                    && let Some(frame) = &mut frame
                {
                    note_gso(umem, frame, *gso);
                }
                let places = match &frame {
                    Some(frame) if goes_on || *gso != Told::Never => places(goes_on, frame, pool),
                    _ => 1,
                };
                if places > room {
                    // It is the kernel's again.
                    if frame.is_some() {
                        held.give(addr);
                    }
                    socket.rx.put_back();
                    break;
                }
                room -= places;
            }
            popped += 1;
            self.receiving -= usize::from(frame.is_some());
            if goes_on || gathering.is_open() {
                frame = gathering.add(umem, frame, goes_on, pool);
            }
            if let Some(frame) = frame {
                burst.push(frame);
            }
        }
        if popped > 0 {
            socket.rx.release();
        } else {
            socket.wake_rx();
        }
    }

    fn tx(&mut self, umem: &Umem, burst: &mut Burst) {
        let Some(socket) = self.socket.as_mut().filter(|_| !burst.is_empty()) else {
            return;
        };
        let mut pushed = 0;
        for frame in burst.as_mut_slice().iter_mut() {
            let is_sent = if frame.is_large() {
                push_slices(socket, &mut self.held, umem, frame)
            } else {
                let options = if frame.csum_offset == 0 { 0 } else { leave_checksum(umem, frame) };
                push(socket, &mut self.held, frame.addr(), frame.len() as u32, options)
            };
            if !is_sent {
                break;
            }
            pushed += 1;
        }
        drop(burst.drain_front(pushed));
        self.sending += pushed;
        socket.tx.submit();
        // Also where nothing went in: a device that was down has left the ring full.
        self.has_rest = socket.wake_tx() == Wakeup::Again;
    }

    fn reclaim(&mut self, umem: &Umem, pool: &mut FramePool) {
        let Some(socket) = &mut self.socket else {
            return;
        };
        let mut popped = 0;
        while let Some(addr) = socket.completion.pop() {
            popped += 1;
            if let Some(frame) = umem.adopt(umem.chunk_of(addr), 0, self.id)
                && self.held.take(addr)
            {
                self.sending -= 1;
                pool.put(frame);
            } else if let Some(frame) = self.held.take_slice(umem, addr) {
                self.sending -= 1;
                pool.put(frame);
            }
        }
        if popped > 0 {
            socket.completion.release();
        }
        if self.has_rest {
            self.has_rest = socket.wake_tx() == Wakeup::Again;
        }
        self.refill(umem, pool);
    }

    fn census(&self) -> Census {
        let Some(socket) = &self.socket else {
            return Census::default();
        };
        let rx = (socket.rx.len() as usize).min(self.receiving);
        let completion = (socket.completion.len() as usize).min(self.sending);
        Census { fill: self.receiving - rx, rx, tx: self.sending - completion, completion }
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// Closes the socket, which waits for the kernel to let go of its memory: not for a worker.
    fn drain(&mut self, umem: &Umem, pool: &mut FramePool) -> usize {
        drop(self.slot.take());
        pool.extend(self.gathering.give_up());
        if let Some(socket) = self.socket.take()
            && !socket.close()
        {
            return self.held.drain().count();
        }
        pool.extend(self.held.drain_frames(umem));
        0
    }
}

impl XdpPort {
    /// Hands the kernel chunks of the pool to receive into.
    fn refill(&mut self, umem: &Umem, pool: &mut FramePool) {
        let Some(socket) = &mut self.socket else {
            return;
        };
        let before = self.receiving;
        while self.receiving < self.fill
            && let Some(frame) = pool.get()
        {
            let chunk = umem.chunk_of(frame.addr());
            if !socket.fill.push(chunk) {
                pool.put(frame);
                break;
            }
            self.held.give(chunk);
            self.receiving += 1;
        }
        if self.receiving > before {
            socket.fill.submit();
            socket.wake_rx();
        }
    }
}

/// Notes of a packet, or of its first chunk, whether it is several in one.
#[cold]
fn note_gso(umem: &Umem, frame: &mut Frame, told: Told) {
    frame.gso = Gso::Untold;
    if told == Told::Before
        && !frame.is_empty()
        && let Some(bytes) = umem.push(frame, TOLD_LEN)
    {
        let said = bytes.first_chunk().copied().unwrap_or_default();
        let len = frame.len();
        umem.narrow(frame, TOLD_LEN as usize..len);
        (frame.gso, frame.gso_size) = gso::read(said);
    }
}

/// How many places of a burst to leave for a packet, or for one that begins so. As many as it takes on its way out if it is
/// several in one; and all, where there is no large buffer to gather it in: what is before it may give one back.
fn places(goes_on: bool, frame: &Frame, pool: &FramePool) -> usize {
    let has_buffer = pool.large() > 0;
    match (goes_on, frame.gso) {
        (true, Gso::Never | Gso::One) if has_buffer => 1,
        (true, _) => BURST,
        (false, Gso::Never | Gso::One) => 1,
        (false, Gso::Untold) => 1 + frame.len() / SEGMENT,
        (false, _) => (1 + frame.len() / usize::from(frame.gso_size).max(1)).min(BURST),
    }
}

/// Writes before the packet that the kernel is to see to its checksum (`struct xsk_tx_metadata`), and returns the
/// descriptor's option that says so.
fn leave_checksum(umem: &Umem, frame: &mut Frame) -> u32 {
    let request = [frame.csum_start, frame.csum_offset].map(u16::to_ne_bytes);
    let bytes =
        umem.push(frame, TX_METADATA_LEN).expect("the pipeline leaves PORT_HEADROOM before what it sends");
    let metadata = &mut bytes[..TX_METADATA_LEN as usize];
    metadata.fill(0);
    metadata[..8].copy_from_slice(&u64::from(libc::XDP_TXMD_FLAGS_CHECKSUM).to_ne_bytes());
    metadata[8..12].copy_from_slice(request.as_flattened());
    let len = frame.len();
    umem.narrow(frame, TX_METADATA_LEN as usize..len);
    libc::XDP_TX_METADATA
}

/// Hands the kernel what lies in one chunk. False where the ring is full.
#[inline]
fn push(socket: &mut Socket, held: &mut Held, addr: u64, len: u32, options: u32) -> bool {
    let has_room = socket.tx.push(Descriptor { addr, len, options });
    if has_room {
        held.give(addr);
    }
    has_room
}

/// Hands the kernel a packet in a large buffer, whole or not at all.
#[cold]
fn push_slices(socket: &mut Socket, held: &mut Held, umem: &Umem, frame: &Frame) -> bool {
    let mut slices = umem.slices(frame);
    let has_room = socket.tx.has_room(slices.len() as u32);
    while let Some((addr, len)) = slices.next().filter(|_| has_room) {
        let options = if slices.len() > 0 { XDP_PKT_CONTD } else { 0 };
        push(socket, held, addr, len, options);
    }
    has_room
}
