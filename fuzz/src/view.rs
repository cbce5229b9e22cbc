//! An IP packet as an observer reads it, field by field, and whether its checksums hold.

use std::net::IpAddr;
use std::ops::Range;

use crate::checksum;

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMPV6: u8 = 58;
pub const SCTP: u8 = 132;

/// Offsets count from the IP header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub tos: u8,
    pub ttl: u8,
    pub protocol: u8,
    /// As if every packet of IPv6 had it.
    pub dont_fragment: bool,
    pub part: Option<Part>,
    /// Where the transport header, or what a later fragment holds, begins.
    pub transport: usize,
    pub end: usize,
}

/// Of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub ident: u32,
    pub offset: usize,
    pub has_more: bool,
}

/// How the checksum of a transport stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    Right,
    /// It is left to the device that sends.
    Partial,
    /// The sender took none.
    Absent,
    Wrong,
    /// The packet does not tell.
    Unknown,
}

impl View {
    /// `None` where the packet is none, or its end is not there.
    pub fn of(packet: &[u8]) -> Option<Self> {
        let view = match packet.first()? >> 4 {
            4 => Self::of_ipv4(packet.first_chunk()?)?,
            6 => Self::of_ipv6(packet)?,
            _ => return None,
        };
        (view.transport <= view.end && view.end <= packet.len()).then_some(view)
    }

    fn of_ipv4(header: &[u8; 20]) -> Option<Self> {
        let word = be16(header, 6);
        let (offset, has_more) = (usize::from(word & 0x1fff) * 8, word & 0x2000 != 0);
        let transport = usize::from(header[0] & 0xf) * 4;
        (transport >= 20).then(|| Self {
            src: address(&header[12..16]),
            dst: address(&header[16..20]),
            tos: header[1],
            ttl: header[8],
            protocol: header[9],
            dont_fragment: word & 0x4000 != 0,
            part: (offset > 0 || has_more).then(|| Part { ident: be16(header, 4).into(), offset, has_more }),
            transport,
            end: be16(header, 2).into(),
        })
    }

    fn of_ipv6(packet: &[u8]) -> Option<Self> {
        let header: &[u8; 40] = packet.first_chunk()?;
        let (mut protocol, mut transport, mut part) = (header[6], 40, None);
        // Hop-by-hop options, routing, fragment, authentication, destination options (RFC 8200 4).
        while let kind @ (0 | 43 | 44 | 51 | 60) = protocol {
            let extension: &[u8; 8] = packet.get(transport..)?.first_chunk()?;
            let word = be16(extension, 2);
            if kind == 44 && word & !6 != 0 {
                let ident = u32::from_be_bytes([extension[4], extension[5], extension[6], extension[7]]);
                part = Some(Part { ident, offset: usize::from(word & !7), has_more: word & 1 != 0 });
            }
            transport += match kind {
                44 => 8,
                51 => (usize::from(extension[1]) + 2) * 4,
                _ => (usize::from(extension[1]) + 1) * 8,
            };
            protocol = extension[0];
        }
        Some(Self {
            src: address(&header[8..24]),
            dst: address(&header[24..40]),
            tos: header[0] << 4 | header[1] >> 4,
            ttl: header[7],
            protocol,
            dont_fragment: true,
            part,
            transport,
            end: 40 + usize::from(be16(header, 4)),
        })
    }

    pub fn is_ipv6(&self) -> bool {
        self.src.is_ipv6()
    }

    pub fn is_later_part(&self) -> bool {
        self.part.is_some_and(|part| part.offset > 0)
    }

