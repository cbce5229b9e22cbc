//! Slots: what is known of one datagram.
//!
//! `state` is the slot's life, and what it is in. Whoever moves it to `Filling` by compare-and-swap begins another life and
//! owns the slot until it is `Open`. The key is read as under a seqlock whose version is the life: the owner has moved the
//! state before it writes the key, so a reader that saw a word of a later key sees, in its second look at the state, a
//! later life. All other words carry (a part of) their life; the bits of what has come do so word by word, so that a new
//! life need not clear them: a word of another life counts as empty.

use std::ops::Range;

use margay_encap::{Part, Transport, parse};

use super::{DatagramKey, DatagramRef, Placed};
use crate::sync::{AtomicU64, Ordering, fence};

/// Counters of what senders hold.
#[cfg(not(loom))]
pub(super) const SHARES: u32 = 1 << 9;
#[cfg(loom)]
pub(super) const SHARES: u32 = 2;

/// Units of a datagram of 65,535 bytes, and of a word: the other half of it is its life.
#[cfg(not(loom))]
const UNITS: u32 = 8192;
#[cfg(loom)]
const UNITS: u32 = 64;
const WORD: u32 = 32;

/// A time, in 256 ms, of a clock that runs in a circle of three days; or the span between two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Age(pub(super) u32);

impl Age {
    const BITS: u32 = 20;
    pub(super) const SECOND: Self = Self(4);

    pub(super) fn of_clock(milliseconds: u64) -> Self {
        Self((milliseconds >> 8) as u32 & ((1 << Self::BITS) - 1))
    }

    pub(super) fn of_seconds(seconds: u32) -> Self {
        Self(seconds.saturating_mul(4).min(1 << (Self::BITS - 1)))
    }

    /// What has passed since then. Clocks of two workers may differ by a moment: what is ahead is no time ago.
    pub(super) fn since(self, then: Self) -> Self {
        let passed = self.0.wrapping_sub(then.0) & ((1 << Self::BITS) - 1);
        Self(if passed > (1 << Self::BITS) - 8 { 0 } else { passed })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Of no datagram.
    Free = 0,
    /// Its owner writes the key.
    Filling = 1,
    /// More of the datagram is to come.
    Open = 2,
    /// Parts of it contradict each other.
    Spoilt = 3,
    /// All of it has come. It stays known, for fragments that wait for what the first one said, until another needs the slot.
    Whole = 4,
}

/// Life (32 bits), share (9), when it began (20), phase (3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State(u64);

impl State {
    const PHASE: u64 = 7;

    pub(super) fn filling(life: u32, share: u32, born: Age) -> Self {
        Self(u64::from(life) << 32 | u64::from(share) << 23 | u64::from(born.0) << 3 | Phase::Filling as u64)
    }

    pub(super) fn with_phase(self, phase: Phase) -> Self {
        Self(self.0 & !Self::PHASE | phase as u64)
    }

    pub(super) fn life(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(super) fn share(self) -> u32 {
        (self.0 >> 23) as u32 & 0x1ff
    }

    pub(super) fn born(self) -> Age {
        Age((self.0 >> 3) as u32 & ((1 << Age::BITS) - 1))
    }

    pub(super) fn phase(self) -> Phase {
        match self.0 & Self::PHASE {
            0 => Phase::Free,
            1 => Phase::Filling,
            2 => Phase::Open,
            3 => Phase::Spoilt,
            _ => Phase::Whole,
        }
    }

    /// Whether the sender's share counts it.
    pub(super) fn is_charged(self) -> bool {
        matches!(self.phase(), Phase::Filling | Phase::Open | Phase::Spoilt)
    }
}

/// How far a datagram has come, in units: life (22 bits), units that have come (14), where it ends, 0 while that is not
/// known (14), where the furthest fragment ends (14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent(u64);

impl Extent {
    const FIELD: u64 = (1 << 14) - 1;

    fn new(life: u32, come: u64, end: u64, reach: u64) -> Self {
        Self(u64::from(life) << 42 | come << 28 | end << 14 | reach)
    }

    fn is_of(self, life: u32) -> bool {
        self.0 >> 42 == u64::from(life) & ((1 << 22) - 1)
    }

