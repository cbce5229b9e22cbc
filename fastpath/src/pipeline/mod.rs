//! The packet function: what becomes of a burst of frames. The same for every kind of port; needs no socket.
//!
//! Four passes over the burst, so that the memory that one frame waits for is fetched while the others are worked on:
//! `ingress` parses, decapsulates and checks the source; the flow table searches its buckets; `flows` has the verdict
//! of the flow, or makes one; `rewrite` changes the frame and queues it for its output port. A fragment that comes before
//! the one with the ports waits between the first two (`fragments`).

mod answer;
mod expiry;
mod flows;
mod fragments;
mod host;
mod ingress;
mod ipv6;
mod judge;
mod lane;
mod martian;
mod mid_flow;
mod passed;
mod probe;
mod rewrite;
mod routes;
mod segment;
mod senders;
mod split;
mod tally;
mod tapped;
mod tunnel;
mod tunnel6;

#[cfg(test)]
pub(crate) mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use margay_flowtable::table::FlowTable;
use margay_flowtable::{Fragments, Key, NextHopId, PortId, Snapshot};

pub use expiry::Expiry;
pub use host::MAX_UPLINKS;
pub use judge::{Denial, Established};
pub use mid_flow::MidFlow;
pub use probe::{Probe, Stage};
pub use routes::DENIED;

use crate::counters::Counters;
use crate::drop::DropReason;
use crate::egress::{Egress, Refusal};
use crate::frame::{BURST, Burst, Frame, Gso};
use crate::tap::{Fate, Taps};
use crate::umem::{FramePool, Umem};
use answer::Answers;
use flows::{Flows, keys4};
use fragments::Waiting;
use ingress::Input;
use ipv6::keys6;
use lane::{Keys, Lane, Way};
use senders::KnownSenders;
use tally::Tally;

/// What holds for a whole burst.
#[derive(Clone, Copy, Debug)]
pub struct Turn<'a> {
    pub snapshot: &'a Snapshot,
    pub umem: &'a Umem,
    /// Milliseconds of a monotonic clock.
    pub now: u64,
}

/// Datagrams in fragments that a pipeline knows which shares no table with others.
const FEW: u32 = 64;
/// Seconds after which the kernel gives a datagram up (`ipfrag_time`).
pub const FRAGMENT_TIMEOUT: u32 = 30;

#[derive(Debug)]
pub struct Pipeline {
    flows: Flows,
    answers: Answers,
    counters: Arc<Counters>,
    lanes: Box<[Lane; BURST]>,
    fragments: Arc<Fragments>,
    waiting: Waiting,
    senders: Arc<KnownSenders>,
    unresolved: Option<IpAddr>,
    taps: Taps,
}

impl Pipeline {
    pub fn new(table: Arc<FlowTable>, counters: Arc<Counters>) -> Self {
        Self {
            flows: Flows::new(table, Arc::clone(&counters)),
            answers: Answers::default(),
            counters,
            lanes: Box::new([Lane::default(); BURST]),
            fragments: Arc::new(Fragments::new(FEW, [0; 2], FRAGMENT_TIMEOUT)),
            waiting: Waiting::default(),
            senders: Arc::default(),
            unresolved: None,
            taps: Taps::default(),
        }
    }

    /// The same pipeline, which treats TCP packets in the middle of unknown connections so.
    #[must_use]
    pub fn with_mid_flow(mut self, mid_flow: MidFlow) -> Self {
        self.flows.mid_flow = mid_flow;
        self
    }

    /// The same pipeline, which knows datagrams in fragments from this table.
    #[must_use]
    pub fn with_fragments(mut self, fragments: Arc<Fragments>) -> Self {
        self.fragments = fragments;
        self
    }

    /// The same pipeline, which does so with flows that policy would no longer allow.
    #[must_use]
    pub fn with_established(mut self, established: Established) -> Self {
        self.flows.judge.established = established;
        self
    }

    /// Does so from now on: as [`with_mid_flow`](Self::with_mid_flow) and [`with_established`](Self::with_established).
    pub fn configure(&mut self, mid_flow: MidFlow, established: Established) {
        (self.flows.mid_flow, self.flows.judge.established) = (mid_flow, established);
    }

