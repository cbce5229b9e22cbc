//! VXLAN over IPv6: push then pull gives the packet back, checksums are those that etherparse computes and that a Linux
//! node has put on the wire, and only packets whose checksum holds are pulled.

use std::net::Ipv6Addr;

use etherparse::{Ipv6Slice, UdpSlice};
use margay_encap::ethernet::ethertype;
use margay_encap::outer::{DontFragment, Dscp, Ttl};
use margay_encap::pull::{PullError, VxlanInner, ZeroChecksum, vxlan_over_ipv6};
use margay_encap::push::{Template, Vteps};
use margay_encap::{Headers, Outer, ipv6, parse, parse_ip6, rewrite};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::packets::{DST_MAC, SRC_MAC, UDP_FRAME, any_sample, hex};

const LOCAL: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x172, 0, 0, 0, 0, 0, 0x10);
const REMOTE: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x172, 0, 0, 0, 0, 0, 0x11);
const VTEP_A: [u8; 6] = [0x66, 0xfb, 0xfd, 0x31, 0xce, 0x61];
const VTEP_B: [u8; 6] = [0x66, 0xb1, 0xb1, 0xb1, 0xb1, 0x01];
/// Bytes before the inner packet.
const HEADERS: usize = 84;
const UDP: usize = 54;

/// VXLAN from a Linux node, its devices' checksums computed in software: UDP 10.65.10.8:5353 -> 10.65.21.5:53 in VNI 4096.
const OF_IPV4: &str = "024d670000fe 024d67000001 86dd
    60000000 00511140 fd000172000000000000000000000010 fd000172000000000000000000000011
    c1a112b5 005155aa 0800000000100000 66b1b1b1b101 66fbfd31ce61 0800
    45000033 911d4000 4011760e 0a410a08 0a411505 14e90035 001f3537 6d61726761792070 61796c6f61642030 3132333435363 7";
/// The same of IPv6.
const OF_IPV6: &str = "024d670000fe 024d67000001 86dd
    60000000 00651140 fd000172000000000000000000000010 fd000172000000000000000000000011
    b2f312b5 00656aed 0800000000100000 66b1b1b1b101 66fbfd31ce61 86dd
    600ed568 001f1140 fd000065001000000000000000000008 fd000065002100000000000000000005
    14e90035 001f6dbc 6d61726761792070 61796c6f61642030 3132333435363 7";
/// The checksums of the two inner packets as the node leaves them to a device that computes them: the outer ones are the same.
const LEFT_TO_DEVICE: [(&str, usize, [u8; 2]); 2] =
    [(OF_IPV4, 110, [0x33, 0xbf]), (OF_IPV6, 130, [0xfb, 0x39])];

fn template(outer: Outer, udp_checksum: bool) -> Template {
    let vteps = Vteps { vni: 4096, udp_port: 4789, src_mac: VTEP_A, dst_mac: VTEP_B };
    Template::plain(DST_MAC, SRC_MAC).vxlan_over_ipv6(LOCAL, REMOTE, &vteps, outer, udp_checksum)
}

fn pull(frame: &[u8]) -> Result<VxlanInner, PullError> {
    pull_unless(frame, ZeroChecksum::Refused)
}

fn pull_unless(frame: &[u8], zero_checksum: ZeroChecksum) -> Result<VxlanInner, PullError> {
    vxlan_over_ipv6(frame, &parse_ip6(frame, 14).expect("a sound outer packet"), zero_checksum)
}

fn any_outer() -> impl Strategy<Value = Outer> {
    let dscp = prop_oneof![(0..64u8).prop_map(Dscp::Fixed), Just(Dscp::Copy)];
    let ttl = prop_oneof![(1..=255u8).prop_map(Ttl::Fixed), Just(Ttl::Inherit)];
    let df = prop_oneof![Just(DontFragment::Clear), Just(DontFragment::Set), Just(DontFragment::Copy)];
    (dscp, ttl, df).prop_map(|(dscp, ttl, dont_fragment)| Outer { dscp, ttl, dont_fragment })
}

/// A packet of either family behind room for an Ethernet header, and its headers.
fn any_packet() -> impl Strategy<Value = (Vec<u8>, Headers)> {
    let of_ipv4 = any_sample().prop_map(|sample| {
        let frame = sample.without_trailer();
        let headers = parse(&frame).unwrap();
        (frame, headers)
    });
    let of_ipv6 = (any::<[u128; 2]>(), any::<[u8; 2]>(), vec(any::<u8>(), 0..300)).prop_map(
        |(ends, [class, hops], payload)| {
            let [src, dst] = ends.map(Ipv6Addr::from);
            let mut ip = ipv6::header(src, dst, 59, hops, payload.len().try_into().unwrap());
            ip[0] |= class >> 4;
            ip[1] |= class << 4;
            let frame = [&[0; 14][..], &ip, &payload].concat();
            let headers = parse_ip6(&frame, 14).unwrap();
            (frame, headers)
        },
    );
    prop_oneof![of_ipv4, of_ipv6].prop_filter("it can go on", |(_, headers)| headers.ttl() > 1)
}

