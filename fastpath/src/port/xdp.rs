//! A port on an `AF_XDP` socket: one queue of one device, as a worker sees it.
//!
//! The port remembers which chunks it has handed to the kernel. A ring gives a frame back only for one of those, so no
//! chunk can have two owners whatever stands in a ring; and when the socket is closed the rest of them, wherever in the
//! kernel they were, are the port's again.

use std::os::fd::{AsFd, BorrowedFd};

use margay_flowtable::PortId;

use crate::frame::Burst;
use crate::port::{Census, Port};
use crate::umem::{FramePool, Layout, Umem};
use crate::xdp::program::Slot;
use crate::xdp::socket::{Descriptor, Socket, Wakeup};

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
}

impl XdpPort {
    pub(crate) fn new(id: PortId, slot: Slot, socket: Socket, fill: u32, layout: Layout) -> Self {
        Self {
            id,
            slot: Some(slot),
            socket: Some(socket),
            held: Held::new(layout),
            receiving: 0,
            sending: 0,
            fill: fill as usize,
            has_rest: false,
        }
    }

    pub fn is_zero_copy(&self) -> bool {
        self.socket.as_ref().is_some_and(Socket::is_zero_copy)
    }
}

impl Port for XdpPort {
    fn id(&self) -> PortId {
        self.id
    }

    fn rx(&mut self, umem: &Umem, burst: &mut Burst) {
        let Some(socket) = &mut self.socket else {
            return;
        };
        let mut popped = 0;
        while burst.room() > 0
            && let Some(Descriptor { addr, len, .. }) = socket.rx.pop()
        {
            popped += 1;
            // `None`: the kernel wrote what it never had. Its chunk, if it is one, comes back by `drain`.
            if let Some(frame) = umem.adopt(addr, len, self.id)
                && self.held.take(addr)
            {
                self.receiving -= 1;
                burst.push(frame);
            }
        }
        if popped > 0 {
            socket.rx.release();
        } else {
            socket.wake_rx();
        }
    }

    fn tx(&mut self, _umem: &Umem, burst: &mut Burst) {
        let Some(socket) = self.socket.as_mut().filter(|_| !burst.is_empty()) else {
            return;
        };
        let mut pushed = 0;
        for frame in burst.as_mut_slice().iter_mut() {
            if !socket.tx.push(Descriptor { addr: frame.addr, len: frame.len, options: 0 }) {
                break;
            }
            self.held.give(frame.addr);
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
        if let Some(socket) = self.socket.take()
            && !socket.close()
        {
            return self.held.drain().count();
        }
        pool.extend(self.held.drain().filter_map(|addr| umem.adopt(addr, 0, self.id)));
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
            let chunk = umem.chunk_of(frame.addr);
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

/// The chunks of the UMEM that a port has handed to the kernel: a bit each.
#[derive(Debug)]
struct Held {
    bits: Box<[u64]>,
    chunk_bits: u32,
}

impl Held {
    fn new(layout: Layout) -> Self {
        let bits = vec![0; (layout.chunks as usize).div_ceil(64)].into_boxed_slice();
        Self { bits, chunk_bits: layout.chunk_size.trailing_zeros() }
    }

    /// Notes the chunk of `addr`, which is a frame's.
    #[inline]
    fn give(&mut self, addr: u64) {
        let chunk = (addr >> self.chunk_bits) as usize;
        self.bits[chunk / 64] |= 1 << (chunk % 64);
    }

    /// Strikes the chunk of `addr` out. False where the kernel does not have it.
    #[inline]
    fn take(&mut self, addr: u64) -> bool {
        let chunk = (addr >> self.chunk_bits) as usize;
        let Some(word) = self.bits.get_mut(chunk / 64) else {
            return false;
        };
        let bit = 1 << (chunk % 64);
        let was_held = *word & bit != 0;
        *word &= !bit;
        was_held
    }

    /// Strikes all out, and gives the offset of each.
    fn drain(&mut self) -> impl Iterator<Item = u64> {
        let chunk_bits = self.chunk_bits;
        self.bits.iter_mut().enumerate().flat_map(move |(index, word)| {
            let word = std::mem::take(word);
            (0..64)
                .filter(move |bit| word >> bit & 1 != 0)
                .map(move |bit| (index as u64 * 64 + bit) << chunk_bits)
        })
    }
}
