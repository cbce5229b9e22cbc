//! What a flow entry says to do with a packet, and the word in which its changing half is stored.

/// What becomes of the packets that go one way in a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowAction {
    /// Index of the next hop in the snapshot of `generation`; below [`FlowAction::NEXT_HOPS`], which whoever makes
    /// snapshots sees to.
    pub next_hop: u32,
    /// Generation of the snapshot that this was last judged or confirmed by.
    pub generation: u32,
    /// [`FlowAction::SRC_LOCAL`]; other bits are the caller's.
    pub flags: u16,
}

impl FlowAction {
    /// A generation that seems so many behind may be older still: sweeps move what would turn round to here.
    pub const OLDEST: u32 = OLD - AHEAD;
    /// Next hops that an entry can name: the index has 20 bits.
    pub const NEXT_HOPS: u32 = 1 << NEXT_HOP_BITS;
    /// Packets come from a pod here: one that came in by an uplink is forged.
    pub const SRC_LOCAL: u16 = 1;
}

const NEXT_HOP_BITS: u32 = 20;
const STAMP_BITS: u32 = 20;
const STAMP_MASK: u32 = (1 << STAMP_BITS) - 1;
/// A stamp that seems less than this behind a whole turn is ahead instead: another worker had a newer snapshot.
const AHEAD: u32 = 1 << 12;
/// A stamp older than this is set to this age before it could turn round.
const OLD: u32 = 1 << (STAMP_BITS - 1);

/// How many generations may pass between two looks at every entry that keep stamps from turning round. A quarter of
/// what is left then, so that an entry may miss a look.
pub(super) const AGING_INTERVAL: u32 = 1 << (STAMP_BITS - 3);

/// Next hop (20 bits), stamp (the low 20 bits of the generation) and incarnation of the entry (24 bits) in one word:
/// the next hop and the generation that it belongs to change together, and not at all once the entry is another's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct ActionWord(pub(super) u64);

impl ActionWord {
    pub(super) fn new(next_hop: u32, generation: u32, incarnation: u32) -> Self {
        debug_assert!(next_hop < FlowAction::NEXT_HOPS, "next hop {next_hop} does not fit an entry");
        let stamp = u64::from(generation & STAMP_MASK);
        Self(u64::from(next_hop) << 44 | stamp << 24 | u64::from(incarnation))
    }

    #[inline]
    pub(super) fn next_hop(self) -> u32 {
        (self.0 >> 44) as u32
    }

    /// Whether it belongs to this generation.
    #[inline]
    pub(super) fn is_of(self, generation: u32) -> bool {
        self.stamp() == generation & STAMP_MASK
    }

    /// The whole generation, given that of the reader, which is at most `AHEAD` older or a turn younger.
    #[inline]
    pub(super) fn generation(self, now: u32) -> u32 {
        let behind = now.wrapping_sub(self.stamp()) & STAMP_MASK;
        if behind > STAMP_MASK - AHEAD {
            now.wrapping_add(STAMP_MASK + 1 - behind)
        } else {
            now.wrapping_sub(behind)
        }
    }

    /// Whether the stamp is of a later generation than `generation`.
    pub(super) fn is_after(self, generation: u32) -> bool {
        generation.wrapping_sub(self.generation(generation)).cast_signed() < 0
    }

    /// The same with a stamp that is not about to turn round, if it was.
    pub(super) fn aged(self, now: u32) -> Option<Self> {
        let behind = now.wrapping_sub(self.generation(now)).cast_signed();
        (behind > OLD.cast_signed())
            .then(|| Self::new(self.next_hop(), now.wrapping_sub(OLD), (self.0 & 0xff_ffff) as u32))
    }

    #[inline]
    fn stamp(self) -> u32 {
        (self.0 >> 24) as u32 & STAMP_MASK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_survive_in_twenty_bits() {
        for now in [0, 1, 5000, STAMP_MASK, STAMP_MASK + 1, u32::MAX, 0x8000_0000] {
            for behind in [-4000, -1, 0, 1, 1000, OLD.cast_signed(), (STAMP_MASK - AHEAD).cast_signed()] {
                let generation = now.wrapping_sub(behind.cast_unsigned());
                let word = ActionWord::new(7, generation, 42);
                assert_eq!(word.generation(now), generation, "{now} {behind}");
                assert_eq!(word.is_after(now), behind < 0, "{now} {behind}");
                assert_eq!(word.next_hop(), 7);
            }
        }
    }

    #[test]
    fn old_stamps_stay_old() {
        let mut word = ActionWord::new(FlowAction::NEXT_HOPS - 1, 17, 0xff_fffe);
        let mut now: u32 = 17;
        for _ in 0..64 {
            now = now.wrapping_add(AGING_INTERVAL);
            assert!(now.wrapping_sub(word.generation(now)) >= AGING_INTERVAL, "seems new at {now}");
            word = word.aged(now).unwrap_or(word);
        }
        assert_eq!(word.next_hop(), FlowAction::NEXT_HOPS - 1);
        assert_eq!(word.0 & 0xff_ffff, 0xff_fffe);
    }
}
