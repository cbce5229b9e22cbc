//! Slots come and go: taken for a connection that is charged to its owner's share, and given back when it has ended.

use super::ends::End;
use super::index::{Position, Word};
use super::share::{ShareId, Shares};
use super::track::Track;
use super::{FlowRef, FlowTable, Insert};
use crate::key::FlowKey;

impl FlowTable {
    /// A slot for a connection of this share, which is charged for it.
    pub(super) fn acquire(&self, share: ShareId, now: u32) -> Result<u32, Insert> {
        let charge = || self.shares.as_ref().is_none_or(|shares| shares.charge(share));
        if !charge() {
            // Room within the share.
            let slot = self.evict(Some(share), now).ok_or(Insert::ShareSpent)?;
            if charge() {
                return Ok(slot);
            }
            // Another insert of the share was charged first.
            self.slots.give(slot);
            return Err(Insert::ShareSpent);
        }
        self.slots.take().or_else(|| self.evict(None, now)).ok_or_else(|| {
            self.uncharge(share);
            Insert::Full
        })
    }

    pub(super) fn share_of(&self, owner: u32) -> ShareId {
        let key = FlowKey { src: owner, dst: 0, sport: 0, dport: 0, protocol: 0 };
        self.shares.as_ref().map_or(0, |_| Shares::id(self.hash(&key)))
    }

    pub(super) fn uncharge(&self, share: ShareId) {
        self.shares.iter().for_each(|shares| shares.uncharge(share));
    }

    /// Connections that count in the owner's share; 0 where there are no shares.
    pub fn share_held(&self, owner: u32) -> u32 {
        self.shares.as_ref().map_or(0, |shares| shares.held(self.share_of(owner)))
    }

    /// Ends a connection. False if it has ended already (or was never quite inserted).
    pub fn remove(&self, flow: FlowRef) -> bool {
        let Some((hash, position, word)) = self.locate(flow) else { return false };
        let mut track = self.slots.track(flow.slot);
        // Lock-free: the swap fails only when a packet has stepped the connection, which it does a few times at most.
        while track.incarnation() == flow.incarnation {
            match self.slots.end(flow, track) {
                Ok(()) => {
                    self.note_ended(flow, track, End::Removed);
                    self.bury(flow, hash, position, word);
                    self.slots.give(flow.slot);
                    return true;
                }
                Err(now) => track = now,
            }
        }
        false
    }

    /// Ends a connection that has expired if no packet has stepped it since `track` was read.
    pub(super) fn remove_unchanged(&self, flow: FlowRef, track: Track) -> bool {
        let Some(slot) = self.end_unchanged(flow, track, End::Expired) else { return false };
        self.slots.give(slot);
        true
    }

    /// The same, for whatever reason; the slot is then the caller's.
    pub(super) fn end_unchanged(&self, flow: FlowRef, track: Track, why: End) -> Option<u32> {
        let (hash, position, word) = self.locate(flow)?;
        self.slots.end(flow, track).ok()?;
        self.note_ended(flow, track, why);
        self.bury(flow, hash, position, word);
        Some(flow.slot)
    }

    /// The valid word that names the slot, found by the key that stands there. If `Slots::end` succeeds after this, it
    /// is the connection's: the slot was in this incarnation when the key was read and still is, and an incarnation
    /// has one valid word, which stays until whoever ends the connection takes it out.
    pub(super) fn locate(&self, flow: FlowRef) -> Option<(u64, Position, Word)> {
        let (hash, _) = self.hash.hash_words(self.slots.words(flow)?);
        let named =
            |position, word: Word| (word.is_valid() && word.slot() == flow.slot).then_some((position, word));
        self.index.find(hash, named).map(|(position, word)| (hash, position, word))
    }

    /// Takes an ended connection out of the index before its slot can be used again. Readers that hold its word find
    /// another incarnation in the slot.
    pub(super) fn bury(&self, flow: FlowRef, hash: u64, position: Position, word: Word) {
        self.index.release(hash, position, word);
        self.slots.count(-1);
        self.clear(flow);
    }

    /// Gives up a connection that never was quite inserted.
    pub(super) fn retire(&self, flow: FlowRef) {
        self.clear(flow);
        self.slots.give(flow.slot);
    }

    /// Empties the slot of a connection whose end the caller has made: so its share is given back once.
    pub(super) fn clear(&self, flow: FlowRef) {
        self.deadlines.clear(flow.slot);
        self.uncharge(self.slots.share(flow.slot));
        self.slots.clear(flow);
    }
}
