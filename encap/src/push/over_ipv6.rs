//! VXLAN over IPv6: longer headers, and a UDP checksum over all that follows.

use core::net::Ipv6Addr;

use super::{Followed, IP, Kind, Template, Vteps};
use crate::bytes::put16;
use crate::checksum::{Sum, pseudo_header_v6};
use crate::ethernet::{self, ethertype};
use crate::ipv4;
use crate::ipv6;
use crate::outer::Outer;
use crate::parse::Headers;
use crate::protocol;
use crate::udp;
use crate::vxlan;

const UDP: usize = IP + ipv6::HEADER_LEN;
const VXLAN: usize = UDP + udp::HEADER_LEN;
const INNER: usize = VXLAN + vxlan::HEADER_LEN;
pub(super) const LEN: usize = INNER + ethernet::HEADER_LEN;

/// Where in a header of IPv6 the hop limit stands.
const HOP_LIMIT: usize = 7;

impl Template {
    /// The same in VXLAN over IPv6 between two tunnel ends. The flow label is 0, as that of Linux' VXLAN device without
    /// options: the source port tells flows apart. Without the checksum receivers have to be told (RFC 6936 4).
    #[must_use]
    pub fn vxlan_over_ipv6(
        mut self,
        src: Ipv6Addr,
        dst: Ipv6Addr,
        vteps: &Vteps,
        outer: Outer,
        udp_checksum: bool,
    ) -> Self {
        debug_assert!(vteps.vni <= vxlan::MAX_VNI);
        self.bytes[IP - 2..IP].copy_from_slice(&ethertype::IPV6.to_be_bytes());
        self.bytes[IP..UDP].copy_from_slice(&ipv6::header(src, dst, protocol::UDP, outer.ttl(), 0));
        set_traffic_class(&mut self.bytes, outer.tos());
        put16(&mut self.bytes, UDP + 2, vteps.udp_port);
        self.bytes[VXLAN..INNER].copy_from_slice(&vxlan::header(vteps.vni));
        ethernet::write(&mut self.bytes[INNER..], vteps.dst_mac, vteps.src_mac, ethertype::IPV4);
        Self {
            sum: pseudo_header_v6(src.to_bits(), dst.to_bits(), protocol::UDP, 0).fold(),
            overhead: (LEN - IP) as u16,
            followed: Followed::by(outer),
            kind: Kind::VxlanOverIpv6,
            is_summed: udp_checksum,
            ..self
        }
    }

    #[inline(never)]
    pub(super) fn write_over_ipv6<'f>(
        &self,
        frame: &'f mut [u8],
        inner: &Headers,
        ttl: u8,
        source_port: u16,
    ) -> &'f mut [u8; ipv4::HEADER_LEN] {
        let len = (frame.len() - UDP) as u16;
        let room: &mut [u8; LEN] = frame.first_chunk_mut().expect("room for the headers");
        *room = self.bytes;
        set_traffic_class(room, inner.tos() & self.followed.tos);
        put16(room, IP + 4, len);
        room[IP + HOP_LIMIT] |= ttl & self.followed.ttl;
        put16(room, UDP, source_port);
        put16(room, UDP + 4, len);
        if inner.is_ipv6() {
            put16(room, LEN - 2, ethertype::IPV6);
        }
        if self.is_summed {
            let checksum = self.checksum(frame, len, inner.is_ipv6().then_some(ttl));
            frame[UDP + udp::CHECKSUM_OFFSET..VXLAN].copy_from_slice(&checksum.to_be_bytes());
        }
        frame[LEN..].first_chunk_mut().expect("a packet behind the headers")
    }

    /// The checksum of the datagram, which is so long, as it leaves. The header of a packet of IPv4 adds up to the same
    /// whatever its TTL, for it has its own checksum; one of IPv6 leaves with `hop_limit`.
    fn checksum(&self, frame: &[u8], len: u16, hop_limit: Option<u8>) -> u16 {
        let mut sum = Sum::of(&frame[UDP..]).add_u16(self.sum).add_u16(len);
        if let Some(hop_limit) = hop_limit {
            let now = frame[LEN + HOP_LIMIT];
            sum = sum.add_u16(!u16::from(now)).add_u16(hop_limit.into());
        }
        match sum.finish() {
            // 0 would say that there is none (RFC 768).
            0 => u16::MAX,
            checksum => checksum,
        }
    }
}

/// Sets these bits of the traffic class, which lies across two bytes.
fn set_traffic_class(bytes: &mut [u8; LEN], bits: u8) {
    bytes[IP] |= bits >> 4;
    bytes[IP + 1] |= bits << 4;
}
