//! The parser: never out of bounds, agrees with etherparse, and names what is wrong.

use etherparse::{NetSlice, SlicedPacket};
use margay_encap::checksum::Sum;
use margay_encap::{Headers, ParseError, Quoted, parse, parse_ip, parse_quoted};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::packets::{Sample, UDP_FRAME, any_sample, frame, hex, ipv4};

/// The sample's frame with some bytes changed.
fn damaged(sample: &Sample, damage: Vec<(Index, u8)>) -> Vec<u8> {
    let mut bytes = sample.frame();
    for (at, value) in damage {
        *at.get_mut(&mut bytes) = value;
    }
    bytes
}

fn assert_inside(headers: &Headers, frame: &[u8]) {
    assert!(headers.l3() < headers.transport());
    assert!(u32::from(headers.transport()) <= headers.end());
    assert!(headers.end() as usize <= frame.len());
    assert_eq!(u32::from(headers.total_len()), headers.end() - u32::from(headers.l3()));
}

/// All that headers say, offsets as from `l3`.
fn all(headers: &Headers, l3: u16) -> impl PartialEq + Copy + std::fmt::Debug + use<> {
    assert_eq!(headers.l3(), l3);
    let l3 = u32::from(l3);
    (
        (headers.src(), headers.dst(), headers.sport(), headers.dport(), headers.protocol()),
        (
            headers.tos(),
            headers.ttl(),
            headers.checksum(),
            headers.dont_fragment(),
            headers.checksum_partial(),
        ),
        (headers.tcp_flags(), headers.icmp_type(), headers.icmp_code()),
        (u32::from(headers.transport()) - l3, headers.end() - l3, headers.total_len()),
    )
}

