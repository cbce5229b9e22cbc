//! IPv6: parsed as etherparse does, whatever extension headers there are; refused at every truncation; and ICMPv6 errors.

use std::net::Ipv6Addr;

use etherparse::{
    Icmpv6Slice, Ipv6HeaderSlice, NetSlice, SlicedPacket, TcpHeader, TransportSlice, UdpHeader,
};
use margay_encap::checksum::pseudo_header_v6;
use margay_encap::icmp6_error::{Icmp6Error, MAX_LEN};
use margay_encap::{ParseError, Quoted6, addresses6, ipv6, parse_ip6, parse_quoted6, protocol, rewrite};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::packets::{DST_MAC, SRC_MAC};

const L3: u16 = 14;
const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);

/// A valid packet and what it was built from.
#[derive(Clone, Debug)]
struct Sample {
    ends: [Ipv6Addr; 2],
    /// Protocol, length in units of 8 bytes less one: behind each other.
    extensions: Vec<(u8, u8)>,
    protocol: u8,
    segment: Vec<u8>,
    ports: (u16, u16),
    trailer: Vec<u8>,
}

impl Sample {
    fn extensions(&self) -> Vec<u8> {
        let next = self.extensions.iter().skip(1).map(|(kind, _)| *kind).chain([self.protocol]);
        let header = |((kind, len), next): (&(u8, u8), u8)| {
            // A fragment header that is of a whole packet, or a pad of so many bytes.
            let units = if *kind == 44 { 0 } else { *len };
            let mut header = vec![0; (usize::from(units) + 1) * 8];
            header[..2].copy_from_slice(&[next, units]);
            if *kind != 44 && *kind != 43 {
                header[2..4].copy_from_slice(&[1, units * 8 + 4]);
            }
            if *kind == 43 {
                header[2] = 4;
            }
            header
        };
        self.extensions.iter().zip(next).flat_map(header).collect()
    }

    fn frame(&self) -> Vec<u8> {
        let extensions = self.extensions();
        let first = self.extensions.first().map_or(self.protocol, |(kind, _)| *kind);
        let len = extensions.len() + self.segment.len();
        let [src, dst] = self.ends;
        let mut ip = ipv6::header(src, dst, first, 64, len.try_into().unwrap());
        ip[0] |= 0x0a;
        ip[1] |= 0xb0;
        [&DST_MAC[..], &SRC_MAC, &[0x86, 0xdd], &ip, &extensions, &self.segment, &self.trailer].concat()
    }
}

fn any_sample() -> impl Strategy<Value = Sample> {
    let extension = (prop_oneof![Just(60_u8), Just(43), Just(44)], 0..4_u8);
    let extensions = (any::<Option<u8>>(), vec(extension, 0..4)).prop_map(|(hop_by_hop, others)| {
        hop_by_hop.map(|len| (0, len % 4)).into_iter().chain(others).collect::<Vec<_>>()
    });
    let ends = any::<[u128; 2]>().prop_map(|ends| ends.map(Ipv6Addr::from));
    let bytes = || vec(any::<u8>(), 0..200);
    (ends, extensions, 0..4_u8, any::<(u16, u16)>(), bytes(), bytes()).prop_map(
        |(ends, extensions, kind, ports, payload, trailer)| {
            let (protocol, ports, segment) = transport(kind, ports, &payload);
            Sample { ends, extensions, protocol, segment, ports, trailer }
        },
    )
}

fn transport(kind: u8, ports: (u16, u16), payload: &[u8]) -> (u8, (u16, u16), Vec<u8>) {
    match kind {
        0 => {
            let header = TcpHeader::new(ports.0, ports.1, 7, 9).to_bytes();
            (protocol::TCP, ports, [&header[..], payload].concat())
        }
        1 => {
            let length = (8 + payload.len()).try_into().unwrap();
            let header =
                UdpHeader { source_port: ports.0, destination_port: ports.1, length, checksum: 0x1234 };
            (protocol::UDP, ports, [&header.to_bytes()[..], payload].concat())
        }
        2 => {
            let [high, low] = ports.0.to_be_bytes();
            let header = [128, 0, 0, 0, high, low, 0, 1];
            (protocol::ICMPV6, (ports.0, ports.0), [&header[..], payload].concat())
        }
        // What is ICMP in IPv4 is nothing of the kind here.
        _ => (protocol::ICMP, (0, 0), [&[0; 8][..], payload].concat()),
    }
}

