//! What forwarding changes in a packet, in place.

use crate::bytes::put16;
use crate::checksum::{self, Sum};
use crate::ipv4;
use crate::parse::{Headers, addresses6};
use crate::protocol;
use crate::sctp;
use crate::tcp;
use crate::udp;

/// Takes one from the TTL of an IPv4 header and mends its checksum by the difference (RFC 1812 5.3.1, RFC 1624).
///
/// `headers` are those parsed from it. The caller has seen that the TTL is above 1.
#[inline]
pub fn decrement_ttl(header: &mut [u8; ipv4::HEADER_LEN], headers: &Headers) {
    debug_assert!(headers.ttl() > 1);
    // RFC 1624, equation 3, for a difference of one in the high byte: 0x0100 more, and the carry. Of the two forms of
    // zero the sum never has 0xffff.
    let checksum = u32::from(headers.checksum()) + 0x0100;
    header[8] = headers.ttl().wrapping_sub(1);
    put16(header, 10, (checksum + u32::from(checksum >= 0xffff)) as u16);
}

/// Takes one from the hop limit of an IPv6 header (RFC 8200 3).
///
/// `headers` are those parsed from it. The caller has seen that it is above 1.
pub fn decrement_hop_limit(header: &mut [u8; ipv4::HEADER_LEN], headers: &Headers) {
    debug_assert!(headers.ttl() > 1);
    header[7] = headers.ttl().wrapping_sub(1);
}

/// Computes the transport checksum that a local sender left to its device. `headers` are those parsed from `frame`,
/// whose `checksum_partial()` says that this is called for.
///
/// TCP and UDP: the field holds the pseudo header's sum (see [`checksum::is_partial`]); a UDP checksum of 0 means
/// that there is none, and stays (RFC 768). SCTP: the field is 0, as Linux leaves it; filling in the `CRC32c` is
/// right also where the ends agreed to do without (RFC 9653).
#[cold]
pub fn complete_checksum(frame: &mut [u8], headers: &Headers) {
    debug_assert!(headers.checksum_partial());
    let pseudo_header = pseudo_header(frame, headers);
    let segment = &mut frame[usize::from(headers.transport())..headers.end() as usize];
    match headers.protocol() {
        protocol::TCP => complete_internet_checksum(segment, pseudo_header, headers, tcp::CHECKSUM_OFFSET),
        protocol::UDP => {
            // The datagram ends where its own length says, which may be before the packet does.
            let len = usize::from(u16::from_be_bytes([segment[4], segment[5]]));
            complete_internet_checksum(&mut segment[..len], pseudo_header, headers, udp::CHECKSUM_OFFSET);
        }
        protocol::SCTP => {
            let checksum = sctp::checksum(segment);
            segment[sctp::CHECKSUM_OFFSET..sctp::HEADER_LEN].copy_from_slice(&checksum);
        }
        _ => {}
    }
}

/// The sum of the pseudo header, but for the length.
pub(crate) fn pseudo_header(frame: &[u8], headers: &Headers) -> Sum {
    if headers.is_ipv6() {
        let [src, dst] = addresses6(frame, headers);
        checksum::pseudo_header_v6(src.to_bits(), dst.to_bits(), headers.protocol(), 0)
    } else {
        checksum::pseudo_header_v4(headers.src(), headers.dst(), headers.protocol(), 0)
    }
}

fn complete_internet_checksum(segment: &mut [u8], pseudo_header: Sum, headers: &Headers, at: usize) {
    segment[at..at + 2].fill(0);
    let pseudo_header = pseudo_header.add_u16(segment.len() as u16);
    let checksum = match pseudo_header.add(Sum::of(segment)).finish() {
        0 if headers.protocol() == protocol::UDP => 0xffff,
        checksum => checksum,
    };
    segment[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}
