//! Random valid packets, each with a number by which what becomes of it is known again.

use std::fmt;
use std::net::IpAddr;

use etherparse::{
    IpDscp, IpEcn, IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv4Options, Ipv6Extensions,
    Ipv6FlowLabel, Ipv6Header, PacketBuilder, PacketBuilderStep, TcpHeader,
};
use fastrand::Rng;
use margay_control::compile::tunnels::{Family, vtep_mac};

use crate::common::world::{B1, GW_A, Node, Way};

/// A device of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Port {
    Uplink,
    VxlanPod,
    PlainPod,
}

impl Port {
    pub const ALL: [Self; 3] = [Self::Uplink, Self::VxlanPod, Self::PlainPod];

    /// The gateway's own address there.
    pub fn mac(self) -> [u8; 6] {
        [0x02, 0, 0, 0, 1, self as u8]
    }

    /// The neighbour's: the router's, or the pod's.
    pub fn neighbour_mac(self) -> [u8; 6] {
        [0x02, 0, 0, 0, 2, self as u8]
    }
}

/// A packet, and what it is made of.
#[derive(Clone)]
pub struct Packet {
    pub number: u16,
    /// By which it comes in.
    pub port: Port,
    pub frame: Vec<u8>,
    /// The same as the kernel takes it: it drops VXLAN with reserved bits, which RFC 7348 5 says to ignore.
    pub frame_for_kernel: Vec<u8>,
    pub in_vxlan: bool,
    /// Of the VXLAN packet's outer header.
    pub outer_tos: u8,
    /// Those beside the I flag, and those behind the VNI.
    reserved_bits: (u8, u8),
    pub src: IpAddr,
    pub dst: IpAddr,
    pub tos: u8,
    ttl: u8,
    dont_fragment: bool,
    options: &'static [u8],
    protocol: u8,
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMP6: u8 = 58;

/// Bytes of payload at least: as many as the header of any protocol that goes without one here.
const LEAST: usize = 16;

/// Protocols that are seldom seen: IGMP, DCCP, GRE, ESP, OSPF, SCTP, UDP-Lite, an experiment. Of IPv6 also headers of options.
const OTHERS: [u8; 8] = [2, 33, 47, 50, 89, 132, 136, 253];
const OTHERS6: [u8; 8] = [0, 33, 47, 50, 60, 132, 136, 253];

/// Nothing follows, and 6 bytes of padding: how a header of IPv6 options may begin.
const OPTIONS6: [u8; 8] = [59, 0, 1, 4, 0, 0, 0, 0];

/// IPv4 options that nobody on the way writes to: no operations, router alert, one that is not known. (Linux fills in records
/// of the route and of time, which Margay forwards as they are.)
const OPTIONS: [&[u8]; 3] = [&[1, 1, 1, 1], &[148, 4, 0, 0], &[94, 8, 1, 2, 3, 4, 5, 6]];

const FLAGS: [&str; 8] = ["S", "A", "PA", "FA", "SA", "R", "RA", "UAEC"];

/// Those that a host may use by mistake or in malice, and the gateway's.
const ODD_SOURCES: [&str; 14] = [
    "224.0.0.1",
    "127.0.0.1",
    "0.1.2.3",
    "169.254.7.7",
    "240.0.0.1",
    "255.255.255.255",
    "192.0.2.1",
    "172.20.1.10",
    "10.65.10.1",
    "10.65.10.5",
    "10.69.10.5",
    "10.69.21.5",
    "10.65.21.1",
    "172.20.2.11",
];
const ODD_SOURCES6: [&str; 8] =
    ["ff02::1", "::1", "::", "fe80::7", "fd00:20:1::10", "2001:db8::1", "fd00:65:0:15::5", "fd00:20:2::11"];

/// The same, and those that nobody has, or other pods.
const ODD_DESTINATIONS: [&str; 14] = [
    "224.0.0.1",
    "127.0.0.1",
    "0.1.2.3",
    "169.254.7.7",
    "240.0.0.1",
    "255.255.255.255",
    "192.0.2.1",
    "10.65.10.9",
    "10.65.21.9",
    "10.69.21.5",
    "10.65.21.1",
    "172.20.2.11",
    "10.69.10.5",
    "10.65.99.1",
];
const ODD_DESTINATIONS6: [&str; 8] =
    ["ff02::1", "::1", "::", "fe80::7", "2001:db8::1", "fd00:69:0:a::9", "fd00:69:0:15::9", "fd00:20:2::11"];

fn pick<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.usize(..of.len())]
}

/// One in `n`.
fn seldom(rng: &mut Rng, n: u32) -> bool {
    rng.u32(..n) == 0
}

