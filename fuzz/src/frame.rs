//! A frame: a packet, or what was made of an earlier one, in tunnels or none, with faults or none.

use arbitrary::{Arbitrary, Result, Unstructured};
use margay_flowtable::PortId;

use crate::packet::{Packet, mend};
use crate::view::{ICMP, ICMPV6, Sum, TCP, View};
use crate::world::{self, Around, End, MAC, NEIGHBOUR, PEER_VTEP, UPLINKS, VNI, VTEP, VTEP6, VXLAN_PORT};

#[derive(Arbitrary, Clone, Debug)]
pub struct FrameSpec {
    pub content: Content,
    #[arbitrary(with = tunnels)]
    pub tunnels: Option<Vec<TunnelSpec>>,
    #[arbitrary(with = fault)]
    pub fault: Option<Fault>,
    #[arbitrary(with = told)]
    pub told: Told,
    /// How often it comes.
    #[arbitrary(with = |u: &mut Unstructured<'_>| u.choose(&[1, 1, 1, 1, 1, 2, 1, 60]).copied())]
    pub times: usize,
}

/// A frame as a port hands it over.
#[derive(Clone, Debug)]
pub struct Received {
    pub bytes: Vec<u8>,
    pub told: Told,
}

/// What its port says of whether a frame is several in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// None that comes in there is.
    Never,
    /// The kernel had it as an skb, and says nothing.
    Nothing,
    /// Bytes of payload in each.
    Size(u16),
}

fn told(u: &mut Unstructured<'_>) -> Result<Told> {
    let byte: u8 = u.arbitrary()?;
    Ok(match byte >> 1 {
        _ if byte & 1 == 0 => Told::Never,
        0 => Told::Nothing,
        size => Told::Size(u16::from(size) * 12),
    })
}

#[derive(Clone, Debug)]
pub enum Content {
    Packet(Packet),
    /// A packet that was seen before, counted from the last one.
    Again(u8),
    /// What answers one: its ends in each other's place, and of TCP these flags.
    Reply {
        to: u8,
        flags: u8,
    },
    /// An ICMP error about one, from there, which quotes so much of it.
    Error {
        about: u8,
        kind: u8,
        code: u8,
        from: End,
        quote: u8,
    },
    Bytes(Vec<u8>),
}

impl<'a> Arbitrary<'a> for Content {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match u.int_in_range(0..=15)? {
            0..=5 => Self::Packet(u.arbitrary()?),
            6..=9 => Self::Again(u.arbitrary()?),
            10..=12 => Self::Reply { to: u.arbitrary()?, flags: *u.choose(&[0x12, 0x10, 0x11, 0x04])? },
            13 | 14 => Self::Error {
                about: u.arbitrary()?,
                kind: *u.choose(&[3, 11, 1, 2, 4, 12, 5])?,
                code: u.int_in_range(0..=4)?,
                from: u.arbitrary()?,
                quote: u.arbitrary()?,
            },
            _ => Self::Bytes(u.arbitrary()?),
        })
    }
}

