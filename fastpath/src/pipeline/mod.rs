//! The packet function: what becomes of a burst of frames. The same for every kind of port; needs no socket.
//!
//! Four passes over the burst, so that the memory that one frame waits for is fetched while the others are worked on:
//! `ingress` parses, decapsulates and checks the source; the flow table searches its buckets; `flows` has the verdict
//! of the flow, or makes one; `rewrite` changes the frame and queues it for its output port.

mod answer;
mod expiry;
mod flows;
mod ingress;
mod mid_flow;
mod rewrite;

#[cfg(test)]
pub(crate) mod tests;

use std::net::Ipv4Addr;
use std::sync::Arc;

use margay_encap::Headers;
use margay_flowtable::table::{FlowTable, Query};
use margay_flowtable::{NextHopId, PortId, Snapshot};

pub use expiry::Expiry;
pub use mid_flow::MidFlow;

use crate::counters::Counters;
use crate::drop::DropReason;
use crate::egress::{Egress, Refusal};
use crate::frame::{BURST, Burst, Frame};
use crate::umem::{FramePool, Umem};
use answer::Answers;
use flows::Flows;
use ingress::Input;

/// What holds for a whole burst.
#[derive(Clone, Copy, Debug)]
pub struct Turn<'a> {
    pub snapshot: &'a Snapshot,
    pub umem: &'a Umem,
    /// Milliseconds of a monotonic clock.
    pub now: u64,
}

/// Of a packet that nothing has stopped yet.
const UNDECIDED: Result<NextHopId, DropReason> = Ok(NextHopId(u32::MAX));

/// What is known of a packet on its way through the passes.
#[derive(Clone, Copy, Debug)]
struct Lane {
    query: Query,
    headers: Headers,
    /// Where it goes, once that is known, or why it ends here.
    fate: Result<NextHopId, DropReason>,
    /// The port by which it leaves, or why it does not.
    out: Result<PortId, DropReason>,
    /// The key of its query is that of the flow that an ICMP error quotes.
    related: bool,
}

impl Lane {
    /// The packet ends here, if it is an error.
    #[inline]
    fn decided(&mut self, fate: Result<NextHopId, DropReason>) {
        self.fate = fate;
        if let Err(reason) = fate {
            self.out = Err(reason);
        }
    }
}

/// The passes over a burst, for who measures them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Parse, decapsulate, source check, hash.
    Ingress,
    /// Search of the flow table's buckets.
    Search,
    /// Flow entry, conntrack, verdict.
    Flow,
    /// TTL, checksums, encapsulation, and the output's burst.
    Rewrite,
}

impl Stage {
    pub const ALL: [Self; 4] = [Self::Ingress, Self::Search, Self::Flow, Self::Rewrite];
}

/// Is told when a pass over a burst has ended.
pub trait Probe {
    fn mark(&mut self, stage: Stage);
}

/// Measures nothing.
impl Probe for () {
    #[inline(always)]
    fn mark(&mut self, _: Stage) {}
}

#[derive(Debug)]
pub struct Pipeline {
    flows: Flows,
    answers: Answers,
    counters: Arc<Counters>,
    lanes: Box<[Lane; BURST]>,
    unresolved: Option<Ipv4Addr>,
}

impl Pipeline {
    pub fn new(table: Arc<FlowTable>, counters: Arc<Counters>) -> Self {
        let lane = Lane {
            query: Query::default(),
            headers: Headers::default(),
            fate: Err(DropReason::Runt),
            out: Err(DropReason::Runt),
            related: false,
        };
        Self {
            flows: Flows::new(table, Arc::clone(&counters)),
            answers: Answers::default(),
            counters,
            lanes: Box::new([lane; BURST]),
            unresolved: None,
        }
    }

    /// The same pipeline, which treats TCP packets in the middle of unknown connections so.
    #[must_use]
    pub fn with_mid_flow(mut self, mid_flow: MidFlow) -> Self {
        self.flows.mid_flow = mid_flow;
        self
    }

    /// Empties `burst`, whose frames came in by one port: each frame goes to `egress`, or is counted with its reason
    /// and returned to `pool`.
    #[inline(never)]
    pub fn process(
        &mut self,
        turn: &Turn<'_>,
        burst: &mut Box<Burst>,
        pool: &mut FramePool,
        egress: &mut Egress,
    ) {
        self.process_probed(turn, burst, pool, egress, &mut ());
    }

    /// The same, and tells `probe` after each pass.
    #[inline(always)]
    pub fn process_probed(
        &mut self,
        turn: &Turn<'_>,
        burst: &mut Box<Burst>,
        pool: &mut FramePool,
        egress: &mut Egress,
        probe: &mut impl Probe,
    ) {
        let Some(first) = burst.as_slice().first() else { return };
        let input = Input::of(turn, first.port);
        let count = burst.len();
        self.receive(turn, &input, burst);
        probe.mark(Stage::Ingress);
        self.flows.table().search(self.lanes[..count].iter_mut().map(|lane| &mut lane.query));
        probe.mark(Stage::Search);
        for lane in &mut self.lanes[..count] {
            if lane.fate.is_ok() {
                lane.decided(self.flows.decide(turn, &input, lane));
            }
        }
        probe.mark(Stage::Flow);
        self.rewrite(turn, &input, burst, pool, egress);
        probe.mark(Stage::Rewrite);
    }

