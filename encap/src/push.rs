//! Origination of tunnels: outer headers written into the room in front of a packet.
//!
//! The caller has moved the frame's start forward so that an Ethernet header and the tunnel's [`OVERHEAD`] fit before
//! the inner IP packet, and has cut the frame to where that packet ends. The first 14 bytes stay for the adjacency's
//! Ethernet header; the inner packet is not touched. What a tunnel's packets share is built once, in a template.
//!
//! [`OVERHEAD`]: IpipTemplate::OVERHEAD

use crate::ethernet::{self, ethertype};
use crate::ipv4::{self, Template, ecn};
use crate::parse::Headers;
use crate::protocol;
use crate::udp;
use crate::vxlan;

/// TTL of outer headers: a tunnel is one hop to the inner packet, whatever its own TTL (RFC 2003 3.1). Linux'
/// default.
const OUTER_TTL: u8 = 64;

/// The outer TOS: the inner ECN field as it is (RFC 6040 4.1, normal mode), DSCP 0 as Linux' tunnels by default.
#[inline]
fn outer_tos(inner: &Headers) -> u8 {
    inner.tos & ecn::MASK
}

/// IP-in-IP (RFC 2003) between two tunnel ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpipTemplate {
    outer: Template,
}

impl IpipTemplate {
    /// Bytes of IP packet that the tunnel adds.
    pub const OVERHEAD: usize = ipv4::HEADER_LEN;

    pub fn new(src: u32, dst: u32) -> Self {
        Self { outer: Template::new(src, dst, protocol::IPIP, OUTER_TTL) }
    }

    /// Writes the outer header at offset 14 of `frame`, which ends with the inner packet at offset 34. DF inside is
    /// DF outside (RFC 2003 3.1). `ident` is the outer identification, which means something only without DF (RFC
    /// 6864 4.1). Of `inner`, only what does not depend on offsets is used.
    ///
    /// Panics if the frame is shorter than its headers.
    #[inline]
    pub fn write(&self, frame: &mut [u8], inner: &Headers, ident: u16) {
        let total_len = (frame.len() - ethernet::HEADER_LEN) as u16;
        let room = frame[ethernet::HEADER_LEN..].first_chunk_mut().expect("room for the outer header");
        self.outer.write(room, total_len, outer_tos(inner), ident, inner.dont_fragment);
    }
}

/// VXLAN over IPv4 (RFC 7348) between two tunnel ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VxlanTemplate {
    outer: Template,
    /// Behind the UDP length: checksum 0 (RFC 7348 5), the VXLAN header and the inner Ethernet header.
    behind_length: [u8; 2 + vxlan::HEADER_LEN + ethernet::HEADER_LEN],
    udp_port: [u8; 2],
}

impl VxlanTemplate {
    /// Bytes of IP packet that the tunnel adds.
    pub const OVERHEAD: usize = ipv4::HEADER_LEN + udp::HEADER_LEN + vxlan::HEADER_LEN + ethernet::HEADER_LEN;

    /// `vni` is of 24 bits; `udp_port` is the receiver's; the MACs are those of the two VTEPs.
    pub fn new(
        src: u32,
        dst: u32,
        vni: u32,
        udp_port: u16,
        inner_src_mac: [u8; 6],
        inner_dst_mac: [u8; 6],
    ) -> Self {
        debug_assert!(vni <= vxlan::MAX_VNI);
        let mut behind_length = [0; 2 + vxlan::HEADER_LEN + ethernet::HEADER_LEN];
        let (vxlan_header, inner_ethernet) = behind_length[2..].split_at_mut(vxlan::HEADER_LEN);
        vxlan_header.copy_from_slice(&vxlan::header(vni));
        ethernet::write(inner_ethernet, inner_dst_mac, inner_src_mac, ethertype::IPV4);
        Self {
            outer: Template::new(src, dst, protocol::UDP, OUTER_TTL),
            behind_length,
            udp_port: udp_port.to_be_bytes(),
        }
    }

    /// Writes the outer headers at offset 14 of `frame`, which ends with the inner packet at offset 64. DF is clear
    /// outside, as with Linux' device. `source_port` is [`vxlan::source_port`] of the flow; `ident` is the outer
    /// identification. Of `inner`, only what does not depend on offsets is used.
    ///
    /// Panics if the frame is shorter than its headers.
    #[inline]
    pub fn write(&self, frame: &mut [u8], inner: &Headers, source_port: u16, ident: u16) {
        let total_len = (frame.len() - ethernet::HEADER_LEN) as u16;
        let room: &mut [u8; Self::OVERHEAD] =
            frame[ethernet::HEADER_LEN..].first_chunk_mut().expect("room for the outer headers");
        let (ip, rest) = room.split_first_chunk_mut().expect("longer than an IPv4 header");
        self.outer.write(ip, total_len, outer_tos(inner), ident, false);
        rest[..2].copy_from_slice(&source_port.to_be_bytes());
        rest[2..4].copy_from_slice(&self.udp_port);
        rest[4..6].copy_from_slice(&(total_len - ipv4::HEADER_LEN as u16).to_be_bytes());
        rest[6..].copy_from_slice(&self.behind_length);
    }
}
