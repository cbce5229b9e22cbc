//! The flow key, an IPv4 5-tuple, and its keyed hash.

use std::hash::{BuildHasher, Hasher};

use ahash::RandomState;

/// What tells the packets of one flow from all others, in host byte order: 16 bytes.
///
/// ICMP has no ports: whoever builds the key puts the echo identifier into both, so that the key of a reply is the
/// reverse of its request's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowKey {
    pub src: u32,
    pub dst: u32,
    pub sport: u16,
    pub dport: u16,
    pub protocol: u8,
}

impl FlowKey {
    /// The key of packets that go the other way.
    #[inline]
    #[must_use]
    pub const fn reversed(&self) -> Self {
        Self { src: self.dst, dst: self.src, sport: self.dport, dport: self.sport, protocol: self.protocol }
    }

    /// Whether source stands before destination. Of a key and its reverse one is ascending, or they are equal and
    /// both are.
    #[inline]
    pub(crate) const fn is_ascending(&self) -> bool {
        end(self.src, self.sport) <= end(self.dst, self.dport)
    }

    /// Source and destination address, as a table entry stores them.
    #[inline]
    pub(crate) const fn addresses(&self) -> u64 {
        (self.src as u64) << 32 | self.dst as u64
    }

    /// Ports and protocol, as a table entry stores them: 40 bits.
    #[inline]
    pub(crate) const fn ports(&self) -> u64 {
        (self.sport as u64) << 24 | (self.dport as u64) << 8 | self.protocol as u64
    }

    pub(crate) const fn from_words(addresses: u64, ports: u64) -> Self {
        Self {
            src: (addresses >> 32) as u32,
            dst: addresses as u32,
            sport: (ports >> 24) as u16,
            dport: (ports >> 8) as u16,
            protocol: ports as u8,
        }
    }
}

#[inline]
const fn end(address: u32, port: u16) -> u64 {
    (address as u64) << 16 | port as u64
}

/// Hashes flow keys under a secret seed, so that no sender can choose keys that collide. A key and its reverse have
/// the same hash: both directions of a connection are found from one place, on whichever core they arrive.
#[derive(Clone)]
pub(crate) struct KeyHash(RandomState);

impl KeyHash {
    pub(crate) fn new([a, b, c, d]: [u64; 4]) -> Self {
        Self(RandomState::with_seeds(a, b, c, d))
    }

    #[inline]
    pub(crate) fn hash(&self, key: &FlowKey) -> u64 {
        let (source, destination) = (end(key.src, key.sport), end(key.dst, key.dport));
        let (low, high) = (source.min(destination), source.max(destination));
        let mut hasher = self.0.build_hasher();
        // As one word: ahash then keys each half of it with its own part of the seed.
        hasher.write_u128(u128::from(low) << 64 | u128::from(high | u64::from(key.protocol) << 48));
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: FlowKey = FlowKey { src: 0x0a00_0001, dst: 0x0a00_0002, sport: 4000, dport: 80, protocol: 6 };

    #[test]
    fn hash_is_symmetric_and_sees_every_field() {
        let hash = KeyHash::new([1, 2, 3, 4]);
        assert_eq!(hash.hash(&KEY), hash.hash(&KEY.reversed()));
        let others = [
            FlowKey { src: 0x0a00_0003, ..KEY },
            FlowKey { dst: 0x0a00_0003, ..KEY },
            FlowKey { sport: 4001, ..KEY },
            FlowKey { dport: 81, ..KEY },
            FlowKey { protocol: 17, ..KEY },
            // The ports swapped without the addresses is another connection.
            FlowKey { sport: 80, dport: 4000, ..KEY },
        ];
        for other in others {
            assert_ne!(hash.hash(&KEY), hash.hash(&other), "{other:?}");
        }
        for seed in [[5, 2, 3, 4], [1, 5, 3, 4], [1, 2, 5, 4], [1, 2, 3, 5]] {
            assert_ne!(hash.hash(&KEY), KeyHash::new(seed).hash(&KEY), "every part of the seed matters");
        }
    }

    #[test]
    fn words_hold_the_whole_key() {
        for key in [KEY, KEY.reversed(), FlowKey { src: u32::MAX, sport: u16::MAX, protocol: 255, ..KEY }] {
            assert_eq!(FlowKey::from_words(key.addresses(), key.ports()), key);
        }
        assert_eq!(size_of::<FlowKey>(), 16);
        assert!(KEY.is_ascending() && !KEY.reversed().is_ascending());
    }
}
