//! One pass over a frame: from bytes to [`Headers`], or to the one thing that is wrong with them.
//!
//! What is judged here is form alone. Whether an address may stand where it stands (martians, spoofing) is for those
//! who know routes and ports.

use thiserror::Error;

use crate::ethernet::{self, Ethernet, ethertype};
use crate::icmp::{self, Icmp};
use crate::ipv4::{self, Ipv4};
use crate::protocol;
use crate::sctp;
use crate::tcp::{self, Tcp};
use crate::udp::{self, Udp};

/// Bytes of a DCCP header with a short sequence number (RFC 4340 5.1), the least of its forms.
const DCCP_HEADER_LEN: usize = 12;

/// What an IPv4 packet is and where its parts lie in the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    pub src: u32,
    pub dst: u32,
    /// Offset one past the IP packet. What lies behind it in the frame is Ethernet padding or trailer.
    pub end: u32,
    /// Offset of the IP header.
    pub l3: u16,
    /// Offset of the transport header.
    pub l4: u16,
    /// Source port; ICMP queries and replies: the identifier, in both ports, so that a reply mirrors its request;
    /// 0 where the protocol has no ports.
    pub sport: u16,
    /// Destination port, as [`sport`](Self::sport).
    pub dport: u16,
    pub protocol: u8,
    pub ttl: u8,
    pub tos: u8,
    pub dont_fragment: bool,
    /// Control bits of TCP, else 0.
    pub tcp_flags: u8,
    /// Type of ICMP, else 0.
    pub icmp_type: u8,
    /// Code of ICMP, else 0.
    pub icmp_code: u8,
}

impl Headers {
    /// Bytes of the IP packet, header included.
    #[inline]
    pub const fn total_len(&self) -> u16 {
        (self.end - self.l3 as u32) as u16
    }

    /// Whether this is an ICMP error, which belongs to the flow of the packet that it quotes: see [`parse_quoted`].
    #[inline]
    pub const fn is_icmp_error(&self) -> bool {
        self.protocol == protocol::ICMP && icmp::is_error(self.icmp_type)
    }
}

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
    #[error("IPv4 header has options")]
    Options,
    #[error("IPv4 fragment")]
    Fragment,
    #[error("transport header is cut short, or its length disagrees with the packet's")]
    TruncatedL4,
}

/// Parses an Ethernet frame of at most 14 + 65,535 bytes of IPv4; what follows the packet is ignored.
#[inline]
pub fn parse(frame: &[u8]) -> Result<Headers, ParseError> {
    let ethernet = Ethernet::new(frame).ok_or(ParseError::Runt)?;
    match ethernet.ethertype() {
        ethertype::IPV4 => parse_ip(frame, ethernet::HEADER_LEN as u16),
        ethertype::IPV6 => Err(ParseError::Ipv6),
        ethertype::VLAN | ethertype::QINQ => Err(ParseError::Vlan),
        other => Err(ParseError::NotIp(other)),
    }
}

/// Parses the IPv4 packet at offset `l3` of a frame; offsets in the result count from the frame's start. So the
/// packet inside a tunnel is parsed by the same code: cut the frame to where the outer packet ends.
///
/// Checks what RFC 1812 5.2.2 asks of a router, the header checksum among it.
#[inline]
pub fn parse_ip(frame: &[u8], l3: u16) -> Result<Headers, ParseError> {
    let packet = frame.get(usize::from(l3)..).ok_or(ParseError::BadHeaderLength)?;
    let ip = Ipv4::new(packet).ok_or(ParseError::BadHeaderLength)?;
    if ip.version() != 4 {
        return Err(ParseError::BadVersion);
    }
    let header_len = ip.header_len();
    if header_len != ipv4::HEADER_LEN {
        return Err(unusual_header(packet, header_len));
    }
    let total_len = usize::from(ip.total_len());
    let packet = packet.get(..total_len).ok_or(ParseError::BadTotalLength)?;
    let segment = packet.get(ipv4::HEADER_LEN..).ok_or(ParseError::BadTotalLength)?;
    if !ip.checksum_holds() {
        return Err(ParseError::BadHeaderChecksum);
    }
    if ip.is_fragment() {
        return Err(ParseError::Fragment);
    }
    let mut headers = Headers {
        src: ip.src(),
        dst: ip.dst(),
        end: u32::from(l3) + total_len as u32,
        l3,
        l4: l3.checked_add(ipv4::HEADER_LEN as u16).ok_or(ParseError::BadHeaderLength)?,
        sport: 0,
        dport: 0,
        protocol: ip.protocol(),
        ttl: ip.ttl(),
        tos: ip.tos(),
        dont_fragment: ip.dont_fragment(),
        tcp_flags: 0,
        icmp_type: 0,
        icmp_code: 0,
    };
    parse_transport(segment, &mut headers).ok_or(ParseError::TruncatedL4)?;
    Ok(headers)
}

/// What a header of another length than 20 bytes is: malformed in one of the ways, or sound, with options.
#[cold]
fn unusual_header(packet: &[u8], header_len: usize) -> ParseError {
    use crate::checksum::Sum;
    let (Some(ip), Some(header)) = (Ipv4::new(packet), packet.get(..header_len)) else {
        return ParseError::BadHeaderLength;
    };
    let total_len = usize::from(ip.total_len());
    if header_len < ipv4::HEADER_LEN {
        ParseError::BadHeaderLength
    } else if total_len < header_len || total_len > packet.len() {
        ParseError::BadTotalLength
    } else if Sum::of(header).fold() != 0xffff {
        ParseError::BadHeaderChecksum
    } else {
        ParseError::Options
    }
}

/// Fills in what the transport header says. `segment`: the packet behind its IP header. `None`: cut short.
#[inline]
fn parse_transport(segment: &[u8], headers: &mut Headers) -> Option<()> {
    match headers.protocol {
        protocol::TCP => {
            let tcp = Tcp::new(segment)?;
            if !(tcp::HEADER_LEN..=segment.len()).contains(&tcp.header_len()) {
                return None;
            }
            headers.tcp_flags = tcp.flags();
            (headers.sport, headers.dport) = (tcp.src_port(), tcp.dst_port());
        }
        protocol::UDP => {
            let udp = Udp::new(segment)?;
            if !(udp::HEADER_LEN..=segment.len()).contains(&usize::from(udp.datagram_len())) {
                return None;
            }
            (headers.sport, headers.dport) = (udp.src_port(), udp.dst_port());
        }
        protocol::ICMP => {
            let icmp = Icmp::new(segment)?;
            (headers.icmp_type, headers.icmp_code) = (icmp.kind(), icmp.code());
            if icmp::has_identifier(icmp.kind()) {
                (headers.sport, headers.dport) = (icmp.identifier(), icmp.identifier());
            }
        }
        protocol::SCTP => (headers.sport, headers.dport) = ports_of(segment, sctp::HEADER_LEN)?,
        protocol::DCCP => (headers.sport, headers.dport) = ports_of(segment, DCCP_HEADER_LEN)?,
        protocol::UDP_LITE => (headers.sport, headers.dport) = ports_of(segment, udp::HEADER_LEN)?,
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
        with_ports if protocol::has_ports(with_ports) => ports_of(segment, 8)?,
        _ => (0, 0),
    };
    Some(Quoted { src: ip.src(), dst: ip.dst(), sport, dport, protocol: ip.protocol() })
}