proptest! {
    #[test]
    fn any_bytes_parse_within_bounds(bytes in vec(any::<u8>(), 0..200), l3 in any::<u16>()) {
        if let Ok(headers) = parse(&bytes) {
            assert_inside(&headers, &bytes);
        }
        if let Ok(headers) = parse_ip(&bytes, l3 % 200) {
            assert_inside(&headers, &bytes);
        }
        let _ = parse_quoted(&bytes);
    }

    /// Valid packets with a few bytes changed get further in than random ones do; further still where of the IP
    /// header only the length is damaged, and the checksum holds.
    #[test]
    fn damaged_packets_parse_within_bounds(
        sample in any_sample(),
        damage in vec((any::<Index>(), any::<u8>()), 0..4),
        cut in any::<Index>(),
        mend in any::<bool>(),
    ) {
        let mut bytes = damaged(&sample, damage);
        if mend {
            let mut ip = sample.ip.clone();
            ip.total_len = u16::from_be_bytes([bytes[16], bytes[17]]);
            ip.header_checksum = ip.calc_header_checksum();
            bytes[14..14 + ip.header_len()].copy_from_slice(&ip.to_bytes());
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        if let Ok(headers) = parse(&bytes) {
            assert_inside(&headers, &bytes);
        }
    }

    #[test]
    fn valid_packets_parse_as_built(sample in any_sample()) {
        let frame = sample.frame();
        let tos = sample.ip.dscp.value() << 2 | sample.ip.ecn.value();
        let headers = parse(&frame).unwrap();
        prop_assert_eq!(headers.src(), u32::from_be_bytes(sample.ip.source));
        prop_assert_eq!(headers.dst(), u32::from_be_bytes(sample.ip.destination));
        prop_assert_eq!(headers.end() as usize, frame.len() - sample.trailer.len());
        prop_assert_eq!((headers.l3(), usize::from(headers.transport())), (14, 14 + sample.ip.header_len()));
        prop_assert_eq!((headers.sport(), headers.dport()), sample.ports);
        prop_assert_eq!(headers.protocol(), sample.ip.protocol.0);
        prop_assert_eq!((headers.ttl(), headers.tos()), (sample.ip.time_to_live, tos));
        prop_assert_eq!(headers.checksum(), sample.ip.header_checksum);
        prop_assert_eq!(headers.dont_fragment(), sample.ip.dont_fragment);
        prop_assert_eq!(headers.tcp_flags(), sample.tcp_flags);
        prop_assert_eq!((headers.icmp_type(), headers.icmp_code()), sample.icmp);
    }

    /// At another offset, where no short cut is taken, a packet is what it is behind an Ethernet header: the same
    /// headers, or the same thing wrong with it.
    #[test]
    fn the_short_cut_changes_nothing(
        sample in any_sample(),
        damage in vec((any::<Index>(), any::<u8>()), 0..4),
        cut in any::<Index>(),
        mend in any::<bool>(),
    ) {
        let mut bytes = damaged(&sample, damage);
        if mend {
            bytes[24..26].fill(0);
            let header_len = usize::from(bytes[14] & 15) * 4;
            let sum = Sum::of(&bytes[14..bytes.len().min(14 + header_len)]).finish();
            bytes[24..26].copy_from_slice(&sum.to_be_bytes());
        } else {
            bytes.truncate(cut.index(bytes.len() + 1).max(14));
        }
        let elsewhere = parse_ip(&[&[0], &bytes[..]].concat(), 15).map(|headers| all(&headers, 15));
        prop_assert_eq!(parse_ip(&bytes, 14).map(|headers| all(&headers, 14)), elsewhere);
        bytes[12..14].copy_from_slice(&[8, 0]);
        prop_assert_eq!(parse(&bytes).map(|headers| all(&headers, 14)), elsewhere);
    }

    /// What etherparse refuses of an IPv4 packet, the parser refuses too, and where both accept they agree.
    #[test]
    fn etherparse_refuses_no_more(sample in any_sample(), at in 14..60_usize, value in any::<u8>()) {
        let mut frame = sample.frame();
        if let Some(byte) = frame.get_mut(at) {
            *byte = value;
        }
        let ours = parse(&frame);
        if let (Ok(headers), theirs) = (ours, SlicedPacket::from_ethernet(&frame)) {
            let theirs = theirs.expect("etherparse takes what we take");
            let Some(NetSlice::Ipv4(ip)) = theirs.net else { panic!("not IPv4 to etherparse") };
            prop_assert_eq!(headers.src(), u32::from_be_bytes(ip.header().source()));
            prop_assert_eq!(headers.protocol(), ip.header().protocol().0);
            prop_assert_eq!(usize::from(headers.total_len()), usize::from(ip.header().total_len()));
            prop_assert_eq!(headers.end() as usize - usize::from(headers.transport()), ip.payload().payload.len());
        }
    }
}

/// A UDP frame with bytes overwritten at offsets of the IP header, and its header checksum mended.
fn changed(changes: &[(usize, u8)]) -> Vec<u8> {
    let mut frame = hex(UDP_FRAME);
    for (at, value) in changes {
        frame[14 + at] = *value;
    }
    frame[24..26].fill(0);
    let header_len = 14 + usize::from(frame[14] & 15) * 4;
    let sum: u32 = frame[14..header_len.min(frame.len())]
        .chunks_exact(2)
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    frame[24..26].copy_from_slice(&(!u16::try_from(sum).unwrap()).to_be_bytes());
    frame
}

fn with_ethertype(ethertype: u16) -> Vec<u8> {
    let mut frame = hex(UDP_FRAME);
    frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
    frame
}

fn segment(protocol: u8, bytes: &[u8]) -> Vec<u8> {
    frame(&ipv4([10, 0, 0, 1], [10, 0, 0, 2], protocol, bytes.len()), bytes)
}

#[test]
fn each_fault_has_its_own_error() {
    let mut bad_checksum = hex(UDP_FRAME);
    bad_checksum[24] ^= 1;
    let mut bad_checksum_with_options = changed(&[(0, 0x46)]);
    bad_checksum_with_options[24] ^= 1;
    let tcp_offset = |words: u8| [&[0; 12][..], &[words << 4, 0x10, 0, 0, 0, 0, 0, 0]].concat();
    let udp_len = |len: u8| vec![0, 53, 0, 53, 0, len, 0, 0, 1, 2];
    let cases: Vec<(&str, Vec<u8>, ParseError)> = vec![
        ("no byte", vec![], ParseError::Runt),
        ("13 bytes", hex(UDP_FRAME)[..13].to_vec(), ParseError::Runt),
        ("ARP", with_ethertype(0x0806), ParseError::NotIp(0x0806)),
        ("802.3 length", with_ethertype(46), ParseError::NotIp(46)),
        ("802.1Q", with_ethertype(0x8100), ParseError::Vlan),
        ("802.1ad", with_ethertype(0x88a8), ParseError::Vlan),
        ("IPv6", with_ethertype(0x86dd), ParseError::Ipv6),
        ("version 6", changed(&[(0, 0x65)]), ParseError::BadVersion),
        ("version 0", changed(&[(0, 0x05)]), ParseError::BadVersion),
        ("IHL 4", changed(&[(0, 0x44)]), ParseError::BadHeaderLength),
        ("IHL 15 in a frame of 51 bytes", changed(&[(0, 0x4f)]), ParseError::BadHeaderLength),
        ("no IP header", hex(UDP_FRAME)[..14].to_vec(), ParseError::BadHeaderLength),
        ("19 bytes of IP header", hex(UDP_FRAME)[..33].to_vec(), ParseError::BadHeaderLength),
        ("total length 19", changed(&[(3, 19)]), ParseError::BadTotalLength),
        ("total length 0", changed(&[(3, 0)]), ParseError::BadTotalLength),
        ("total length one beyond", changed(&[(3, 0x34)]), ParseError::BadTotalLength),
        ("total length below IHL 6", changed(&[(0, 0x46), (3, 23)]), ParseError::BadTotalLength),
        ("one bit of checksum", bad_checksum, ParseError::BadHeaderChecksum),
        ("one bit of checksum, with options", bad_checksum_with_options, ParseError::BadHeaderChecksum),
        ("an option of length 0", changed(&[(0, 0x46)]), ParseError::BadOptions),
        ("a source route", changed(&[(0, 0x46), (20, 131)]), ParseError::SourceRoute),
        ("UDP header cut", segment(17, &[0; 7]), ParseError::TruncatedL4),
        ("UDP length 7", segment(17, &udp_len(7)), ParseError::TruncatedL4),
        ("UDP length beyond", segment(17, &udp_len(11)), ParseError::TruncatedL4),
        ("TCP header cut", segment(6, &[0x50; 19]), ParseError::TruncatedL4),
        ("TCP offset 4", segment(6, &tcp_offset(4)), ParseError::TruncatedL4),
        ("TCP offset beyond", segment(6, &tcp_offset(6)), ParseError::TruncatedL4),
        ("ICMP header cut", segment(1, &[8; 7]), ParseError::TruncatedL4),
        ("SCTP header cut", segment(132, &[0; 11]), ParseError::TruncatedL4),
        ("DCCP header cut", segment(33, &[0; 11]), ParseError::TruncatedL4),
        ("UDP-Lite header cut", segment(136, &[0; 7]), ParseError::TruncatedL4),
    ];
    for (name, frame, error) in cases {
        assert_eq!(parse(&frame), Err(error), "{name}");
    }
}

#[test]
fn soundness_at_the_edge() {
    assert!(parse(&segment(17, &[0, 53, 0, 53, 0, 8, 0, 0])).is_ok(), "UDP without data");
    assert!(parse(&segment(50, &[])).is_ok(), "an unknown protocol without a payload");
    assert!(parse(&changed(&[(6, 0x80)])).is_ok(), "the reserved flag is ignored");
    let udp = [&[0, 53, 0, 53, 0xff, 0xeb, 0, 0][..], &vec![0; 65_507]].concat();
    let largest = parse(&segment(17, &udp)).expect("65,535 bytes of IPv4");
    assert_eq!((largest.end(), largest.total_len()), (65_549, 65_535));
    assert!(size_of::<Headers>() <= 32);
}

#[test]
fn every_truncation_is_refused() {
    let whole = hex(UDP_FRAME);
    for len in 0..whole.len() {
        assert!(parse(&whole[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn a_quote_names_the_flow_it_is_about() {
    let udp = hex(UDP_FRAME)[14..].to_vec();
    let tuple = Quoted { src: 0x0a41_0a08, dst: 0x0a41_1505, sport: 40000, dport: 53, protocol: 17 };
    let at = |changes: &[(usize, u8)]| changed(changes)[14..].to_vec();
    let echo = |kind| segment(1, &[kind, 0, 0, 0, 0x12, 0x34, 0, 1])[14..].to_vec();
    let hosts =
        |protocol, port| Quoted { src: 0x0a00_0001, dst: 0x0a00_0002, sport: port, dport: port, protocol };
    let with_options = [&at(&[(0, 0x46)])[..20], &[1; 4], &udp[20..28]].concat();
    let cases: Vec<(&str, Vec<u8>, Option<Quoted>)> = vec![
        ("whole packet", udp.clone(), Some(tuple)),
        ("IP header and 8 bytes", udp[..28].to_vec(), Some(tuple)),
        ("IP header and 7 bytes", udp[..27].to_vec(), None),
        ("TTL gone and checksum stale", [&udp[..8], &[0], &udp[9..]].concat(), Some(tuple)),
        ("first fragment", at(&[(6, 0x20)]), Some(tuple)),
        ("later fragment", at(&[(7, 1)]), None),
        ("options", with_options, Some(tuple)),
        ("IHL 4", at(&[(0, 0x44)]), None),
        ("version 6", at(&[(0, 0x65)]), None),
        ("echo request", echo(8), Some(hosts(1, 0x1234))),
        ("ICMP error", echo(3), None),
        ("ESP", segment(50, &[9; 8])[14..].to_vec(), Some(hosts(50, 0))),
        ("nothing", vec![], None),
    ];
    for (name, quote, expected) in cases {
        assert_eq!(parse_quoted(&quote), expected, "{name}");
    }
}