    /// What stands behind the IP header and its extensions.
    pub fn segment<'p>(&self, packet: &'p [u8]) -> &'p [u8] {
        &packet[self.transport..self.end]
    }

    /// Source and destination port.
    pub fn ports(&self, packet: &[u8]) -> Option<(u16, u16)> {
        let has_ports = matches!(self.protocol, TCP | UDP | SCTP | 33 | 136) && !self.is_later_part();
        let segment = self.segment(packet);
        (has_ports && segment.len() >= 4).then(|| (be16(segment, 0), be16(segment, 2)))
    }

    /// Whether this is an error of its family's ICMP.
    pub fn is_icmp_error(&self, packet: &[u8]) -> bool {
        match (self.segment(packet).first(), self.protocol) {
            _ if self.is_later_part() => false,
            (Some(3 | 4 | 5 | 11 | 12), ICMP) => !self.is_ipv6(),
            (Some(1..128), ICMPV6) => self.is_ipv6(),
            _ => false,
        }
    }

    /// Whether the checksum of an IPv4 header holds. (IPv6 has none.)
    pub fn header_sum_holds(&self, packet: &[u8]) -> bool {
        self.is_ipv6() || checksum::holds(&[&packet[..self.transport]])
    }

    /// Where the checksum of the transport stands.
    pub fn sum_field(&self) -> Option<Range<usize>> {
        let (at, len) = match self.protocol {
            TCP => (16, 2),
            UDP => (6, 2),
            ICMP if !self.is_ipv6() => (2, 2),
            ICMPV6 if self.is_ipv6() => (2, 2),
            SCTP => (8, 4),
            _ => return None,
        };
        let field = self.transport + at..self.transport + at + len;
        (!self.is_later_part() && field.end <= self.end).then_some(field)
    }

    pub fn sum(&self, packet: &[u8]) -> Sum {
        let (Some(field), Some(covered), None) = (self.sum_field(), self.covered(packet), self.part) else {
            return Sum::Unknown;
        };
        let value = &packet[field];
        if self.protocol == SCTP {
            return match value {
                _ if value == checksum::sctp(covered) => Sum::Right,
                [0, 0, 0, 0] => Sum::Partial,
                _ => Sum::Wrong,
            };
        }
        let pseudo_header = self.pseudo_header(covered.len());
        if self.protocol == UDP && value == [0, 0] {
            Sum::Absent
        } else if checksum::holds(&[&pseudo_header, covered]) {
            Sum::Right
        } else if self.partial_sum(packet).is_some_and(|sum| sum == value) {
            Sum::Partial
        } else {
            Sum::Wrong
        }
    }

    /// The checksum that the transport should have.
    pub fn right_sum(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let (field, covered) = (self.sum_field()?, self.covered(packet)?);
        if self.protocol == SCTP {
            return Some(checksum::sctp(covered).to_vec());
        }
        let mut cleared = covered.to_vec();
        cleared[field.start - self.transport..field.end - self.transport].fill(0);
        let sum = checksum::internet(&[&self.pseudo_header(covered.len()), &cleared]);
        let sum = if sum == 0 && self.protocol == UDP { 0xffff } else { sum };
        Some(sum.to_be_bytes().to_vec())
    }

    /// What Linux leaves to the device that sends.
    pub fn partial_sum(&self, packet: &[u8]) -> Option<Vec<u8>> {
        match self.protocol {
            SCTP => Some(vec![0; 4]),
            TCP | UDP => {
                let sum = !checksum::internet(&[&self.pseudo_header(self.covered(packet)?.len())]);
                Some(sum.to_be_bytes().to_vec())
            }
            _ => None,
        }
    }

    /// What the checksum covers besides the pseudo header. `None`: the transport contradicts the packet.
    fn covered<'p>(&self, packet: &'p [u8]) -> Option<&'p [u8]> {
        let segment = self.segment(packet);
        match self.protocol {
            UDP => {
                segment.get(..usize::from(be16(segment.first_chunk::<8>()?, 4))).filter(|it| it.len() >= 8)
            }
            _ => Some(segment),
        }
    }

    /// Of what the checksum covers, so many bytes; empty where there is none.
    fn pseudo_header(&self, len: usize) -> Vec<u8> {
        if self.protocol == ICMP {
            return Vec::new();
        }
        let mut header = match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => [src.octets(), dst.octets()].concat(),
            (IpAddr::V6(src), IpAddr::V6(dst)) => [src.octets(), dst.octets()].concat(),
            _ => unreachable!("both are of one packet"),
        };
        header.extend((len as u32).to_be_bytes());
        header.extend([0, 0, 0, self.protocol]);
        header
    }
}

/// The options of a header, each whole, up to its end; one that cannot be is the last, and empty.
pub fn options(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let len = match *rest.first()? {
            0 => rest.len(),
            1 => 1,
            _ => rest.get(1).map_or(0, |len| usize::from(*len)),
        };
        let (option, behind) = rest.split_at_checked(len).unwrap_or_default();
        rest = if len < 2 && option != [1] { &[] } else { behind };
        Some(match option {
            [0, ..] => &option[..1],
            [1] => option,
            _ if len < 2 => &[],
            _ => option,
        })
    })
}

pub fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn address(octets: &[u8]) -> IpAddr {
    match octets {
        [a, b, c, d] => [*a, *b, *c, *d].into(),
        _ => <[u8; 16]>::try_from(octets).expect("an address is of one family or the other").into(),
    }
}
