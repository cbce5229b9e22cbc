//! Fragments (RFC 791 3.2, RFC 8200 4.5): where in its datagram one lies, and what of the transport the first one tells the others.

use super::{Headers, ParseError, parse_transport};
use crate::checksum::Sum;
use crate::ipv4;
use crate::ipv6;
use crate::protocol;
use crate::tcp::flags::ACK;

/// Bytes that fragment offsets count in: every fragment but the last holds a multiple of them.
pub const UNIT: u32 = 8;
/// Bytes of the longest IP packet.
const LONGEST: u32 = 65_535;

/// Where in its datagram a fragment lies, as its header says. Lengths and offsets are of the datagram's payload, in
/// bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub offset: u32,
    pub len: u32,
    pub is_last: bool,
}

impl Part {
    /// Offset one past the fragment.
    #[inline]
    pub const fn end(&self) -> u32 {
        self.offset + self.len
    }

    /// Whether it can be part of a datagram: it holds something, the next one can begin where it ends, and it does not
    /// reach beyond the longest packet, in which so many bytes besides count.
    const fn is_sound(&self, besides: u32) -> bool {
        self.len > 0 && besides + self.end() <= LONGEST && (self.is_last || self.len.is_multiple_of(UNIT))
    }
}

/// What the first fragment of a datagram says of the transport, and the others do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// Both ports, as [`Headers::ports_ne`].
    pub ports_ne: u32,
    pub icmp_type: u8,
    pub icmp_code: u8,
}

impl Headers {
    /// What all fragments of a datagram share, and no other datagram between its ends with its protocol for a while.
    #[inline]
    pub const fn identification(&self) -> u32 {
        if self.is_ipv6() {
            return self.addresses as u32;
        }
        let [a, b, ..] = self.second.to_ne_bytes();
        u16::from_be_bytes([a, b]) as u32
    }

    /// Whether this is a part of a datagram.
    #[inline]
    pub const fn is_fragment(&self) -> bool {
        u32::from_be(self.second) & ipv4::FRAGMENT as u32 != 0
    }

    /// Whether this is a part other than the first: what follows its IP header is no transport header.
    #[inline]
    pub const fn is_later_fragment(&self) -> bool {
        u32::from_be(self.second) & ipv4::FRAGMENT_OFFSET as u32 != 0
    }

    /// Which part of its datagram's payload this packet holds. (Of a packet that is no fragment, all.)
    pub const fn part(&self) -> Part {
        let word = u32::from_be(self.second);
        Part {
            offset: (word & ipv4::FRAGMENT_OFFSET as u32) * UNIT,
            len: self.total_len() as u32 - (self.transport() - self.l3()) as u32,
            is_last: word & ipv4::MORE_FRAGMENTS as u32 == 0,
        }
    }

    /// What the first fragment tells the others.
    pub const fn transport_fields(&self) -> Transport {
        Transport { ports_ne: self.ports, icmp_type: self.icmp_type, icmp_code: self.icmp_code }
    }

    /// The headers of an IPv6 packet with this fragment header: flags and offset stand where IPv4's do, the identification in
    /// the place of its addresses.
    pub(super) const fn with_fragment_header(mut self, header: [u8; ipv6::FRAGMENT_LEN]) -> Self {
        let [_, _, high, low, a, b, c, d] = header;
        let word = u16::from_be_bytes([high, low]);
        let more = if word & 1 != 0 { ipv4::MORE_FRAGMENTS } else { 0 };
        self.second |= ((word >> 3 | more) as u32).to_be();
        self.addresses = u32::from_be_bytes([a, b, c, d]) as u64;
        self
    }

    /// The headers of a later fragment, with what the first one said. Of TCP it counts as a packet in the middle of a
    /// connection: it has no control bits to open, end or reset one.
    #[must_use]
    pub const fn of_transport(mut self, first: Transport) -> Self {
        self.ports = first.ports_ne;
        self.icmp_type = first.icmp_type;
        self.icmp_code = first.icmp_code;
        self.tcp_flags = if self.protocol() == protocol::TCP { ACK } else { 0 };
        self
    }
}

/// Reads what stands behind the IP header of a fragment. The transport's checksum covers the whole datagram: it is never
/// for us to complete. (A sender completes it before it makes fragments.)
pub(super) fn read(segment: &[u8], mut headers: Headers) -> Result<Headers, ParseError> {
    let part = headers.part();
    let header_len = usize::from(headers.transport() - headers.l3());
    // IPv6 counts neither its fixed header nor, when all is put together, the fragment header.
    let uncounted = if headers.is_ipv6() { ipv6::HEADER_LEN + ipv6::FRAGMENT_LEN } else { 0 };
    if !part.is_sound((header_len - uncounted) as u32) {
        return Err(ParseError::BadFragment);
    }
    // RFC 1858 4.2: what begins at 8 would take the place of the control bits.
    if part.offset == UNIT && headers.protocol() == protocol::TCP {
        return Err(ParseError::TinyFragment);
    }
    if part.offset == 0 {
        parse_transport(segment, &mut headers, |_| Sum::of(&[])).ok_or(ParseError::TinyFragment)?;
        headers.set_partial(false);
    }
    Ok(headers)
}
