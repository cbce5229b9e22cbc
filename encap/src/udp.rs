//! UDP header (RFC 768), and UDP-Lite's (RFC 3828), whose length field is the checksum coverage instead.

use crate::bytes::be16;

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;
/// Where in the header the checksum stands.
pub const CHECKSUM_OFFSET: usize = 6;

/// The header.
#[derive(Clone, Copy, Debug)]
pub struct Udp<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Udp<'a> {
    /// `None` if the bytes are fewer than the header.
    #[inline]
    pub fn new(segment: &'a [u8]) -> Option<Self> {
        segment.first_chunk().map(Self)
    }

    #[inline]
    pub fn src_port(self) -> u16 {
        be16(self.0, 0)
    }

    #[inline]
    pub fn dst_port(self) -> u16 {
        be16(self.0, 2)
    }

    /// Bytes of header and data, which is never less than [`HEADER_LEN`] in a sound datagram.
    #[inline]
    pub fn datagram_len(self) -> u16 {
        be16(self.0, 4)
    }

    /// 0: the sender took none.
    #[inline]
    pub fn checksum(self) -> u16 {
        be16(self.0, CHECKSUM_OFFSET)
    }
}
