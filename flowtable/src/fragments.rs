//! Datagrams that come in fragments: which of their bytes have come, and what the first fragment said of the transport, so
//! that the others are of the same flow. One table for all workers, of fixed memory and lock-free: fragments of one
//! datagram arrive on different queues.
//!
//! A datagram is a slot (`slot.rs`), found by a bucket, one word that names up to two slots. It ends when all its bytes
//! have come, when it is older than the timeout, or when a new one finds no other place and this one is a second old. No
//! address that sends has more than its share of slots.
//!
//! # Interleavings
//!
//! Two workers that see the first fragments of one datagram at once meet at its bucket. A slot has a life (a number that
//! only grows), and a bucket names slot and life. The key of a life is written before the bucket names it, and does not
//! change. So what a worker reads of the slots that a bucket's word names holds as long as the word does: they are of
//! other datagrams, or their lives are over, for good. It puts its own slot there by compare-and-swap of the whole word;
//! if another has come between, that fails, and it looks again. Nobody takes a slot out of a bucket: a life that is over
//! stands there until another needs the place.
//!
//! What is known of a datagram carries the life as well and changes by compare-and-swap alone: what a late worker does to a
//! life that is over comes to nothing. To be fooled it would have to sleep while that one slot is used again a multiple of
//! 2^15 times (a bucket: 2^16).

mod bucket;
mod slot;

use std::fmt;
use std::hash::Hasher;
use std::net::{IpAddr, Ipv4Addr};

use margay_encap::{Part, Transport};
use siphasher::sip::SipHasher13;

use self::bucket::{Bucket, Name};
use self::slot::{Age, Marked, Phase, Slots, State};
use crate::sync::{AtomicU32, Ordering};

/// What all fragments of a datagram share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DatagramKey {
    /// Addresses as IPv6 has them; IPv4's are mapped.
    pub src: u128,
    pub dst: u128,
    pub identification: u32,
    /// Of IPv6, 0.
    pub protocol: u8,
}

impl DatagramKey {
    /// `protocol` counts for IPv4 alone: of IPv6 the first fragment says what follows, and no other has to (RFC 8200 4.5).
    pub fn new(src: IpAddr, dst: IpAddr, identification: u32, protocol: u8) -> Self {
        let bits = |address| match address {
            IpAddr::V4(address) => Ipv4Addr::to_ipv6_mapped(&address).to_bits(),
            IpAddr::V6(address) => address.to_bits(),
        };
        let protocol = if src.is_ipv6() { 0 } else { protocol };
        Self { src: bits(src), dst: bits(dst), identification, protocol }
    }
}

/// A datagram in the table. Stays harmless when the datagram is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramRef {
    slot: u32,
    life: u32,
}

/// What becomes of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// It is of the flow that this belongs to.
    Known(Transport),
    /// The first fragment has not come yet: [`Fragments::transport`] tells when it has.
    Early(DatagramRef),
    /// Some of its bytes had come before; or it, or another before it, contradicts the rest of its datagram.
    Overlaps,
    /// There is no room for one more datagram, or the sender has its share of it.
    Full,
    /// The datagram has given way to another.
    Gone,
}

/// Slots that a new datagram looks through for a place.
#[cfg(not(loom))]
const LOOKS: u32 = 64;
#[cfg(loom)]
const LOOKS: u32 = 2;
/// How often a datagram that another comes before looks at its bucket again. Past that the table counts as full.
const ATTEMPTS: usize = 8;

pub struct Fragments {
    secret: [u64; 2],
    buckets: Box<[Bucket]>,
    slots: Slots,
    /// Datagrams that have not come whole, by the sender's hash.
    held: Box<[AtomicU32]>,
    /// How many of them a sender may have.
    share: u32,
    timeout: Age,
}

impl fmt::Debug for Fragments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fragments")
            .field("len", &self.len())
            .field("capacity", &self.slots.len())
            .finish_non_exhaustive()
    }
}

impl Fragments {
    /// Datagrams that a table can hold at most.
    pub const MAX_DATAGRAMS: u32 = (1 << 16) - 1;

    /// A table for so many datagrams that have not come whole, 2.2 kB each; one sender has a quarter of them at most. A
    /// datagram is given up when `timeout` seconds have passed since a fragment of it came first. `secret` is from the
    /// system's entropy, so that nobody can choose keys that collide.
    pub fn new(datagrams: u32, secret: [u64; 2], timeout: u32) -> Self {
        let datagrams = datagrams.clamp(1, Self::MAX_DATAGRAMS);
        Self {
            secret,
            // Mostly empty, so that three seldom meet in one.
            buckets: (0..4 * datagrams).map(|_| Bucket::default()).collect(),
            slots: Slots::new(datagrams),
            held: (0..slot::SHARES).map(|_| AtomicU32::new(0)).collect(),
            share: (datagrams / 4).max(1),
            timeout: Age::of_seconds(timeout),
        }
    }