    fn come(self) -> u64 {
        self.0 >> 28 & Self::FIELD
    }

    fn end(self) -> u64 {
        self.0 >> 14 & Self::FIELD
    }

    fn reach(self) -> u64 {
        self.0 & Self::FIELD
    }

    pub(super) fn is_whole(self) -> bool {
        self.come() == self.end()
    }

    pub(super) fn is_contradictory(self) -> bool {
        self.end() != 0 && self.reach() > self.end()
    }
}

/// What became of a fragment's bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marked {
    New,
    /// All were there.
    Repeated,
    /// Some were there.
    Overlaps,
    /// The datagram is gone.
    Gone,
}

/// What a slot holds beside its state.
struct Datagram {
    key: [AtomicU64; KEY],
    /// Life (15 bits), whether the first fragment has come, type and code of ICMP, ports.
    transport: AtomicU64,
    extent: AtomicU64,
    /// A bit for each unit that has come, 32 to a word; the word's upper half is the life.
    units: [AtomicU64; (UNITS / WORD) as usize],
}

const KEY: usize = 5;

/// A key as a slot holds it.
pub(super) fn words(key: &DatagramKey) -> [u64; KEY] {
    let halves = |address: u128| [(address >> 64) as u64, address as u64];
    let ([a, b], [c, d]) = (halves(key.src), halves(key.dst));
    [a, b, c, d, u64::from(key.identification) << 8 | u64::from(key.protocol)]
}

const TRANSPORT_KNOWN: u64 = 1 << 48;

fn transport_word(life: u32) -> u64 {
    u64::from(life) << 49
}

pub(super) struct Slots {
    /// Apart, for one looks through many of them.
    states: Box<[AtomicU64]>,
    datagrams: Box<[Datagram]>,
}

impl Slots {
    pub(super) fn new(count: u32) -> Self {
        let zero = || AtomicU64::new(0);
        let datagram = || Datagram {
            key: std::array::from_fn(|_| zero()),
            transport: zero(),
            extent: zero(),
            units: std::array::from_fn(|_| zero()),
        };
        Self {
            states: (0..count).map(|_| zero()).collect(),
            datagrams: (0..count).map(|_| datagram()).collect(),
        }
    }

    pub(super) fn len(&self) -> u32 {
        self.states.len() as u32
    }

    pub(super) fn state(&self, slot: u32) -> State {
        State(self.states[slot as usize].load(Ordering::Acquire))
    }