    /// Empties `burst`, whose frames came in by one port: each frame goes to `egress`, or is counted with its reason
    /// and returned to `pool`; or it is a fragment, and waits ([`Pipeline::release`]).
    #[inline(never)]
    pub fn process(
        &mut self,
        turn: &Turn<'_>,
        burst: &mut Box<Burst>,
        pool: &mut FramePool,
        egress: &mut Egress,
    ) {
        if self.taps.is_on() {
            return self.process_tapped(turn, burst, pool, egress);
        }
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
        self.pass::<false>(turn, burst, pool, egress, probe);
    }

    /// All passes. `TAPPED` is whether there may be taps.
    #[inline(always)]
    fn pass<const TAPPED: bool>(
        &mut self,
        turn: &Turn<'_>,
        burst: &mut Box<Burst>,
        pool: &mut FramePool,
        egress: &mut Egress,
        probe: &mut impl Probe,
    ) {
        let Some(first) = burst.as_slice().first() else { return };
        let (port, may_be_several) = (first.port, first.gso != Gso::Never);
        let input = Input::of(turn, port, &self.senders);
        if TAPPED {
            self.tap_entering(turn, burst);
        }
        if input.is_uplink {
            self.receive::<true>(turn, &input, burst);
        } else {
            self.receive::<false>(turn, &input, burst);
        }
        if may_be_several {
            self.note_several(turn, burst);
        }
        if input.has_fragments.get() {
            self.place_fragments(turn, &input, burst);
            if burst.is_empty() {
                return;
            }
        }
        probe.mark(Stage::Ingress);
        self.forward::<TAPPED>(turn, &input, burst, pool, egress, probe);
    }

    /// The other passes.
    #[inline(always)]
    fn forward<const TAPPED: bool>(
        &mut self,
        turn: &Turn<'_>,
        input: &Input<'_>,
        burst: &mut Box<Burst>,
        pool: &mut FramePool,
        egress: &mut Egress,
        probe: &mut impl Probe,
    ) {
        let count = burst.len();
        self.flows.table().search(&mut self.lanes[..count]);
        probe.mark(Stage::Search);
        if TAPPED {
            self.decide_tapped(turn, input, burst);
        } else {
            self.decide(turn, input, burst);
        }
        self.flows.settle();
        probe.mark(Stage::Flow);
        self.rewrite::<TAPPED>(turn, input, burst, pool, egress);
        probe.mark(Stage::Rewrite);
    }

    /// The third pass.
    #[inline(always)]
    fn decide(&mut self, turn: &Turn<'_>, input: &Input<'_>, burst: &Burst) {
        if host::asks_untracked(turn.snapshot, input) {
            self.pass_untracked(turn, input, burst);
        }
        let mut has_others = false;
        for lane in &mut self.lanes[..burst.len()] {
            if lane.next_hop.is_undecided() {
                lane.decide(self.flows.decide(turn, input, lane));
            } else {
                has_others |= lane.next_hop.is_open();
            }
        }
        if has_others {
            self.decide_others(turn, input, burst);
        }
    }

    /// The first pass.
    #[inline(never)]
    fn receive<const UPLINK: bool>(&mut self, turn: &Turn<'_>, input: &Input<'_>, burst: &mut Burst) {
        let mut bytes = 0;
        let table = self.flows.table();
        for (frame, lane) in burst.as_mut_slice().iter_mut().zip(self.lanes.iter_mut()) {
            debug_assert_eq!(frame.port, input.port, "a burst is of one port");
            bytes += frame.len() as u64;
            input.receive::<UPLINK>(turn, table, frame, lane);
        }
        let counters = self.counters.port(input.port);
        counters.rx.add(burst.len() as u64);
        counters.rx_bytes.add(bytes);
    }

    /// The third pass over packets of IPv6 and ICMP errors.
    #[inline(never)]
    fn decide_others(&mut self, turn: &Turn<'_>, input: &Input<'_>, burst: &Burst) {
        let lanes = self.lanes.iter_mut().zip(burst.as_slice());
        for (lane, frame) in lanes.filter(|(lane, _)| lane.next_hop.is_open()) {
            let keys = keys(turn.umem, frame, lane);
            lane.decide(self.flows.decide_keyed(turn, input, lane, &keys));
        }
    }

