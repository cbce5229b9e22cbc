//! Tunnels: push then pull gives the packet back, outer headers are sound by etherparse, and captured packets.

use etherparse::{IpNumber, Ipv4Slice, UdpSlice};
use margay_encap::outer::{DontFragment, Dscp, Ttl};
use margay_encap::pull::{self, Inner, PullError, decapsulate_ecn};
use margay_encap::push::{Template, Vteps};
use margay_encap::{Headers, Outer, parse, vxlan};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::packets::{self, DST_MAC, SRC_MAC, Sample, UDP_FRAME, any_sample, hex};

const LOCAL: u32 = 0xac14_010a;
const REMOTE: u32 = 0xac14_020b;
const VTEP_A: [u8; 6] = [0x66, 0xfb, 0xfd, 0x31, 0xce, 0x61];
const VTEP_B: [u8; 6] = [0x66, 0xb1, 0xb1, 0xb1, 0xb1, 0x01];

fn plain() -> Template {
    Template::plain(DST_MAC, SRC_MAC)
}

fn vxlan_template(vni: u32) -> Template {
    plain().vxlan(
        LOCAL,
        REMOTE,
        &Vteps { vni, udp_port: 4789, src_mac: VTEP_A, dst_mac: VTEP_B },
        Outer::VXLAN,
    )
}

/// Room in front of the sample's IP packet, as a frame in the UMEM has it: what lies there is anything.
fn with_room(sample: &Sample, overhead: usize) -> (Vec<u8>, Headers) {
    let frame = sample.frame();
    let headers = parse(&frame).unwrap();
    let room = vec![0xcc; overhead];
    ([&room, &frame[..headers.end() as usize]].concat(), headers)
}

/// The inner frame, its stale Ethernet header left out.
fn inner_packet(frame: &[u8], inner: Inner) -> &[u8] {
    assert_eq!(inner.frame_start() + inner.frame_len(), inner.end as usize);
    &frame[inner.frame_start() + 14..][..inner.frame_len() - 14]
}

proptest! {
    #[test]
    fn ipip_comes_back(sample in any_sample(), ident in any::<u16>()) {
        let (mut frame, headers) = with_room(&sample, 20);
        plain().ipip(LOCAL, REMOTE, Outer::IPIP).write(&mut frame, &headers, 63, 0, ident);
        let outer = parse(&frame).expect("a sound outer packet");

        let ip = Ipv4Slice::from_slice(&frame[14..]).unwrap();
        prop_assert_eq!(ip.header().to_header().calc_header_checksum(), ip.header().header_checksum());
        prop_assert_eq!(ip.header().protocol(), IpNumber::IPV4);
        prop_assert_eq!(ip.header().dont_fragment(), sample.ip.dont_fragment);
        prop_assert_eq!((ip.header().dcp().value(), ip.header().ecn()), (0, sample.ip.ecn));
        prop_assert_eq!((ip.header().ttl(), ip.header().identification()), (63, ident));
        prop_assert_eq!((outer.src(), outer.dst()), (LOCAL, REMOTE));

        prop_assert_eq!(inner_packet(&frame, pull::ipip(&outer)), &sample.without_trailer()[14..]);
    }

    #[test]
    fn vxlan_comes_back(
        sample in any_sample(),
        vni in 0..=vxlan::MAX_VNI,
        hash in any::<u64>(),
        trailer in vec(any::<u8>(), 0..20),
    ) {
        let (mut frame, headers) = with_room(&sample, 50);
        let source_port = vxlan::source_port(hash);
        vxlan_template(vni).write(&mut frame, &headers, 63, source_port, 9);
        frame.extend_from_slice(&trailer);
        let outer = parse(&frame).expect("a sound outer packet");

        let ip = Ipv4Slice::from_slice(&frame[14..]).unwrap();
        prop_assert!(!ip.header().dont_fragment());
        prop_assert_eq!((ip.header().dcp().value(), ip.header().ecn()), (0, sample.ip.ecn));
        let udp = UdpSlice::from_slice(ip.payload().payload).unwrap();
        prop_assert_eq!((udp.source_port(), udp.destination_port(), udp.checksum()), (source_port, 4789, 0));
        prop_assert_eq!(usize::from(udp.length()), ip.payload().payload.len());
        prop_assert!(source_port >= 49152);

        let pulled = pull::vxlan(&frame, &outer).unwrap();
        prop_assert_eq!((pulled.vni, pulled.src_mac, pulled.dst_mac), (vni, VTEP_A, VTEP_B));
        prop_assert_eq!(inner_packet(&frame, pulled.inner), &sample.without_trailer()[14..]);
    }

    #[test]
    fn any_bytes_pull_within_bounds(payload in vec(any::<u8>(), 0..60), flags in any::<u8>(), ip in any::<bool>()) {
        let mut payload = payload;
        if payload.len() >= 22 {
            payload[0] = flags | vxlan::FLAG_VNI;
            payload[20..22].copy_from_slice(if ip { &[0x08, 0x00] } else { &[0x88, 0x47] });
        }
        let len = 8 + payload.len();
        let datagram = [&[0, 1, 0x12, 0xb5, 0, len.try_into().unwrap(), 0, 0][..], &payload].concat();
        let frame = packets::frame(&packets::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 17, len), &datagram);
        let outer = parse(&frame).unwrap();
        match pull::vxlan(&frame, &outer) {
            Ok(pulled) => {
                prop_assert!(payload.len() >= 22 && ip);
                prop_assert_eq!((pulled.inner.l3, pulled.inner.end as usize), (64, frame.len()));
            }
            Err(error) => prop_assert!(!ip || payload.len() < 22, "{error}"),
        }
    }
}

