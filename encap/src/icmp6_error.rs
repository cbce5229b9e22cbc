//! ICMPv6 errors that a router sends (RFC 4443): whether a packet may be answered with one, and its bytes.

use core::net::Ipv6Addr;

use crate::checksum::{Sum, pseudo_header_v6};
use crate::ethernet::Ethernet;
use crate::icmp::{self, HEADER_LEN};
use crate::icmp_error::IcmpError;
use crate::icmp6::{self, kind, unreachable};
use crate::ipv6;
use crate::parse::{Headers, addresses6};
use crate::protocol;

/// Bytes of an error's IP packet at most (RFC 4443 2.4 c): what every link carries.
pub const MAX_LEN: usize = ipv6::LEAST_MTU as usize;

const HEADERS_LEN: usize = ipv6::HEADER_LEN + HEADER_LEN;
const HOP_LIMIT: u8 = 64;

/// What is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icmp6Error {
    /// The hop limit ran out in transit.
    TimeExceeded,
    /// The packet is longer than `mtu`, the bytes of IP packet that the next hop takes.
    PacketTooBig { mtu: u16 },
    /// Destination Unreachable with one of the codes of [`icmp6::unreachable`].
    Unreachable { code: u8 },
}

impl From<IcmpError> for Icmp6Error {
    /// What says the same of a packet of IPv6.
    fn from(error: IcmpError) -> Self {
        match error {
            IcmpError::TimeExceeded => Self::TimeExceeded,
            IcmpError::FragmentationNeeded { mtu } => Self::PacketTooBig { mtu },
            IcmpError::Unreachable { code: icmp::unreachable::HOST } => {
                Self::Unreachable { code: unreachable::ADDRESS }
            }
            IcmpError::Unreachable { .. } => Self::Unreachable { code: unreachable::NO_ROUTE },
        }
    }
}

impl Icmp6Error {
    /// Type, code, and the word behind the checksum. No sender goes below the least MTU (RFC 8201 4).
    fn fields(self) -> (u8, u8, u32) {
        match self {
            Self::TimeExceeded => (kind::TIME_EXCEEDED, 0, 0),
            Self::PacketTooBig { mtu } => (kind::PACKET_TOO_BIG, 0, mtu.max(ipv6::LEAST_MTU).into()),
            Self::Unreachable { code } => (kind::DESTINATION_UNREACHABLE, code, 0),
        }
    }

    /// Writes the whole IP packet that reports this from `src`, an address of the router, to the sender of the packet at
    /// `offending` of `frame`, and returns its length: at most [`MAX_LEN`]. It quotes as much as fits into that and into
    /// `packet`.
    ///
    /// Panics if `packet` is shorter than 48 bytes.
    pub fn write(self, packet: &mut [u8], src: Ipv6Addr, frame: &[u8], offending: &Headers) -> usize {
        let quote = &frame[usize::from(offending.l3())..offending.end() as usize];
        let quote = &quote[..quote.len().min(MAX_LEN.min(packet.len()) - HEADERS_LEN)];
        let [dst, _] = addresses6(frame, offending);
        let len = HEADER_LEN + quote.len();
        let (header, message) = packet[..ipv6::HEADER_LEN + len].split_at_mut(ipv6::HEADER_LEN);
        header.copy_from_slice(&ipv6::header(src, dst, protocol::ICMPV6, HOP_LIMIT, len as u16));

        let (kind, code, word) = self.fields();
        message[..4].copy_from_slice(&[kind, code, 0, 0]);
        message[4..HEADER_LEN].copy_from_slice(&word.to_be_bytes());
        message[HEADER_LEN..].copy_from_slice(quote);
        let pseudo_header = pseudo_header_v6(src.to_bits(), dst.to_bits(), protocol::ICMPV6, len as u32);
        let checksum = pseudo_header.add(Sum::of(message)).finish();
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        ipv6::HEADER_LEN + len
    }

    /// Whether it may be sent about this packet (RFC 4443 2.4 e): not about an error or a redirect, nor to a source that is not
    /// one node; about what was for many, Packet Too Big alone.
    ///
    /// `headers` are those parsed from `frame`, whose destination MAC is still the one that it came with.
    pub fn may_answer(self, headers: &Headers, frame: &[u8]) -> bool {
        let [src, dst] = addresses6(frame, headers);
        let is_redirect = headers.has_own_icmp() && headers.icmp_type() == icmp6::kind::REDIRECT;
        let for_many = Ethernet::new(frame).is_none_or(Ethernet::is_group) || dst.is_multicast();
        let to_one = !src.is_multicast() && !src.is_unspecified() && !src.is_loopback();
        to_one
            && !headers.is_icmp_error()
            && !is_redirect
            && (!for_many || matches!(self, Self::PacketTooBig { .. }))
    }
}