impl Packet {
    pub fn random(rng: &mut Rng, number: u16) -> Self {
        let is_ipv6 = seldom(rng, 3);
        let (port, in_vxlan, way) = match rng.u8(..6) {
            0 | 1 => (Port::Uplink, true, Way::Vxlan),
            2 | 3 => (Port::VxlanPod, false, Way::Vxlan),
            4 => (Port::Uplink, false, Way::Plain),
            _ => (Port::PlainPod, false, Way::Plain),
        };
        let (from, to) = if port == Port::Uplink { (B1, GW_A) } else { (GW_A, B1) };
        let address = |node: Node| node.pod_address_of(way, is_ipv6).unwrap();
        let mut packet = Self {
            number,
            port,
            frame: Vec::new(),
            frame_for_kernel: Vec::new(),
            in_vxlan,
            outer_tos: if rng.bool() { 0 } else { rng.u8(..) },
            reserved_bits: if in_vxlan && seldom(rng, 20) { (rng.u8(..) & !8, rng.u8(..)) } else { (0, 0) },
            src: address(from),
            dst: address(to),
            tos: if rng.bool() { 0 } else { rng.u8(..) },
            ttl: if seldom(rng, 4) { pick(rng, &[0, 1, 2, 3, 255]) } else { rng.u8(4..) },
            dont_fragment: rng.bool(),
            options: if !is_ipv6 && seldom(rng, 20) { pick(rng, &OPTIONS) } else { &[] },
            protocol: any_protocol(rng, is_ipv6),
        };
        match rng.u8(..10) {
            0 => packet.src = any_address(rng, if is_ipv6 { &ODD_SOURCES6 } else { &ODD_SOURCES }),
            1 => packet.dst = any_address(rng, if is_ipv6 { &ODD_DESTINATIONS6 } else { &ODD_DESTINATIONS }),
            _ => {}
        }
        packet.build(rng);
        packet
    }

    /// One to each wire that is forwarded for certain, to know when all before it are through.
    pub fn proofs() -> Vec<Self> {
        let mut rng = Rng::with_seed(0);
        let mut proofs: Vec<Self> = Vec::new();
        for wanted in Port::ALL {
            let number = u16::MAX - wanted as u16;
            let is_plain = |packet: &Self| {
                let to = match wanted {
                    Port::Uplink => packet.port == Port::VxlanPod,
                    Port::VxlanPod => packet.in_vxlan,
                    Port::PlainPod => packet.port == Port::Uplink && !packet.in_vxlan,
                };
                to && packet.is_ordinary()
            };
            proofs.extend(std::iter::repeat_with(|| Self::random(&mut rng, number)).find(is_plain));
        }
        proofs
    }

    pub fn is_ipv6(&self) -> bool {
        self.src.is_ipv6()
    }

    /// Whether it goes into a tunnel with a congestion mark of its own, or one that it came with out of another tunnel.
    pub fn leaves_marked(&self) -> bool {
        let was_capable = self.tos & 3 != 0;
        self.tos & 3 == 3 || self.in_vxlan && was_capable && self.outer_tos & 3 == 3
    }

    /// Whether every gateway forwards it.
    fn is_ordinary(&self) -> bool {
        let are_pods = [self.src, self.dst].iter().all(|address| address.to_string().ends_with(".5"));
        are_pods && self.protocol == UDP && self.ttl > 1 && self.outer_tos == 0 && self.frame.len() < 1400
    }

    /// Bytes that VXLAN takes, over the family that it is in.
    fn overhead(&self) -> usize {
        if self.is_ipv6() { 70 } else { 50 }
    }

    fn build(&mut self, rng: &mut Rng) {
        let most = if self.in_vxlan { 1500 - self.overhead() } else { 1500 };
        let largest = most - 68 - self.options.len();
        let length = match rng.u8(..4) {
            0 => rng.usize(LEAST..64),
            1 => rng.usize(largest - 120..=largest),
            _ => rng.usize(LEAST..=largest),
        };
        let payload: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(length).collect();
        let (src, dst) = if self.in_vxlan {
            let family = if self.is_ipv6() { Family::V6 } else { Family::V4 };
            (vtep_mac(B1.name, None, family), vtep_mac(GW_A.name, None, family))
        } else {
            (self.port.neighbour_mac(), self.port.mac())
        };
        let mut frame = self.transport(rng, PacketBuilder::ethernet2(src, dst).ip(self.ip()), payload);
        // What is wrong in the payload is no router's concern, and UDP over IPv4 may have no checksum.
        if seldom(rng, 10) {
            *frame.last_mut().unwrap() ^= 1;
        } else if self.protocol == UDP && !self.is_ipv6() && seldom(rng, 4) {
            let at = 14 + 20 + self.options.len() + 6;
            frame[at..at + 2].fill(0);
        }
        if seldom(rng, 10) && frame.len() < 1380 {
            frame.resize(frame.len() + rng.usize(1..20), 0xee);
        }
        self.frame_for_kernel.clone_from(&frame);
        if self.in_vxlan {
            let tunnel = self.tunnel(rng);
            let has_checksum = self.is_ipv6() || rng.bool();
            let (flags, last) = self.reserved_bits;
            self.frame_for_kernel = tunnel.enclose(&frame, (0, 0), has_checksum);
            frame = tunnel.enclose(&frame, (flags, last), has_checksum);
        }
        self.frame = frame;
    }