/// The bytes that a reference implementation put on the wire for the same packet.
#[test]
fn outer_headers_as_captured() {
    let sent = hex(UDP_FRAME);
    let headers = parse(&sent).unwrap();
    let ethernet = [&DST_MAC[..], &SRC_MAC, &[8, 0]].concat();

    let mut frame = [&[0; 20][..], &sent].concat();
    plain().ipip(LOCAL, REMOTE, Outer::IPIP).write(&mut frame, &headers, 64, 0, 0);
    assert_eq!(frame[..14], ethernet);
    assert_eq!(frame[14..34], hex("45000047 00004000 4004df75 ac14010a ac14020b"));

    let mut frame = [&[0; 50][..], &sent].concat();
    vxlan_template(4096).write(&mut frame, &headers, 63, 0xf67a, 0);
    assert_eq!(frame[..14], ethernet);
    let captured = "45000065 00000000 40111f4b ac14010a ac14020b f67a12b5 00510000
        08000000 00100000 66b1b1b1b101 66fbfd31ce61 0800";
    assert_eq!(frame[14..64], hex(captured));
    assert_eq!(frame[64..], sent[14..]);

    let mut frame = sent.clone();
    plain().write(&mut frame, &headers, 63, 0xf67a, 0);
    assert_eq!(frame, [&ethernet, &sent[14..]].concat());
}

/// VXLAN from a Linux node: UDP 10.65.21.5:53 -> 10.65.10.8:5353 in VNI 4096.
const VXLAN_FRAME: &str = "024d67000001 024d670000fe 0800
    45000065 00070000 40111f44 ac14020b ac14010a c82212b5 00510000
    08000000 00100000 66fbfd31ce61 66b1b1b1b101 0800
    45000033 12344000 4011f4f7 0a411505 0a410a08 003514e9 001f3537
    6d61726761792070 61796c6f61642030 3132333435363 7";

#[test]
fn a_captured_packet_is_pulled() {
    let frame = hex(VXLAN_FRAME);
    let pulled = pull::vxlan(&frame, &parse(&frame).unwrap()).unwrap();
    assert_eq!((pulled.vni, pulled.dst_mac, pulled.src_mac), (4096, VTEP_A, VTEP_B));
    let inner = &frame[pulled.inner.frame_start()..][..pulled.inner.frame_len()];
    let headers = parse(inner).expect("the inner Ethernet header is still there");
    assert_eq!((headers.src(), headers.sport()), (0x0a41_1505, 53));
    assert_eq!((headers.dst(), headers.dport()), (0x0a41_0a08, 5353));
}

#[test]
fn what_is_wrong_inside_vxlan_is_named() {
    let cases: [(&str, usize, &[u8], PullError); 6] = [
        ("I flag clear", 42, &[0], PullError::NoVni),
        ("all flags but I", 42, &[0xf7], PullError::NoVni),
        ("ARP", 62, &[8, 6], PullError::InnerArp),
        ("802.1Q", 62, &[0x81, 0], PullError::InnerVlan),
        ("MPLS", 62, &[0x88, 0x47], PullError::InnerNotIp(0x8847)),
        ("UDP length ends in the inner Ethernet header", 38, &[0, 8 + 8 + 13], PullError::Truncated),
    ];
    for (name, at, bytes, error) in cases {
        let mut frame = hex(VXLAN_FRAME);
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        let outer = parse(&frame).unwrap();
        assert_eq!(pull::vxlan(&frame, &outer), Err(error), "{name}");
    }
}

/// What the outer packet holds behind its UDP datagram is not the tunnel's.
#[test]
fn the_inner_frame_ends_with_the_datagram() {
    let mut frame = hex(VXLAN_FRAME);
    frame[39] -= 3;
    let pulled = pull::vxlan(&frame, &parse(&frame).unwrap()).unwrap();
    assert_eq!(pulled.inner.end as usize, frame.len() - 3);
}

