//! What forwarding changes in a packet, in place.

use crate::checksum::{self, Sum};
use crate::ipv4;
use crate::parse::Headers;
use crate::protocol;
use crate::sctp;
use crate::tcp;
use crate::udp;

/// Takes one from the TTL and mends the header checksum by the difference (RFC 1812 5.3.1, RFC 1624).
///
/// `headers` are those parsed from `frame`, and follow. The caller has seen that the TTL is above 1.
#[inline]
pub fn decrement_ttl(frame: &mut [u8], headers: &mut Headers) {
    debug_assert!(headers.ttl > 1);
    let l3 = usize::from(headers.l3);
    let header = &mut frame[l3..l3 + ipv4::HEADER_LEN];
    let ttl = headers.ttl.wrapping_sub(1);
    let old = u16::from_be_bytes([headers.ttl, header[9]]);
    let new = u16::from_be_bytes([ttl, header[9]]);
    let checksum = u16::from_be_bytes([header[10], header[11]]);
    header[8] = ttl;
    header[10..12].copy_from_slice(&checksum::update_u16(checksum, old, new).to_be_bytes());
    headers.ttl = ttl;
}

/// Computes the transport checksum where a local sender left it to its device, and says whether it did so.
///
/// TCP and UDP: the field holds the pseudo header's sum (see [`checksum::is_partial`]); a UDP checksum of 0 means
/// that there is none, and stays (RFC 768). SCTP: the field is 0, as Linux leaves it; filling in the `CRC32c` is
/// right also where the ends agreed to do without (RFC 9653). `headers` are those parsed from `frame`.
#[inline]
pub fn complete_checksum(frame: &mut [u8], headers: &Headers) -> bool {
    let segment = &mut frame[usize::from(headers.l4)..headers.end as usize];
    match headers.protocol {
        protocol::TCP => complete_internet_checksum(segment, headers, tcp::CHECKSUM_OFFSET),
        protocol::UDP => {
            // The datagram ends where its own length says, which may be before the packet does.
            let len = usize::from(u16::from_be_bytes([segment[4], segment[5]]));
            complete_internet_checksum(&mut segment[..len], headers, udp::CHECKSUM_OFFSET)
        }
        protocol::SCTP => complete_crc(segment),
        _ => false,
    }
}

#[inline]
fn complete_internet_checksum(segment: &mut [u8], headers: &Headers, at: usize) -> bool {
    let pseudo_header =
        checksum::pseudo_header_v4(headers.src, headers.dst, headers.protocol, segment.len() as u16);
    let field = u16::from_be_bytes([segment[at], segment[at + 1]]);
    if !checksum::is_partial(field, pseudo_header) {
        return false;
    }
    segment[at..at + 2].fill(0);
    let checksum = match pseudo_header.add(Sum::of(segment)).finish() {
        0 if headers.protocol == protocol::UDP => 0xffff,
        checksum => checksum,
    };
    segment[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    true
}

fn complete_crc(packet: &mut [u8]) -> bool {
    let field = sctp::CHECKSUM_OFFSET..sctp::HEADER_LEN;
    if packet[field.clone()] != [0; 4] {
        return false;
    }
    let checksum = sctp::checksum(packet);
    packet[field].copy_from_slice(&checksum);
    true
}
