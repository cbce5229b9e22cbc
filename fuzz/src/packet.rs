//! An IP packet that is sound but for what its maker wants wrong with it, made of few choices: what belongs together (a
//! reply to its request, the fragments of a datagram) is found by chance.

mod transport;

use std::net::IpAddr;

use arbitrary::{Arbitrary, Result, Unstructured};

use self::transport::Transport;
use crate::checksum;
use crate::view::{Sum, View};
use crate::world::End;

#[derive(Arbitrary, Clone, Debug)]
pub struct Packet {
    pub is_ipv6: bool,
    pub src: End,
    pub dst: End,
    pub transport: Transport,
    #[arbitrary(with = size)]
    pub size: Size,
    #[arbitrary(with = |u: &mut Unstructured<'_>| u.choose(&[64, 2, 1, 255, 0]).copied())]
    pub ttl: u8,
    pub tos: u8,
    pub dont_fragment: bool,
    #[arbitrary(with = |u: &mut Unstructured<'_>| u.int_in_range(0..=3))]
    pub ident: u8,
    #[arbitrary(with = sum)]
    pub sum: Sum,
    #[arbitrary(with = extra)]
    pub extra: Vec<u8>,
    #[arbitrary(with = cuts)]
    pub cuts: Cuts,
}

/// How much data there is.
#[derive(Clone, Copy, Debug)]
pub enum Size {
    Bytes(u8),
    /// More than a chunk holds.
    Long(u16),
    /// So many bytes, more or less, beside what fits whole under so many of outer headers.
    AroundMtu {
        less: u16,
        by: i8,
    },
}

fn size(u: &mut Unstructured<'_>) -> Result<Size> {
    Ok(match u.int_in_range(0..=15)? {
        0..=10 => Size::Bytes(u.arbitrary()?),
        11..=14 => Size::AroundMtu { less: *u.choose(&[0, 20, 50, 70])?, by: u.int_in_range(-9..=9)? },
        _ => Size::Long(u.int_in_range(1700..=9100)?),
    })
}

fn sum(u: &mut Unstructured<'_>) -> Result<Sum> {
    u.choose(&[Sum::Right, Sum::Right, Sum::Partial, Sum::Partial, Sum::Absent, Sum::Wrong]).copied()
}

/// In which fragments the packet comes.
#[derive(Clone, Debug)]
pub enum Cuts {
    None,
    /// All of them, each of so many units of eight bytes, turned round so far.
    Even {
        units: u8,
        first: u8,
        is_reversed: bool,
    },
    /// Any, which may overlap or leave something out.
    Any(Vec<Cut>),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Cut {
    #[arbitrary(with = |u: &mut Unstructured<'_>| u.int_in_range(0..=31))]
    pub start: u8,
    #[arbitrary(with = |u: &mut Unstructured<'_>| u.int_in_range(1..=32))]
    pub units: u8,
}

/// The most fragments of a packet.
const MOST_CUTS: usize = 8;

fn cuts(u: &mut Unstructured<'_>) -> Result<Cuts> {
    Ok(match u.int_in_range(0..=7)? {
        0..=4 => Cuts::None,
        5 | 6 => {
            Cuts::Even { units: u.int_in_range(1..=32)?, first: u.arbitrary()?, is_reversed: u.arbitrary()? }
        }
        _ => Cuts::Any(u.arbitrary()?),
    })
}

impl Cuts {
    fn of(&self, len: usize) -> Vec<Cut> {
        match self {
            Self::None => Vec::new(),
            Self::Even { units, first, is_reversed } => {
                let count = len.div_ceil(usize::from(*units) * 8).min(MOST_CUTS);
                let starts = (0..count).filter_map(|at| u8::try_from(at * usize::from(*units)).ok());
                let mut cuts: Vec<_> = starts.map(|start| Cut { start, units: *units }).collect();
                let first = usize::from(*first).checked_rem(cuts.len()).unwrap_or_default();
                cuts.rotate_left(first);
                if *is_reversed {
                    cuts.reverse();
                }
                cuts
            }
            Self::Any(cuts) => cuts.iter().take(MOST_CUTS).copied().collect(),
        }
    }
}

/// IPv4 options, or IPv6 extension headers by their numbers.
fn extra(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    if u.ratio(7, 8)? {
        return Ok(Vec::new());
    }
    // Router alert, record route, a source route, or anything.
    const USUAL: [&[u8]; 3] = [&[148, 4, 0, 0], &[7, 7, 4, 0, 0, 0, 0, 1], &[131, 7, 4, 10, 1, 0, 1]];
    let place: usize = u.int_in_range(0..=3)?;
    if let Some(usual) = USUAL.get(place) {
        return Ok(usual.to_vec());
    }
    let len = u.int_in_range(1..=40)?;
    Ok(u.bytes(len.min(u.len()))?.to_vec())
}

impl Packet {
    /// The packet's bytes, for a way of this MTU.
    pub fn bytes(&self, mtu: u16) -> Vec<u8> {
        let (protocol, segment) = self.segment(mtu);
        [self.header(protocol, None, segment.len()), segment].concat()
    }

