//! Flow keys: 5-tuples of IPv4 and of IPv6, and the words that an entry has of either.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::hash::KeyHash;

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
        let addresses = (self.src as u64) << 32 | self.dst as u64;
        let ports = (self.sport as u32) << 16 | self.dport as u32;
        KeyWords::new(addresses.to_be(), ports.to_be(), self.protocol)
    }

    /// Whether source stands before destination, in an order of the table's own. Of a key and its reverse one is
    /// ascending, or they are equal and both are.
    #[inline]
    pub(crate) const fn is_ascending(&self) -> bool {
        self.words().is_ascending()
    }

    /// The protocol in what [`FlowKey::ports`] gives.
    #[inline]
    pub(crate) const fn protocol_of(ports: u64) -> u8 {
        (ports >> 32) as u8
    }

    pub(crate) const fn from_words(addresses: u64, ports: u64) -> Self {
        let (addresses, both) = (u64::from_be(addresses), u32::from_be(ports as u32));
        Self {
            src: (addresses >> 32) as u32,
            dst: addresses as u32,
            sport: (both >> 16) as u16,
            dport: both as u16,
            protocol: Self::protocol_of(ports),
        }
    }
}

/// The same of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowKey6 {
    pub src: Ipv6Addr,
    pub dst: Ipv6Addr,
    pub sport: u16,
    pub dport: u16,
    pub protocol: u8,
}

/// A key of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AnyKey {
    V4(FlowKey),
    V6(FlowKey6),
}

/// Source and destination address of IPv6, in halves.
pub type Wide = [u64; 4];

/// A flow key that the table takes.
pub trait Key: Copy {
    #[must_use]
    fn reversed(&self) -> Self;

    fn src(&self) -> IpAddr;

    fn dst(&self) -> IpAddr;

    /// Source and destination port.
    fn ports(&self) -> (u16, u16);

    fn protocol(&self) -> u8;

    /// Whether source stands before destination, as [`FlowKey::is_ascending`].
    fn is_ascending(&self) -> bool;

    /// What an entry has of the key. Of IPv6 addresses it has 32 bits each.
    fn words(&self, hash: &KeyHash) -> KeyWords;

    /// What stands apart from the entry, where the words are not the whole key.
    fn wide(&self) -> Option<Wide>;
}

impl Key for FlowKey {
    #[inline]
    fn reversed(&self) -> Self {
        self.reversed()
    }

    #[inline]
    fn src(&self) -> IpAddr {
        Ipv4Addr::from_bits(self.src).into()
    }

    #[inline]
    fn dst(&self) -> IpAddr {
        Ipv4Addr::from_bits(self.dst).into()
    }

    #[inline]
    fn ports(&self) -> (u16, u16) {
        (self.sport, self.dport)
    }

    #[inline]
    fn protocol(&self) -> u8 {
        self.protocol
    }

    #[inline]
    fn is_ascending(&self) -> bool {
        self.is_ascending()
    }

    #[inline]
    fn words(&self, _: &KeyHash) -> KeyWords {
        self.words()
    }

    #[inline]
    fn wide(&self) -> Option<Wide> {
        None
    }
}

impl Key for FlowKey6 {
    fn reversed(&self) -> Self {
        Self { src: self.dst, dst: self.src, sport: self.dport, dport: self.sport, ..*self }
    }

    fn src(&self) -> IpAddr {
        self.src.into()
    }

    fn dst(&self) -> IpAddr {
        self.dst.into()
    }

    fn ports(&self) -> (u16, u16) {
        (self.sport, self.dport)
    }

    fn protocol(&self) -> u8 {
        self.protocol
    }

    fn is_ascending(&self) -> bool {
        (self.src, self.sport) <= (self.dst, self.dport)
    }

    /// Each address folded under the table's secret, so that nobody finds two that are the same here: source and
    /// destination trade places as those of IPv4 do.
    fn words(&self, hash: &KeyHash) -> KeyWords {
        let [src, dst] = [self.src, self.dst].map(|address| u64::from(hash.fold(address.to_bits())));
        let ports = u32::from(self.sport) << 16 | u32::from(self.dport);
        let words = KeyWords::new((src << 32 | dst).to_be(), ports.to_be(), self.protocol);
        KeyWords { ports: words.ports | KeyWords::IPV6, ..words }
    }

    fn wide(&self) -> Option<Wide> {
        let [src, dst] = [self.src, self.dst].map(Ipv6Addr::to_bits);
        Some([(src >> 64) as u64, src as u64, (dst >> 64) as u64, dst as u64])
    }
}

impl Key for AnyKey {
    #[inline]
    fn reversed(&self) -> Self {
        match self {
            Self::V4(key) => Self::V4(key.reversed()),
            Self::V6(key) => Self::V6(key.reversed()),
        }
    }

    #[inline]
    fn src(&self) -> IpAddr {
        match self {
            Self::V4(key) => key.src(),
            Self::V6(key) => key.src(),
        }
    }

    #[inline]
    fn dst(&self) -> IpAddr {
        match self {
            Self::V4(key) => key.dst(),
            Self::V6(key) => key.dst(),
        }
    }

    #[inline]
    fn ports(&self) -> (u16, u16) {
        match self {
            Self::V4(key) => key.ports(),
            Self::V6(key) => key.ports(),
        }
    }