/// The packet as it is forwarded into the tunnel.
fn pushed(template: &Template, packet: &[u8], headers: &Headers, source_port: u16) -> Vec<u8> {
    let mut frame = [&[0xcc; 70][..], packet].concat();
    let ttl = headers.ttl() - 1;
    if headers.is_ipv6() {
        rewrite::decrement_hop_limit(template.write6(&mut frame, headers, ttl, source_port, 9), headers);
    } else {
        rewrite::decrement_ttl(template.write(&mut frame, headers, ttl, source_port, 9), headers);
    }
    frame
}

/// The same, in no tunnel.
fn forwarded(packet: &[u8], headers: &Headers) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let header = packet[14..].first_chunk_mut().unwrap();
    if headers.is_ipv6() {
        rewrite::decrement_hop_limit(header, headers);
    } else {
        rewrite::decrement_ttl(header, headers);
    }
    packet[14..].to_vec()
}

proptest! {
    #[test]
    fn vxlan_comes_back(
        (packet, headers) in any_packet(),
        outer in any_outer(),
        udp_checksum in any::<bool>(),
        source_port in any::<u16>(),
        trailer in vec(any::<u8>(), 0..20),
    ) {
        let mut frame = pushed(&template(outer, udp_checksum), &packet, &headers, source_port);
        prop_assert_eq!(&frame[..14], [&DST_MAC[..], &SRC_MAC, &[0x86, 0xdd]].concat());
        let ip = Ipv6Slice::from_slice(&frame[14..]).unwrap();
        let header = ip.header().to_header();
        let dscp = match outer.dscp { Dscp::Fixed(dscp) => dscp, Dscp::Copy => headers.tos() >> 2 };
        prop_assert_eq!((header.traffic_class, header.flow_label.value()), (dscp << 2 | headers.tos() & 3, 0));
        let hops = match outer.ttl { Ttl::Fixed(hops) => hops, Ttl::Inherit => headers.ttl() - 1 };
        prop_assert_eq!(header.hop_limit, hops);
        prop_assert_eq!([header.source, header.destination], [LOCAL.octets(), REMOTE.octets()]);
        let payload = ip.payload().payload;
        let udp = UdpSlice::from_slice(payload).unwrap().to_header();
        prop_assert_eq!((udp.source_port, udp.destination_port), (source_port, 4789));
        prop_assert_eq!(usize::from(udp.length), payload.len());
        let sum = udp.calc_checksum_ipv6_raw(header.source, header.destination, &payload[8..]).unwrap();
        prop_assert_eq!(udp.checksum, if udp_checksum { sum } else { 0 });
        let carried = if headers.is_ipv6() { ethertype::IPV6 } else { ethertype::IPV4 };
        prop_assert_eq!(&frame[HEADERS - 2..HEADERS], carried.to_be_bytes());
        prop_assert_eq!(&frame[HEADERS..], forwarded(&packet, &headers));

        frame.extend_from_slice(&trailer);
        prop_assert_eq!(pull(&frame).is_ok(), udp_checksum);
        let pulled = pull_unless(&frame, ZeroChecksum::Accepted).unwrap();
        prop_assert_eq!((pulled.vni, pulled.src_mac, pulled.dst_mac), (4096, VTEP_A, VTEP_B));
        let inner = &frame[pulled.inner.frame_start() + 14..pulled.inner.end as usize];
        prop_assert_eq!(inner, forwarded(&packet, &headers));
    }

    #[test]
    fn a_bit_that_toppled_is_seen((packet, headers) in any_packet(), at in any::<Index>(), bit in 0..8_u8) {
        let mut frame = pushed(&template(Outer::VXLAN, true), &packet, &headers, 50_000);
        // Behind the lengths, which are held against each other before.
        let at = UDP + 6 + at.index(frame.len() - UDP - 6);
        frame[at] ^= 1 << bit;
        prop_assert!(matches!(pull(&frame), Err(PullError::BadChecksum | PullError::NoChecksum)));
    }

    #[test]
    fn any_bytes_pull_within_bounds(payload in vec(any::<u8>(), 0..120), len in any::<u8>(), zero in any::<bool>()) {
        let mut payload = payload;
        if payload.len() >= 30 {
            payload[2..6].copy_from_slice(&[0x12, 0xb5, 0, len]);
            payload[8] |= 8;
            payload[28..30].copy_from_slice(if len & 1 == 0 { &[0x08, 0x00] } else { &[0x86, 0xdd] });
            if zero {
                payload[6..8].fill(0);
            }
        }
        let ip = ipv6::header(LOCAL, REMOTE, 17, 64, payload.len().try_into().unwrap());
        let frame = [&DST_MAC[..], &SRC_MAC, &[0x86, 0xdd], &ip, &payload].concat();
        if let Ok(outer) = parse_ip6(&frame, 14)
            && let Ok(pulled) = vxlan_over_ipv6(&frame, &outer, ZeroChecksum::Accepted)
        {
            prop_assert_eq!(usize::from(pulled.inner.l3), HEADERS);
            prop_assert_eq!(pulled.inner.end, 54 + u32::from(len));
            prop_assert!(pulled.inner.end as usize <= frame.len());
        }
    }
}

