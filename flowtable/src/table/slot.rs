//! Connection slots: the entries themselves, and the stack of those that are free.
//!
//! # Protocol of a slot
//!
//! A slot has an incarnation, 23 bits that only grow: even while a connection lives in it, odd while it is free.
//! `track` of the Original half is the connection: whoever moves it to the next incarnation by compare-and-swap has
//! ended the connection, exactly once, and owns the slot until it pushes it on the stack. Every word that changes
//! while a connection lives (`track`, `action`, `trails`) carries the incarnation and changes by compare-and-swap alone,
//! so that an update meant for a connection that is gone finds another incarnation and fails. To be fooled, a thread
//! would have to sleep between its load and its swap until that one slot has been reused exactly a multiple of 2^22
//! times.
//!
//! Readers take no lock. `ports` is the version word of a seqlock: the owner of a slot writes it odd before
//! (`clear`), and even after (`fill`), it writes the rest. Each of these stores is a release and each load but the
//! last an acquire: a reader that saw any word of a later life then sees, in its second look at `ports`, that life's
//! or its predecessor's end, and reports a miss. Words that the end changes before it writes `ports` odd (`action`,
//! `trails`) are read before `track`, which the end has changed first.
//!
//! The link of a free slot stands in `addresses`: that is a word which nobody but a slot's owner writes, so no late
//! update of a connection that is gone can take a link for its own word.

use crossbeam::utils::CachePadded;

use super::account::Accounts;
use super::action::{ActionWord, FlowAction};
use super::judged::{FlowTrails, TrailsWord};
use super::memory::Array;
use super::share::ShareId;
use super::track::Track;
use super::wide::WideAddresses;
use super::{FlowRef, Hit, Judged};
use crate::conntrack::{CtState, Direction};
use crate::key::{AnyKey, FlowKey, FlowKey6, Key, KeyWords};
use crate::sync::{AtomicU64, Ordering};

/// Bits of an incarnation: what `ports` has left.
const INCARNATION_BITS: u32 = u64::BITS - KeyWords::PORTS_BITS;
const INCARNATION: u32 = (1 << INCARNATION_BITS) - 1;

/// One direction of a connection: a cache line.
#[repr(align(64))]
pub(super) struct Half {
    /// Source and destination. Original half of a free slot: the next free slot, plus one.
    addresses: AtomicU64,
    /// Ports, protocol and family (41 bits), incarnation (23 bits).
    ports: AtomicU64,
    pub(super) action: AtomicU64,
    /// A [`Track`]. The Original half's is the connection's; the Reply half's is what its packets last saw of it, so
    /// that they need look at that other line only when they have something to write there.
    pub(super) track: AtomicU64,
    /// Flags (16 bits, room for a DSCP among them), the share that the connection is charged to (16 bits), and room for
    /// the ports that its packets get by NAT (32 bits). Fixed for the life of a connection.
    attributes: AtomicU64,
    /// Room for the addresses that its packets get by NAT, both: DNAT, SNAT, or the two together.
    _nat: AtomicU64,
    /// Room for the gateway that owns the flow, and its version there.
    _owner: AtomicU64,
    /// What admitted the connection: the same in both halves.
    pub(super) trails: AtomicU64,
}

/// The layout that a later version can count on finding in shared memory.
#[cfg(not(loom))]
const _: () = {
    use std::mem::offset_of;
    const NAT_PORT_BITS: u32 = 2 * u16::BITS;
    assert!(size_of::<Half>() == 64);
    assert!(offset_of!(Half, attributes) == 32 && FLAG_BITS + ShareId::BITS + NAT_PORT_BITS == u64::BITS);
    assert!(offset_of!(Half, _nat) == 40 && offset_of!(Half, _owner) == 48 && offset_of!(Half, trails) == 56);
};

const FLAG_BITS: u32 = u16::BITS;

impl Half {
    fn free(link: u64) -> Self {
        let first = AtomicU64::new;
        Self {
            addresses: first(link),
            ports: first(1),
            action: first(1),
            track: first(1),
            attributes: first(0),
            _nat: first(0),
            _owner: first(0),
            trails: first(1),
        }
    }
}

#[inline]
pub(super) fn incarnation(word: u64) -> u32 {
    word as u32 & INCARNATION
}

pub(super) fn is_live(incarnation: u32) -> bool {
    incarnation.is_multiple_of(2)
}

fn next(incarnation: u32) -> u32 {
    incarnation.wrapping_add(1) & INCARNATION
}

pub(super) struct Slots {
    /// Of slot n: the Original half at 2n, the Reply half at 2n + 1.
    halves: Array<Half>,
    pub(super) wide: WideAddresses,
    pub(super) accounts: Accounts,
    /// Head of the free stack: a count of changes (32 bits), and the slot on top plus one, or 0 (32 bits).
    free: CachePadded<AtomicU64>,
    live: CachePadded<AtomicU64>,
}