/// RFC 7348 5: reserved fields are ignored on receipt.
#[test]
fn reserved_bits_are_ignored() {
    let mut frame = hex(VXLAN_FRAME);
    frame[42..46].fill(0xff);
    frame[49] = 0xff;
    let outer = parse(&frame).unwrap();
    assert_eq!(pull::vxlan(&frame, &outer).map(|pulled| pulled.vni), Ok(4096));
}

/// RFC 6040 figure 4, row by row: the inner field, then what it becomes under outer Not-ECT, ECT(0), ECT(1) and CE.
#[test]
fn congestion_marks_come_through() {
    const NOT_ECT: u8 = 0b00;
    const ECT0: u8 = 0b10;
    const ECT1: u8 = 0b01;
    const CE: u8 = 0b11;
    let table = [
        (NOT_ECT, [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None]),
        (ECT0, [Some(ECT0), Some(ECT0), Some(ECT1), Some(CE)]),
        (ECT1, [Some(ECT1), Some(ECT1), Some(ECT1), Some(CE)]),
        (CE, [Some(CE); 4]),
    ];
    for (inner, row) in table {
        for (outer, expected) in [NOT_ECT, ECT0, ECT1, CE].into_iter().zip(row) {
            let mut frame = hex(UDP_FRAME);
            frame[15] = 0xb8 | inner;
            frame[24..26].fill(0);
            let header = etherparse::Ipv4HeaderSlice::from_slice(&frame[14..]).unwrap().to_header();
            frame[24..26].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
            let before = frame.clone();

            let tos = 0xfc & !inner | outer;
            let headers = parse(&frame).unwrap();
            let result = decapsulate_ecn(tos, &mut frame, headers);
            assert!(pull::is_marked(tos) || result == Ok(headers));
            assert_eq!(result.is_ok(), expected.is_some(), "inner {inner:02b}, outer {outer:02b}");
            match expected {
                None => assert_eq!(frame, before),
                Some(mark) => {
                    let headers = result.unwrap();
                    assert_eq!(parse(&frame), Ok(headers), "the checksum holds");
                    assert_eq!(headers.tos(), 0xb8 | mark, "inner {inner:02b}, outer {outer:02b}");
                }
            }
        }
    }
}

fn any_outer() -> impl Strategy<Value = Outer> {
    let dscp = prop_oneof![(0..64u8).prop_map(Dscp::Fixed), Just(Dscp::Copy)];
    let ttl = prop_oneof![(1..=255u8).prop_map(Ttl::Fixed), Just(Ttl::Inherit)];
    let df = prop_oneof![Just(DontFragment::Clear), Just(DontFragment::Set), Just(DontFragment::Copy)];
    (dscp, ttl, df).prop_map(|(dscp, ttl, dont_fragment)| Outer { dscp, ttl, dont_fragment })
}

proptest! {
    /// Every policy of outer headers, by both tunnels: each field is as the policy says, and the checksum holds.
    #[test]
    fn outer_headers_follow_their_policy(
        sample in any_sample(), outer in any_outer(), ttl in 1..=255u8, ident in any::<u16>(), is_vxlan in any::<bool>(),
    ) {
        let vteps = Vteps { vni: 4096, udp_port: 4789, src_mac: VTEP_A, dst_mac: VTEP_B };
        let template = if is_vxlan {
            plain().vxlan(LOCAL, REMOTE, &vteps, outer)
        } else {
            plain().ipip(LOCAL, REMOTE, outer)
        };
        let (mut frame, headers) = with_room(&sample, template.overhead().into());
        template.write(&mut frame, &headers, ttl, 50_000, ident);
        let ip = Ipv4Slice::from_slice(&frame[14..]).unwrap().header().to_header();
        prop_assert_eq!(ip.calc_header_checksum(), ip.header_checksum);
        prop_assert_eq!((usize::from(ip.total_len), ip.identification), (frame.len() - 14, ident));
        prop_assert_eq!(ip.ecn, sample.ip.ecn);
        let dscp = match outer.dscp { Dscp::Fixed(dscp) => dscp, Dscp::Copy => sample.ip.dscp.value() };
        let ttl = match outer.ttl { Ttl::Fixed(ttl) => ttl, Ttl::Inherit => ttl };
        let df = match outer.dont_fragment {
            DontFragment::Clear => false,
            DontFragment::Set => true,
            DontFragment::Copy => sample.ip.dont_fragment,
        };
        prop_assert_eq!((ip.dscp.value(), ip.time_to_live, ip.dont_fragment), (dscp, ttl, df));
        let inner = &frame[14 + usize::from(template.overhead())..];
        prop_assert_eq!(inner, &sample.without_trailer()[14..], "the packet itself is untouched");
    }
}