    /// Datagrams that have not come whole; a moment's value while workers run.
    pub fn len(&self) -> usize {
        self.held.iter().map(|held| held.load(Ordering::Relaxed) as usize).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Notes a fragment that came in at `now`, in milliseconds. The first one, at offset 0, comes with what it says of the
    /// transport.
    ///
    /// Of fragments that overlap no two get another answer than `Overlaps`, on whatever workers.
    pub fn place(&self, key: &DatagramKey, part: Part, first: Option<Transport>, now: u64) -> Placed {
        let now = Age::of_clock(now);
        let Some(at) = self.find_or_enter(key, now) else { return Placed::Full };
        match self.slots.mark(at, part) {
            Marked::New => {}
            // The network repeats packets: what is repeated is dropped, and the datagram stands.
            Marked::Repeated => return Placed::Overlaps,
            Marked::Overlaps => return self.spoil(at),
            Marked::Gone => return Placed::Gone,
        }
        // Before the datagram can be whole, and its slot another's.
        if let Some(transport) = first {
            self.slots.learn(at, transport);
        }
        match self.slots.extend(at, part) {
            Some(extent) if extent.is_contradictory() => return self.spoil(at),
            Some(extent) if extent.is_whole() => self.finish(at, Phase::Whole),
            Some(_) => {}
            None => return Placed::Gone,
        }
        self.transport(at)
    }

    /// The same answer for a fragment that came before the first one, as it is by now.
    pub fn transport(&self, at: DatagramRef) -> Placed {
        let state = self.slots.state(at.slot);
        match state.phase() {
            _ if state.life() != at.life => Placed::Gone,
            Phase::Open | Phase::Whole => self.slots.transport(at),
            Phase::Spoilt => Placed::Overlaps,
            Phase::Free | Phase::Filling => Placed::Gone,
        }
    }

    /// No further fragment of the datagram passes (RFC 5722 asks the same of its receiver).
    fn spoil(&self, at: DatagramRef) -> Placed {
        self.finish(at, Phase::Spoilt);
        Placed::Overlaps
    }

    fn finish(&self, at: DatagramRef, phase: Phase) {
        let state = self.slots.state(at.slot);
        if state.life() == at.life
            && state.phase() == Phase::Open
            && self.slots.swap(at.slot, state, state.with_phase(phase))
            && phase == Phase::Whole
        {
            self.uncharge(state.share());
        }
    }

    /// The datagram of the key, which begins here if there is none that goes on.
    fn find_or_enter(&self, key: &DatagramKey, now: Age) -> Option<DatagramRef> {
        let hash = self.hash(key);
        let bucket = &self.buckets[scale((hash >> 32) as u32, self.buckets.len() as u32) as usize];
        let mut own = None;
        let mut word = bucket.load();
        for _ in 0..ATTEMPTS {
            let names = word.names();
            if let Some(found) = names.into_iter().flatten().find_map(|name| self.goes_on(name, key, now)) {
                self.give_back(own);
                return Some(found);
            }
            let spare = |name: &Option<Name>| name.is_none_or(|name| self.is_spare(name));
            let old = |name: &Option<Name>| name.is_none_or(|name| self.is_old(name, now));
            let Some(place) = names.iter().position(spare).or_else(|| names.iter().position(old)) else {
                break;
            };
            own = own.or_else(|| self.begin(key, hash as u32, now));
            let Some(at) = own else {
                // Another worker may have begun the same datagram meanwhile, with the sender's last slot.
                let changed = bucket.load();
                if changed == word {
                    break;
                }
                word = changed;
                continue;
            };
            match bucket.put(word, place, Name::of(at)) {
                Ok(()) => {
                    self.leave(names[place]);
                    return Some(at);
                }
                Err(changed) => word = changed,
            }
        }
        self.give_back(own);
        None
    }

    /// The datagram of this name, if it is the key's and more of it is to come.
    fn goes_on(&self, name: Name, key: &DatagramKey, now: Age) -> Option<DatagramRef> {
        let state = self.slots.state(name.slot());
        let goes_on = matches!(state.phase(), Phase::Open | Phase::Spoilt)
            && name.is_of(state.life())
            && !self.is_over(state, now);
        let at = DatagramRef { slot: name.slot(), life: state.life() };
        (goes_on && self.slots.is_of(at, key)).then_some(at)
    }

    /// Whether nothing more is to come of what this names.
    fn is_spare(&self, name: Name) -> bool {
        let state = self.slots.state(name.slot());
        !name.is_of(state.life()) || matches!(state.phase(), Phase::Free | Phase::Whole)
    }

    /// Whether another may have the place of this name in its bucket.
    fn is_old(&self, name: Name, now: Age) -> bool {
        now.since(self.slots.state(name.slot()).born()) >= Age::SECOND
    }

    fn is_over(&self, state: State, now: Age) -> bool {
        now.since(state.born()) > self.timeout
    }

    /// Takes a slot for a datagram that begins, and writes its key.
    fn begin(&self, key: &DatagramKey, start: u32, now: Age) -> Option<DatagramRef> {
        let share = self.share_of(key);
        let is_charged = self.charge(share);
        let taken = self.take(start, share, is_charged, now);
        match taken {
            Some((at, state)) => self.slots.fill(at, key, state),
            None if is_charged => self.uncharge(share),
            None => {}
        }
        taken.map(|(at, _)| at)
    }

    /// Takes a slot that can be spared for a datagram of this sender, which has been charged or takes over the charge of
    /// another of its own. Tries again where another worker takes it first, as one after the same datagram does.
    fn take(&self, start: u32, share: u32, is_charged: bool, now: Age) -> Option<(DatagramRef, State)> {
        for _ in 0..ATTEMPTS {
            let (slot, old) = self.find_spare(start, share, is_charged, now)?;
            let state = State::filling(old.life().wrapping_add(1), share, now);
            if self.slots.swap(slot, old, state) {
                if is_charged && old.is_charged() {
                    self.uncharge(old.share());
                }
                return Some((DatagramRef { slot, life: state.life() }, state));
            }
        }
        None
    }

    /// A slot that is free or whose datagram has come whole or is over; else that of the oldest that is a second old. Of a
    /// sender that has its share: one of its own.
    fn find_spare(&self, start: u32, share: u32, is_charged: bool, now: Age) -> Option<(u32, State)> {
        let count = self.slots.len();
        let first = scale(start, count);
        let mut best: Option<(u32, u32, State)> = None;
        for slot in (0..count.min(LOOKS)).map(|step| (first + step) % count) {
            let state = self.slots.state(slot);
            let may_go = is_charged || state.is_charged() && state.share() == share;
            let rank = if may_go { self.rank(state, now) } else { 0 };
            if rank > best.map_or(0, |(best, ..)| best) {
                best = Some((rank, slot, state));
            }
            if may_go && state.phase() == Phase::Free {
                break;
            }
        }
        best.map(|(_, slot, state)| (slot, state))
    }

    /// How well a slot can be spared; 0: not at all.
    fn rank(&self, state: State, now: Age) -> u32 {
        let age = now.since(state.born());
        match state.phase() {
            Phase::Free => 3 << 24,
            Phase::Whole => 2 << 24 | age.0,
            Phase::Filling => 0,
            _ if age > self.timeout => 2 << 24 | age.0,
            _ if age >= Age::SECOND => 1 << 24 | age.0,
            _ => 0,
        }
    }

    /// Frees the slot of a datagram that no bucket has named.
    fn give_back(&self, own: Option<DatagramRef>) {
        self.leave(own.map(Name::of));
    }

    /// Frees the slot of a datagram that no bucket names any more, if more of it was to come. (One that came whole stays known
    /// to fragments that wait.)
    fn leave(&self, name: Option<Name>) {
        let Some(name) = name else { return };
        let state = self.slots.state(name.slot());
        if name.is_of(state.life())
            && matches!(state.phase(), Phase::Open | Phase::Spoilt)
            && self.slots.swap(name.slot(), state, state.with_phase(Phase::Free))
        {
            self.uncharge(state.share());
        }
    }

    fn charge(&self, share: u32) -> bool {
        let held = &self.held[share as usize];
        held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            (held < self.share).then_some(held + 1)
        })
        .is_ok()
    }

    fn uncharge(&self, share: u32) {
        self.held[share as usize].fetch_sub(1, Ordering::Relaxed);
    }

    fn hash(&self, key: &DatagramKey) -> u64 {
        let [a, b] = self.secret;
        let mut hasher = SipHasher13::new_with_keys(a, b);
        for word in slot::words(key) {
            hasher.write_u64(word);
        }
        hasher.finish()
    }

    fn share_of(&self, key: &DatagramKey) -> u32 {
        let [a, b] = self.secret;
        let mut hasher = SipHasher13::new_with_keys(b, a);
        hasher.write_u128(key.src);
        scale(hasher.finish() as u32, slot::SHARES)
    }
}

/// A number below `count`, in proportion to the bits of a hash.
fn scale(bits: u32, count: u32) -> u32 {
    ((u64::from(bits) * u64::from(count)) >> 32) as u32
}
