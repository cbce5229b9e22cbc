//! Ethernet II header (IEEE 802.3 3.2.6).

use crate::bytes::{be16, mac};

/// Bytes of the header, without a VLAN tag.
pub const HEADER_LEN: usize = 14;
/// The address of every station on a link.
pub const BROADCAST: [u8; 6] = [0xff; 6];

/// `EtherTypes` (IEEE 802 Numbers, IANA).
pub mod ethertype {
    pub const IPV4: u16 = 0x0800;
    pub const ARP: u16 = 0x0806;
    /// 802.1Q customer tag.
    pub const VLAN: u16 = 0x8100;
    pub const IPV6: u16 = 0x86dd;
    /// 802.1ad service tag.
    pub const QINQ: u16 = 0x88a8;
}

/// The header at the front of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Ethernet<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Ethernet<'a> {
    /// `None` if the bytes are fewer than the header.
    #[inline]
    pub fn new(frame: &'a [u8]) -> Option<Self> {
        frame.first_chunk().map(Self)
    }

    #[inline]
    pub fn dst(self) -> [u8; 6] {
        mac(self.0, 0)
    }

    #[inline]
    pub fn src(self) -> [u8; 6] {
        mac(self.0, 6)
    }

    #[inline]
    pub fn ethertype(self) -> u16 {
        be16(self.0, 12)
    }

    /// Whether the frame is for a group, broadcast included: the I/G bit (IEEE 802.3 3.2.3.1).
    #[inline]
    pub fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }
}

/// Writes a header over the first [`HEADER_LEN`] bytes of `frame`.
///
/// Panics if the frame is shorter.
#[inline]
pub fn write(frame: &mut [u8], dst: [u8; 6], src: [u8; 6], ethertype: u16) {
    frame[..6].copy_from_slice(&dst);
    frame[6..12].copy_from_slice(&src);
    frame[12..HEADER_LEN].copy_from_slice(&ethertype.to_be_bytes());
}
