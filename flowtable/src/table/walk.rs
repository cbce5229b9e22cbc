//! A walk over all connections, for people who ask: it takes no lock, and no worker notices but by the memory that it reads.
//!
//! It goes by slots. A connection keeps its slot as long as it lives, so a walk that is left off at a slot and taken up
//! there later comes to each connection that lives throughout exactly once. What comes or goes meanwhile it may meet or not.
//!
//! # What is whole
//!
//! Each word of an entry that may change carries the incarnation of the connection that it is of, and the key is read as
//! lookups read it (`slot.rs`); words of one incarnation are one connection's, and others make the walk pass the slot over.
//! They may be of different moments of its life. Slots without a connection are told by their deadlines, of which a cache
//! line has 32: a deadline is written before its connection can be found, and `FREE` again after its end.
//!
//! Two workers that enter one connection at once fill a slot each, of which one is given back at once: a walk that comes
//! by just then may meet both.

use std::ops::Range;

use super::action::ActionWord;
use super::deadline::Due;
use super::judged::{FlowTrails, TrailsWord};
use super::slot::{DIRECTIONS, incarnation, is_live};
use super::{FlowRef, FlowTable};
use crate::conntrack::{CtState, Direction};
use crate::key::{AnyKey, Key};
use crate::sync::Ordering;

/// A connection as a walk meets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    pub flow: FlowRef,
    /// Key of the Original direction.
    pub key: AnyKey,
    pub state: CtState,
    /// Next hops of packets of the Original and of the Reply direction, in the snapshot that judged it last.
    pub next_hops: [u32; 2],
    /// What admitted it, on egress and ingress ([`Judged::trails`](super::Judged::trails)).
    pub trails: FlowTrails,
}

impl FlowRef {
    /// Where the connection stands: below [`FlowTable::capacity`], its own while it lives.
    pub fn slot(self) -> u32 {
        self.slot
    }
}

impl FlowTable {
    /// All connections, each as it is when the iterator comes to it.
    pub fn flows(&self) -> impl Iterator<Item = Flow> {
        self.flows_in(0..self.slots.capacity())
    }

    /// Those in these slots, in order.
    pub fn flows_in(&self, slots: Range<u32>) -> impl Iterator<Item = Flow> {
        let end = slots.end.min(self.slots.capacity());
        let taken = (slots.start..end).filter(|slot| self.deadlines.get(*slot) != Due::FREE);
        taken.filter_map(|slot| self.flow_in(slot))
    }

    fn flow_in(&self, slot: u32) -> Option<Flow> {
        let track = self.slots.track(slot);
        let flow = FlowRef { slot, incarnation: track.incarnation() };
        if !is_live(flow.incarnation) {
            return None;
        }
        let key = self.slots.key(flow)?;
        let actions = DIRECTIONS.map(|way| self.slots.half(slot, way).action.load(Ordering::Acquire));
        let trails = self.slots.half(slot, Direction::Original).trails.load(Ordering::Acquire);
        let is_whole =
            [actions[0], actions[1], trails].iter().all(|word| incarnation(*word) == flow.incarnation);
        is_whole.then(|| Flow {
            flow,
            key,
            state: track.state(),
            next_hops: actions.map(|word| ActionWord(word).next_hop()),
            trails: TrailsWord(trails).trails(),
        })
    }

    /// How long the connection is kept if no packet comes, in seconds after the last one.
    pub fn timeout(&self, flow: &Flow) -> u32 {
        self.timeouts.of(flow.key.protocol(), flow.state)
    }

    /// Whether it counts what connections carry.
    pub fn keeps_accounts(&self) -> bool {
        self.slots.accounts.get(FlowRef { slot: 0, incarnation: 0 }).is_some()
    }
}
