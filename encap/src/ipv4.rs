//! IPv4 header (RFC 791 3.1), and a header written once and stamped many times.

use crate::bytes::{be16, be32, put16};
use crate::checksum::{self, Sum};

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;
/// Bytes of a header with as many options as there can be.
pub const MAX_HEADER_LEN: usize = 60;

/// Flags and fragment offset word: don't fragment, more fragments, offset in units of 8 bytes.
pub(crate) const DONT_FRAGMENT: u16 = 0x4000;
pub(crate) const MORE_FRAGMENTS: u16 = 0x2000;
pub(crate) const FRAGMENT_OFFSET: u16 = 0x1fff;
/// What is 0 in a whole packet.
pub(crate) const FRAGMENT: u16 = MORE_FRAGMENTS | FRAGMENT_OFFSET;

/// The two low bits of the TOS byte (RFC 3168 5).
pub mod ecn {
    pub const MASK: u8 = 3;
    pub const NOT_ECT: u8 = 0;
    pub const ECT1: u8 = 1;
    pub const ECT0: u8 = 2;
    pub const CE: u8 = 3;
}

/// The fixed part of the header.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Ipv4<'a> {
    /// `None` if the bytes are fewer than the fixed header.
    #[inline]
    pub fn new(packet: &'a [u8]) -> Option<Self> {
        packet.first_chunk().map(Self)
    }

    #[inline]
    pub fn version(self) -> u8 {
        self.0[0] >> 4
    }

    /// Bytes of the header with its options, as IHL says: 0 to 60.
    #[inline]
    pub fn header_len(self) -> usize {
        usize::from(self.0[0] & 0x0f) * 4
    }

    #[inline]
    pub fn tos(self) -> u8 {
        self.0[1]
    }

    /// Bytes of the packet, header included.
    #[inline]
    pub fn total_len(self) -> u16 {
        be16(self.0, 2)
    }

    #[inline]
    pub fn ident(self) -> u16 {
        be16(self.0, 4)
    }

    #[inline]
    pub fn dont_fragment(self) -> bool {
        be16(self.0, 6) & DONT_FRAGMENT != 0
    }

    /// Whether this is a part of a packet: more fragments follow, or some came before.
    #[inline]
    pub fn is_fragment(self) -> bool {
        be16(self.0, 6) & FRAGMENT != 0
    }

    /// Where in the original packet's payload this fragment begins, in units of 8 bytes.
    #[inline]
    pub fn fragment_offset(self) -> u16 {
        be16(self.0, 6) & FRAGMENT_OFFSET
    }

    #[inline]
    pub fn ttl(self) -> u8 {
        self.0[8]
    }

    #[inline]
    pub fn protocol(self) -> u8 {
        self.0[9]
    }

    #[inline]
    pub fn checksum(self) -> u16 {
        be16(self.0, 10)
    }

    #[inline]
    pub fn src(self) -> u32 {
        be32(self.0, 12)
    }

    #[inline]
    pub fn dst(self) -> u32 {
        be32(self.0, 16)
    }

    /// Whether the checksum over the fixed part holds; for a header without options that is all of it.
    #[inline]
    pub fn checksum_holds(self) -> bool {
        Sum::of(self.0).fold() == 0xffff
    }
}

/// A header without options, and the folded sum of its words, in host order: [`stamp`] fills in what differs from packet
/// to packet.
pub(crate) fn template(
    src: u32,
    dst: u32,
    protocol: u8,
    tos: u8,
    ttl: u8,
    flags: u16,
) -> ([u8; HEADER_LEN], u16) {
    let mut header = [0; HEADER_LEN];
    header[0] = 0x45;
    header[1] = tos;
    put16(&mut header, 6, flags);
    header[8] = ttl;
    header[9] = protocol;
    header[12..16].copy_from_slice(&src.to_be_bytes());
    header[16..].copy_from_slice(&dst.to_be_bytes());
    (header, Sum::of(&header).fold())
}

/// Changes the protocol of a header, and its checksum with it.
pub(crate) fn set_protocol(header: &mut [u8; HEADER_LEN], protocol: u8) {
    let (old, checksum) = (be16(header, 8), be16(header, 10));
    header[9] = protocol;
    let checksum = checksum::update_u16(checksum, old, be16(header, 8));
    put16(header, 10, checksum);
}

/// Completes a copy of a template for a packet of `total_len` bytes, header included. `sum` is the template's, `tos` what
/// of the TOS byte the template has clear, and `own_tos` what it has set.
#[inline(always)]
pub(crate) fn stamp(
    header: &mut [u8; HEADER_LEN],
    sum: u16,
    total_len: u16,
    ident: u16,
    tos: u8,
    own_tos: u8,
) {
    let sum = u32::from(sum) + u32::from(total_len) + u32::from(ident) + u32::from(tos);
    header[1] = own_tos | tos;
    put16(header, 2, total_len);
    put16(header, 4, ident);
    put16(header, 10, finish(sum));
}

/// The checksum of words whose sum is this.
#[inline(always)]
pub(crate) const fn finish(sum: u32) -> u16 {
    // The high half has the sum of both.
    !(sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}
