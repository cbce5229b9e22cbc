//! The flow key, an IPv4 5-tuple.

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
    fn words_hold_the_whole_key() {
        for key in [KEY, KEY.reversed(), FlowKey { src: u32::MAX, sport: u16::MAX, protocol: 255, ..KEY }] {
            assert_eq!(FlowKey::from_words(key.addresses(), key.ports()), key);
        }
        assert_eq!(size_of::<FlowKey>(), 16);
        assert_ne!(KEY.is_ascending(), KEY.reversed().is_ascending());
    }
}