    #[inline]
    fn protocol(&self) -> u8 {
        match self {
            Self::V4(key) => key.protocol,
            Self::V6(key) => key.protocol,
        }
    }

    #[inline]
    fn is_ascending(&self) -> bool {
        match self {
            Self::V4(key) => key.is_ascending(),
            Self::V6(key) => key.is_ascending(),
        }
    }

    #[inline]
    fn words(&self, hash: &KeyHash) -> KeyWords {
        match self {
            Self::V4(key) => key.words(),
            Self::V6(key) => key.words(hash),
        }
    }

    #[inline]
    fn wide(&self) -> Option<Wide> {
        match self {
            Self::V4(_) => None,
            Self::V6(key) => key.wide(),
        }
    }
}

impl FlowKey6 {
    /// Of these addresses, with the ports and the protocol of the words.
    pub(crate) fn from_words([a, b, c, d]: Wide, ports: u64) -> Self {
        let [src, dst] = [[a, b], [c, d]].map(|[high, low]| u128::from(high) << 64 | u128::from(low));
        let FlowKey { sport, dport, protocol, .. } = FlowKey::from_words(0, ports);
        Self { src: src.into(), dst: dst.into(), sport, dport, protocol }
    }
}

impl From<FlowKey> for AnyKey {
    fn from(key: FlowKey) -> Self {
        Self::V4(key)
    }
}

impl From<FlowKey6> for AnyKey {
    fn from(key: FlowKey6) -> Self {
        Self::V6(key)
    }
}

/// A flow key as it stands in a packet: in network order, loaded as native words. So a packet's key costs two loads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyWords {
    /// Source and destination address.
    pub(crate) addresses: u64,
    /// Source and destination port (32 bits), protocol (8 bits), whether it is IPv6 (1 bit).
    pub(crate) ports: u64,
}

impl KeyWords {
    /// Bits of `ports` that are used.
    pub(crate) const PORTS_BITS: u32 = 41;
    /// Set in `ports` where the addresses are folded ones of IPv6.
    pub(crate) const IPV6: u64 = 1 << 40;

    #[inline]
    pub const fn new(addresses: u64, ports: u32, protocol: u8) -> Self {
        Self { addresses, ports: (protocol as u64) << 32 | ports as u64 }
    }

    /// The words of the reverse key.
    #[inline]
    pub(crate) const fn reversed(self) -> Self {
        let ports = (self.ports as u32).rotate_left(16) as u64;
        Self { addresses: self.addresses.rotate_left(32), ports: self.ports >> 32 << 32 | ports }
    }

    /// As [`FlowKey::is_ascending`].
    #[inline]
    pub(crate) const fn is_ascending(self) -> bool {
        self.ends().2
    }

    /// The words in the order that a key and its reverse share, and whether it is the key's own.
    #[inline]
    pub(crate) const fn ends(self) -> (u64, u64, bool) {
        let (addresses, ports) = (self.addresses.rotate_left(32), (self.ports as u32).rotate_left(16) as u64);
        let own_ports = self.ports as u32 as u64;
        let protocol = self.ports ^ own_ports;
        let own = (self.addresses as u128) << 64 | own_ports as u128;
        let reversed = (addresses as u128) << 64 | ports as u128;
        if own <= reversed {
            (self.addresses, self.ports, true)
        } else {
            (addresses, protocol | ports, false)
        }
    }
}

impl From<KeyWords> for FlowKey {
    fn from(words: KeyWords) -> Self {
        Self::from_words(words.addresses, words.ports)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: FlowKey = FlowKey { src: 0x0a00_0001, dst: 0x0a00_0002, sport: 4000, dport: 80, protocol: 6 };

    #[test]
    fn words_of_either_family_turn_round_with_the_key_and_are_never_the_others() {
        let hash = KeyHash::new([1, 2, 3, 4], crate::isa::Isa::PORTABLE);
        let key6 = FlowKey6 {
            src: "fd00::1".parse().unwrap(),
            dst: "fd00::2".parse().unwrap(),
            sport: 4000,
            dport: 80,
            protocol: 6,
        };
        assert_eq!(key6.words(&hash).reversed(), Key::reversed(&key6).words(&hash));
        assert_eq!(KEY.words().reversed(), KEY.reversed().words());
        assert_ne!(Key::is_ascending(&key6), Key::reversed(&key6).is_ascending());
        let (words, wide) = (key6.words(&hash), key6.wide().unwrap());
        assert_eq!(FlowKey6::from_words(wide, words.ports), key6);
        let folded = FlowKey::from_words(words.addresses, words.ports);
        assert_ne!(folded.words().ports, words.ports, "the same but for the family");
        assert_eq!(words.ports >> KeyWords::PORTS_BITS, 0);
    }

    #[test]
    fn words_hold_the_whole_key() {
        for key in [KEY, KEY.reversed(), FlowKey { src: u32::MAX, sport: u16::MAX, protocol: 255, ..KEY }] {
            assert_eq!(FlowKey::from(key.words()), key);
        }
        assert_eq!(size_of::<FlowKey>(), 16);
        assert_ne!(KEY.is_ascending(), KEY.reversed().is_ascending());
    }
}