    /// Decides about the packets that a host endpoint takes out of connection tracking, or denies before it.
    #[cold]
    fn pass_untracked(&mut self, turn: &Turn<'_>, input: &Input<'_>, burst: &Burst) {
        let frames = burst.as_slice();
        let lanes = self.lanes.iter_mut().zip(frames).filter(|(lane, _)| lane.next_hop.is_open());
        for (lane, frame) in lanes {
            let own = keys(turn.umem, frame, lane).own;
            match self.flows.untracked(turn, input, lane, &own) {
                Ok(None) => {}
                Ok(Some(next_hop)) => lane.decide(Ok(next_hop)),
                Err(reason) => lane.end(reason),
            }
        }
    }

    /// The last pass.
    #[inline(never)]
    fn rewrite<const TAPPED: bool>(
        &mut self,
        turn: &Turn<'_>,
        input: &Input<'_>,
        burst: &mut Box<Burst>,
        pool: &mut FramePool,
        egress: &mut Egress,
    ) {
        let count = burst.len();
        let mut ident = self.answers.next_idents(count);
        let (mut bytes, mut way, mut ways) = (0, Way::NONE, 0);
        for (frame, lane) in burst.as_mut_slice().iter_mut().zip(self.lanes.iter_mut()) {
            ident = ident.wrapping_add(1);
            if let Ok(to) = lane.next_hop.get() {
                lane.port = match rewrite::rewrite(turn, frame, lane, NextHopId(to), ident) {
                    Ok(PortId(port)) => Way::to(u32::from(port)),
                    Err(reason) => Way::end(reason),
                };
            }
            bytes += frame.len() as u64;
            ways += usize::from(lane.port != way);
            way = lane.port;
        }
        if TAPPED {
            return self.part_tapped(turn, input, burst, pool, egress);
        }
        match way.get() {
            // All of them go one way, as from a pod to the uplink.
            Ok(port) if ways == 1 && egress.hand_over(PortId(port as u16), burst) => {
                let tally = Tally { port: Some(PortId(port as u16)), frames: count as u64, bytes };
                tally.settle(&self.counters, input.port);
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
            match self.lanes[slot].port.get() {
                Ok(port) => match egress.push(PortId(port as u16), frame) {
                    Ok(()) => tally.count(&self.counters, input.port, PortId(port as u16), bytes),
                    Err((frame, refusal)) => self.end(frame, refusal.into(), pool),
                },
                Err(reason) => self.refuse(turn, frame, slot, reason, pool, egress),
            }
        }
        tally.settle(&self.counters, input.port);
    }

    /// A destination of late whose neighbour the kernel has not resolved, for control to ask for. One at a time: who
    /// sends there will send again.
    pub fn take_unresolved(&mut self) -> Option<IpAddr> {
        self.unresolved.take()
    }

    #[cold]
    fn end(&mut self, frame: Frame, reason: DropReason, pool: &mut FramePool) {
        self.counters.count_drop(frame.port, reason);
        self.taps.end(Fate::Dropped(reason));
        pool.put(frame);
    }

    /// Ends a packet that does not go where it was to go whole, and answers it with an ICMP error where RFC 1812 asks for
    /// one; or sends it in fragments or segments.
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
        if reason == DropReason::TooBig {
            return self.split(turn, frame, slot, pool, egress);
        }
        let lane = self.lanes[slot];
        if let Some(error) = self.answers.to(turn, &frame, &lane, reason, pool) {
            self.send_answer(turn, error, frame.port, pool, egress);
        }
        if reason == DropReason::NeighbourUnresolved {
            self.unresolved = Some(keys(turn.umem, &frame, &lane).own.dst());
        }
        self.end(frame, reason, pool);
    }
}

/// The keys of a packet of either family.
fn keys(umem: &Umem, frame: &Frame, lane: &Lane) -> Keys {
    if lane.headers.is_ipv6() {
        return keys6(umem, frame, &lane.headers);
    }
    let Keys { own, flow } = keys4(lane);
    Keys { own: own.into(), flow: flow.into() }
}

impl From<Refusal> for DropReason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoPort => Self::PortGone,
            Refusal::Full => Self::TxFull,
        }
    }
}
