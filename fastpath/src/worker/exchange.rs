//! What workers share: the UMEM's spare frames, and rings that hand frames to the worker who owns the output port.

use std::net::IpAddr;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use margay_flowtable::PortId;

use crate::frame::Frame;
use crate::port::Port;
use crate::umem::{FramePool, Umem};

/// Frames that one worker can have handed to another and not yet taken.
const HANDOVER: usize = 512;
/// Destinations that wait for control to ask the kernel for their neighbours; more are asked for again later.
const ASKED: usize = 64;
/// A pool below this takes frames from the spares, one above `POOL_HIGH` gives some back.
const POOL_LOW: usize = 256;
const POOL_HIGH: usize = 2048;
/// The same of large buffers.
const LARGE_LOW: usize = 8;
const LARGE_HIGH: usize = 64;

#[derive(Debug)]
pub struct Exchange {
    pub umem: Arc<Umem>,
    pub(super) spare: ArrayQueue<Frame>,
    pub(super) spare_large: ArrayQueue<Frame>,
    workers: usize,
    /// From worker `a` to worker `b` at `a * workers + b`: one producer, one consumer each.
    handover: Box<[ArrayQueue<(PortId, Frame)>]>,
    /// Destinations whose neighbours the kernel should resolve.
    asked: ArrayQueue<IpAddr>,
}

impl Exchange {
    /// `frames` are all frames of the UMEM; workers draw theirs from them.
    pub fn new(umem: Arc<Umem>, frames: Vec<Frame>, workers: usize) -> Self {
        let (large, chunks): (Vec<_>, Vec<_>) = frames.into_iter().partition(Frame::is_large);
        let (spare, spare_large) = (queue_of(chunks), queue_of(large));
        let handover = (0..workers * workers).map(|_| ArrayQueue::new(HANDOVER)).collect();
        Self { umem, spare, spare_large, workers, handover, asked: ArrayQueue::new(ASKED) }
    }

    /// Closes a port that a worker has returned, and keeps its frames. Returns how many the kernel did not give back.
    pub fn close(&self, mut port: Box<dyn Port>) -> usize {
        let mut pool = FramePool::default();
        let lost = port.drain(&self.umem, &mut pool);
        self.return_all(&mut pool);
        lost
    }

    /// The next destination that a packet could not go to for lack of a resolved neighbour.
    pub fn asked(&self) -> Option<IpAddr> {
        self.asked.pop()
    }

    pub(super) fn ask(&self, address: IpAddr) {
        // Full: the next packet asks again.
        let _ = self.asked.push(address);
    }

    /// Chunks that no worker and no port holds.
    pub fn spare(&self) -> usize {
        self.spare.len()
    }

    /// Large buffers that no worker and no port holds.
    pub fn spare_large(&self) -> usize {
        self.spare_large.len()
    }

    /// Frames on their way from one worker to another.
    pub fn handed_over(&self) -> usize {
        self.handover.iter().map(ArrayQueue::len).sum()
    }

    pub(super) fn workers(&self) -> usize {
        self.workers
    }

    pub(super) fn hand(&self, from: usize, to: usize, port: PortId, frame: Frame) -> Result<(), Frame> {
        self.handover[from * self.workers + to].push((port, frame)).map_err(|(_, frame)| frame)
    }

    pub(super) fn take(&self, from: usize, to: usize) -> Option<(PortId, Frame)> {
        self.handover[from * self.workers + to].pop()
    }

    /// Moves frames between the pool and the spares when the pool runs low or full. Frames drift: they return to the
    /// worker that sends them, not to the one that received them.
    pub(super) fn balance(&self, pool: &mut FramePool) {
        if pool.len() < POOL_LOW {
            pool.extend((0..POOL_LOW).map_while(|_| self.spare.pop()));
        } else if pool.len() > POOL_HIGH {
            let beyond = pool.len() - POOL_HIGH + POOL_LOW;
            give(&self.spare, (0..beyond).map_while(|_| pool.get()));
        }
        if pool.large() < LARGE_LOW {
            pool.extend((0..LARGE_LOW).map_while(|_| self.spare_large.pop()));
        } else if pool.large() > LARGE_HIGH {
            give(&self.spare_large, (0..LARGE_HIGH).map_while(|_| pool.get_large()));
        }
    }

    /// Returns all frames of the pool to the spares.
    pub(super) fn return_all(&self, pool: &mut FramePool) {
        give(&self.spare, std::iter::from_fn(|| pool.get()));
        give(&self.spare_large, std::iter::from_fn(|| pool.get_large()));
    }
}

fn queue_of(frames: Vec<Frame>) -> ArrayQueue<Frame> {
    let queue = ArrayQueue::new(frames.len().max(1));
    give(&queue, frames.into_iter());
    queue
}

fn give(spare: &ArrayQueue<Frame>, frames: impl Iterator<Item = Frame>) {
    for frame in frames {
        // As many places as frames.
        drop(spare.push(frame));
    }
}