    /// Moves the state on, if nobody else has.
    pub(super) fn swap(&self, slot: u32, old: State, new: State) -> bool {
        let state = &self.states[slot as usize];
        state.compare_exchange(old.0, new.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    fn datagram(&self, at: DatagramRef) -> &Datagram {
        &self.datagrams[at.slot as usize]
    }

    /// Writes the key of a life that its owner has just begun, and opens it.
    pub(super) fn fill(&self, at: DatagramRef, key: &DatagramKey, state: State) {
        let datagram = self.datagram(at);
        // Before the words of the key: who sees one of them sees the new life too.
        fence(Ordering::Release);
        for (place, word) in datagram.key.iter().zip(words(key)) {
            place.store(word, Ordering::Relaxed);
        }
        // Swaps, so that they come after whatever a late worker of the last life has swapped in.
        datagram.transport.swap(transport_word(at.life), Ordering::AcqRel);
        datagram.extent.swap(Extent::new(at.life, 0, 0, 0).0, Ordering::AcqRel);
        self.states[at.slot as usize].store(state.with_phase(Phase::Open).0, Ordering::Release);
    }

    /// Whether the datagram is the key's, and still there.
    pub(super) fn is_of(&self, at: DatagramRef, key: &DatagramKey) -> bool {
        let places = self.datagram(at).key.iter();
        let is_same = places.zip(words(key)).all(|(place, word)| place.load(Ordering::Relaxed) == word);
        fence(Ordering::Acquire);
        is_same && State(self.states[at.slot as usize].load(Ordering::Relaxed)).life() == at.life
    }

    /// Notes what bytes have come.
    pub(super) fn mark(&self, at: DatagramRef, part: Part) -> Marked {
        let units = units(part);
        if units.end > UNITS {
            return Marked::Overlaps;
        }
        let mut marked = None;
        for word in units.start / WORD..units.end.div_ceil(WORD) {
            let bits = bits(&units, word * WORD);
            let this = self.mark_word(at, word, bits);
            match (marked, this) {
                (_, Marked::Gone | Marked::Overlaps) => return this,
                (Some(before), this) if before != this => return Marked::Overlaps,
                _ => marked = Some(this),
            }
        }
        marked.unwrap_or(Marked::Repeated)
    }

    fn mark_word(&self, at: DatagramRef, word: u32, bits: u64) -> Marked {
        let place = &self.datagram(at).units[word as usize];
        let mut old = place.load(Ordering::Relaxed);
        loop {
            let life = (old >> 32) as u32;
            // Another life's: one that is over, or, as numbers in a circle compare (RFC 1982), one that came after.
            let come = if life == at.life { old & u64::from(u32::MAX) } else { 0 };
            if life != at.life && at.life.wrapping_sub(life).cast_signed() < 0 {
                return Marked::Gone;
            }
            match come & bits {
                0 => {}
                there if there == bits => return Marked::Repeated,
                _ => return Marked::Overlaps,
            }
            let new = u64::from(at.life) << 32 | come | bits;
            match place.compare_exchange_weak(old, new, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Marked::New,
                Err(changed) => old = changed,
            }
        }
    }

    /// Notes what the first fragment, whose bytes were marked just now, says.
    pub(super) fn learn(&self, at: DatagramRef, transport: Transport) {
        let Transport { ports_ne, icmp_type, icmp_code } = transport;
        let icmp = u16::from_be_bytes([icmp_type, icmp_code]);
        let unknown = transport_word(at.life);
        let known = unknown | TRANSPORT_KNOWN | u64::from(icmp) << 32 | u64::from(ports_ne);
        let place = &self.datagram(at).transport;
        // It fails where the datagram is gone.
        let _ = place.compare_exchange(unknown, known, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// What the first fragment said, if it has come.
    pub(super) fn transport(&self, at: DatagramRef) -> Placed {
        let word = self.datagram(at).transport.load(Ordering::Acquire);
        if word >> 49 != transport_word(at.life) >> 49 {
            Placed::Gone
        } else if word & TRANSPORT_KNOWN == 0 {
            Placed::Early(at)
        } else {
            let [icmp_type, icmp_code] = ((word >> 32) as u16).to_be_bytes();
            Placed::Known(Transport { ports_ne: word as u32, icmp_type, icmp_code })
        }
    }

    /// Notes how far the datagram has come by a fragment whose bits were new. `None`: it is gone.
    pub(super) fn extend(&self, at: DatagramRef, part: Part) -> Option<Extent> {
        let units = units(part);
        let place = &self.datagram(at).extent;
        let mut old = place.load(Ordering::Relaxed);
        loop {
            let extent = Extent(old);
            if !extent.is_of(at.life) {
                return None;
            }
            let come = extent.come() + u64::from(units.end - units.start);
            let (end, reach) = match extent.end() {
                0 if part.is_last => (u64::from(units.end), extent.reach().max(u64::from(units.end))),
                // A second end contradicts the first, wherever it is.
                end if part.is_last => (end, Extent::FIELD),
                end => (end, extent.reach().max(u64::from(units.end))),
            };
            let new = Extent::new(at.life, come, end, reach);
            match place.compare_exchange_weak(old, new.0, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Some(new),
                Err(changed) => old = changed,
            }
        }
    }
}

/// The units of 8 bytes that a fragment holds; of the last one some may not be full.
fn units(part: Part) -> Range<u32> {
    part.offset / parse::UNIT..part.end().div_ceil(parse::UNIT)
}

/// Those of the 32 units from `first` on that lie in the range, as bits.
fn bits(units: &Range<u32>, first: u32) -> u64 {
    let from = units.start.max(first) - first;
    let to = units.end.min(first + WORD) - first;
    (1 << to) - (1 << from)
}
