//! The passes where there are taps: each packet by itself, with what taps copy of it and what they tell.
//!
//! What becomes of packets is the same as without, and it is the same code that decides it.

use std::time::Duration;

use margay_flowtable::{NextHopId, PortId};

use super::ingress::Input;
use super::{Pipeline, Tally, Turn, host, keys};
use crate::egress::Egress;
use crate::frame::{Burst, Frame};
use crate::tap::{Fate, Leaving, Steps, Tap, TapId};
use crate::umem::FramePool;

impl Pipeline {
    /// Gives the tap back where there are [`TAPS`](crate::tap::TAPS) already.
    pub fn tap(&mut self, tap: Box<Tap>) -> Result<(), Box<Tap>> {
        self.taps.add(tap)
    }

    pub fn untap(&mut self, id: TapId) -> Option<Box<Tap>> {
        let (at, tap) = self.taps.remove(id)?;
        self.untap_waiting(at);
        Some(tap)
    }

    /// Takes out any tap, of a pipeline that is done.
    pub(crate) fn untap_next(&mut self) -> Option<Box<Tap>> {
        self.taps.pop()
    }

    #[inline]
    pub(crate) fn is_tapped(&self) -> bool {
        self.taps.is_on()
    }

    /// Tells taps the time, since 1970.
    pub fn set_tap_time(&mut self, now: Duration) {
        self.taps.set_time(now);
    }

    #[cold]
    #[inline(never)]
    pub(super) fn process_tapped(
        &mut self,
        turn: &Turn<'_>,
        burst: &mut Box<Burst>,
        pool: &mut FramePool,
        egress: &mut Egress,
    ) {
        self.pass::<true>(turn, burst, pool, egress, &mut ());
    }

    /// Before the first pass, which takes tunnels off.
    pub(super) fn tap_entering(&mut self, turn: &Turn<'_>, burst: &Burst) {
        for (slot, frame) in burst.as_slice().iter().enumerate() {
            let bytes = turn.umem.bytes(frame);
            self.taps.enter(slot, frame.port, bytes, turn.snapshot.local.vxlan_port);
        }
    }

    /// A frame is about to be queued because of the packet at hand.
    pub(super) fn tap_leaving(&mut self, turn: &Turn<'_>, frame: &Frame, port: PortId, leaving: Leaving) {
        if self.taps.is_on() {
            let bytes = turn.umem.bytes(frame);
            self.taps.leave(port, bytes, turn.snapshot.local.vxlan_port, leaving);
        }
    }

    /// The third pass.
    pub(super) fn decide_tapped(&mut self, turn: &Turn<'_>, input: &Input<'_>, burst: &Burst) {
        for (slot, frame) in burst.as_slice().iter().enumerate() {
            self.note_found(turn, input, slot, frame);
            self.decide_one(turn, input, slot, frame);
            self.note_decided(turn, slot);
        }
    }

    fn decide_one(&mut self, turn: &Turn<'_>, input: &Input<'_>, slot: usize, frame: &Frame) {
        let (flows, lane) = (&self.flows, &mut self.lanes[slot]);
        if !lane.next_hop.is_open() {
            return;
        }
        let keys = keys(turn.umem, frame, lane);
        if host::asks_untracked(turn.snapshot, input) {
            match flows.untracked(turn, input, lane, &keys.own) {
                Ok(None) => {}
                Ok(Some(next_hop)) => return lane.decide(Ok(next_hop)),
                Err(reason) => return lane.end(reason),
            }
        }
        if lane.next_hop.is_undecided() {
            lane.decide(flows.decide(turn, input, lane));
        } else {
            lane.decide(flows.decide_keyed(turn, input, lane, &keys));
        }
    }

    /// Notes what is known before the verdict.
    fn note_found(&mut self, turn: &Turn<'_>, input: &Input<'_>, slot: usize, frame: &Frame) {
        self.flows.judge.denied.take();
        let (lane, table) = (&self.lanes[slot], self.flows.table());
        let Some(steps) = self.taps.steps(slot) else { return };
        (steps.generation, steps.now) = (turn.snapshot.generation, input.now);
        if !lane.next_hop.is_open() {
            return;
        }
        let keys = keys(turn.umem, frame, lane);
        steps.tunnel = lane.tunnel();
        steps.headers = Some(lane.headers);
        (steps.key, steps.flow) = (Some(keys.own), Some(keys.flow));
        steps.found = table.lookup(&keys.flow, lane.query.hash(), turn.snapshot.generation);
    }

    /// Notes what the verdict is, and by whom.
    fn note_decided(&mut self, turn: &Turn<'_>, slot: usize) {
        let (lane, table) = (&self.lanes[slot], self.flows.table());
        let Some(steps) = self.taps.steps(slot) else { return };
        steps.denial = self.flows.judge.denied.take();
        steps.next_hop = lane.next_hop.get().ok().map(NextHopId).filter(|_| steps.key.is_some());
        let entry = |flow| table.lookup(&flow, lane.query.hash(), turn.snapshot.generation);
        steps.entry = steps.flow.and_then(entry);
    }

    /// Sends each frame of the burst its own way, and tells what became of it.
    pub(super) fn part_tapped(
        &mut self,
        turn: &Turn<'_>,
        input: &Input<'_>,
        burst: &mut Burst,
        pool: &mut FramePool,
        egress: &mut Egress,
    ) {
        let mut tally = Tally::default();
        for (slot, frame) in burst.drain_front(burst.len()).enumerate() {
            self.taps.turn_to(slot);
            let port = match self.lanes[slot].port.get() {
                Ok(port) => PortId(port as u16),
                Err(reason) => {
                    self.refuse(turn, frame, slot, reason, pool, egress);
                    continue;
                }
            };
            let bytes = frame.len() as u64;
            self.note_output(slot, port);
            self.tap_leaving(turn, &frame, port, Leaving::Whole);
            let queued = egress.push(port, frame);
            self.taps.settle(queued.is_ok());
            match queued {
                Ok(()) => {
                    tally.count(&self.counters, input.port, port, bytes);
                    self.taps.end(Fate::Forwarded);
                }
                Err((frame, refusal)) => self.end(frame, refusal.into(), pool),
            }
        }
        tally.settle(&self.counters, input.port);
    }

    fn note_output(&mut self, slot: usize, port: PortId) {
        let note = |steps: &mut Steps| steps.output = Some(port);
        self.taps.steps(slot).map(note);
    }
}
