//! IPv6 packets: the same [`Headers`] as those of IPv4 have, but for the addresses, which stay in the frame.

use core::net::Ipv6Addr;

use super::{Headers, ParseError, fragment, has_ports, parse_transport, ports_of};
use crate::checksum;
use crate::icmp6;
use crate::ipv6::{self, Ipv6, extension};
use crate::protocol;

/// Extension headers that are read: who sends more makes us wait for nothing of use. Linux takes eight options a header, and
/// firewalls commonly fewer headers.
const MOST_EXTENSIONS: usize = 8;

/// Parses the IPv6 packet at offset `l3` of a frame; offsets in the result count from the frame's start.
///
/// Extension headers are passed over (RFC 8200 4.1), the source routes of RFC 5095 refused. A fragment that is the whole packet
/// is none (RFC 6946), and other ones have no extension headers behind theirs.
pub fn parse_ip6(frame: &[u8], l3: u16) -> Result<Headers, ParseError> {
    let packet = frame.get(usize::from(l3)..).ok_or(ParseError::BadHeaderLength)?;
    let ip = Ipv6::new(packet).ok_or(ParseError::BadHeaderLength)?;
    if ip.version() != 6 {
        return Err(ParseError::BadVersion);
    }
    let total_len = (ipv6::HEADER_LEN as u16).checked_add(ip.payload_len());
    let total_len = total_len.ok_or(ParseError::BadTotalLength)?;
    let packet = packet.get(..usize::from(total_len)).ok_or(ParseError::BadTotalLength)?;
    let Upper { protocol, at: header_len, fragment } = upper_layer(packet, ip.next_header())?;
    let segment = packet.get(header_len..).ok_or(ParseError::BadHeaderLength)?;
    l3.checked_add(total_len).ok_or(ParseError::BadTotalLength)?;
    let mut headers = Headers::of_ipv6(ip, l3, total_len, header_len as u16, protocol);
    if let Some(header) = fragment {
        return fragment::read(segment, headers.with_fragment_header(header));
    }
    let pseudo_header = |len: u16| checksum::pseudo_header_v6(ip.src(), ip.dst(), protocol, len.into());
    parse_transport(segment, &mut headers, pseudo_header).ok_or(ParseError::TruncatedL4)?;
    Ok(headers)
}

/// What stands behind the extension headers.
struct Upper {
    protocol: u8,
    at: usize,
    /// The header of a fragment that is part of a packet.
    fragment: Option<[u8; ipv6::FRAGMENT_LEN]>,
}

fn upper_layer(packet: &[u8], first: u8) -> Result<Upper, ParseError> {
    let mut fragment = None;
    let (mut next, mut at) = (first, ipv6::HEADER_LEN);
    for place in 0..=MOST_EXTENSIONS {
        let header = || packet.get(at..).and_then(|rest| rest.first_chunk::<8>().copied());
        let header = match next {
            extension::HOP_BY_HOP if place > 0 => return Err(ParseError::ExtensionHeaders),
            extension::HOP_BY_HOP
            | extension::ROUTING
            | extension::FRAGMENT
            | extension::DESTINATION
            | extension::AUTHENTICATION => header().ok_or(ParseError::BadHeaderLength)?,
            protocol => return Ok(Upper { protocol, at, fragment }),
        };
        at += match next {
            extension::ROUTING if is_source_route(header) => return Err(ParseError::SourceRoute),
            // Whose first header is an extension, later fragments do not know their protocol.
            _ if fragment.is_some() => return Err(ParseError::ExtensionHeaders),
            extension::FRAGMENT => {
                fragment = extension::is_part(header).then_some(header);
                ipv6::FRAGMENT_LEN
            }
            extension::AUTHENTICATION => (usize::from(header[1]) + 2) * 4,
            _ => (usize::from(header[1]) + 1) * 8,
        };
        next = header[0];
    }
    Err(ParseError::ExtensionHeaders)
}

/// Types 0 (RFC 5095) and 1 (RFC 5871), with segments left.
fn is_source_route(routing: [u8; 8]) -> bool {
    routing[2] <= 1 && routing[3] > 0
}

/// What an `ICMPv6` error says of the packet that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted6 {
    pub src: Ipv6Addr,
    pub dst: Ipv6Addr,
    pub sport: u16,
    pub dport: u16,
    pub protocol: u8,
}

/// Parses the packet that an `ICMPv6` error quotes: what stands behind the error's 8-byte header, as much of it as its sender
/// had room for (RFC 4443 2.4 c). `None` as [`parse_quoted`](super::parse_quoted).
pub fn parse_quoted6(icmp_payload: &[u8]) -> Option<Quoted6> {
    let ip = Ipv6::new(icmp_payload).filter(|ip| ip.version() == 6)?;
    let Upper { protocol, at, fragment } = upper_layer(icmp_payload, ip.next_header()).ok()?;
    // What follows the header of a later fragment has no ports.
    if fragment.is_some_and(|[_, _, high, low, ..]| high != 0 || low >> 3 != 0) {
        return None;
    }
    let segment = icmp_payload.get(at..)?.get(..8)?;
    let (sport, dport) = match protocol {
        protocol::ICMPV6 => {
            let identifier = u16::from_be_bytes([segment[4], segment[5]]);
            icmp6::has_identifier(segment[0]).then_some((identifier, identifier))?
        }
        with_ports if has_ports(with_ports) => ports_of(segment, 8)?,
        _ => (0, 0),
    };
    Some(Quoted6 { src: ip.src().into(), dst: ip.dst().into(), sport, dport, protocol })
}

/// Source and destination of the IPv6 packet that these headers are of.
///
/// Panics if they are not.
pub fn addresses6(frame: &[u8], headers: &Headers) -> [Ipv6Addr; 2] {
    let ip = Ipv6::new(&frame[usize::from(headers.l3())..]).expect("parsed headers lie in the frame");
    [ip.src().into(), ip.dst().into()]
}