    /// The first pass.
    #[inline(never)]
    fn receive(&mut self, turn: &Turn<'_>, input: &Input<'_>, burst: &mut Burst) {
        let mut bytes = 0;
        let table = self.flows.table();
        for (frame, lane) in burst.as_mut_slice().iter_mut().zip(self.lanes.iter_mut()) {
            debug_assert_eq!(frame.port, input.port, "a burst is of one port");
            bytes += frame.len() as u64;
            input.receive(turn, table, frame, lane);
        }
        let counters = self.counters.port(input.port);
        counters.rx.add(burst.len() as u64);
        counters.rx_bytes.add(bytes);
    }

    /// The last pass.
    #[inline(never)]
    fn rewrite(
        &mut self,
        turn: &Turn<'_>,
        input: &Input<'_>,
        burst: &mut Box<Burst>,
        pool: &mut FramePool,
        egress: &mut Egress,
    ) {
        let count = burst.len();
        let mut ident = self.answers.next_idents(count);
        let mut bytes = 0;
        for (frame, lane) in burst.as_mut_slice().iter_mut().zip(self.lanes.iter_mut()) {
            ident = ident.wrapping_add(1);
            if let Ok(to) = lane.fate {
                lane.out = rewrite::rewrite(turn, frame, lane, to, ident);
            }
            bytes += frame.len() as u64;
        }
        let out = self.lanes[0].out;
        let together = self.lanes[1..count].iter().all(|lane| lane.out == out);
        match out {
            // One way for all of them, as from a pod to the uplink.
            Ok(port) if together && egress.hand_over(port, burst) => {
                Tally { port: Some(port), frames: count as u64, bytes }.settle(&self.counters, input.port);
            }
            _ => self.part(turn, input, burst, pool, egress),
        }
    }

    /// Sends each frame of the burst its own way.
    #[inline(never)]
    fn part(
        &mut self,
        turn: &Turn<'_>,
        input: &Input<'_>,
        burst: &mut Burst,
        pool: &mut FramePool,
        egress: &mut Egress,
    ) {
        let mut tally = Tally::default();
        for (slot, frame) in burst.drain_front(burst.len()).enumerate() {
            let bytes = frame.len() as u64;
            match self.lanes[slot].out {
                Ok(port) => match egress.push(port, frame) {
                    Ok(()) => tally.count(&self.counters, input.port, port, bytes),
                    Err((frame, refusal)) => self.end(frame, refusal.into(), pool),
                },
                Err(reason) => self.refuse(turn, frame, slot, reason, pool, egress),
            }
        }
        tally.settle(&self.counters, input.port);
    }

    /// A destination of late whose neighbour the kernel has not resolved, for control to ask for. One at a time: who
    /// sends there will send again.
    pub fn take_unresolved(&mut self) -> Option<Ipv4Addr> {
        self.unresolved.take()
    }

    #[cold]
    fn end(&self, frame: Frame, reason: DropReason, pool: &mut FramePool) {
        self.counters.count_drop(frame.port, reason);
        pool.put(frame);
    }

    /// Ends a packet that does not go where it was to go, and answers it with an ICMP error where RFC 1812 asks for
    /// one.
    #[cold]
    fn refuse(
        &mut self,
        turn: &Turn<'_>,
        frame: Frame,
        slot: usize,
        reason: DropReason,
        pool: &mut FramePool,
        egress: &mut Egress,
    ) {
        let lane = self.lanes[slot];
        if let Ok(next_hop) = lane.fate
            && let Some(error) = self.answers.to(turn, &frame, &lane.headers, reason, next_hop, pool)
        {
            self.send_answer(turn, error, frame.port, pool, egress);
        }
        if reason == DropReason::NeighbourUnresolved {
            self.unresolved = Some(Ipv4Addr::from_bits(lane.headers.dst()));
        }
        self.end(frame, reason, pool);
    }
}

/// Frames sent that no counter has yet: those that go the same way one after another are counted together.
#[derive(Debug, Default)]
struct Tally {
    port: Option<PortId>,
    frames: u64,
    bytes: u64,
}

impl Tally {
    #[inline]
    fn count(&mut self, counters: &Counters, input: PortId, output: PortId, bytes: u64) {
        if self.port != Some(output) {
            std::mem::take(self).settle(counters, input);
            self.port = Some(output);
        }
        self.frames += 1;
        self.bytes += bytes;
    }

    fn settle(self, counters: &Counters, input: PortId) {
        let Some(output) = self.port else { return };
        counters.port(input).forwarded.add(self.frames);
        counters.port(output).tx.add(self.frames);
        counters.port(output).tx_bytes.add(self.bytes);
    }
}

impl From<Refusal> for DropReason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoPort => Self::PortGone,
            Refusal::Full => Self::TxFull,
        }
    }
}
