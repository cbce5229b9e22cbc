//! Termination of tunnels: where in a tunnel packet the inner IP packet lies, and what its congestion mark becomes.
//!
//! Nothing is moved: the 14 bytes in front of the inner packet are room for its next Ethernet header, so the frame's
//! start goes to [`Inner::frame_start`] and its length to [`Inner::frame_len`], and
//! [`parse_ip`](crate::parse_ip) at offset 14 reads what came out.

mod over_ipv6;

use thiserror::Error;

use crate::checksum;
use crate::ethernet::{self, Ethernet, ethertype};
use crate::ipv4::{self, ecn};
use crate::parse::Headers;
use crate::udp::{self, Udp};
use crate::vxlan::{self, Vxlan};

pub use over_ipv6::vxlan_over_ipv6;

/// Where the inner IP packet lies in the outer frame, as far as the tunnel's own headers tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inner {
    /// Offset of the inner IP header, at least 14.
    pub l3: u16,
    /// Offset one past the tunnel's payload.
    pub end: u32,
}

impl Inner {
    /// Offset in the outer frame at which the inner frame starts: an Ethernet header's length before its IP packet.
    #[inline]
    pub const fn frame_start(&self) -> usize {
        self.l3 as usize - ethernet::HEADER_LEN
    }

    /// Bytes of the inner frame, Ethernet header included.
    #[inline]
    pub const fn frame_len(&self) -> usize {
        self.end as usize - self.frame_start()
    }
}

/// A VXLAN packet's network, its inner destination MAC (the receiving VTEP's), and its inner IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VxlanInner {
    pub vni: u32,
    pub dst_mac: [u8; 6],
    pub src_mac: [u8; 6],
    pub inner: Inner,
}

/// What becomes of a tunnel packet over IPv6 whose sender took no UDP checksum (RFC 6935 5, RFC 6936 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ZeroChecksum {
    #[default]
    Refused,
    Accepted,
}

/// Why a VXLAN packet holds no IP packet for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PullError {
    #[error("tunnel packet ends inside its VXLAN or inner Ethernet header")]
    Truncated,
    #[error("UDP checksum is wrong")]
    BadChecksum,
    #[error("no UDP checksum, over IPv6")]
    NoChecksum,
    #[error("VXLAN header's I flag is clear, so it names no network")]
    NoVni,
    #[error("inner frame is ARP")]
    InnerArp,
    #[error("inner frame has a VLAN tag")]
    InnerVlan,
    #[error("inner frame's EtherType {0:#06x} is not IP")]
    InnerNotIp(u16),
}

/// The inner packet of an IP-in-IP packet (RFC 2003): all that follows the outer header.
///
/// `outer` is of protocol [`IPIP`](crate::protocol::IPIP).
#[inline]
pub fn ipip(outer: &Headers) -> Inner {
    debug_assert_eq!(outer.protocol(), crate::protocol::IPIP);
    Inner { l3: outer.l4(), end: outer.end() }
}

/// The inner packet of a VXLAN packet (RFC 7348 5). Reserved bits are ignored. An outer UDP checksum is not
/// verified: RFC 7348 4.1 leaves that to the receiver, and the inner packet has its own.
///
/// `outer` is of protocol UDP, parsed from `frame`; of the UDP header nothing is taken as seen.
#[inline]
pub fn vxlan(frame: &[u8], outer: &Headers) -> Result<VxlanInner, PullError> {
    debug_assert_eq!(outer.protocol(), crate::protocol::UDP);
    vxlan_at(frame, outer.l4(), outer.end())
}

/// The same of a UDP datagram at `l4` of a packet that ends at `outer_end`.
#[inline(always)]
fn vxlan_at(frame: &[u8], l4: u16, outer_end: u32) -> Result<VxlanInner, PullError> {
    let datagram = frame.get(usize::from(l4)..).ok_or(PullError::Truncated)?;
    let datagram_len = Udp::new(datagram).ok_or(PullError::Truncated)?.datagram_len();
    let end = u32::from(l4) + u32::from(datagram_len);
    // Before anything behind it is looked at: the frame may go on where the datagram does not.
    if usize::from(datagram_len) < udp::HEADER_LEN + vxlan::HEADER_LEN || end > outer_end {
        return Err(PullError::Truncated);
    }
    let payload = &datagram[udp::HEADER_LEN..];
    let vxlan = Vxlan::new(payload).ok_or(PullError::Truncated)?;
    if !vxlan.has_vni() {
        return Err(PullError::NoVni);
    }
    if usize::from(datagram_len) < udp::HEADER_LEN + vxlan::HEADER_LEN + ethernet::HEADER_LEN {
        return Err(PullError::Truncated);
    }
    let ethernet = Ethernet::new(&payload[vxlan::HEADER_LEN..]).ok_or(PullError::Truncated)?;
    match ethernet.ethertype() {
        ethertype::IPV4 | ethertype::IPV6 => {}
        ethertype::ARP => return Err(PullError::InnerArp),
        ethertype::VLAN | ethertype::QINQ => return Err(PullError::InnerVlan),
        other => return Err(PullError::InnerNotIp(other)),
    }
    let l3 = l4 + (udp::HEADER_LEN + vxlan::HEADER_LEN + ethernet::HEADER_LEN) as u16;
    Ok(VxlanInner {
        vni: vxlan.vni(),
        dst_mac: ethernet.dst(),
        src_mac: ethernet.src(),
        inner: Inner { l3, end },
    })
}

/// The outer header says that congestion was met, and the inner packet's transport does not understand that: the
/// packet must be dropped (RFC 6040 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("congestion experienced on the way, and the inner packet is not ECN-capable")]
pub struct EcnError;

/// Whether an outer header with this TOS has a mark to carry over to the inner packet: nearly never.
#[inline]
pub const fn is_marked(outer_tos: u8) -> bool {
    outer_tos & ecn::MASK != ecn::NOT_ECT
}

/// The inner packet's mark, where that has to change.
fn mark(outer_tos: u8, inner_tos: u8) -> Result<Option<u8>, EcnError> {
    match (inner_tos & ecn::MASK, outer_tos & ecn::MASK) {
        (ecn::NOT_ECT, ecn::CE) => Err(EcnError),
        (ecn::ECT0 | ecn::ECT1, ecn::CE) => Ok(Some(ecn::CE)),
        (ecn::ECT0, ecn::ECT1) => Ok(Some(ecn::ECT1)),
        _ => Ok(None),
    }
}

/// Carries the outer header's congestion mark over to the inner packet, as RFC 6040 4.2, figure 4.
///
/// `inner` are the headers parsed from `frame`; returned are those after the change, of the IP checksum too.
#[cold]
pub fn decapsulate_ecn(outer_tos: u8, frame: &mut [u8], mut inner: Headers) -> Result<Headers, EcnError> {
    let Some(mark) = mark(outer_tos, inner.tos())? else { return Ok(inner) };
    let l3 = usize::from(inner.l3());
    let tos = inner.tos() & !ecn::MASK | mark;
    if inner.is_ipv6() {
        // The traffic class lies across two bytes; there is no checksum.
        frame[l3 + 1] = frame[l3 + 1] & !(ecn::MASK << 4) | mark << 4;
        inner.set_tos(tos, 0);
        return Ok(inner);
    }
    let header = &mut frame[l3..l3 + ipv4::HEADER_LEN];
    let old = u16::from_be_bytes([header[0], header[1]]);
    let new = u16::from_be_bytes([header[0], tos]);
    let checksum = checksum::update_u16(inner.checksum(), old, new);
    header[1] = tos;
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    inner.set_tos(tos, checksum);
    Ok(inner)
}