#[test]
fn headers_are_as_captured() {
    for (captured, source_port) in [(OF_IPV4, 0xc1a1), (OF_IPV6, 0xb2f3)] {
        let captured = hex(captured);
        let mut frame = captured.clone();
        frame[..HEADERS].fill(0xcc);
        let is_ipv6 = frame[HEADERS] >> 4 == 6;
        let template = template(Outer::VXLAN, true);
        if is_ipv6 {
            let headers = parse_ip6(&frame[70..], 14).unwrap();
            template.write6(&mut frame, &headers, headers.ttl(), source_port, 0);
        } else {
            let headers = parse(&[&[0; 12][..], &[8, 0], &frame[HEADERS..]].concat()).unwrap();
            template.write(&mut frame, &headers, headers.ttl(), source_port, 0);
        }
        assert_eq!(frame[14..], captured[14..]);
        let pulled = pull(&frame).unwrap();
        assert_eq!((pulled.inner.l3, pulled.inner.end as usize), (84, frame.len()));
    }
}

/// A checksum that a sender on this machine left to its device: the outer one, or the inner one, which the outer counts as
/// completed.
#[test]
fn checksums_left_to_the_device_hold() {
    for (captured, at, partial) in LEFT_TO_DEVICE {
        let mut frame = hex(captured);
        frame[at..at + 2].copy_from_slice(&partial);
        assert!(pull(&frame).is_ok());
        frame[HEADERS - 3] ^= 1;
        assert_eq!(pull(&frame), Err(PullError::BadChecksum), "an address of the inner Ethernet header");
        frame[HEADERS - 3] ^= 1;
        frame[UDP] ^= 1;
        assert_eq!(pull(&frame), Err(PullError::BadChecksum), "the outer source port");
    }
    // As captured, of an inner packet that the node had completed.
    let mut frame = hex(OF_IPV4);
    let sum = margay_encap::checksum::pseudo_header_v6(LOCAL.to_bits(), REMOTE.to_bits(), 17, 0x51).fold();
    frame[60..62].copy_from_slice(&sum.to_be_bytes());
    assert!(pull(&frame).is_ok());
}

#[test]
fn a_checksum_that_comes_out_zero_is_all_ones() {
    let packet = hex(UDP_FRAME);
    let headers = parse(&packet).unwrap();
    let summed = template(Outer::VXLAN, true);
    let checksum = |frame: &[u8]| u16::from_be_bytes([frame[60], frame[61]]);
    let before = checksum(&pushed(&summed, &packet, &headers, 0));
    // A source port more is so much less of the checksum, round the corner of ones' complement.
    let frame = pushed(&summed, &packet, &headers, before);
    assert_eq!(checksum(&frame), 0xffff);
    assert!(pull(&frame).is_ok());
}

#[test]
fn what_is_wrong_is_named() {
    let cases: [(&str, usize, &[u8], PullError); 6] = [
        ("no checksum", 60, &[0, 0], PullError::NoChecksum),
        ("wrong checksum", 60, &[0x55, 0xab], PullError::BadChecksum),
        ("UDP length leaves the last byte out", 58, &[0, 0x50], PullError::BadChecksum),
        ("I flag clear", 62, &[0], PullError::NoVni),
        ("ARP", 82, &[8, 6], PullError::InnerArp),
        ("UDP length ends in the inner Ethernet header", 58, &[0, 8 + 8 + 13], PullError::Truncated),
    ];
    for (name, at, bytes, error) in cases {
        let mut frame = hex(OF_IPV4);
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        let is_sum = matches!(error, PullError::NoChecksum | PullError::BadChecksum);
        if !is_sum {
            frame[60..62].fill(0);
        }
        let zero_checksum = if is_sum { ZeroChecksum::Refused } else { ZeroChecksum::Accepted };
        assert_eq!(pull_unless(&frame, zero_checksum), Err(error), "{name}");
    }
}

#[test]
fn extension_headers_are_passed_over() {
    let frame = hex(OF_IPV4);
    let options = [17, 0, 1, 4, 0, 0, 0, 0];
    let mut longer = [&frame[..UDP], &options, &frame[UDP..]].concat();
    longer[18..20].copy_from_slice(&(0x51 + 8_u16).to_be_bytes());
    longer[20] = 60;
    let pulled = pull(&longer).unwrap();
    assert_eq!((pulled.inner.l3, pulled.inner.end as usize), (92, longer.len()));
}