proptest! {
    #[test]
    fn any_bytes_parse_within_bounds(bytes in vec(any::<u8>(), 0..200), l3 in 0..220_u16) {
        let mut bytes = bytes;
        if let Some(first) = bytes.get_mut(usize::from(l3)) {
            *first = 0x60 | *first & 0xf;
        }
        if let Ok(headers) = parse_ip6(&bytes, l3) {
            prop_assert!(headers.end() as usize <= bytes.len());
            prop_assert!((u32::from(l3) + 40..=headers.end()).contains(&headers.transport().into()));
        }
        parse_quoted6(&bytes);
    }

    #[test]
    fn valid_packets_parse_as_built_and_as_etherparse_reads_them(sample in any_sample()) {
        let frame = sample.frame();
        let headers = parse_ip6(&frame, L3).unwrap();
        prop_assert!(headers.is_ipv6() && headers.dont_fragment());
        prop_assert_eq!(addresses6(&frame, &headers), sample.ends);
        prop_assert_eq!((headers.protocol(), (headers.sport(), headers.dport())), (sample.protocol, sample.ports));
        prop_assert_eq!((headers.ttl(), headers.tos(), headers.l3()), (64, 0xab, L3));
        let at = usize::from(headers.transport());
        prop_assert_eq!(&frame[at..headers.end() as usize], &sample.segment);

        let theirs = SlicedPacket::from_ethernet(&frame).unwrap();
        let Some(NetSlice::Ipv6(ip)) = theirs.net else { panic!("{theirs:?}") };
        prop_assert_eq!(ip.payload().payload, &sample.segment);
        prop_assert_eq!(ip.payload().ip_number.0, sample.protocol);
        match theirs.transport {
            Some(TransportSlice::Tcp(tcp)) => prop_assert_eq!(tcp.source_port(), sample.ports.0),
            Some(TransportSlice::Udp(udp)) => prop_assert_eq!(udp.source_port(), sample.ports.0),
            _ => {}
        }
    }

    #[test]
    fn every_truncation_is_refused(sample in any_sample()) {
        let sample = Sample { trailer: Vec::new(), ..sample };
        let frame = sample.frame();
        for len in 0..frame.len() {
            prop_assert!(parse_ip6(&frame[..len], L3).is_err(), "{len} of {}", frame.len());
        }
    }

    #[test]
    fn an_error_is_sound_and_names_its_flow(sample in any_sample(), mtu in any::<u16>(), long in 0..1400_usize) {
        let mut sample = Sample { trailer: Vec::new(), ..sample };
        if sample.protocol != protocol::UDP {
            sample.segment.extend(vec![0x5a; long]);
        }
        let frame = sample.frame();
        let headers = parse_ip6(&frame, L3).unwrap();
        for (error, kind, word) in [
            (Icmp6Error::TimeExceeded, 3, 0),
            (Icmp6Error::PacketTooBig { mtu }, 2, u32::from(mtu.max(1280))),
            (Icmp6Error::Unreachable { code: 0 }, 1, 0),
        ] {
            let mut buffer = [0xcc; MAX_LEN];
            let len = error.write(&mut buffer, ROUTER, &frame, &headers);
            let packet = &buffer[..len];
            prop_assert_eq!(len, (usize::from(headers.total_len()) + 48).min(1280));
            let ip = Ipv6HeaderSlice::from_slice(packet).unwrap();
            prop_assert_eq!(usize::from(ip.payload_length()) + 40, len);
            prop_assert_eq!((ip.source_addr(), ip.destination_addr()), (ROUTER, sample.ends[0]));
            let icmp = Icmpv6Slice::from_slice(&packet[40..]).unwrap();
            prop_assert!(icmp.is_checksum_valid(ip.source(), ip.destination()));
            prop_assert_eq!((icmp.type_u8(), icmp.code_u8()), (kind, 0));
            prop_assert_eq!(u32::from_be_bytes(icmp.bytes5to8()), word);
            let [src, dst] = sample.ends;
            let (sport, dport) = sample.ports;
            let flow = Quoted6 { src, dst, sport, dport, protocol: sample.protocol };
            prop_assert_eq!(parse_quoted6(icmp.payload()), Some(flow));
        }
    }

    #[test]
    fn a_sum_left_to_the_device_is_completed(sample in any_sample()) {
        let mut sample = sample;
        let at = match sample.protocol {
            protocol::TCP => 16,
            protocol::UDP => 6,
            _ => return Ok(()),
        };
        let [src, dst] = sample.ends;
        let len = sample.segment.len().try_into().unwrap();
        let partial = pseudo_header_v6(src.to_bits(), dst.to_bits(), sample.protocol, len).fold();
        sample.segment[at..at + 2].copy_from_slice(&partial.to_be_bytes());
        let mut frame = sample.frame();
        let headers = parse_ip6(&frame, L3).unwrap();
        prop_assert!(headers.checksum_partial());
        rewrite::complete_checksum(&mut frame, &headers);
        let segment = &frame[usize::from(headers.transport())..headers.end() as usize];
        let (src, dst) = (src.octets(), dst.octets());
        let (ours, theirs) = if sample.protocol == protocol::TCP {
            let (tcp, payload) = TcpHeader::from_slice(segment).unwrap();
            (tcp.checksum, tcp.calc_checksum_ipv6_raw(src, dst, payload).unwrap())
        } else {
            let (udp, payload) = UdpHeader::from_slice(segment).unwrap();
            (udp.checksum, udp.calc_checksum_ipv6_raw(src, dst, payload).unwrap())
        };
        prop_assert_eq!(ours, theirs);
    }
}

