//! What goes before a packet: the Ethernet header of its adjacency, and inside a tunnel the outer headers.
//!
//! All of it is known when the route is: a [`Template`] is made once, copied before each packet, and patched with what
//! differs from packet to packet. The caller has moved the frame's start forward by [`Template::overhead`] and has cut
//! the frame to where the packet ends; the packet itself is not touched.

use crate::bytes::put16;
use crate::ethernet::{self, ethertype};
use crate::ipv4::{self, ecn};
use crate::parse::Headers;
use crate::protocol;
use crate::udp;
use crate::vxlan;

/// TTL of outer headers: a tunnel is one hop to the inner packet, whatever its own TTL (RFC 2003 3.1). Linux'
/// default.
const OUTER_TTL: u8 = 64;

const IP: usize = ethernet::HEADER_LEN;
const UDP: usize = IP + ipv4::HEADER_LEN;
const VXLAN: usize = UDP + udp::HEADER_LEN;
const INNER: usize = VXLAN + vxlan::HEADER_LEN;
/// The longest template: exactly a cache line.
const LEN: usize = INNER + ethernet::HEADER_LEN;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    Ipip,
    Vxlan,
}

/// The bytes before a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template {
    bytes: [u8; LEN],
    /// Of the outer IP header's words that are the same for every packet.
    sum: u16,
    overhead: u16,
    kind: Kind,
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
        let mut bytes = [0; LEN];
        ethernet::write(&mut bytes, dst_mac, src_mac, ethertype::IPV4);
        Self { bytes, sum: 0, overhead: 0, kind: Kind::Plain }
    }

    /// The same in IP-in-IP (RFC 2003) between two tunnel ends.
    #[must_use]
    pub fn ipip(self, src: u32, dst: u32) -> Self {
        self.tunnelled(src, dst, protocol::IPIP, Kind::Ipip, UDP)
    }

    /// The same in VXLAN over IPv4 (RFC 7348) between two tunnel ends. The UDP checksum is 0 (RFC 7348 5).
    #[must_use]
    pub fn vxlan(self, src: u32, dst: u32, vteps: &Vteps) -> Self {
        debug_assert!(vteps.vni <= vxlan::MAX_VNI);
        let mut template = self.tunnelled(src, dst, protocol::UDP, Kind::Vxlan, LEN);
        put16(&mut template.bytes, UDP + 2, vteps.udp_port);
        template.bytes[VXLAN..INNER].copy_from_slice(&vxlan::header(vteps.vni));
        ethernet::write(&mut template.bytes[INNER..], vteps.dst_mac, vteps.src_mac, ethertype::IPV4);
        template
    }

    fn tunnelled(mut self, src: u32, dst: u32, protocol: u8, kind: Kind, len: usize) -> Self {
        let (header, sum) = ipv4::template(src, dst, protocol, OUTER_TTL);
        self.bytes[IP..UDP].copy_from_slice(&header);
        Self { sum, kind, overhead: (len - IP) as u16, ..self }
    }

    /// Bytes of IP packet that the tunnel adds: RFC 2003 3 (20), RFC 7348 5 (20 + 8 + 8 + 14); 0 without one.
    #[inline]
    pub const fn overhead(&self) -> u16 {
        self.overhead
    }

    /// Writes the headers over the first bytes of `frame`, which ends with the packet, at offset 14 and the overhead.
    /// Returns the packet's own IP header.
    ///
    /// The outer ECN field is the inner one's (RFC 6040 4.1, normal mode), DSCP is 0 as Linux' tunnels by default. DF
    /// inside IP-in-IP is DF outside (RFC 2003 3.1); VXLAN has it clear, as Linux' device. `ident` is the outer
    /// identification, which means something only without DF (RFC 6864 4.1); `source_port` is
    /// [`vxlan::source_port`] of the flow. Of `inner`, only what does not depend on offsets is used.
    ///
    /// Panics if the frame is shorter than the headers.
    #[inline(always)]
    pub fn write<'f>(
        &self,
        frame: &'f mut [u8],
        inner: &Headers,
        source_port: u16,
        ident: u16,
    ) -> &'f mut [u8; ipv4::HEADER_LEN] {
        let total_len = (frame.len() - IP) as u16;
        match self.kind {
            Kind::Plain => self.copy::<IP>(frame).1,
            Kind::Ipip => {
                let (room, packet) = self.copy::<UDP>(frame);
                self.stamp(room, total_len, inner, ident, inner.dont_fragment());
                packet
            }
            Kind::Vxlan => {
                let (room, packet) = self.copy::<LEN>(frame);
                self.stamp(room, total_len, inner, ident, false);
                put16(room, UDP, source_port);
                put16(room, UDP + 4, total_len - ipv4::HEADER_LEN as u16);
                packet
            }
        }
    }

    /// The same before a packet of IPv6.
    pub fn write6<'f>(
        &self,
        frame: &'f mut [u8],
        inner: &Headers,
        source_port: u16,
        ident: u16,
    ) -> &'f mut [u8; ipv4::HEADER_LEN] {
        self.write(frame, inner, source_port, ident);
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
            Kind::Vxlan => {
                frame[LEN - 2..LEN].copy_from_slice(&ethertype);
                LEN
            }
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

    #[inline(always)]
    fn stamp(&self, room: &mut [u8], total_len: u16, inner: &Headers, ident: u16, dont_fragment: bool) {
        let header = room[IP..].first_chunk_mut().expect("a tunnel's room has an IP header");
        ipv4::stamp(header, self.sum, total_len, inner.tos() & ecn::MASK, ident, dont_fragment);
    }
}
