//! SCTP common header (RFC 9260 3.1) and its `CRC32c` (RFC 9260 6.8 and appendix A).

use crc::{CRC_32_ISCSI, Crc, Table};

use crate::bytes::{be16, be32};

/// Bytes of the common header.
pub const HEADER_LEN: usize = 12;
/// Where in the header the checksum stands.
pub const CHECKSUM_OFFSET: usize = 8;

static CRC32C: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// The common header.
#[derive(Clone, Copy, Debug)]
pub struct Sctp<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Sctp<'a> {
    /// `None` if the bytes are fewer than the common header.
    #[inline]
    pub fn new(packet: &'a [u8]) -> Option<Self> {
        packet.first_chunk().map(Self)
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
    pub fn verification_tag(self) -> u32 {
        be32(self.0, 4)
    }

    /// The checksum's four bytes as they stand in the packet.
    #[inline]
    pub fn checksum(self) -> [u8; 4] {
        core::array::from_fn(|i| self.0[CHECKSUM_OFFSET + i])
    }
}

/// Whether the checksum of a packet is left to the device that sends it: Linux leaves zero there. Zero is also what a
/// sender writes whose peer does without (RFC 9653).
pub(crate) fn is_partial(packet: &[u8]) -> bool {
    Sctp::new(packet).is_some_and(|header| header.checksum() == [0; 4])
}

/// The checksum of a whole SCTP packet, as its four bytes stand in the packet; the field itself counts as zero.
///
/// Panics if the packet is shorter than its common header.
pub fn checksum(packet: &[u8]) -> [u8; 4] {
    let mut digest = CRC32C.digest();
    digest.update(&packet[..CHECKSUM_OFFSET]);
    digest.update(&[0; 4]);
    digest.update(&packet[HEADER_LEN..]);
    // The reflected CRC goes out low byte first: RFC 9260 appendix A.
    digest.finalize().to_le_bytes()
}
