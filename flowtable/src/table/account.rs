//! What connections have carried: packets and bytes of each direction, and when each began. Apart from the entries, which
//! have no room: 32 bytes a connection for both directions, in one half of a cache line, and 4 for its first second.
//!
//! # Who writes it
//!
//! The owner of a slot, when it fills it (`begin`); then every packet that is let through (`count`), by loads and stores. A
//! locked addition would cost a packet more than all the rest of its lookup in a cache that is warm, and a direction of a
//! connection comes to one worker: so two that count the same direction at once, as while its queue changes, may count what
//! one of them has not seen of the other, and lose some packets of that moment. Nothing else is lost, and nothing is counted
//! twice.
//!
//! No packet counts for another connection. Each word has, beside its number, 12 bits of the connection's incarnation. An
//! update reads one word and writes that word, with the life that it read: what a worker writes that has stood still while
//! the slot changed hands is of the life before, and nobody takes it for this one's. The next packet of this one finds a
//! word of an earlier life, and begins at nothing again; a late packet finds one of a later life, and lets it be. To be
//! fooled, a worker would have to stand still between a load and its store until that slot had been used again a multiple
//! of 4096 times.

use super::memory::Array;
use super::{DIRECTIONS, FlowRef, FlowTable, Hit};
use crate::conntrack::Direction;
use crate::prefetch::touch;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// IP packets that went one way, and their bytes without tunnel headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Traffic {
    pub packets: u64,
    pub bytes: u64,
}

/// What a connection has carried. Numbers are of 52 bits: bytes begin anew after 4.5 petabytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowCounts {
    /// The second, of the clock that packets are told, in which the connection was entered.
    pub started: u32,
    /// Of packets that go as the first one did.
    pub original: Traffic,
    pub reply: Traffic,
}

/// Bits of a life in a word.
const LIFE_BITS: u32 = 12;
const LIFE: u64 = (1 << LIFE_BITS) - 1;

/// The life of an incarnation that is alive, which is even.
#[inline(always)]
fn life(incarnation: u32) -> u64 {
    u64::from(incarnation >> 1) & LIFE
}

/// One direction: both words have a number (52 bits) and the life that it is of (12 bits).
struct Count {
    packets: AtomicU64,
    bytes: AtomicU64,
}

/// By [`Direction`].
#[repr(align(32))]
struct Account([Count; 2]);

#[cfg(not(loom))]
const _: () = assert!(size_of::<Account>() == 32);

impl Account {
    fn new() -> Self {
        Self(std::array::from_fn(|_| Count { packets: AtomicU64::new(0), bytes: AtomicU64::new(0) }))
    }
}

impl Count {
    #[inline(always)]
    fn add(&self, life: u64, bytes: u64) {
        let words = [&self.packets, &self.bytes].map(|word| word.load(Ordering::Relaxed));
        if ((words[0] ^ life) | (words[1] ^ life)) & LIFE == 0 {
            self.packets.store(words[0].wrapping_add(1 << LIFE_BITS), Ordering::Relaxed);
            self.bytes.store(words[1].wrapping_add(bytes << LIFE_BITS), Ordering::Relaxed);
        } else {
            add_to_other(&self.packets, life, 1);
            add_to_other(&self.bytes, life, bytes);
        }
    }

    fn of(&self, life: u64) -> Traffic {
        let number = |word: &AtomicU64| {
            let word = word.load(Ordering::Relaxed);
            if word & LIFE == life { word >> LIFE_BITS } else { 0 }
        };
        Traffic { packets: number(&self.packets), bytes: number(&self.bytes) }
    }
}

/// Adds to a word that may be of another life: of an earlier one, it begins anew; of a later one, the packet is too late.
#[cold]
fn add_to_other(word: &AtomicU64, life: u64, number: u64) {
    let old = word.load(Ordering::Relaxed);
    let ahead = life.wrapping_sub(old) & LIFE;
    if ahead == 0 {
        word.store(old.wrapping_add(number << LIFE_BITS), Ordering::Relaxed);
    } else if ahead <= LIFE / 2 {
        word.store(number << LIFE_BITS | life, Ordering::Relaxed);
    }
}

pub(super) struct Accounts {
    accounts: Array<Account>,
    started: Array<AtomicU32>,
}

impl Accounts {
    /// Of a table that keeps none.
    pub(super) fn none() -> Self {
        Self::new(0)
    }

    pub(super) fn new(connections: u32) -> Self {
        let len = connections as usize;
        Self {
            accounts: Array::new(len, std::iter::repeat_with(Account::new)),
            started: Array::new(len, std::iter::repeat_with(|| AtomicU32::new(0))),
        }
    }

    /// Has the slot's account come.
    #[inline(always)]
    pub(super) fn touch(&self, slot: u32) {
        if let Some(account) = self.accounts.get(slot as usize) {
            touch(account);
        }
    }

    /// By the owner of the slot, before it writes that the connection lives.
    pub(super) fn begin(&self, slot: u32, incarnation: u32, now: u32) {
        let Some(account) = self.accounts.get(slot as usize) else { return };
        self.started[slot as usize].store(now, Ordering::Release);
        for word in account.0.iter().flat_map(|count| [&count.packets, &count.bytes]) {
            word.store(life(incarnation), Ordering::Relaxed);
        }
    }

    #[inline(always)]
    fn count(&self, flow: FlowRef, way: Direction, bytes: u16) {
        if let Some(account) = self.accounts.get(flow.slot as usize) {
            account.0[way as usize].add(life(flow.incarnation), bytes.into());
        }
    }

