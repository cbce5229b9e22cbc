//! The taps of one worker, and which packets of the burst at hand they are about.

use std::time::Duration;

use arrayvec::ArrayVec;
use margay_flowtable::PortId;

use super::{End, Fate, Leaving, Sight, Steps, TAPS, Tap, TapId};
use crate::frame::BURST;

/// Whose packet it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tapped {
    number: u64,
    /// A bit for each tap.
    by: u8,
}

const _: () = assert!(TAPS <= u8::BITS as usize);

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    tapped: Tapped,
    steps: Steps,
}

/// The slot behind those of a burst: of a packet that is in none.
const ASIDE: usize = BURST;

#[derive(Debug)]
pub(crate) struct Taps {
    all: ArrayVec<Box<Tap>, TAPS>,
    /// As the burst, and one more.
    slots: Box<[Slot; BURST + 1]>,
    /// The slot of the packet at hand.
    hand: usize,
    /// Number of the last packet that was tapped.
    last: u64,
    /// When this turn began, since 1970.
    now: Duration,
}

impl Default for Taps {
    fn default() -> Self {
        Self {
            all: ArrayVec::new(),
            slots: Box::new([Slot::default(); BURST + 1]),
            hand: ASIDE,
            last: 0,
            now: Duration::ZERO,
        }
    }
}

impl Taps {
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        !self.all.is_empty()
    }

    /// Gives the tap back where there are too many.
    pub(crate) fn add(&mut self, tap: Box<Tap>) -> Result<(), Box<Tap>> {
        self.all.try_push(tap).map_err(arrayvec::CapacityError::element)
    }

    /// Takes a tap out of its place. Whoever keeps a [`Tapped`] has it go [without](Tapped::without) that.
    pub(crate) fn remove(&mut self, id: TapId) -> Option<(usize, Box<Tap>)> {
        let at = self.all.iter().position(|tap| tap.id == id)?;
        for slot in self.slots.iter_mut() {
            slot.tapped = slot.tapped.without(at);
        }
        Some((at, self.all.remove(at)))
    }

    pub(crate) fn pop(&mut self) -> Option<Box<Tap>> {
        self.all.pop()
    }

    pub(crate) fn set_time(&mut self, now: Duration) {
        self.now = now;
    }

    /// A packet comes in, in this slot of its burst.
    pub(crate) fn enter(&mut self, slot: usize, port: PortId, bytes: &[u8], vxlan_port: u16) {
        let sight = Sight { at: self.now, port, bytes, vxlan_port };
        let mut tapped = Tapped { number: self.last + 1, by: 0 };
        for (at, tap) in self.all.iter_mut().enumerate() {
            if tap.matches(&sight) && tap.enter(tapped.number, &sight) {
                tapped.by |= 1 << at;
            }
        }
        self.last += u64::from(tapped.by != 0);
        self.slots[slot] = Slot { tapped, steps: Steps::default() };
    }

    /// What follows is of the packet in this slot.
    pub(crate) fn turn_to(&mut self, slot: usize) {
        self.hand = slot;
    }

    /// What follows is of this packet, which is in no burst.
    pub(crate) fn turn_aside_to(&mut self, tapped: Tapped) {
        self.put(ASIDE, tapped);
        self.hand = ASIDE;
    }

    /// The slot's packet leaves a burst of so many; those behind it move up.
    pub(crate) fn take(&mut self, slot: usize, len: usize) -> Tapped {
        let tapped = self.slots[slot].tapped;
        self.slots.copy_within(slot + 1..len, slot);
        tapped
    }

    /// The packet is in that slot now.
    pub(crate) fn put(&mut self, slot: usize, tapped: Tapped) {
        self.slots[slot] = Slot { tapped, steps: Steps::default() };
    }

    /// Where to note the steps of the packet in this slot, if anyone wants them.
    pub(crate) fn steps(&mut self, slot: usize) -> Option<&mut Steps> {
        let slot = &mut self.slots[slot];
        (slot.tapped.by != 0).then_some(&mut slot.steps)
    }

    /// A frame is about to leave because of the packet at hand, which may match by this alone.
    #[cold]
    pub(crate) fn leave(&mut self, port: PortId, bytes: &[u8], vxlan_port: u16, leaving: Leaving) {
        let sight = Sight { at: self.now, port, bytes, vxlan_port };
        let tapped = &mut self.slots[self.hand].tapped;
        if tapped.by == 0 {
            self.last += 1;
            tapped.number = self.last;
        }
        for (at, tap) in self.all.iter_mut().enumerate() {
            let bit = 1 << at;
            if tapped.by & bit == 0 && tap.matches(&sight) && tap.begin(sight.at) {
                tapped.by |= bit;
            }
            if tapped.by & bit != 0 {
                tap.leave(tapped.number, &sight, leaving);
            }
        }
    }

    /// Whether that frame is on its way.
    pub(crate) fn settle(&mut self, is_sent: bool) {
        self.all.iter_mut().for_each(|tap| tap.settle(is_sent));
    }

    /// What became of the packet at hand, of which nothing more follows.
    pub(crate) fn end(&mut self, fate: Fate) {
        let slot = &mut self.slots[self.hand];
        let Tapped { number, by } = std::mem::take(&mut slot.tapped);
        let end = End { fate, steps: slot.steps };
        for (_, tap) in self.all.iter_mut().enumerate().filter(|(at, _)| by & 1 << at != 0) {
            tap.end(number, &end);
        }
    }
}

impl Tapped {
    /// Once the tap at this place has gone, and those behind it have moved up.
    pub(crate) fn without(self, at: usize) -> Self {
        let below = (1u8 << at) - 1;
        Self { by: self.by & below | self.by >> 1 & !below, ..self }
    }
}
