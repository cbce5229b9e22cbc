//! TCP header (RFC 9293 3.1).

use crate::bytes::{be16, be32, put16};
use crate::checksum;

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;
/// Where in the header the control bits and the checksum stand.
pub(crate) const FLAGS: usize = 13;
pub const CHECKSUM_OFFSET: usize = 16;

/// Option kinds (RFC 9293 3.2).
mod option {
    pub(super) const END: u8 = 0;
    pub(super) const NO_OPERATION: u8 = 1;
    pub(super) const MAXIMUM_SEGMENT_SIZE: u8 = 2;
}
/// Bytes of the MSS option: kind, length and a 16-bit size.
const MSS_LEN: usize = 4;

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
        self.0[FLAGS]
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

/// Lowers what the MSS options of `segment` say to `most`, and mends its checksum by the difference (RFC 1624). One that
/// says no more stays, and where there is none none is added. The checksum is a finished one.
pub fn clamp_mss(segment: &mut [u8], most: u16) {
    let Some((header, rest)) = segment.split_first_chunk_mut::<HEADER_LEN>() else { return };
    let len = Tcp::from_array(header).header_len().saturating_sub(HEADER_LEN);
    let Some(options) = rest.get_mut(..len) else { return };
    let mut at = 0;
    while let Some((kind, len)) = option_at(options, at) {
        if kind == option::MAXIMUM_SEGMENT_SIZE
            && len == MSS_LEN
            && let Some(size) = options[at + 2..].first_chunk_mut()
        {
            lower(header, size, most, at.is_multiple_of(2));
        }
        at += len;
    }
}

/// Kind and length of the option there. `None` at the end of the options, or where one is cut off.
fn option_at(options: &[u8], at: usize) -> Option<(u8, usize)> {
    match options.get(at..)? {
        [] | [option::END, ..] => None,
        [option::NO_OPERATION, ..] => Some((option::NO_OPERATION, 1)),
        rest @ [kind, len, ..] => {
            Some((*kind, usize::from(*len))).filter(|(_, len)| (2..=rest.len()).contains(len))
        }
        [_] => None,
    }
}

/// A size at an odd offset is summed with its bytes turned round.
fn lower(header: &mut [u8; HEADER_LEN], size: &mut [u8; 2], most: u16, is_even: bool) {
    let old = u16::from_be_bytes(*size);
    if old > most {
        let summed = |size: u16| if is_even { size } else { size.swap_bytes() };
        let checksum = checksum::update_u16(be16(header, CHECKSUM_OFFSET), summed(old), summed(most));
        put16(header, CHECKSUM_OFFSET, checksum);
        *size = most.to_be_bytes();
    }
}
