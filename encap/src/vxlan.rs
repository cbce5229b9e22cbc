//! VXLAN header (RFC 7348 5).

use crate::bytes::be32;

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;
/// IANA's UDP port; Calico uses it too.
pub const PORT: u16 = 4789;
/// The I flag: the VNI is valid.
pub const FLAG_VNI: u8 = 0x08;
/// VNIs are of 24 bits.
pub const MAX_VNI: u32 = 0x00ff_ffff;

/// The header.
#[derive(Clone, Copy, Debug)]
pub struct Vxlan<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Vxlan<'a> {
    /// `None` if the bytes are fewer than the header.
    #[inline]
    pub fn new(payload: &'a [u8]) -> Option<Self> {
        payload.first_chunk().map(Self)
    }

    /// The I flag. All other bits are reserved and ignored on receipt.
    #[inline]
    pub fn has_vni(self) -> bool {
        self.0[0] & FLAG_VNI != 0
    }

    #[inline]
    pub fn vni(self) -> u32 {
        be32(self.0, 4) >> 8
    }
}

/// The header's bytes for a VNI; bits of it above the 24 are lost.
pub(crate) fn header(vni: u32) -> [u8; HEADER_LEN] {
    let [a, b, c, d] = (vni << 8).to_be_bytes();
    [FLAG_VNI, 0, 0, 0, a, b, c, d]
}

/// The outer UDP source port of a flow: from the dynamic range that RFC 7348 5 recommends, 49152 to 65535, so that
/// the underlay spreads flows over its paths and the receiver over its queues. The low bits of `hash` are as good as
/// any.
#[inline]
pub const fn source_port(hash: u64) -> u16 {
    0xc000 | hash as u16
}