#[test]
fn each_fault_has_its_own_error() {
    let good = Sample {
        ends: [ROUTER; 2],
        extensions: vec![(0, 0), (60, 0)],
        protocol: protocol::UDP,
        segment: vec![0, 1, 0, 2, 0, 12, 0, 0, 1, 2, 3, 4],
        ports: (1, 2),
        trailer: Vec::new(),
    };
    let with = |at: usize, value: u8| {
        let mut frame = good.frame();
        frame[at] = value;
        frame
    };
    let (fixed, hop_by_hop, options, udp) = (14, 54, 62, 70);
    for (what, frame, expected) in [
        ("nothing", good.frame(), Ok(())),
        ("version", with(fixed, 0x40), Err(ParseError::BadVersion)),
        ("longer than the frame", with(fixed + 5, 0xff), Err(ParseError::BadTotalLength)),
        ("hop-by-hop not first", with(hop_by_hop, 0), Err(ParseError::ExtensionHeaders)),
        ("an extension beyond the packet", with(options + 1, 9), Err(ParseError::BadHeaderLength)),
        ("a source route with a way to go", with(hop_by_hop, 43), Err(ParseError::SourceRoute)),
        ("UDP longer than the packet", with(udp + 5, 13), Err(ParseError::TruncatedL4)),
        (
            "a fragment cut where none can be",
            [with(hop_by_hop, 44)]
                .map(|mut frame| {
                    frame[options + 3] = 1;
                    frame
                })
                .concat(),
            Err(ParseError::BadFragment),
        ),
    ] {
        assert_eq!(parse_ip6(&frame, L3).map(|_| ()), expected, "{what}");
    }
    let mut route = with(hop_by_hop, 43);
    route[options + 2..options + 4].copy_from_slice(&[0, 1]);
    assert_eq!(
        parse_ip6(&route, L3).map(|_| ()),
        Err(ParseError::SourceRoute),
        "a source route with a way to go"
    );
    let many = Sample { extensions: vec![(60, 0); 9], ..good.clone() };
    assert_eq!(parse_ip6(&many.frame(), L3).map(|_| ()), Err(ParseError::ExtensionHeaders), "too many");
    let most = Sample { extensions: vec![(60, 0); 8], ..good };
    assert!(parse_ip6(&most.frame(), L3).is_ok());
}
