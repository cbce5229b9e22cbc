//! What goes before a packet: the Ethernet header of its adjacency, and inside a tunnel the outer headers.
//!
//! All of it is known when the route is: a [`Template`] is made once, copied before each packet, and patched with what
//! differs from packet to packet. The caller has moved the frame's start forward by [`Template::overhead`] and has cut
//! the frame to where the packet ends; the packet itself is not touched.

use crate::bytes::put16;
use crate::ethernet::{self, ethertype};
use crate::ipv4::{self, DONT_FRAGMENT, ecn};
use crate::outer::{DontFragment, Dscp, Outer, Ttl};
use crate::parse::Headers;
use crate::protocol;
use crate::udp;
use crate::vxlan;

mod over_ipv6;

const IP: usize = ethernet::HEADER_LEN;
const UDP: usize = IP + ipv4::HEADER_LEN;
const VXLAN: usize = UDP + udp::HEADER_LEN;
const INNER: usize = VXLAN + vxlan::HEADER_LEN;
/// The longest template over IPv4: exactly a cache line.
const LEN: usize = INNER + ethernet::HEADER_LEN;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    Ipip,
    Vxlan,
    /// Of whose outer header more than ECN is the inner packet's.
    FollowingVxlan,
    VxlanOverIpv6,
}

/// Which bits of a packet's header the outer one takes over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Followed {
    tos: u8,
    ttl: u8,
    flags: u16,
}

impl Followed {
    fn by(outer: Outer) -> Self {
        Self {
            tos: if outer.dscp == Dscp::Copy { u8::MAX } else { ecn::MASK },
            ttl: if outer.ttl == Ttl::Inherit { u8::MAX } else { 0 },
            flags: if outer.dont_fragment == DontFragment::Copy { DONT_FRAGMENT } else { 0 },
        }
    }

    fn is_more_than_ecn(self) -> bool {
        self != Self { tos: ecn::MASK, ..Self::default() }
    }
}

/// The bytes before a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Template {
    bytes: [u8; over_ipv6::LEN],
    /// Of the outer IP header's words that are the same for every packet; over IPv6 of the pseudo header's.
    sum: u16,
    overhead: u16,
    followed: Followed,
    kind: Kind,
    /// Over IPv6: there is a UDP checksum.
    is_summed: bool,
}

/// The two VTEPs of a VXLAN tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vteps {
    /// Of 24 bits.
    pub vni: u32,
    /// The receiver's UDP port.
    pub udp_port: u16,
    pub src_mac: [u8; 6],
    pub dst_mac: [u8; 6],
}

impl Template {
    /// To the neighbour `dst_mac`, in no tunnel.
    pub fn plain(dst_mac: [u8; 6], src_mac: [u8; 6]) -> Self {
        let mut bytes = [0; over_ipv6::LEN];
        ethernet::write(&mut bytes, dst_mac, src_mac, ethertype::IPV4);
        let followed = Followed::default();
        Self { bytes, sum: 0, overhead: 0, followed, kind: Kind::Plain, is_summed: false }
    }

    /// The same in IP-in-IP (RFC 2003) between two tunnel ends.
    #[must_use]
    pub fn ipip(self, src: u32, dst: u32, outer: Outer) -> Self {
        self.tunnelled(src, dst, protocol::IPIP, outer, Kind::Ipip, UDP)
    }

    /// The same in VXLAN over IPv4 (RFC 7348) between two tunnel ends. The UDP checksum is 0 (RFC 7348 5).
    #[must_use]
    pub fn vxlan(self, src: u32, dst: u32, vteps: &Vteps, outer: Outer) -> Self {
        debug_assert!(vteps.vni <= vxlan::MAX_VNI);
        let follows = Followed::by(outer).is_more_than_ecn();
        let kind = if follows { Kind::FollowingVxlan } else { Kind::Vxlan };
        let mut template = self.tunnelled(src, dst, protocol::UDP, outer, kind, LEN);
        put16(&mut template.bytes, UDP + 2, vteps.udp_port);
        template.bytes[VXLAN..INNER].copy_from_slice(&vxlan::header(vteps.vni));
        ethernet::write(&mut template.bytes[INNER..], vteps.dst_mac, vteps.src_mac, ethertype::IPV4);
        template
    }

    fn tunnelled(mut self, src: u32, dst: u32, protocol: u8, outer: Outer, kind: Kind, len: usize) -> Self {
        let flags = if outer.dont_fragment == DontFragment::Set { DONT_FRAGMENT } else { 0 };
        let (header, sum) = ipv4::template(src, dst, protocol, outer.tos(), outer.ttl(), flags);
        self.bytes[IP..UDP].copy_from_slice(&header);
        Self { sum, kind, followed: Followed::by(outer), overhead: (len - IP) as u16, ..self }
    }

    /// Bytes of IP packet that the tunnel adds: RFC 2003 3 (20), RFC 7348 5 (20 or 40, + 8 + 8 + 14); 0 without one.
    #[inline]
    pub const fn overhead(&self) -> u16 {
        self.overhead
    }