impl Slots {
    pub(super) fn new(connections: u32) -> Self {
        let link = |slot: u32| if slot + 1 < connections { u64::from(slot) + 2 } else { 0 };
        let halves = (0..connections).flat_map(|slot| [Half::free(link(slot)), Half::free(0)]);
        let halves = Array::new(2 * connections as usize, halves);
        let free = AtomicU64::new(u64::from(connections > 0));
        Self {
            halves,
            wide: WideAddresses::none(),
            accounts: Accounts::none(),
            free: CachePadded::new(free),
            live: CachePadded::new(AtomicU64::new(0)),
        }
    }

    pub(super) fn capacity(&self) -> u32 {
        (self.halves.len() / 2) as u32
    }

    pub(super) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed) as usize
    }

    #[inline]
    pub(super) fn half(&self, slot: u32, direction: Direction) -> &Half {
        &self.halves[2 * slot as usize + direction as usize]
    }

    #[inline]
    pub(super) fn track(&self, slot: u32) -> Track {
        Track(self.half(slot, Direction::Original).track.load(Ordering::Acquire))
    }

    /// Takes a free slot. The load of the link may see a slot that another thread has taken meanwhile, which holds that
    /// connection's addresses, and mean nothing; then the head has changed, and its count with it, so the swap fails even where the same slot is on top again.
    /// The caller owns the slot.
    pub(super) fn take(&self) -> Option<u32> {
        let mut head = self.free.load(Ordering::Acquire);
        loop {
            let slot = (head as u32).checked_sub(1)?;
            let link = self.half(slot, Direction::Original).addresses.load(Ordering::Relaxed);
            match self.free.compare_exchange_weak(
                head,
                changed(head) | link,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Some(slot),
                Err(now) => head = now,
            }
        }
    }

    /// Gives a slot that the caller owns back. The release of the swap hands on everything written to it; that of the
    /// link is for readers that still look at the connection which has ended.
    pub(super) fn give(&self, slot: u32) {
        let link = &self.half(slot, Direction::Original).addresses;
        let mut head = self.free.load(Ordering::Relaxed);
        loop {
            link.store(u64::from(head as u32), Ordering::Release);
            let new = changed(head) | u64::from(slot + 1);
            match self.free.compare_exchange_weak(head, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Writes a connection into a slot that the caller owns.
    pub(super) fn fill(
        &self,
        slot: u32,
        words: KeyWords,
        judged: Judged,
        share: ShareId,
        state: CtState,
    ) -> FlowRef {
        let incarnation = next(self.track(slot).incarnation());
        self.accounts.begin(slot, incarnation, state.last_seen);
        let trails = TrailsWord::new(FlowTrails::new(judged.trails), incarnation);
        let keys = [words, words.reversed()];
        for ((direction, action), key) in DIRECTIONS.into_iter().zip(judged.actions).zip(keys) {
            let half = self.half(slot, direction);
            let word = ActionWord::new(action.next_hop, action.generation, incarnation);
            half.addresses.store(key.addresses, Ordering::Release);
            half.action.store(word.0, Ordering::Release);
            half.trails.store(trails.0, Ordering::Release);
            half.track.store(Track::new(state, incarnation).0, Ordering::Release);
            half.attributes.store(attributes(&action, share), Ordering::Release);
            half.ports.store(key.ports << INCARNATION_BITS | u64::from(incarnation), Ordering::Release);
        }
        FlowRef { slot, incarnation }
    }

    /// Clears the slot of a connection that has ended. The caller owns it: it has moved `track` on, or it filled the
    /// slot and no valid word ever named it.
    pub(super) fn clear(&self, flow: FlowRef) {
        let odd = u64::from(next(flow.incarnation));
        for direction in DIRECTIONS {
            let half = self.half(flow.slot, direction);
            // Swaps, not stores: each takes its place after the updates that came before it, and makes those that
            // come after fail, so that `fill` writes where nobody else does.
            half.track.swap(odd, Ordering::AcqRel);
            half.action.swap(odd, Ordering::AcqRel);
            half.trails.swap(odd, Ordering::AcqRel);
            half.ports.store(odd, Ordering::Release);
        }
    }

    /// Ends the connection, if its track is still what it was. The one who succeeds owns the slot.
    pub(super) fn end(&self, flow: FlowRef, track: Track) -> Result<(), Track> {
        let odd = u64::from(next(flow.incarnation));
        let word = &self.half(flow.slot, Direction::Original).track;
        match word.compare_exchange(track.0, odd, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(()),
            Err(now) => Err(Track(now)),
        }
    }

    pub(super) fn count(&self, change: i64) {
        self.live.fetch_add(change.cast_unsigned(), Ordering::Relaxed);
    }

    /// The number of a half among all.
    #[inline]
    pub(super) const fn number(slot: u32, direction: Direction) -> u32 {
        2 * slot + direction as u32
    }

    /// The half of that number, if there is one.
    #[inline]
    pub(super) fn numbered(&self, number: u32) -> Option<&Half> {
        self.halves.get(number as usize)
    }

    /// The entry in the half of that number, if it is alive and its key is this.
    #[inline]
    pub(super) fn read(&self, number: u32, key: KeyWords, generation: u32) -> Option<Hit> {
        let half = self.numbered(number)?;
        let ports = half.ports.load(Ordering::Acquire);
        if ports >> INCARNATION_BITS != key.ports || half.addresses.load(Ordering::Acquire) != key.addresses {
            return None;
        }
        let action = ActionWord(half.action.load(Ordering::Acquire));
        let trails = TrailsWord(half.trails.load(Ordering::Acquire));
        let track = Track(half.track.load(Ordering::Acquire));
        let attributes = half.attributes.load(Ordering::Acquire);
        let incarnation = incarnation(ports);
        let whole = half.ports.load(Ordering::Relaxed) == ports
            && track.incarnation() == incarnation
            && is_live(incarnation);
        whole.then(|| Hit {
            flow: FlowRef { slot: number / 2, incarnation },
            direction: if number.is_multiple_of(2) { Direction::Original } else { Direction::Reply },
            action: FlowAction {
                next_hop: action.next_hop(),
                generation: action.generation(generation),
                flags: attributes as u16,
            },
            is_current: action.is_of(generation),
            trails: trails.trails(),
            state: track.state(),
        })
    }

    /// What the entry has of the key of the connection's first packet.
    pub(super) fn words(&self, flow: FlowRef) -> Option<KeyWords> {
        let half = self.half(flow.slot, Direction::Original);
        let ports = half.ports.load(Ordering::Acquire);
        let addresses = half.addresses.load(Ordering::Acquire);
        let whole = incarnation(ports) == flow.incarnation && half.ports.load(Ordering::Relaxed) == ports;
        whole.then_some(KeyWords { addresses, ports: ports >> INCARNATION_BITS })
    }

    /// The key of the connection's first packet.
    pub(super) fn key(&self, flow: FlowRef) -> Option<AnyKey> {
        let words = self.words(flow)?;
        if words.ports & KeyWords::IPV6 == 0 {
            return Some(FlowKey::from(words).into());
        }
        let wide = self.wide.get(flow.slot)?;
        self.is_still(flow).then(|| FlowKey6::from_words(wide, words.ports).into())
    }

    /// Whether the connection of the hit, whose words are the key's, has the key.
    #[inline]
    pub(super) fn has_key<K: Key>(&self, hit: &Hit, key: &K) -> bool {
        let key = if hit.direction == Direction::Original { *key } else { key.reversed() };
        key.wide().is_none_or(|wide| self.wide.get(hit.flow.slot) == Some(wide) && self.is_still(hit.flow))
    }

    /// Whether the slot was this connection's when the words were written that were loaded (acquired) before.
    pub(super) fn is_still(&self, flow: FlowRef) -> bool {
        let ports = self.half(flow.slot, Direction::Original).ports.load(Ordering::Relaxed);
        incarnation(ports) == flow.incarnation
    }

    /// The connection's protocol. `None` if it is gone, or if its slot is being filled: `fill` writes the track first.
    #[inline]
    pub(super) fn protocol(&self, flow: FlowRef) -> Option<u8> {
        let ports = self.half(flow.slot, Direction::Original).ports.load(Ordering::Acquire);
        (incarnation(ports) == flow.incarnation).then(|| FlowKey::protocol_of(ports >> INCARNATION_BITS))
    }

    pub(super) fn has_flags(&self, slot: u32, direction: Direction, action: &FlowAction) -> bool {
        self.half(slot, direction).attributes.load(Ordering::Acquire) as u16 == action.flags
    }

    /// The share that the slot's connection is charged to.
    pub(super) fn share(&self, slot: u32) -> ShareId {
        let attributes = self.half(slot, Direction::Original).attributes.load(Ordering::Acquire);
        (attributes >> FLAG_BITS) as ShareId
    }
}

pub(super) const DIRECTIONS: [Direction; 2] = [Direction::Original, Direction::Reply];

fn attributes(action: &FlowAction, share: ShareId) -> u64 {
    u64::from(share) << FLAG_BITS | u64::from(action.flags)
}

/// The head's count, one higher, beside an empty slot number.
fn changed(head: u64) -> u64 {
    (head >> 32).wrapping_add(1) << 32
}
