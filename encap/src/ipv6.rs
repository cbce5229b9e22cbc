//! IPv6 fixed header (RFC 8200 3): enough to recognise a packet and to name its ends.

use crate::bytes::be16;

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 40;

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