    fn transport(
        &self,
        rng: &mut Rng,
        builder: PacketBuilderStep<IpHeaders>,
        mut payload: Vec<u8>,
    ) -> Vec<u8> {
        let (sport, dport) = (rng.u16(1024..), rng.u16(5000..));
        let rest = rng.u32(..).to_be_bytes();
        let mut frame = Vec::new();
        let written = match self.protocol {
            TCP => builder.tcp_header(any_tcp(rng, sport, dport)).write(&mut frame, &payload),
            UDP => builder.udp(sport, dport).write(&mut frame, &payload),
            ICMP => {
                let (kind, code) = pick(rng, &[(8, 0), (0, 0), (13, 0), (8, 7), (17, 0)]);
                builder.icmpv4_raw(kind, code, rest).write(&mut frame, &payload)
            }
            ICMP6 => {
                let (kind, code) = pick(rng, &[(128, 0), (129, 0), (128, 3)]);
                builder.icmpv6_raw(kind, code, rest).write(&mut frame, &payload)
            }
            other => {
                // etherparse has its own idea of what stands in a header of options.
                let is_options = matches!(other, 0 | 60);
                if is_options {
                    payload[..8].copy_from_slice(&OPTIONS6);
                }
                builder.write(&mut frame, IpNumber(if is_options { 253 } else { other }), &payload)
            }
        };
        written.unwrap();
        if self.is_ipv6() {
            frame[20] = self.protocol;
        }
        frame
    }

    fn ip(&self) -> IpHeaders {
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let header = Ipv4Header {
                    dscp: IpDscp::try_new(self.tos >> 2).unwrap(),
                    ecn: IpEcn::try_new(self.tos & 3).unwrap(),
                    identification: self.number,
                    dont_fragment: self.dont_fragment,
                    time_to_live: self.ttl,
                    protocol: IpNumber(self.protocol),
                    source: src.octets(),
                    destination: dst.octets(),
                    options: Ipv4Options::try_from(self.options).unwrap(),
                    ..Ipv4Header::default()
                };
                IpHeaders::Ipv4(header, Ipv4Extensions::default())
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let header = Ipv6Header {
                    traffic_class: self.tos,
                    flow_label: Ipv6FlowLabel::try_new(self.number.into()).unwrap(),
                    hop_limit: self.ttl,
                    next_header: IpNumber(self.protocol),
                    source: src.octets(),
                    destination: dst.octets(),
                    ..Ipv6Header::default()
                };
                IpHeaders::Ipv6(header, Ipv6Extensions::default())
            }
            _ => unreachable!("one family"),
        }
    }

    /// A packet of the tunnel's from the Linux node, in the family of what is in it.
    fn tunnel(&self, rng: &mut Rng) -> Self {
        Self {
            number: rng.u16(..),
            src: B1.underlay(self.is_ipv6()),
            dst: GW_A.underlay(self.is_ipv6()),
            tos: self.outer_tos,
            ttl: rng.u8(1..),
            dont_fragment: rng.bool(),
            options: &[],
            protocol: UDP,
            ..self.clone()
        }
    }

    /// The frame in this packet as VXLAN.
    fn enclose(&self, inner: &[u8], (flags, last): (u8, u8), has_checksum: bool) -> Vec<u8> {
        let payload = [&[8 | flags, 0, 0, 0, 0, 16, 0, last], inner].concat();
        let builder = PacketBuilder::ethernet2(self.port.neighbour_mac(), self.port.mac()).ip(self.ip());
        let mut frame = Vec::new();
        builder.udp(32768 | self.number, 4789).write(&mut frame, &payload).unwrap();
        if !has_checksum {
            frame[40..42].fill(0);
        }
        frame
    }
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, port, in_vxlan, src, dst, tos, outer_tos, ttl, protocol, .. } = self;
        let way = if *in_vxlan { "in VXLAN" } else { "as it is" };
        write!(
            f,
            "{number} by {port:?} {way}, {src} to {dst}, protocol {protocol}, TTL {ttl}, TOS {tos:#04x} in {outer_tos:#04x}: {}",
            hex(&self.frame)
        )
    }
}

/// As `text2pcap` and people read it.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn any_protocol(rng: &mut Rng, is_ipv6: bool) -> u8 {
    if seldom(rng, 5) {
        return pick(rng, if is_ipv6 { &OTHERS6 } else { &OTHERS });
    }
    pick(rng, &[TCP, UDP, if is_ipv6 { ICMP6 } else { ICMP }])
}

fn any_address(rng: &mut Rng, of: &[&str]) -> IpAddr {
    pick(rng, of).parse().unwrap()
}

fn any_tcp(rng: &mut Rng, sport: u16, dport: u16) -> TcpHeader {
    let flags = pick(rng, &FLAGS);
    let mut header = TcpHeader::new(sport, dport, rng.u32(..), rng.u16(..));
    header.acknowledgment_number = rng.u32(..);
    header.syn = flags.contains('S');
    header.ack = flags.contains('A');
    header.fin = flags.contains('F');
    header.rst = flags.contains('R');
    header.psh = flags.contains('P');
    header.urg = flags.contains('U');
    header.ece = flags.contains('E');
    header.cwr = flags.contains('C');
    if header.syn {
        header.set_options_raw(&[2, 4, 5, 0xa0, 4, 2, 1, 3]).unwrap();
    }
    header
}
