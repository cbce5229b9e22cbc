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

    /// The same as words.
    #[inline]
    pub const fn words(&self) -> KeyWords {
        let [a, b, c, d] = self.src.to_be_bytes();
        let [e, f, g, h] = self.dst.to_be_bytes();
        let ([i, j], [k, l]) = (self.sport.to_be_bytes(), self.dport.to_be_bytes());
        let addresses = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
        KeyWords::new(addresses, u32::from_ne_bytes([i, j, k, l]), self.protocol)
    }

    /// Whether source stands before destination, in an order of the table's own. Of a key and its reverse one is
    /// ascending, or they are equal and both are.
    #[inline]
    pub(crate) const fn is_ascending(&self) -> bool {
        self.words().is_ascending()
    }

    /// Source and destination address, as a table entry stores them.
    #[inline]
    pub(crate) const fn addresses(&self) -> u64 {
        self.words().addresses
    }

    /// Ports and protocol, as a table entry stores them: 40 bits.
    #[inline]
    pub(crate) const fn ports(&self) -> u64 {
        self.words().ports
    }

    /// The protocol in what [`FlowKey::ports`] gives.
    #[inline]
    pub(crate) const fn protocol_of(ports: u64) -> u8 {
        (ports >> 32) as u8
    }

    pub(crate) const fn from_words(addresses: u64, ports: u64) -> Self {
        let [a, b, c, d, e, f, g, h] = addresses.to_ne_bytes();
        let [i, j, k, l] = (ports as u32).to_ne_bytes();
        Self {
            src: u32::from_be_bytes([a, b, c, d]),
            dst: u32::from_be_bytes([e, f, g, h]),
            sport: u16::from_be_bytes([i, j]),
            dport: u16::from_be_bytes([k, l]),
            protocol: Self::protocol_of(ports),
        }
    }
}

/// A flow key as it stands in a packet: in network order, loaded as native words. So a packet's key costs two loads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyWords {
    /// Source and destination address.
    pub(crate) addresses: u64,
    /// Source and destination port (32 bits), protocol (8 bits).
    pub(crate) ports: u64,
}

impl KeyWords {
    #[inline]
    pub const fn new(addresses: u64, ports: u32, protocol: u8) -> Self {
        Self { addresses, ports: (protocol as u64) << 32 | ports as u64 }
    }

    /// As [`FlowKey::is_ascending`].
    #[inline]
    pub(crate) const fn is_ascending(self) -> bool {
        self.ends().2
    }

    /// Addresses and ports in the order that a key and its reverse share, and whether it is the key's own.
    #[inline]
    const fn ends(self) -> (u64, u32, bool) {
        let (addresses, ports) = (self.addresses.rotate_left(32), (self.ports as u32).rotate_left(16));
        let own = (self.addresses as u128) << 64 | self.ports as u32 as u128;
        let reversed = (addresses as u128) << 64 | ports as u128;
        if own <= reversed { (self.addresses, self.ports as u32, true) } else { (addresses, ports, false) }
    }
}

impl From<KeyWords> for FlowKey {
    fn from(words: KeyWords) -> Self {
        Self::from_words(words.addresses, words.ports)
    }
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
        self.hash_words(key.words()).0
    }

    /// The hash, and whether the key is ascending, which is known on the way.
    #[inline]
    pub(crate) fn hash_words(&self, key: KeyWords) -> (u64, bool) {
        let (addresses, ports, is_ascending) = key.ends();
        let mut hasher = self.0.build_hasher();
        // As one word: ahash then keys each half of it with its own part of the seed.
        let ports = key.ports & !0xffff_ffff | u64::from(ports);
        hasher.write_u128(u128::from(addresses) << 64 | u128::from(ports));
        (hasher.finish(), is_ascending)
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
        assert_ne!(KEY.is_ascending(), KEY.reversed().is_ascending());
    }
}
