//! A packet of TCP or UDP that is several in one, as a sender leaves it to its device to cut (TSO, GSO) or a receiver has put it
//! together (GRO): cut into segments or datagrams, as the sender's device would have.

use core::ops::Range;

use crate::bytes::{be16, be32, put16};
use crate::checksum::Sum;
use crate::parse::Headers;
use crate::rewrite::pseudo_header;
use crate::tcp::{self, Tcp, flags};
use crate::{ipv4, ipv6, protocol, udp};

/// The segments of one packet, or its datagrams.
#[derive(Clone, Copy, Debug)]
pub struct Segments<'a> {
    /// Those of IP, and of TCP or UDP.
    headers: &'a [u8],
    payload: &'a [u8],
    /// Where that of TCP or UDP begins.
    l4: usize,
    is_ipv6: bool,
    is_tcp: bool,
    ttl: u8,
    pseudo_header: Sum,
    /// Bytes of payload in each segment but the last.
    step: usize,
}

impl<'a> Segments<'a> {
    /// Of the packet with these headers in `frame`, which leave with this TTL. `size`: bytes of payload in each, where that is
    /// known. Segments of TCP have no more than fits `mtu`; datagrams are those of the sender, and may be longer. `None`: it
    /// is no whole packet of TCP, or of UDP with a size, or there is no room for payload.
    pub fn new(frame: &'a [u8], headers: &Headers, ttl: u8, mtu: u16, size: Option<u16>) -> Option<Self> {
        if headers.is_fragment() {
            return None;
        }
        let packet = frame.get(usize::from(headers.l3())..headers.end() as usize)?;
        let l4 = usize::from(headers.transport() - headers.l3());
        let (is_tcp, size) = (headers.protocol() == protocol::TCP, size.map(usize::from));
        let (header_len, step) = match headers.protocol() {
            protocol::TCP => {
                let header_len = l4 + Tcp::new(packet.get(l4..)?)?.header_len();
                let fitting = usize::from(mtu).checked_sub(header_len)?;
                (header_len, size.map_or(fitting, |size| size.min(fitting)))
            }
            protocol::UDP => (l4 + udp::HEADER_LEN, size?),
            _ => return None,
        };
        let (is_ipv6, pseudo_header) = (headers.is_ipv6(), pseudo_header(frame, headers));
        let (headers, payload) = packet.split_at_checked(header_len).filter(|_| step > 0)?;
        Some(Self { headers, payload, l4, is_ipv6, is_tcp, ttl, pseudo_header, step })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.payload.len().div_ceil(self.step).max(1)
    }

    /// Bytes of the packet that this segment is.
    pub fn len(&self, index: usize) -> usize {
        self.headers.len() + self.part(index).len()
    }

    /// Bytes of the longest.
    pub fn longest(&self) -> usize {
        self.len(0)
    }

    /// Writes the packet that this segment is: `into` is as long as [`len`](Self::len) says. What the sender's device does:
    /// identifications count on, FIN and PSH stay for the last and CWR for the first segment.
    pub fn write(&self, index: usize, into: &mut [u8]) {
        let (headers, payload) = into.split_at_mut(self.headers.len());
        headers.copy_from_slice(self.headers);
        payload.copy_from_slice(&self.payload[self.part(index)]);
        let (ip, segment) = into.split_at_mut(self.l4);
        let total_len = (ip.len() + segment.len()) as u16;
        if self.is_ipv6 {
            stamp_ip6(ip, total_len, self.ttl);
        } else {
            stamp_ip(ip, total_len, index as u16, self.ttl);
        }
        if self.is_tcp {
            self.stamp_tcp(segment, index);
        } else {
            self.stamp_udp(segment);
        }
    }

    /// Which part of the payload a segment has.
    fn part(&self, index: usize) -> Range<usize> {
        let start = index * self.step;
        start..self.payload.len().min(start + self.step)
    }

    fn stamp_tcp(&self, segment: &mut [u8], index: usize) {
        let len = segment.len() as u16;
        let Some(header) = segment.first_chunk_mut::<{ tcp::HEADER_LEN }>() else { return };
        let part = self.part(index);
        let sequence = be32(header, 4).wrapping_add(part.start as u32);
        header[4..8].copy_from_slice(&sequence.to_be_bytes());
        if part.end < self.payload.len() {
            header[tcp::FLAGS] &= !(flags::FIN | flags::PSH);
        }
        if index > 0 {
            header[tcp::FLAGS] &= !flags::CWR;
        }
        put16(header, tcp::CHECKSUM_OFFSET, 0);
        let checksum = self.pseudo_header.add_u16(len).add(Sum::of(segment)).finish();
        segment[tcp::CHECKSUM_OFFSET..][..2].copy_from_slice(&checksum.to_be_bytes());
    }

    fn stamp_udp(&self, datagram: &mut [u8]) {
        let len = datagram.len() as u16;
        let Some(header) = datagram.first_chunk_mut::<{ udp::HEADER_LEN }>() else { return };
        put16(header, 4, len);
        put16(header, udp::CHECKSUM_OFFSET, 0);
        let checksum = match self.pseudo_header.add_u16(len).add(Sum::of(datagram)).finish() {
            0 => 0xffff,
            checksum => checksum,
        };
        datagram[udp::CHECKSUM_OFFSET..][..2].copy_from_slice(&checksum.to_be_bytes());
    }
}

fn stamp_ip(ip: &mut [u8], total_len: u16, index: u16, ttl: u8) {
    let Some(header) = ip.first_chunk_mut::<{ ipv4::HEADER_LEN }>() else { return };
    put16(header, 2, total_len);
    put16(header, 4, be16(header, 4).wrapping_add(index));
    header[8] = ttl;
    put16(header, 10, 0);
    // Options included.
    let checksum = Sum::of(ip).finish();
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
}

fn stamp_ip6(ip: &mut [u8], total_len: u16, hop_limit: u8) {
    if let Some(header) = ip.first_chunk_mut::<{ ipv6::HEADER_LEN }>() {
        put16(header, 4, total_len - ipv6::HEADER_LEN as u16);
        header[7] = hop_limit;
    }
}
