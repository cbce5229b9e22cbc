//! ICMP errors that a router sends (RFC 792, RFC 1812 4.3): whether a packet may be answered with one, and its
//! bytes.

use crate::checksum::Sum;
use crate::ethernet::Ethernet;
use crate::icmp::{self, kind, unreachable};
use crate::ipv4;
use crate::parse::Headers;
use crate::protocol;

/// Bytes of an error's IP packet at most (RFC 1812 4.3.2.3): what every host takes.
pub const MAX_LEN: usize = 576;

/// IP and ICMP header, in front of the quote.
const HEADERS_LEN: usize = ipv4::HEADER_LEN + icmp::HEADER_LEN;
const TTL: u8 = 64;
/// Precedence 6, internetwork control, and the type of service of the packet that is answered (RFC 1812 4.3.2.5), but for what
/// is ECN today: nobody asked the error's way whether it marks.
const PRECEDENCE: u8 = 0xc0;
const TYPE_OF_SERVICE: u8 = 0x1c;

/// What is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpError {
    /// The TTL ran out in transit.
    TimeExceeded,
    /// The packet has DF and is longer than `mtu`, the bytes of IP packet that the next hop takes (RFC 1191 4).
    FragmentationNeeded { mtu: u16 },
    /// Destination Unreachable with one of the codes of [`icmp::unreachable`].
    Unreachable { code: u8 },
}

impl IcmpError {
    /// Type, code, and the second half of the word behind the checksum; its first half is unused.
    const fn fields(self) -> (u8, u8, u16) {
        match self {
            Self::TimeExceeded => (kind::TIME_EXCEEDED, 0, 0),
            Self::FragmentationNeeded { mtu } => {
                (kind::DESTINATION_UNREACHABLE, unreachable::FRAGMENTATION_NEEDED, mtu)
            }
            Self::Unreachable { code } => (kind::DESTINATION_UNREACHABLE, code, 0),
        }
    }

    /// Writes the whole IP packet that reports this from `src`, an address of the router, to the sender of the
    /// packet at `offending` of `frame`, and returns its length: at most [`MAX_LEN`]. It quotes as much as fits
    /// into that and into `packet`.
    ///
    /// Panics if `packet` is shorter than 28 bytes.
    pub fn write(self, packet: &mut [u8], src: u32, ident: u16, frame: &[u8], offending: &Headers) -> usize {
        let quote = &frame[usize::from(offending.l3())..offending.end() as usize];
        let quote = &quote[..quote.len().min(MAX_LEN.min(packet.len()) - HEADERS_LEN)];
        let len = HEADERS_LEN + quote.len();
        let (ip, message) = packet[..len].split_first_chunk_mut().expect("room for the IPv4 header");
        let tos = PRECEDENCE | (offending.tos() & TYPE_OF_SERVICE);
        let (template, sum) = ipv4::template(src, offending.src(), protocol::ICMP, tos, TTL, 0);
        *ip = template;
        ipv4::stamp(ip, sum, len as u16, ident, 0, tos);

        let (kind, code, mtu) = self.fields();
        let [mtu_high, mtu_low] = mtu.to_be_bytes();
        message[..icmp::HEADER_LEN].copy_from_slice(&[kind, code, 0, 0, 0, 0, mtu_high, mtu_low]);
        message[icmp::HEADER_LEN..].copy_from_slice(quote);
        let checksum = Sum::of(message).finish();
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        len
    }
}

/// Whether an error about this packet may be sent (RFC 1122 3.2.2, RFC 1812 4.3.2.7): not about an ICMP message that
/// is an error or of no known query type, nor about a fragment other than the first, nor about what was for many (by
/// its MAC or by its address), nor to a source that is not one host. A subnet's broadcast address takes a route to know.
///
/// `headers` are those parsed from `frame`, whose destination MAC is still the one that it came with. (In front of a
/// packet pulled from IP-in-IP stands the outer header's flags byte instead, whose low bit is 0: not a fragment.)
pub fn may_answer(headers: &Headers, frame: &[u8]) -> bool {
    let about_icmp = headers.protocol() == protocol::ICMP && !icmp::has_identifier(headers.icmp_type());
    let for_many = Ethernet::new(frame).is_none_or(Ethernet::is_group) || is_group_or_reserved(headers.dst());
    !about_icmp && !headers.is_later_fragment() && !for_many && is_host(headers.src())
}

/// 224.0.0.0/4 and 240.0.0.0/4, the limited broadcast address among them.
const fn is_group_or_reserved(address: u32) -> bool {
    address >= 0xe000_0000
}

/// Neither network 0, loopback, multicast, class E nor limited broadcast (RFC 1812 5.3.7).
const fn is_host(address: u32) -> bool {
    !matches!(address >> 24, 0 | 127) && !is_group_or_reserved(address)
}
