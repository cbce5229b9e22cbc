//! Segments: together they are the stream that the packet was, and none is longer than it may be. Datagrams: those of the sender.

use std::net::Ipv6Addr;

use etherparse::{IpHeaders, PacketBuilder, PacketBuilderStep, TcpHeader, TcpOptionElement};
use margay_encap::checksum::{self, Sum};
use margay_encap::rewrite::complete_checksum;
use margay_encap::segment::Segments;
use margay_encap::{Headers, addresses6, parse, parse_ip6};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// A frame with TCP of these flags beside ACK, and 12 bytes of options, whose checksum is left to the device.
fn frame(is_ipv6: bool, sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = TcpHeader::new(1000, 80, sequence, 0xffff);
    (header.ack, header.fin, header.psh, header.cwr) =
        (true, flags & FIN != 0, flags & PSH != 0, flags & CWR != 0);
    header
        .set_options(&[TcpOptionElement::Noop, TcpOptionElement::Noop, TcpOptionElement::Timestamp(1, 2)])
        .unwrap();
    let mut frame = Vec::new();
    addressed(is_ipv6).tcp_header(header).write(&mut frame, payload).unwrap();
    let l4 = if is_ipv6 { 54 } else { 34 };
    let partial = pseudo_header(&parsed(&frame), &frame).fold();
    frame[l4 + 16..l4 + 18].copy_from_slice(&partial.to_be_bytes());
    frame
}

fn parsed(frame: &[u8]) -> Headers {
    if frame[12] == 0x86 { parse_ip6(frame, 14) } else { parse(frame) }.expect("a sound packet")
}

fn pseudo_header(headers: &Headers, frame: &[u8]) -> Sum {
    let len = headers.end() as u16 - headers.transport();
    if headers.is_ipv6() {
        let [src, dst] = addresses6(frame, headers).map(Ipv6Addr::to_bits);
        checksum::pseudo_header_v6(src, dst, headers.protocol(), len.into())
    } else {
        checksum::pseudo_header_v4(headers.src(), headers.dst(), headers.protocol(), len)
    }
}

/// A frame with UDP whose checksum is left to the device.
fn datagrams(is_ipv6: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    addressed(is_ipv6).udp(1000, 80).write(&mut frame, payload).unwrap();
    let l4 = if is_ipv6 { 54 } else { 34 };
    let partial = pseudo_header(&parsed(&frame), &frame).fold();
    frame[l4 + 6..l4 + 8].copy_from_slice(&partial.to_be_bytes());
    frame
}

fn addressed(is_ipv6: bool) -> PacketBuilderStep<IpHeaders> {
    let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
    if is_ipv6 {
        ethernet.ipv6([0xfd; 16], [0xfc; 16], 64)
    } else {
        ethernet.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
    }
}

/// The segments, each behind the Ethernet header.
fn cut(frame: &[u8], mtu: u16, size: Option<u16>) -> Vec<Vec<u8>> {
    let headers = parsed(frame);
    assert!(headers.checksum_partial());
    let segments = Segments::new(frame, &headers, 63, mtu, size).expect("room for payload");
    let whole = |index| {
        let mut whole = vec![0xee; 14 + segments.len(index)];
        whole[..14].copy_from_slice(&frame[..14]);
        segments.write(index, &mut whole[14..]);
        whole
    };
    (0..segments.count()).map(whole).collect()
}

fn sequence(segment: &[u8], l4: usize) -> u32 {
    u32::from_be_bytes(segment[l4 + 4..l4 + 8].try_into().unwrap())
}

proptest! {
    #[test]
    fn segments_are_the_stream_in_order(
        is_ipv6: bool,
        first: u32,
        flags: u8,
        payload in vec(any::<u8>(), 0..6000),
        mtu in 100..3000u16,
        size in option::of(1..3000u16),
    ) {
        let packet = frame(is_ipv6, first, flags, &payload);
        let l4 = if is_ipv6 { 54 } else { 34 };
        let segments = cut(&packet, mtu, size);
        let fitting = mtu - (l4 as u16 - 14) - 32;
        let full = l4 + 32 + usize::from(size.map_or(fitting, |size| size.min(fitting)));
        let mut stream = Vec::new();
        for (index, segment) in segments.iter().enumerate() {
            // Parsing holds the lengths and the header checksum against the bytes.
            let headers = parsed(segment);
            prop_assert_eq!((headers.end() as usize, headers.ttl()), (segment.len(), 63));
            let is_last = index + 1 == segments.len();
            prop_assert!(segment.len() <= full && (is_last || segment.len() == full), "only the last is shorter");
            let sum = pseudo_header(&headers, segment).add(Sum::of(&segment[l4..])).fold();
            prop_assert_eq!(sum, 0xffff, "its checksum is whole");
            prop_assert_eq!(sequence(segment, l4), first.wrapping_add(stream.len() as u32));
            let mut expected = flags & (FIN | PSH | CWR) | 0x10;
            if !is_last {
                expected &= !(FIN | PSH);
            }
            if index > 0 {
                expected &= !CWR;
            }
            prop_assert_eq!(headers.tcp_flags(), expected);
            if !is_ipv6 {
                let ident = |frame: &[u8]| u16::from_be_bytes([frame[18], frame[19]]);
                prop_assert_eq!(ident(segment), ident(&packet).wrapping_add(index as u16));
            }
            // Ports, acknowledgment, window and options are those of the packet.
            prop_assert_eq!(&segment[l4..l4 + 4], &packet[l4..l4 + 4]);
            prop_assert_eq!(&segment[l4 + 8..l4 + 13], &packet[l4 + 8..l4 + 13]);
            prop_assert_eq!(&segment[l4 + 18..l4 + 32], &packet[l4 + 18..l4 + 32]);
            stream.extend_from_slice(&segment[l4 + 32..]);
        }
        prop_assert_eq!(stream, payload);
    }
}

