//! Conntrack in the table: the word that holds a connection's state, and how a packet steps it.

use super::slot::incarnation;
use super::{FlowRef, FlowTable, Hit};
use crate::conntrack::{CtState, CtStatus, Direction, opens};
use crate::sync::{Ordering, fence};

/// Conntrack state as a word: seconds (32 bits), flags of both legs (8 bits), incarnation (24 bits).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Track(pub(super) u64);

impl Track {
    pub(super) fn new(state: CtState, incarnation: u32) -> Self {
        Self(u64::from(state.last_seen) << 32 | u64::from(state.legs) << 24 | u64::from(incarnation))
    }

    #[inline]
    pub(super) fn state(self) -> CtState {
        CtState { last_seen: (self.0 >> 32) as u32, legs: (self.0 >> 24) as u8 }
    }

    #[inline]
    pub(super) fn incarnation(self) -> u32 {
        incarnation(self.0)
    }
}

impl FlowTable {
    /// Steps conntrack by a packet of the hit's direction: `tcp_flags` as in its header (0 if it is no TCP), `now` in
    /// seconds. Writes only where the state changes, and once a second.
    #[inline]
    pub fn observe(&self, hit: &Hit, tcp_flags: u8, now: u32) -> CtStatus {
        if hit.state.is_settled(hit.direction, tcp_flags, now) {
            CtStatus::Tracked
        } else {
            self.step(hit.flow, hit.direction, tcp_flags, now)
        }
    }

    /// One word decides, the Original half's track: this step against any other, and against expiry, which ends a
    /// connection by a swap of that same word. So no connection expires in spite of a packet that was tracked.
    #[inline(never)]
    fn step(&self, flow: FlowRef, direction: Direction, tcp_flags: u8, now: u32) -> CtStatus {
        let shared = &self.slots.half(flow.slot, Direction::Original).track;
        let Some(protocol) = self.slots.protocol(flow) else { return CtStatus::Gone };
        let mut track = self.slots.track(flow.slot);
        // Lock-free, and bounded: others change the word once for each flag and each second at most.
        let stepped = loop {
            if track.incarnation() != flow.incarnation {
                return CtStatus::Gone;
            }
            let state = track.state();
            if self.timeouts.expired(protocol, state, now) {
                let removed = self.remove_unchanged(flow, track);
                let current = self.slots.track(flow.slot);
                // Unchanged and not removed: too old before its insert was quite done.
                if removed || current == track {
                    return CtStatus::Gone;
                }
                track = current;
                continue;
            }
            if opens(tcp_flags) && state.is_closed() {
                return CtStatus::Reopen;
            }
            let next = Track::new(state.step(direction, tcp_flags, now), flow.incarnation);
            if next == track {
                break next;
            }
            match shared.compare_exchange(track.0, next.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    self.note_end(flow.slot, protocol, [state, next.state()], now);
                    break next;
                }
                Err(current) => track = Track(current),
            }
        };
        if direction == Direction::Reply {
            self.note_reply(flow, stepped);
        }
        CtStatus::Tracked
    }

    /// Sees to it that a connection whose life a packet has shortened is looked at in time. (How that meets a sweep that
    /// moves the deadline just now: `deadline.rs`.)
    fn note_end(&self, slot: u32, protocol: u8, [before, after]: [CtState; 2], now: u32) {
        if before.legs == after.legs {
            return;
        }
        let shortened = self.timeouts.of(protocol, after) < self.timeouts.of(protocol, before);
        if shortened || before.is_assured(protocol) && !after.is_assured(protocol) {
            fence(Ordering::SeqCst);
            self.deadlines.hasten(slot, self.due(protocol, after, now), now);
        }
    }

    /// Tells the Reply half what the connection is. One try: a copy that stays behind costs its next packet a step.
    fn note_reply(&self, flow: FlowRef, track: Track) {
        let copy = &self.slots.half(flow.slot, Direction::Reply).track;
        let old = copy.load(Ordering::Acquire);
        if incarnation(old) == flow.incarnation && old != track.0 {
            let _ = copy.compare_exchange(old, track.0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }
}
