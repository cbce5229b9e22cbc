//! One pass over a frame: from bytes to [`Headers`], or to the one thing that is wrong with them.
//!
//! What is judged here is form alone. Whether an address may stand where it stands (martians, spoofing) is for those
//! who know routes and ports.

mod fragment;
mod headers;
mod plain;
mod v6;

use thiserror::Error;

use crate::checksum::{self, Sum};
use crate::ethernet::{self, Ethernet, ethertype};
use crate::icmp::{self, Icmp};
use crate::icmp6;
use crate::ipv4::{self, Ipv4};
use crate::options;
use crate::protocol::{self, has_ports};
use crate::sctp;
use crate::tcp::{self, Tcp};
use crate::udp::{self, Udp};

pub use fragment::{Part, Transport, UNIT};
pub use headers::Headers;
pub use plain::{parse_outer, parse_plain};
pub use v6::{Quoted6, addresses6, parse_ip6, parse_quoted6};

/// Bytes of a DCCP header with a short sequence number (RFC 4340 5.1), the least of its forms.
const DCCP_HEADER_LEN: usize = 12;

/// Why a frame is no IPv4 packet that this version forwards. The first that applies, in the order of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ParseError {
    #[error("frame ends inside its Ethernet header")]
    Runt,
    #[error("EtherType {0:#06x} is neither IPv4 nor IPv6")]
    NotIp(u16),
    #[error("frame has a VLAN tag")]
    Vlan,
    #[error("IPv6 packet")]
    Ipv6,
    #[error("IP version is not 4")]
    BadVersion,
    #[error("IPv4 header length is below 20 bytes or runs beyond the frame")]
    BadHeaderLength,
    #[error("IPv4 total length is below its header's or runs beyond the frame")]
    BadTotalLength,
    #[error("IPv4 header checksum is wrong")]
    BadHeaderChecksum,
    #[error("IPv4 option has a length that cannot be")]
    BadOptions,
    #[error("packet has a source route")]
    SourceRoute,
    #[error("IPv6 extension headers are too many, out of place, or behind a fragment header")]
    ExtensionHeaders,
    #[error("fragment is empty, is cut where none can be, or reaches beyond the longest packet")]
    BadFragment,
    #[error("first fragment does not hold the transport header, or another begins inside TCP's")]
    TinyFragment,
    #[error("transport header is cut short, or its length disagrees with the packet's")]
    TruncatedL4,
}

/// Parses an Ethernet frame of at most 14 + 65,535 bytes of IPv4; what follows the packet is ignored. A fragment is a
/// packet: see [`Headers::is_fragment`].
#[inline]
pub fn parse(frame: &[u8]) -> Result<Headers, ParseError> {
    match parse_plain(frame) {
        Some(headers) if frame[12..14] == ethertype::IPV4.to_be_bytes() => Ok(headers),
        _ => parse_link(frame),
    }
}

/// Parses the IPv4 packet at offset `l3` of a frame; offsets in the result count from the frame's start. So the
/// packet inside a tunnel is parsed by the same code: cut the frame to where the outer packet ends.
///
/// Checks what RFC 1812 5.2.2 asks of a router, the header checksum among it.
#[inline]
pub fn parse_ip(frame: &[u8], l3: u16) -> Result<Headers, ParseError> {
    if usize::from(l3) == ethernet::HEADER_LEN
        && let Some(headers) = parse_plain(frame)
    {
        return Ok(headers);
    }
    parse_any(frame, l3)
}

#[cold]
fn parse_link(frame: &[u8]) -> Result<Headers, ParseError> {
    let ethernet = Ethernet::new(frame).ok_or(ParseError::Runt)?;
    match ethernet.ethertype() {
        ethertype::IPV4 => parse_any(frame, ethernet::HEADER_LEN as u16),
        ethertype::IPV6 => Err(ParseError::Ipv6),
        ethertype::VLAN | ethertype::QINQ => Err(ParseError::Vlan),
        other => Err(ParseError::NotIp(other)),
    }
}

/// Parses any IPv4 packet, step by step, to where the first thing is wrong.
#[cold]
fn parse_any(frame: &[u8], l3: u16) -> Result<Headers, ParseError> {
    let packet = frame.get(usize::from(l3)..).ok_or(ParseError::BadHeaderLength)?;
    let ip = Ipv4::new(packet).ok_or(ParseError::BadHeaderLength)?;
    if ip.version() != 4 {
        return Err(ParseError::BadVersion);
    }
    let header_len = ip.header_len();
    let header = packet.get(..header_len).ok_or(ParseError::BadHeaderLength)?;
    let (fixed, options) =
        header.split_first_chunk::<{ ipv4::HEADER_LEN }>().ok_or(ParseError::BadHeaderLength)?;
    let total_len = usize::from(ip.total_len());
    let packet = packet.get(..total_len).ok_or(ParseError::BadTotalLength)?;
    let segment = packet.get(header_len..).ok_or(ParseError::BadTotalLength)?;
    if !Sum::of(header).is_ones() {
        return Err(ParseError::BadHeaderChecksum);
    }
    options::check(options)?;
    l3.checked_add(header_len as u16).ok_or(ParseError::BadHeaderLength)?;
    let mut headers = Headers { l3: l3.into(), ..Headers::load(fixed, 0) };
    if headers.is_fragment() {
        return fragment::read(segment, headers);
    }
    let (src, dst, protocol) = (headers.src(), headers.dst(), headers.protocol());
    let pseudo_header = |len| checksum::pseudo_header_v4(src, dst, protocol, len);
    parse_transport(segment, &mut headers, pseudo_header).ok_or(ParseError::TruncatedL4)?;
    Ok(headers)
}

