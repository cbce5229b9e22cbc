//! IPv6 header (RFC 8200 3).

use core::net::Ipv6Addr;

use crate::bytes::be16;

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 40;

/// Bytes of a fragment header.
pub const FRAGMENT_LEN: usize = 8;

/// Links carry packets of so many bytes whole (RFC 8200 5).
pub const LEAST_MTU: u16 = 1280;

/// Extension headers that a router may meet (RFC 8200 4; RFC 4302).
pub mod extension {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const AUTHENTICATION: u8 = 51;
    pub const DESTINATION: u8 = 60;

    /// Whether a fragment header is of a part of a packet, and not of a whole one (RFC 6946).
    pub(crate) const fn is_part(fragment: [u8; 8]) -> bool {
        let [high, low] = [fragment[2], fragment[3]];
        high != 0 || low & !0b110 != 0
    }
}

/// A fixed header, of traffic class and flow label 0, in front of so many bytes.
pub fn header(
    src: Ipv6Addr,
    dst: Ipv6Addr,
    next_header: u8,
    hop_limit: u8,
    payload_len: u16,
) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[0] = 6 << 4;
    header[4..6].copy_from_slice(&payload_len.to_be_bytes());
    [header[6], header[7]] = [next_header, hop_limit];
    header[8..24].copy_from_slice(&src.octets());
    header[24..].copy_from_slice(&dst.octets());
    header
}

/// The fixed header.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Ipv6<'a> {
    /// `None` if the bytes are fewer than the fixed header.
    #[inline]
    pub fn new(packet: &'a [u8]) -> Option<Self> {
        packet.first_chunk().map(Self)
    }

    #[inline]
    pub fn version(self) -> u8 {
        self.0[0] >> 4
    }

    /// Bytes behind the fixed header, extension headers included.
    #[inline]
    pub fn payload_len(self) -> u16 {
        be16(self.0, 4)
    }

    /// The first extension header's number, or the transport protocol.
    #[inline]
    pub fn next_header(self) -> u8 {
        self.0[6]
    }

    #[inline]
    pub fn traffic_class(self) -> u8 {
        self.0[0] << 4 | self.0[1] >> 4
    }

    #[inline]
    pub fn hop_limit(self) -> u8 {
        self.0[7]
    }

    #[inline]
    pub fn src(self) -> u128 {
        self.address(8)
    }

    #[inline]
    pub fn dst(self) -> u128 {
        self.address(24)
    }

    #[inline]
    fn address(self, at: usize) -> u128 {
        u128::from_be_bytes(core::array::from_fn(|i| self.0[at + i]))
    }
}
