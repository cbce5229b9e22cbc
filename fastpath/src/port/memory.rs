//! A port in memory: what is injected is received, what is sent is collected. For tests, benches and replay.

use std::collections::VecDeque;

use margay_flowtable::PortId;

use crate::frame::{Burst, Frame};
use crate::port::{Census, Port};
use crate::umem::{FramePool, Umem};

#[derive(Debug)]
pub struct MemoryPort {
    id: PortId,
    input: VecDeque<Frame>,
    output: VecDeque<Frame>,
    /// Frames that the transmit side holds at most; more stay with the worker, as with a full TX ring.
    tx_room: usize,
}

impl MemoryPort {
    pub fn new(id: PortId, tx_room: usize) -> Self {
        Self { id, input: VecDeque::new(), output: VecDeque::new(), tx_room }
    }

    /// Queues a frame for `rx`.
    pub fn inject(&mut self, mut frame: Frame) {
        frame.port = self.id;
        self.input.push_back(frame);
    }

    /// The oldest frame sent and not yet taken.
    pub fn sent(&mut self) -> Option<Frame> {
        self.output.pop_front()
    }
}

impl Port for MemoryPort {
    fn id(&self) -> PortId {
        self.id
    }

    fn rx(&mut self, _umem: &Umem, burst: &mut Burst) {
        let count = burst.room().min(self.input.len());
        for frame in self.input.drain(..count) {
            burst.push(frame);
        }
    }

    fn tx(&mut self, _umem: &Umem, burst: &mut Burst) {
        let count = burst.len().min(self.tx_room - self.output.len());
        self.output.extend(burst.drain_front(count));
    }

    fn reclaim(&mut self, _umem: &Umem, _pool: &mut FramePool) {}

    fn census(&self) -> Census {
        Census { rx: self.input.len(), tx: self.output.len(), ..Census::default() }
    }

    fn drain(&mut self, _umem: &Umem, pool: &mut FramePool) -> usize {
        pool.extend(self.input.drain(..));
        pool.extend(self.output.drain(..));
        0
    }
}
