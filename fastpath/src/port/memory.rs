//! A port in memory: frames that are put on its wire are received, what is sent appears there. For tests.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use margay_flowtable::PortId;

use crate::frame::{Burst, Frame};
use crate::port::{Census, Port};
use crate::umem::{FramePool, Umem};

/// Frames that wait to be received at most.
const RX_ROOM: usize = 512;

/// The outer end of a [`MemoryPort`]: what a peer on the link would hold.
#[derive(Clone, Debug)]
pub struct Wire {
    input: Arc<ArrayQueue<Frame>>,
    output: Arc<ArrayQueue<Frame>>,
}

impl Wire {
    /// Queues a frame for the port to receive; gives it back where the port has as many as it holds.
    pub fn inject(&self, frame: Frame) -> Result<(), Frame> {
        self.input.push(frame)
    }

    /// The oldest frame sent and not yet taken.
    pub fn sent(&self) -> Option<Frame> {
        self.output.pop()
    }
}

#[derive(Debug)]
pub struct MemoryPort {
    id: PortId,
    wire: Wire,
}

impl MemoryPort {
    /// A port that holds `room` sent frames; more stay with the worker, as with a full TX ring.
    pub fn new(id: PortId, room: usize) -> Self {
        let queue = |room| Arc::new(ArrayQueue::new(room));
        Self { id, wire: Wire { input: queue(RX_ROOM), output: queue(room) } }
    }

    pub fn wire(&self) -> Wire {
        self.wire.clone()
    }
}

impl Port for MemoryPort {
    fn id(&self) -> PortId {
        self.id
    }

    fn rx(&mut self, _umem: &Umem, burst: &mut Burst, _pool: &mut FramePool) {
        for mut frame in (0..burst.room()).map_while(|_| self.wire.input.pop()) {
            frame.port = self.id;
            burst.push(frame);
        }
    }

    fn tx(&mut self, _umem: &Umem, burst: &mut Burst) {
        let room = self.wire.output.capacity() - self.wire.output.len();
        for frame in burst.drain_front(burst.len().min(room)) {
            // The worker is the one producer, so the room that was there is there still.
            drop(self.wire.output.push(frame));
        }
    }

    fn reclaim(&mut self, _umem: &Umem, _pool: &mut FramePool) {}

    fn census(&self) -> Census {
        Census { rx: self.wire.input.len(), tx: self.wire.output.len(), ..Census::default() }
    }

    fn drain(&mut self, _umem: &Umem, pool: &mut FramePool) -> usize {
        pool.extend(std::iter::from_fn(|| self.wire.input.pop()));
        pool.extend(std::iter::from_fn(|| self.wire.output.pop()));
        0
    }
}
