//! Fragments. The first one of a datagram has the ports, and with these the others are packets of the same flow like any.
//! One that comes before the first waits here for a while, and goes on from where it stopped: behind the first pass.

use margay_encap::{Headers, Transport};
use margay_flowtable::{DatagramKey, DatagramRef, Key, Placed, PortId};

use super::ingress::Input;
use super::lane::Lane;
use super::martian::{check_destination, check_source};
use super::{Pipeline, Turn, keys};
use crate::drop::DropReason;
use crate::egress::Egress;
use crate::frame::{BURST, Burst, Frame};
use crate::tap::{Fate, Tapped};
use crate::umem::FramePool;

/// How long a fragment waits for the first one, in milliseconds. What one sender sends at once nothing delays for longer.
const LONGEST: u64 = 1000;

/// Fragments that came before the first ones of their datagrams: as many as a burst at most.
#[derive(Debug)]
pub(super) struct Waiting {
    fragments: Vec<Early>,
    /// When it was last asked whether first ones have come to other workers.
    asked: u64,
    /// One has come here since.
    is_due: bool,
    /// For those that go on.
    burst: Option<Box<Burst>>,
}

#[derive(Debug)]
struct Early {
    frame: Frame,
    lane: Lane,
    tapped: Tapped,
    datagram: DatagramRef,
    since: u64,
}

impl Default for Waiting {
    fn default() -> Self {
        Self { fragments: Vec::with_capacity(BURST), asked: 0, is_due: false, burst: Some(Box::default()) }
    }
}

impl Pipeline {
    /// Fragments that wait for the first ones of their datagrams.
    pub fn waiting(&self) -> usize {
        self.waiting.fragments.len()
    }

    /// Has fragments go on whose first ones have come, be it to another worker, and drops those that have waited for long
    /// enough. For every turn of a worker.
    #[inline]
    pub fn release(&mut self, turn: &Turn<'_>, pool: &mut FramePool, egress: &mut Egress) {
        let Waiting { fragments, asked, is_due, .. } = &self.waiting;
        if !fragments.is_empty() && (*is_due || *asked != turn.now) {
            self.release_due(turn, pool, egress);
        }
    }

    /// Drops the fragments that wait and came in by a port, or by any, which is no more.
    pub fn give_up(&mut self, port: Option<PortId>, pool: &mut FramePool) {
        let is_of = |early: &mut Early| port.is_none_or(|port| port == early.frame.port);
        for early in self.waiting.fragments.extract_if(.., is_of) {
            self.counters.count_drop(early.frame.port, DropReason::PortGone);
            self.taps.turn_aside_to(early.tapped);
            self.taps.end(Fate::Dropped(DropReason::PortGone));
            pool.put(early.frame);
        }
    }

    /// Gives each fragment of a burst its place in its datagram. Those that came too early leave the burst.
    #[cold]
    pub(super) fn place_fragments(&mut self, turn: &Turn<'_>, input: &Input<'_>, burst: &mut Burst) {
        let mut at = 0;
        while at < burst.len() {
            match self.place(turn, input, &burst.as_slice()[at], at) {
                None => at += 1,
                Some(datagram) => {
                    let lane = self.lanes[at];
                    self.lanes.copy_within(at + 1..burst.len(), at);
                    let tapped = self.taps.take(at, burst.len());
                    let frame = burst.remove(at);
                    self.waiting.fragments.push(Early { frame, lane, tapped, datagram, since: turn.now });
                }
            }
        }
    }

    /// The datagram of a fragment that has to wait for its first one.
    fn place(&mut self, turn: &Turn<'_>, input: &Input<'_>, frame: &Frame, at: usize) -> Option<DatagramRef> {
        let mut lane = self.lanes[at];
        if !lane.next_hop.is_open() || !lane.headers.is_fragment() {
            return None;
        }
        // Before it takes room: whoever sends under a false address could spoil the datagrams of its owner.
        let own = keys(turn.umem, frame, &lane).own;
        let checked = check_source(turn.snapshot, input, &own)
            .and_then(|()| check_destination(own.dst()))
            .map(|()| self.enter(turn, &own, &lane.headers));
        let reason = match checked {
            Ok(Placed::Known(transport)) => {
                self.go_on(turn, frame, &mut lane, transport);
                self.lanes[at] = lane;
                return None;
            }
            Ok(Placed::Early(datagram)) if self.waiting() < BURST => return Some(datagram),
            Ok(Placed::Early(_)) => DropReason::FragmentQueueFull,
            Ok(Placed::Overlaps) => DropReason::FragmentOverlap,
            Ok(Placed::Full | Placed::Gone) => DropReason::FragmentTableFull,
            Err(reason) => reason,
        };
        self.lanes[at].end(reason);
        None
    }