    /// Whether the packet's own checksum may be left for the receiver's device to complete: no outer header is between
    /// but VXLAN over IPv4, whose UDP checksum is 0.
    #[inline]
    pub const fn may_leave_checksum(&self) -> bool {
        matches!(self.kind, Kind::Plain | Kind::Vxlan | Kind::FollowingVxlan)
    }

    /// Writes the headers over the first bytes of `frame`, which ends with the packet, at offset 14 and the overhead.
    /// Returns the packet's own IP header.
    ///
    /// `ttl` is that with which the packet leaves, and all else of it is as it leaves. `ident` is the outer
    /// identification, which means something only without DF (RFC 6864 4.1); `source_port` is [`vxlan::source_port`] of
    /// the flow. Of `inner`, only what does not depend on offsets is used.
    ///
    /// Panics if the frame is shorter than the headers.
    #[inline(always)]
    pub fn write<'f>(
        &self,
        frame: &'f mut [u8],
        inner: &Headers,
        ttl: u8,
        source_port: u16,
        ident: u16,
    ) -> &'f mut [u8; ipv4::HEADER_LEN] {
        let total_len = (frame.len() - IP) as u16;
        match self.kind {
            Kind::Plain => self.copy::<IP>(frame).1,
            Kind::Ipip => {
                let (room, packet) = self.copy::<UDP>(frame);
                self.follow(ip(room), inner, total_len, ttl, ident);
                packet
            }
            Kind::Vxlan => {
                let (room, packet) = self.copy::<LEN>(frame);
                let tos = inner.tos() & ecn::MASK;
                ipv4::stamp(ip(room), self.sum, total_len, ident, tos, self.bytes[IP + 1]);
                stamp_udp(room, source_port, total_len);
                packet
            }
            Kind::FollowingVxlan => {
                let (room, packet) = self.copy::<LEN>(frame);
                self.follow(ip(room), inner, total_len, ttl, ident);
                stamp_udp(room, source_port, total_len);
                packet
            }
            Kind::VxlanOverIpv6 => self.write_over_ipv6(frame, inner, ttl, source_port),
        }
    }

    /// The same before a packet of IPv6.
    pub fn write6<'f>(
        &self,
        frame: &'f mut [u8],
        inner: &Headers,
        ttl: u8,
        source_port: u16,
        ident: u16,
    ) -> &'f mut [u8; ipv4::HEADER_LEN] {
        self.write(frame, inner, ttl, source_port, ident);
        let ethertype = ethertype::IPV6.to_be_bytes();
        let packet = match self.kind {
            Kind::Plain => {
                frame[IP - 2..IP].copy_from_slice(&ethertype);
                IP
            }
            Kind::Ipip => {
                let header: &mut [u8; ipv4::HEADER_LEN] =
                    frame[IP..].first_chunk_mut().expect("a tunnel's room has an IP header");
                ipv4::set_protocol(header, protocol::IPV6);
                UDP
            }
            Kind::Vxlan | Kind::FollowingVxlan => {
                frame[LEN - 2..LEN].copy_from_slice(&ethertype);
                LEN
            }
            Kind::VxlanOverIpv6 => over_ipv6::LEN,
        };
        frame[packet..].first_chunk_mut().expect("a packet behind the headers")
    }

    #[inline(always)]
    fn copy<'f, const N: usize>(
        &self,
        frame: &'f mut [u8],
    ) -> (&'f mut [u8; N], &'f mut [u8; ipv4::HEADER_LEN]) {
        let (room, packet) = frame.split_first_chunk_mut().expect("room for the headers");
        *room = *self.bytes.first_chunk().expect("no header is longer than the template");
        (room, packet.first_chunk_mut().expect("a packet behind the headers"))
    }

    /// Completes an outer header that takes over more than ECN.
    #[inline(always)]
    fn follow(
        &self,
        header: &mut [u8; ipv4::HEADER_LEN],
        inner: &Headers,
        total_len: u16,
        ttl: u8,
        ident: u16,
    ) {
        let Followed { tos: tos_mask, ttl: ttl_mask, flags } = self.followed;
        // What is taken over the template has clear.
        let (tos, ttl) = (inner.tos() & tos_mask, ttl & ttl_mask);
        let flags = if inner.dont_fragment() { flags } else { 0 };
        let sum = u32::from(self.sum) + u32::from(u16::from_be_bytes([ttl, 0])) + u32::from(flags);
        header[1] = self.bytes[IP + 1] | tos;
        put16(header, 2, total_len);
        put16(header, 4, ident);
        header[6] = self.bytes[IP + 6] | (flags >> 8) as u8;
        header[8] = self.bytes[IP + 8] | ttl;
        put16(header, 10, ipv4::finish(sum + u32::from(tos) + u32::from(total_len) + u32::from(ident)));
    }
}

#[inline(always)]
fn ip(room: &mut [u8]) -> &mut [u8; ipv4::HEADER_LEN] {
    room[IP..].first_chunk_mut().expect("a tunnel's room has an IP header")
}

#[inline(always)]
fn stamp_udp(room: &mut [u8; LEN], source_port: u16, total_len: u16) {
    put16(room, UDP, source_port);
    put16(room, UDP + 4, total_len - ipv4::HEADER_LEN as u16);
}