    /// What stands in the slot's account for this connection. The caller sees to it that the connection is the slot's.
    pub(super) fn get(&self, flow: FlowRef) -> Option<FlowCounts> {
        let account = self.accounts.get(flow.slot as usize)?;
        let started = self.started[flow.slot as usize].load(Ordering::Acquire);
        let [original, reply] = DIRECTIONS.map(|way| account.0[way as usize].of(life(flow.incarnation)));
        Some(FlowCounts { started, original, reply })
    }
}

impl FlowTable {
    /// The same table, still empty, which counts what connections carry ([`FlowTable::counts`]).
    #[must_use]
    pub fn with_accounting(mut self) -> Self {
        self.slots.accounts = Accounts::new(self.slots.capacity());
        self
    }

    /// Counts a packet of so many bytes that the connection carries. Nothing happens where the table keeps no accounts.
    #[inline(always)]
    pub fn count(&self, hit: &Hit, bytes: u16) {
        self.count_way(hit.flow, hit.direction, bytes);
    }

    /// The same of a packet that goes this way.
    #[inline(always)]
    pub fn count_way(&self, flow: FlowRef, way: Direction, bytes: u16) {
        self.slots.accounts.count(flow, way, bytes);
    }

    /// What the connection has carried, as of about now: packets that are counted just now may be missing. `None` if it is
    /// gone, or if the table keeps no accounts. Takes no lock, and no worker notices.
    pub fn counts(&self, flow: FlowRef) -> Option<FlowCounts> {
        let counts = self.slots.accounts.get(flow)?;
        self.slots.is_still(flow).then_some(counts)
    }

    /// What the connection has carried until now; it begins at nothing again, but for a packet that is counted just now.
    /// (Where the connection ends meanwhile and another takes its slot, that one's first packets may be missing.)
    pub fn take_counts(&self, flow: FlowRef, now: u32) -> Option<FlowCounts> {
        let counts = self.counts(flow)?;
        self.slots.accounts.begin(flow.slot, flow.incarnation, now);
        Some(counts)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn flow(life: u32) -> FlowRef {
        FlowRef { slot: 1, incarnation: 2 * life }
    }

    fn counted(accounts: &Accounts, life: u32) -> [Traffic; 2] {
        accounts.get(flow(life)).map(|counts| [counts.original, counts.reply]).expect("accounts are kept")
    }

    #[test]
    fn each_direction_counts_for_itself_from_the_beginning_of_its_life() {
        let accounts = Accounts::new(3);
        // From the last lives of a circle into the first of the next.
        for round in (LIFE as u32 - 3)..(LIFE as u32 + 3) {
            accounts.begin(1, 2 * round, 70 + round);
            assert_eq!(counted(&accounts, round), [Traffic::default(); 2]);
            for bytes in [100, u16::MAX, 0] {
                accounts.count(flow(round), Direction::Original, bytes);
            }
            accounts.count(flow(round), Direction::Reply, 7);
            let expected =
                [Traffic { packets: 3, bytes: 100 + u64::from(u16::MAX) }, Traffic { packets: 1, bytes: 7 }];
            assert_eq!(counted(&accounts, round), expected);
            assert_eq!(accounts.get(flow(round)).map(|counts| counts.started), Some(70 + round));
            assert_eq!(counted(&accounts, round + 1), [Traffic::default(); 2], "another life's");
        }
    }

    #[test]
    fn a_late_packet_is_not_counted_and_what_it_overwrote_begins_anew() {
        let accounts = Accounts::new(2);
        accounts.begin(1, 2 * 9, 0);
        accounts.count(flow(9), Direction::Original, 10);
        accounts.count(flow(8), Direction::Original, 1000);
        assert_eq!(counted(&accounts, 9)[0], Traffic { packets: 1, bytes: 10 });
        // A store of the life before that came after this one began: of either word, or of both.
        for late in [[true, false], [false, true], [true, true]] {
            let account = &accounts.accounts[1].0[0];
            for (word, _) in
                [&account.packets, &account.bytes].into_iter().zip(late).filter(|(_, late)| *late)
            {
                word.store(1_000_000 << LIFE_BITS | life(2 * 8), Ordering::Relaxed);
            }
            let before = counted(&accounts, 9)[0];
            accounts.count(flow(9), Direction::Original, 5);
            let of = |number, before, is_late: bool| if is_late { number } else { before + number };
            let expected =
                Traffic { packets: of(1, before.packets, late[0]), bytes: of(5, before.bytes, late[1]) };
            assert_eq!(counted(&accounts, 9)[0], expected);
        }
    }

    #[test]
    fn numbers_that_are_full_keep_their_life() {
        let accounts = Accounts::new(2);
        accounts.begin(1, 2 * 5, 0);
        let account = &accounts.accounts[1].0[1];
        for word in [&account.packets, &account.bytes] {
            word.store(u64::MAX << LIFE_BITS | life(2 * 5), Ordering::Relaxed);
        }
        accounts.count(flow(5), Direction::Reply, 3);
        assert_eq!(counted(&accounts, 5)[1], Traffic { packets: 0, bytes: 2 });
    }

    #[test]
    fn a_table_without_accounts_counts_nothing() {
        let accounts = Accounts::none();
        accounts.begin(1, 2, 3);
        accounts.touch(1);
        accounts.count(flow(1), Direction::Original, 9);
        assert_eq!(accounts.get(flow(1)), None);
    }
}