    /// The same in its fragments, if it comes in such.
    pub fn parts(&self, mtu: u16) -> Vec<Vec<u8>> {
        let (protocol, segment) = self.segment(mtu);
        let cuts = self.cuts.of(segment.len());
        if cuts.is_empty() {
            return vec![[self.header(protocol, None, segment.len()), segment].concat()];
        }
        let part = |Cut { start, units }: Cut| {
            let start = (usize::from(start) * 8).min(segment.len() / 8 * 8);
            let end = segment.len().min(start + usize::from(units) * 8);
            let header = self.header(protocol, Some((start, end < segment.len())), end - start);
            [&header, &segment[start..end]].concat()
        };
        cuts.into_iter().map(part).collect()
    }

    /// What is behind the IP header, and its protocol.
    fn segment(&self, mtu: u16) -> (u8, Vec<u8>) {
        let (protocol, mut segment) = self.transport.bytes(self.is_ipv6);
        let least = self.header(protocol, None, segment.len()).len() + segment.len();
        let data = match self.size {
            Size::Bytes(bytes) => bytes.into(),
            Size::Long(bytes) => bytes.into(),
            Size::AroundMtu { less, by } => {
                usize::from(mtu).saturating_add_signed(by.into()).saturating_sub(usize::from(less) + least)
            }
        };
        segment.extend((0..data).map(|at| (at as u8).wrapping_mul(31) ^ self.ident));
        self.transport.tell_len(&mut segment);
        let whole = [self.header(protocol, None, segment.len()), segment.clone()].concat();
        (protocol, self.summed(whole, segment.len()))
    }

    /// The IP header in front of so many bytes, which are the part of a datagram that begins there and has more behind it.
    fn header(&self, protocol: u8, part: Option<(usize, bool)>, len: usize) -> Vec<u8> {
        match (self.src.address(self.is_ipv6), self.dst.address(self.is_ipv6)) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => self.ipv4(src.octets(), dst.octets(), protocol, part, len),
            (IpAddr::V6(src), IpAddr::V6(dst)) => self.ipv6(src.octets(), dst.octets(), protocol, part, len),
            _ => unreachable!("both are of one family"),
        }
    }

    /// The last bytes of the packet, a segment, with the checksum that it is to have.
    fn summed(&self, mut packet: Vec<u8>, len: usize) -> Vec<u8> {
        let at = packet.len() - len;
        if let Some(view) = View::of(&packet)
            && let Some(field) = view.sum_field()
        {
            let sum = match self.sum {
                Sum::Right => view.right_sum(&packet),
                Sum::Partial => view.partial_sum(&packet).or_else(|| view.right_sum(&packet)),
                Sum::Absent => None,
                Sum::Wrong | Sum::Unknown => Some(vec![0x5a; field.len()]),
            };
            packet[field.clone()].copy_from_slice(&sum.unwrap_or_else(|| vec![0; field.len()]));
        }
        packet.split_off(at)
    }

    fn ipv4(
        &self,
        src: [u8; 4],
        dst: [u8; 4],
        protocol: u8,
        part: Option<(usize, bool)>,
        len: usize,
    ) -> Vec<u8> {
        let mut options = self.extra.clone();
        options.resize(options.len().next_multiple_of(4).min(40), 0);
        let header_len = 20 + options.len();
        let flags = u16::from(self.dont_fragment) << 14;
        let word = part.map_or(flags, |(offset, more)| flags | u16::from(more) << 13 | (offset / 8) as u16);
        let mut header = vec![4 << 4 | (header_len / 4) as u8, self.tos];
        header.extend(((header_len + len) as u16).to_be_bytes());
        header.extend([0, self.ident]);
        header.extend(word.to_be_bytes());
        header.extend([self.ttl, protocol, 0, 0]);
        header.extend([src, dst].concat());
        header.extend(options);
        mend(&mut header);
        header
    }

    fn ipv6(
        &self,
        src: [u8; 16],
        dst: [u8; 16],
        protocol: u8,
        part: Option<(usize, bool)>,
        len: usize,
    ) -> Vec<u8> {
        let mut kinds: Vec<u8> =
            self.extra.iter().take(10).map(|kind| [0, 43, 60, 51, 44, 135][usize::from(kind % 6)]).collect();
        kinds.extend(part.map(|_| 44));
        kinds.push(protocol);
        let extensions: Vec<u8> = kinds.windows(2).flat_map(|pair| extension(pair[0], pair[1])).collect();
        let mut header = vec![6 << 4 | self.tos >> 4, self.tos << 4, 0, 0];
        header.extend(((extensions.len() + len) as u16).to_be_bytes());
        header.extend([kinds[0], self.ttl]);
        header.extend([src, dst].concat());
        header.extend(extensions);
        if let Some((offset, more)) = part {
            let at = header.len() - 6;
            header[at..at + 2].copy_from_slice(&(offset as u16 | u16::from(more)).to_be_bytes());
            header[at + 5] = self.ident;
        }
        header
    }
}

/// An extension header of this kind, with nothing in it but which one is next.
fn extension(kind: u8, next: u8) -> [u8; 8] {
    match kind {
        // Options: four bytes of padding.
        0 | 60 => [next, 0, 1, 4, 0, 0, 0, 0],
        43 => [next, 0, 2, 0, 0, 0, 0, 0],
        _ => [next, 0, 0, 0, 0, 0, 0, 0],
    }
}

/// Rights the checksum of an IPv4 header at the front of these bytes, if there is one.
pub fn mend(packet: &mut [u8]) {
    let Some(&first) = packet.first() else { return };
    let header_len = usize::from(first & 0xf) * 4;
    if first >> 4 == 4 && (20..=packet.len()).contains(&header_len) {
        packet[10..12].fill(0);
        let sum = checksum::internet(&[&packet[..header_len]]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}
