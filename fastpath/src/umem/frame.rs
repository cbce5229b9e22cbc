//! The right to a part of the UMEM.

use margay_flowtable::PortId;

/// One frame: the right to one chunk of the UMEM, or to one large buffer, and where in it the packet lies. Not `Clone`:
/// whoever holds the `Frame` owns the bytes. Dropping one leaks its memory, so every path hands frames on or back to the
/// pool.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a frame that is dropped is a chunk lost"]
pub struct Frame {
    /// Offset of the packet's first byte in the UMEM, and how long it is. It never reaches beyond the memory that the frame
    /// is the right to: what makes a frame and what moves its packet see to that, all of it in `umem.rs`.
    pub(super) addr: u64,
    pub(super) len: u32,
    /// Whether that memory is a large buffer.
    pub(super) is_large: bool,
    /// Port that it came in by.
    pub port: PortId,
    /// Of a frame to send: offset of the L4 header that the checksum starts at, and of the field from there, where a local
    /// sender left the checksum to its device and the port takes such (`csum_offset` 0: nothing is left to do).
    pub csum_start: u16,
    pub csum_offset: u16,
    /// The packet's end is missing: there was no buffer for all of it.
    pub is_cut: bool,
    /// Bytes that the port has taken off its front: a VLAN tag.
    pub(crate) stripped: u8,
    /// Whether it is several packets in one, and how many bytes of payload each of these has, where that is told.
    pub gso: Gso,
    pub gso_size: u16,
}

// More would be another two words to move from burst to burst.
const _: () = assert!(size_of::<Frame>() == 24);

/// What a port says of a packet that may be several in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gso {
    /// Nothing: no packet that comes in there is.
    Never,
    /// Nothing, but the kernel had it as an skb before: where it is longer than the port's MTU it is several.
    Untold,
    /// It is one.
    One,
    /// Segments of TCP, in tunnels or not.
    Tcp,
    /// Datagrams of UDP, in no tunnel; a tunnel's packets may be such.
    Udp,
    /// Datagrams of UDP that are in one tunnel packet.
    UdpInTunnel,
    /// What is not cut here: of SCTP.
    Other,
}

impl Frame {
    /// Offset of the packet's first byte in the UMEM.
    #[inline]
    pub(crate) fn addr(&self) -> u64 {
        self.addr
    }

    /// Offset one past the packet.
    #[inline]
    pub(super) fn end(&self) -> u64 {
        self.addr + u64::from(self.len)
    }

    /// Length of the packet in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether it is the right to a large buffer.
    #[inline]
    pub fn is_large(&self) -> bool {
        self.is_large
    }
}
