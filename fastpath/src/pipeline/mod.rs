//! The packet function: what becomes of a burst of frames. The same for every kind of port; needs no socket.
//!
//! Three passes over the burst, so that the memory that one frame waits for is fetched while the others are worked on:
//! `ingress` parses, decapsulates and checks the source; `flows` finds or makes the flow and has its verdict;
//! `rewrite` changes the frame and queues it for its output port.

mod answer;
mod flows;
mod ingress;
mod rewrite;

#[cfg(test)]
pub(crate) mod tests;

use std::net::Ipv4Addr;
use std::sync::Arc;

use margay_encap::Headers;
use margay_flowtable::key::FlowKey;
use margay_flowtable::table::FlowTable;
use margay_flowtable::{NextHopId, PortId, Snapshot};

pub use flows::Expiry;

use crate::counters::Counters;
use crate::drop::DropReason;
use crate::egress::{Egress, Refusal};
use crate::frame::{BURST, Burst, Frame};
use crate::umem::{FramePool, Umem};
use answer::Answers;
use flows::Flows;

/// What holds for a whole burst.
#[derive(Clone, Copy, Debug)]
pub struct Turn<'a> {
    pub snapshot: &'a Snapshot,
    pub umem: &'a Umem,
    /// Milliseconds of a monotonic clock.
    pub now: u64,
}

/// What the first pass found out about a frame.
#[derive(Clone, Copy, Debug)]
struct Lane {
    headers: Headers,
    key: FlowKey,
    hash: u64,
    /// The key is that of the flow that an ICMP error quotes.
    related: bool,
}

#[derive(Debug)]
pub struct Pipeline {
    flows: Flows,
    answers: Answers,
    counters: Arc<Counters>,
    lanes: Box<[Result<Lane, DropReason>; BURST]>,
    unresolved: Option<Ipv4Addr>,
}

impl Pipeline {
    pub fn new(table: Arc<FlowTable>, counters: Arc<Counters>) -> Self {
        Self {
            flows: Flows::new(table, Arc::clone(&counters)),
            answers: Answers::default(),
            counters,
            lanes: Box::new([Err(DropReason::Runt); BURST]),
            unresolved: None,
        }
    }

    /// Empties `burst`: each frame goes to `egress`, or is counted with its reason and returned to `pool`.
    pub fn process(&mut self, turn: &Turn<'_>, burst: &mut Burst, pool: &mut FramePool, egress: &mut Egress) {
        let count = burst.len();
        for (frame, lane) in burst.as_mut_slice().iter_mut().zip(self.lanes.iter_mut()) {
            let counters = self.counters.port(frame.port);
            counters.rx.add(1);
            counters.rx_bytes.add(frame.len() as u64);
            *lane = ingress::receive(turn, frame).map(|(headers, key, related)| {
                let hash = self.flows.table().hash(&key);
                self.flows.table().prefetch(hash);
                Lane { headers, key, hash, related }
            });
        }
        for (frame, slot) in burst.drain_front(count).zip(0..count) {
            let lane = self.lanes[slot];
            let lane = match lane {
                Ok(lane) => lane,
                Err(reason) => {
                    self.end(frame, reason, pool);
                    continue;
                }
            };
            match self.flows.decide(turn, frame.port, &lane) {
                Ok(next_hop) => self.forward(turn, frame, &lane, next_hop, pool, egress),
                Err(reason) => self.refuse(frame, &lane, reason, pool),
            }
        }
    }

    /// A destination of late whose neighbour the kernel has not resolved, for control to ask for. One at a time: who
    /// sends there will send again.
    pub fn take_unresolved(&mut self) -> Option<Ipv4Addr> {
        self.unresolved.take()
    }

    fn end(&self, frame: Frame, reason: DropReason, pool: &mut FramePool) {
        self.counters.count_drop(frame.port, reason);
        pool.put(frame);
    }

    /// Sends the frame on its way, or answers it with an ICMP error where RFC 1812 asks for one.
    fn forward(
        &mut self,
        turn: &Turn<'_>,
        mut frame: Frame,
        lane: &Lane,
        next_hop: NextHopId,
        pool: &mut FramePool,
        egress: &mut Egress,
    ) {
        match rewrite::rewrite(turn, &mut frame, lane, next_hop, self.answers.next_ident()) {
            Ok(port) => self.send(frame, port, pool, egress),
            Err(reason) => {
                if let Some(error) = self.answers.to(turn, &frame, &lane.headers, reason, next_hop, pool) {
                    self.send_answer(turn, error, frame.port, pool, egress);
                }
                self.refuse(frame, lane, reason, pool);
            }
        }
    }

    /// Ends a packet that could not go where it was to go.
    #[cold]
    fn refuse(&mut self, frame: Frame, lane: &Lane, reason: DropReason, pool: &mut FramePool) {
        if reason == DropReason::NeighbourUnresolved {
            self.unresolved = Some(Ipv4Addr::from_bits(lane.headers.dst));
        }
        self.end(frame, reason, pool);
    }

    fn send(&self, frame: Frame, port: PortId, pool: &mut FramePool, egress: &mut Egress) {
        let input = frame.port;
        let bytes = frame.len() as u64;
        match egress.push(port, frame) {
            Ok(()) => {
                self.counters.port(input).forwarded.add(1);
                self.counters.port(port).tx.add(1);
                self.counters.port(port).tx_bytes.add(bytes);
            }
            Err((frame, Refusal::NoPort)) => self.end(frame, DropReason::PortGone, pool),
            Err((frame, Refusal::Full)) => self.end(frame, DropReason::TxFull, pool),
        }
    }
}