proptest! {
    #[test]
    fn datagrams_are_those_of_the_sender(
        is_ipv6: bool,
        payload in vec(any::<u8>(), 1..6000),
        size in 1..3000u16,
    ) {
        let packet = datagrams(is_ipv6, &payload);
        let sent = cut(&packet, 1500, Some(size));
        let parts: Vec<_> = payload.chunks(size.into()).collect();
        prop_assert_eq!(sent.len(), parts.len());
        for (index, (datagram, part)) in sent.iter().zip(parts).enumerate() {
            // What Linux would have sent had the sender sent it by itself.
            let mut alone = datagrams(is_ipv6, part);
            let headers = parsed(&alone);
            complete_checksum(&mut alone, &headers);
            alone[if is_ipv6 { 21 } else { 22 }] = 63;
            if !is_ipv6 {
                let ident = u16::from_be_bytes([packet[18], packet[19]]).wrapping_add(index as u16);
                alone[18..20].copy_from_slice(&ident.to_be_bytes());
                alone[24..26].fill(0);
                let sum = Sum::of(&alone[14..34]).finish();
                alone[24..26].copy_from_slice(&sum.to_be_bytes());
            }
            prop_assert_eq!(datagram, &alone);
        }
    }
}

#[test]
fn a_checksum_of_udp_is_never_none() {
    // The sum of these is all ones: 0 would say that there is none (RFC 768).
    let found = (0..=u16::MAX).find_map(|word| {
        let payload = [word.to_be_bytes(), [1, 2]].concat();
        let sent = cut(&datagrams(false, &payload), 1500, Some(2));
        (sent[0][40..42] == [0xff, 0xff]).then_some(sent)
    });
    let sent = found.expect("one of all sums");
    let headers = parsed(&sent[0]);
    assert_eq!(pseudo_header(&headers, &sent[0]).add(Sum::of(&sent[0][34..])).fold(), 0xffff);
}

#[test]
fn a_packet_of_64_kib_and_one_without_payload_are_cut_too() {
    let payload: Vec<u8> = (0..65_535 - 14 - 52u32).map(|i| (i % 251) as u8).collect();
    let segments = cut(&frame(false, u32::MAX - 1000, FIN, &payload), 1500, None);
    assert_eq!(segments.len(), payload.len().div_ceil(1448));
    let stream: Vec<u8> = segments.iter().flat_map(|segment| segment[66..].to_vec()).collect();
    assert_eq!(stream, payload);
    assert_eq!(cut(&frame(true, 1, FIN, b""), 1500, None).len(), 1);
}

#[test]
fn what_is_no_tcp_or_leaves_no_room_is_not_cut() {
    let packet = frame(false, 1, PSH, &[0; 3000]);
    let headers = parsed(&packet);
    assert!(Segments::new(&packet, &headers, 63, 53, None).is_some());
    assert!(Segments::new(&packet, &headers, 63, 52, None).is_none(), "headers alone");
    assert!(Segments::new(&packet[..2000], &headers, 63, 1500, None).is_none(), "not whole");
    assert!(Segments::new(&packet, &headers, 63, 1500, Some(0)).is_none(), "nothing in each");
    let udp = datagrams(false, &[0; 3000]);
    assert!(Segments::new(&udp, &parsed(&udp), 63, 1500, None).is_none(), "nothing says where");
    assert!(Segments::new(&udp, &parsed(&udp), 63, 1500, Some(0)).is_none(), "nothing in each");
    assert!(Segments::new(&udp, &parsed(&udp), 63, 20, Some(1472)).is_some(), "its sender's datagrams");
}