/// Around a packet.
#[derive(Arbitrary, Clone, Debug)]
pub struct TunnelSpec {
    #[arbitrary(with = |u: &mut Unstructured<'_>| u.choose(&[Around::Vxlan, Around::Ipip, Around::VxlanOverIpv6]).copied())]
    pub around: Around,
    #[arbitrary(with = |u: &mut Unstructured<'_>| u.choose(&[End::Peer, End::Peer, End::OtherPeer, End::Stranger]).copied())]
    pub src: End,
    #[arbitrary(with = |u: &mut Unstructured<'_>| u.choose(&[End::Node, End::Node, End::Peer, End::Net(192)]).copied())]
    pub dst: End,
    pub tos: u8,
    #[arbitrary(with = |u: &mut Unstructured<'_>| u.choose(&[Sum::Absent, Sum::Right, Sum::Wrong]).copied())]
    pub sum: Sum,
    #[arbitrary(with = vni)]
    pub vni: u32,
    #[arbitrary(with = vtep)]
    pub vtep: Vtep,
    /// Another than that of what is inside.
    #[arbitrary(with = ethertype)]
    pub ethertype: Option<u16>,
    /// It is the first of several fragments.
    #[arbitrary(with = |u: &mut Unstructured<'_>| u.ratio(1, 16))]
    pub is_part: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vtep {
    /// Of the outer family.
    Right,
    Other,
    All,
}

fn vni(u: &mut Unstructured<'_>) -> Result<u32> {
    u.choose(&[VNI, VNI, VNI, VNI + 1]).copied()
}

/// ARP, a VLAN tag, or none of these.
fn ethertype(u: &mut Unstructured<'_>) -> Result<Option<u16>> {
    u.choose(&[None, None, None, None, Some(0x0806), Some(0x8100)]).copied()
}

fn vtep(u: &mut Unstructured<'_>) -> Result<Vtep> {
    u.choose(&[Vtep::Right, Vtep::Right, Vtep::All, Vtep::Other]).copied()
}

/// The innermost first. `None`: what packets from there come in.
fn tunnels(u: &mut Unstructured<'_>) -> Result<Option<Vec<TunnelSpec>>> {
    let count = u.int_in_range(0..=15)?;
    if count < 12 { Ok(None) } else { (12..count).map(|_| u.arbitrary()).collect::<Result<_>>().map(Some) }
}

/// What is wrong with the frame.
#[derive(Clone, Debug)]
pub enum Fault {
    /// (Offset, value) pairs, and whether the IPv4 header's checksum is right after that.
    Changes {
        changes: Vec<(u16, u8)>,
        mends: bool,
    },
    Cut(u16),
    Trailer(u8),
    Group,
    Tag,
}

fn fault(u: &mut Unstructured<'_>) -> Result<Option<Fault>> {
    Ok(Some(match u.int_in_range(0..=15)? {
        0..=9 => return Ok(None),
        10 | 11 => Fault::Changes { changes: u.arbitrary()?, mends: true },
        12 => Fault::Changes { changes: u.arbitrary()?, mends: false },
        13 => Fault::Cut(u.arbitrary()?),
        14 => Fault::Trailer(u.arbitrary()?),
        _ if u.arbitrary()? => Fault::Group,
        _ => Fault::Tag,
    }))
}

impl FrameSpec {
    /// The frames' bytes, for a way of this MTU, where these packets were seen before; and by which port what is from there
    /// comes in.
    pub fn frames(&self, mtu: u16, seen: &[Vec<u8>]) -> Vec<(PortId, Received)> {
        let packets = self.content.packets(mtu, seen).into_iter();
        packets.flat_map(|packet| vec![self.frame(packet); self.times]).collect()
    }

    fn frame(&self, mut packet: Vec<u8>) -> (PortId, Received) {
        let (port, around) = View::of(&packet).map_or((UPLINKS[0], None), |view| world::way_in(view.src));
        match &self.tunnels {
            Some(tunnels) => tunnels.iter().for_each(|tunnel| packet = tunnel.around(&packet)),
            None => {
                let tunnel = around.map(TunnelSpec::sound);
                tunnel.into_iter().for_each(|tunnel| packet = tunnel.around(&packet));
            }
        }
        let ethertype: u16 =
            if packet.first().is_some_and(|first| first >> 4 == 6) { 0x86dd } else { 0x0800 };
        let mut frame = [&MAC[..], &NEIGHBOUR, &ethertype.to_be_bytes(), &packet].concat();
        if let Some(fault) = &self.fault {
            fault.befall(&mut frame);
        }
        (port, Received { bytes: frame, told: self.told })
    }
}

impl Fault {
    fn befall(&self, frame: &mut Vec<u8>) {
        match self {
            Self::Changes { changes, mends } => {
                for (at, value) in changes {
                    let at = usize::from(*at) % frame.len();
                    frame[at] = *value;
                }
                if *mends {
                    mend(&mut frame[14..]);
                }
            }
            Self::Cut(len) => frame.truncate(usize::from(*len) % (frame.len() + 1)),
            Self::Trailer(len) => frame.extend((0..*len % 64).map(|at| at ^ 0xa5)),
            Self::Group => frame[0] |= 1,
            Self::Tag => drop(frame.splice(12..12, [0x81, 0, 0, 5])),
        }
    }
}

impl Content {
    fn packets(&self, mtu: u16, seen: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let earlier = |back: u8| {
            let back = usize::from(back).checked_rem(seen.len())?;
            let packet = &seen[seen.len() - 1 - back];
            Some((packet, View::of(packet)?))
        };
        let packet = match self {
            Self::Packet(packet) => return packet.parts(mtu),
            Self::Bytes(bytes) => Some(bytes.clone()),
            Self::Again(back) => earlier(*back).map(|(packet, _)| packet.clone()),
            Self::Reply { to, flags } => earlier(*to).map(|(packet, view)| reply(packet, &view, *flags)),
            Self::Error { about, kind, code, from, quote } => earlier(*about).map(|(packet, view)| {
                let quote = &packet[..packet.len().min(usize::from(*quote) * 8)];
                error(&view, [*kind, *code], *from, quote)
            }),
        };
        packet.into_iter().collect()
    }
}

/// The packet with its ends, and their ports, in each other's place.
fn reply(packet: &[u8], view: &View, flags: u8) -> Vec<u8> {
    let mut reply = packet.to_vec();
    let (addresses, address) = if view.is_ipv6() { (8, 16) } else { (12, 4) };
    reply[addresses..addresses + 2 * address].rotate_left(address);
    reply[if view.is_ipv6() { 7 } else { 8 }] = 64;
    let was_right = view.sum(packet) == Sum::Right;
    if view.ports(packet).is_some() {
        reply[view.transport..view.transport + 4].rotate_left(2);
    }
    match (view.protocol, reply.get_mut(view.transport..view.end)) {
        _ if view.is_later_part() => {}
        (TCP, Some(segment)) if segment.len() >= 20 => segment[13] = flags,
        (ICMP, Some([kind @ (0 | 8), ..])) => *kind ^= 8,
        (ICMPV6, Some([kind @ (128 | 129), ..])) => *kind ^= 1,
        _ => {}
    }
    if was_right
        && let Some(view) = View::of(&reply)
        && let (Some(field), Some(sum)) = (view.sum_field(), view.right_sum(&reply))
    {
        reply[field].copy_from_slice(&sum);
    }
    mend(&mut reply);
    reply
}

/// An ICMP error to the source of the packet that it quotes.
fn error(about: &View, [kind, code]: [u8; 2], from: End, quote: &[u8]) -> Vec<u8> {
    let is_ipv6 = about.is_ipv6();
    let message = [&[kind, code, 0, 0, 0, 0, 2, 0][..], quote].concat();
    let protocol = if is_ipv6 { ICMPV6 } else { ICMP };
    let header = header(from.address(is_ipv6), about.src, protocol, 0, message.len());
    summed([header, message].concat(), Sum::Right)
}

impl TunnelSpec {
    /// One that nothing is wrong with.
    fn sound(around: Around) -> Self {
        let (src, dst, sum) = (End::Peer, End::Node, Sum::Right);
        let (vtep, ethertype, is_part) = (Vtep::Right, None, false);
        Self { around, src, dst, tos: 0, sum, vni: VNI, vtep, ethertype, is_part }
    }

