//! TCP header (RFC 9293 3.1).

use crate::bytes::{be16, be32};

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;
/// Where in the header the checksum stands.
pub const CHECKSUM_OFFSET: usize = 16;

/// Control bits.
pub mod flags {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const PSH: u8 = 0x08;
    pub const ACK: u8 = 0x10;
    pub const URG: u8 = 0x20;
    pub const ECE: u8 = 0x40;
    pub const CWR: u8 = 0x80;
}

/// The fixed part of the header.
#[derive(Clone, Copy, Debug)]
pub struct Tcp<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Tcp<'a> {
    #[inline]
    pub(crate) fn from_array(header: &'a [u8; HEADER_LEN]) -> Self {
        Self(header)
    }

    /// `None` if the bytes are fewer than the fixed header.
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

    #[inline]
    pub fn sequence(self) -> u32 {
        be32(self.0, 4)
    }

    #[inline]
    pub fn acknowledgment(self) -> u32 {
        be32(self.0, 8)
    }

    /// Bytes of the header with its options, as the data offset says: 0 to 60.
    #[inline]
    pub fn header_len(self) -> usize {
        usize::from(self.0[12] >> 4) * 4
    }

    #[inline]
    pub fn flags(self) -> u8 {
        self.0[13]
    }

    #[inline]
    pub fn window(self) -> u16 {
        be16(self.0, 14)
    }

    #[inline]
    pub fn checksum(self) -> u16 {
        be16(self.0, CHECKSUM_OFFSET)
    }
}