    fn enter(&mut self, turn: &Turn<'_>, own: &impl Key, headers: &Headers) -> Placed {
        let datagram = DatagramKey::new(own.src(), own.dst(), headers.identification(), headers.protocol());
        let first = (!headers.is_later_fragment()).then(|| headers.transport_fields());
        self.waiting.is_due |= first.is_some();
        self.fragments.place(&datagram, headers.part(), first, turn.now)
    }

    /// Makes a fragment a packet of its flow. (The first one is one.)
    fn go_on(&self, turn: &Turn<'_>, frame: &Frame, lane: &mut Lane, transport: Transport) {
        if !lane.headers.is_later_fragment() {
            return;
        }
        lane.headers = lane.headers.of_transport(transport);
        // What an ICMP error quotes stands in its first fragment. (No error is so long: RFC 1812 4.3.2.3.)
        let own = keys(turn.umem, frame, lane).own;
        lane.query = self.flows.table().query_key(&own);
        if lane.headers.is_icmp_error() {
            lane.relate();
        }
    }

    /// The passes behind the first, over fragments that have waited.
    fn go_on_with(
        &mut self,
        turn: &Turn<'_>,
        input: &Input<'_>,
        burst: &mut Box<Burst>,
        pool: &mut FramePool,
        egress: &mut Egress,
    ) {
        if self.taps.is_on() {
            self.forward::<true>(turn, input, burst, pool, egress, &mut ());
        } else {
            self.forward::<false>(turn, input, burst, pool, egress, &mut ());
        }
    }

    /// Forgets the tap of this place, of fragments that wait.
    pub(super) fn untap_waiting(&mut self, at: usize) {
        for early in &mut self.waiting.fragments {
            early.tapped = early.tapped.without(at);
        }
    }

    #[cold]
    fn release_due(&mut self, turn: &Turn<'_>, pool: &mut FramePool, egress: &mut Egress) {
        (self.waiting.asked, self.waiting.is_due) = (turn.now, false);
        let Some(mut burst) = self.waiting.burst.take() else { return };
        while let Some(port) = self.gather(turn, &mut burst, pool) {
            let input = Input::of(turn, port, &self.senders);
            if input.is_known() {
                self.go_on_with(turn, &input, &mut burst, pool, egress);
            } else {
                for (slot, frame) in burst.drain_front(burst.len()).enumerate() {
                    self.taps.turn_to(slot);
                    self.end(frame, DropReason::PortGone, pool);
                }
            }
        }
        self.waiting.burst = Some(burst);
    }

    /// Moves the fragments of one port that can go on into a burst, and drops those that never will.
    fn gather(&mut self, turn: &Turn<'_>, burst: &mut Burst, pool: &mut FramePool) -> Option<PortId> {
        let (mut port, mut at) = (None, 0);
        while let Some(early) = self.waiting.fragments.get(at) {
            let is_of_another = port.is_some_and(|port| port != early.frame.port);
            let ended = match self.fragments.transport(early.datagram) {
                Placed::Known(_) if is_of_another => None,
                Placed::Known(transport) => Some(Ok(transport)),
                Placed::Early(_) if turn.now.saturating_sub(early.since) < LONGEST => None,
                Placed::Early(_) | Placed::Gone | Placed::Full => Some(Err(DropReason::FragmentUnmatched)),
                Placed::Overlaps => Some(Err(DropReason::FragmentOverlap)),
            };
            let Some(ended) = ended else {
                at += 1;
                continue;
            };
            let Early { frame, mut lane, tapped, .. } = self.waiting.fragments.remove(at);
            match ended {
                Ok(transport) => {
                    self.go_on(turn, &frame, &mut lane, transport);
                    port = Some(frame.port);
                    self.lanes[burst.len()] = lane;
                    self.taps.put(burst.len(), tapped);
                    burst.push(frame);
                }
                Err(reason) => {
                    self.taps.turn_aside_to(tapped);
                    self.end(frame, reason, pool);
                }
            }
        }
        port
    }
}