    fn around(&self, packet: &[u8]) -> Vec<u8> {
        let mut outer = self.whole(packet);
        if self.is_part && self.around != Around::VxlanOverIpv6 {
            outer[6] |= 0x20;
            mend(&mut outer);
        }
        outer
    }

    fn whole(&self, packet: &[u8]) -> Vec<u8> {
        let is_ipv6 = self.around == Around::VxlanOverIpv6;
        let (src, dst) = (self.src.address(is_ipv6), self.dst.address(is_ipv6));
        let inner_is_ipv6 = packet.first().is_some_and(|first| first >> 4 == 6);
        if self.around == Around::Ipip {
            let protocol = if inner_is_ipv6 { 41 } else { 4 };
            return [&header(src, dst, protocol, self.tos, packet.len()), packet].concat();
        }
        let vtep = match self.vtep {
            Vtep::Right if is_ipv6 => VTEP6,
            Vtep::Right => VTEP,
            Vtep::Other => PEER_VTEP,
            Vtep::All => [0xff; 6],
        };
        let mut datagram = [200u16, VXLAN_PORT, packet.len() as u16 + 30, 0].map(u16::to_be_bytes).concat();
        datagram.extend([8, 0, 0, 0]);
        datagram.extend((self.vni << 8).to_be_bytes());
        let ethertype = self.ethertype.unwrap_or(if inner_is_ipv6 { 0x86dd } else { 0x0800 });
        datagram.extend([&vtep[..], &PEER_VTEP, &ethertype.to_be_bytes()].concat());
        datagram.extend(packet);
        let header = header(src, dst, 17, self.tos, datagram.len());
        summed([header, datagram].concat(), self.sum)
    }
}

/// An IP header without options, in front of so many bytes.
fn header(src: std::net::IpAddr, dst: std::net::IpAddr, protocol: u8, tos: u8, len: usize) -> Vec<u8> {
    use std::net::IpAddr::{V4, V6};
    match (src, dst) {
        (V4(src), V4(dst)) => {
            let mut header = vec![0x45, tos];
            header.extend((len as u16 + 20).to_be_bytes());
            header.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
            header.extend([src.octets(), dst.octets()].concat());
            mend(&mut header);
            header
        }
        (V6(src), V6(dst)) => {
            let mut header = vec![6 << 4 | tos >> 4, tos << 4, 0, 0];
            header.extend((len as u16).to_be_bytes());
            header.extend([protocol, 64]);
            header.extend([src.octets(), dst.octets()].concat());
            header
        }
        _ => Vec::new(),
    }
}

fn summed(mut packet: Vec<u8>, sum: Sum) -> Vec<u8> {
    let Some(view) = View::of(&packet) else { return packet };
    let sum = match sum {
        Sum::Right => view.right_sum(&packet),
        Sum::Wrong => Some(vec![0x5a; 2]),
        Sum::Partial | Sum::Absent | Sum::Unknown => None,
    };
    if let (Some(field), Some(sum)) = (view.sum_field(), sum) {
        packet[field].copy_from_slice(&sum);
    }
    packet
}