/// Fills in what the transport header says. `segment`: the packet behind its IP header, whole or a first fragment; `pseudo_header` is for so many bytes.
/// `None`: cut short.
fn parse_transport(segment: &[u8], headers: &mut Headers, pseudo_header: impl Fn(u16) -> Sum) -> Option<()> {
    match headers.protocol() {
        protocol::TCP => {
            let tcp = Tcp::new(segment)?;
            if !(tcp::HEADER_LEN..=segment.len()).contains(&tcp.header_len()) {
                return None;
            }
            headers.tcp_flags = tcp.flags();
            *headers = headers.with_ports(tcp.src_port(), tcp.dst_port());
            let pseudo_header = pseudo_header(segment.len() as u16);
            headers.set_partial(checksum::is_partial(tcp.checksum(), pseudo_header));
        }
        protocol::UDP => {
            let udp = Udp::new(segment)?;
            let len = usize::from(udp.datagram_len());
            // Of a fragment, its datagram goes on in others.
            if len < udp::HEADER_LEN || len > segment.len() && !headers.is_fragment() {
                return None;
            }
            *headers = headers.with_ports(udp.src_port(), udp.dst_port());
            let pseudo_header = pseudo_header(udp.datagram_len());
            headers.set_partial(checksum::is_partial(udp.checksum(), pseudo_header));
        }
        protocol::ICMP | protocol::ICMPV6 if headers.has_own_icmp() => {
            let icmp = Icmp::new(segment)?;
            (headers.icmp_type, headers.icmp_code) = (icmp.kind(), icmp.code());
            let has_identifier = if headers.is_ipv6() { icmp6::has_identifier } else { icmp::has_identifier };
            if has_identifier(icmp.kind()) {
                *headers = headers.with_ports(icmp.identifier(), icmp.identifier());
            }
        }
        protocol::SCTP => {
            let (sport, dport) = ports_of(segment, sctp::HEADER_LEN)?;
            *headers = headers.with_ports(sport, dport);
            headers.set_partial(sctp::is_partial(segment));
        }
        protocol::DCCP | protocol::UDP_LITE => {
            let len = if headers.protocol() == protocol::DCCP { DCCP_HEADER_LEN } else { udp::HEADER_LEN };
            let (sport, dport) = ports_of(segment, len)?;
            *headers = headers.with_ports(sport, dport);
        }
        _ => {}
    }
    Some(())
}

/// The two ports that a transport header opens with, if at least `header_len` bytes of it are there.
#[inline]
fn ports_of(segment: &[u8], header_len: usize) -> Option<(u16, u16)> {
    let [a, b, c, d] = *segment.get(..header_len)?.first_chunk()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

/// What an ICMP error says of the packet that it is about; fields as in [`Headers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    pub src: u32,
    pub dst: u32,
    pub sport: u16,
    pub dport: u16,
    pub protocol: u8,
}

/// Parses the packet that an ICMP error quotes: what stands behind the error's 8-byte header.
///
/// The quote may be cut to its IP header and 8 bytes (RFC 792), and routers on the way have changed its header, so
/// neither its length nor its checksum is held against it. `None`: no whole IPv4 header and 8 bytes, not the first
/// fragment, or itself an ICMP error or of an unknown type, which no error may be about (RFC 1122 3.2.2).
#[inline]
pub fn parse_quoted(icmp_payload: &[u8]) -> Option<Quoted> {
    let ip = Ipv4::new(icmp_payload)?;
    if ip.version() != 4 || ip.header_len() < ipv4::HEADER_LEN || ip.fragment_offset() != 0 {
        return None;
    }
    let segment = icmp_payload.get(ip.header_len()..)?.get(..8)?;
    let (sport, dport) = match ip.protocol() {
        protocol::ICMP => {
            let icmp = Icmp::new(segment).filter(|icmp| icmp::has_identifier(icmp.kind()))?;
            (icmp.identifier(), icmp.identifier())
        }
        with_ports if has_ports(with_ports) => ports_of(segment, 8)?,
        _ => (0, 0),
    };
    Some(Quoted { src: ip.src(), dst: ip.dst(), sport, dport, protocol: ip.protocol() })
}
