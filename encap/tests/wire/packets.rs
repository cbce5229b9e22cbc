//! Packets to try things on: random valid ones built by etherparse, and captured ones.

use etherparse::{IpDscp, IpEcn, IpNumber, Ipv4Header, Ipv4Options, TcpHeader, UdpHeader};
use proptest::collection::vec;
use proptest::prelude::*;

pub(crate) const DST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub(crate) const SRC_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// UDP 10.65.10.8:40000 -> 10.65.21.5:53, DF, TTL 64.
pub(crate) const UDP_FRAME: &str = "eeeeeeeeeeee 02706f640004 0800
    4500003312344000 4011f4f7 0a410a08 0a411505 9c400035001faddf
    6d6172676179207061796c6f616420303132333435363 7";

/// Bytes from hexadecimal digits; white space counts for nothing.
pub(crate) fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        digits.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit.try_into().unwrap()).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// An Ethernet frame around an IPv4 header and what follows it.
pub(crate) fn frame(ip: &Ipv4Header, segment: &[u8]) -> Vec<u8> {
    let mut frame = [&DST_MAC[..], &SRC_MAC, &[0x08, 0x00]].concat();
    frame.extend_from_slice(&ip.to_bytes());
    frame.extend_from_slice(segment);
    frame
}

/// An IPv4 header for a payload, checksum included.
pub(crate) fn ipv4(src: [u8; 4], dst: [u8; 4], protocol: u8, payload_len: usize) -> Ipv4Header {
    let mut header =
        Ipv4Header::new(payload_len.try_into().unwrap(), 64, IpNumber(protocol), src, dst).unwrap();
    header.header_checksum = header.calc_header_checksum();
    header
}

/// A valid frame and what it was built from.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) ip: Ipv4Header,
    pub(crate) segment: Vec<u8>,
    /// Ports, or an ICMP query's identifier in both.
    pub(crate) ports: (u16, u16),
    pub(crate) tcp_flags: u8,
    /// Type and code.
    pub(crate) icmp: (u8, u8),
    pub(crate) trailer: Vec<u8>,
}

impl Sample {
    pub(crate) fn frame(&self) -> Vec<u8> {
        let mut frame = self.without_trailer();
        frame.extend_from_slice(&self.trailer);
        frame
    }

    pub(crate) fn without_trailer(&self) -> Vec<u8> {
        frame(&self.ip, &self.segment)
    }
}

/// Any valid packet of any protocol that the parser looks into, and of some that it does not.
pub(crate) fn any_sample() -> impl Strategy<Value = Sample> {
    (
        any_ip(),
        0..7_u8,
        any::<(u16, u16)>(),
        any::<[u8; 4]>(),
        vec(any::<u8>(), 0..300),
        vec(any::<u8>(), 0..40),
    )
        .prop_map(|(ip, protocol, ports, extra, payload, trailer)| {
            let mut sample = Sample { ip, segment: payload, ports, tcp_flags: 0, icmp: (0, 0), trailer };
            match protocol {
                0 => tcp(&mut sample, extra),
                1 => udp(&mut sample),
                2 => icmp(&mut sample, extra),
                3 => opaque(&mut sample, 132, 12),
                4 => opaque(&mut sample, 33, 12),
                5 => opaque(&mut sample, 136, 8),
                _ => {
                    sample.ports = (0, 0);
                    sample.ip.protocol = IpNumber(50);
                }
            }
            sample.ip.set_payload_len(sample.segment.len()).unwrap();
            sample.ip.header_checksum = sample.ip.calc_header_checksum();
            sample
        })
}

fn any_ip() -> impl Strategy<Value = Ipv4Header> {
    let fields = any::<([u8; 4], [u8; 4], u8, u8, u16, bool)>();
    (fields, any_options()).prop_map(|((src, dst, ttl, tos, ident, df), options)| Ipv4Header {
        dscp: IpDscp::try_new(tos >> 2).unwrap(),
        ecn: IpEcn::try_new(tos & 3).unwrap(),
        identification: ident,
        dont_fragment: df,
        options,
        ..Ipv4Header::new(0, ttl, IpNumber(0), src, dst).unwrap()
    })
}

/// Mostly none; else sound ones, an end, and whatever follows it.
fn any_options() -> impl Strategy<Value = Ipv4Options> {
    let option = (any::<u8>(), vec(any::<u8>(), 0..10)).prop_map(|(kind, data)| match kind {
        0 | 1 => vec![1],
        131 | 137 => vec![148, 4, 0, 0],
        kind => [&[kind, data.len() as u8 + 2][..], &data].concat(),
    });
    (any::<bool>(), vec(option, 0..6), any::<u8>()).prop_map(|(has_some, options, rest)| {
        let mut bytes = options.concat();
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(4), rest);
        Ipv4Options::try_from(&bytes[..]).ok().filter(|_| has_some).unwrap_or_default()
    })
}

fn tcp(sample: &mut Sample, [flags, options, ..]: [u8; 4]) {
    let mut tcp = TcpHeader::new(sample.ports.0, sample.ports.1, 1, 512);
    tcp.acknowledgment_number = 7;
    [tcp.fin, tcp.syn, tcp.rst, tcp.psh, tcp.ack, tcp.urg, tcp.ece, tcp.cwr] =
        std::array::from_fn(|bit| flags >> bit & 1 != 0);
    tcp.set_options_raw(&vec![1; usize::from(options % 40)]).unwrap();
    tcp.checksum = tcp.calc_checksum_ipv4(&sample.ip, &sample.segment).unwrap();
    sample.ip.protocol = IpNumber::TCP;
    sample.tcp_flags = flags;
    sample.segment = [&tcp.to_bytes()[..], &sample.segment].concat();
}

fn udp(sample: &mut Sample) {
    let (sport, dport) = sample.ports;
    let udp = UdpHeader::with_ipv4_checksum(sport, dport, &sample.ip, &sample.segment).unwrap();
    sample.ip.protocol = IpNumber::UDP;
    sample.segment = [&udp.to_bytes()[..], &sample.segment].concat();
}

fn icmp(sample: &mut Sample, [kind, code, high, low]: [u8; 4]) {
    let kind = kind % 20;
    let identifier = u16::from_be_bytes([high, low]);
    // RFC 792's queries and replies, and RFC 950's.
    let query = matches!(kind, 0 | 8 | 13..=18);
    sample.ports = if query { (identifier, identifier) } else { (0, 0) };
    sample.icmp = (kind, code);
    sample.ip.protocol = IpNumber::ICMP;
    sample.segment = [&[kind, code, 0, 0, high, low, 0, 1][..], &sample.segment].concat();
}

/// A header of `len` bytes that opens with the ports.
fn opaque(sample: &mut Sample, protocol: u8, len: usize) {
    let mut header = vec![0; len];
    header[..2].copy_from_slice(&sample.ports.0.to_be_bytes());
    header[2..4].copy_from_slice(&sample.ports.1.to_be_bytes());
    sample.ip.protocol = IpNumber(protocol);
    sample.segment = [&header[..], &sample.segment].concat();
}
