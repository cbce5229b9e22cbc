//! Fragments that etherparse builds: each says where it lies, the first what the transport is, and nothing is made up.

use etherparse::{IpFragOffset, IpNumber, Ipv4Header};
use margay_encap::icmp_error::may_answer;
use margay_encap::{Headers, ParseError, Part, Transport, parse, parse_ip6};
use proptest::prelude::*;

use crate::packets::{Sample, any_sample, frame, ipv4};

/// The part of a datagram's payload from `start` to `end`, as a packet of its own.
fn piece(ip: &Ipv4Header, payload: &[u8], start: usize, end: usize) -> Vec<u8> {
    let mut ip = ip.clone();
    ip.set_payload_len(end - start).unwrap();
    ip.fragment_offset = IpFragOffset::try_new(u16::try_from(start / 8).unwrap()).unwrap();
    ip.more_fragments = end < payload.len();
    ip.header_checksum = ip.calc_header_checksum();
    frame(&ip, &payload[start..end])
}

fn transport(sample: &Sample) -> Transport {
    let ((a, b), (c, d)) = (
        (sample.ports.0.to_be_bytes()[0], sample.ports.0.to_be_bytes()[1]),
        (sample.ports.1.to_be_bytes()[0], sample.ports.1.to_be_bytes()[1]),
    );
    Transport {
        ports_ne: u32::from_ne_bytes([a, b, c, d]),
        icmp_type: sample.icmp.0,
        icmp_code: sample.icmp.1,
    }
}

proptest! {
    /// A datagram in pieces: they lie side by side, the first knows the transport, and with that the later ones have the
    /// same key as the whole.
    #[test]
    fn fragments_lie_side_by_side(sample in any_sample(), cut in 8..20_usize, longer in 0..600_usize) {
        let mut segment = sample.segment.clone();
        segment.resize(segment.len() + longer, 0x5a);
        let mut next = 0;
        for start in (0..segment.len()).step_by(8 * cut) {
            let end = segment.len().min(start + 8 * cut);
            if (start, end) == (0, segment.len()) {
                return Ok(());
            }
            let bytes = piece(&sample.ip, &segment, start, end);
            let Ok(headers) = parse(&bytes) else {
                prop_assert!(start == 0, "{:?}", parse(&bytes));
                prop_assert_eq!(parse(&bytes), Err(ParseError::TinyFragment), "TCP with options longer than the cut");
                return Ok(());
            };
            prop_assert!(headers.is_fragment() && !headers.checksum_partial());
            prop_assert_eq!(headers.is_later_fragment(), start > 0);
            prop_assert_eq!(headers.identification(), u32::from(sample.ip.identification));
            let part = headers.part();
            let is_last = end == segment.len();
            let expected = Part { offset: u32::try_from(start).unwrap(), len: u32::try_from(end - start).unwrap(), is_last };
            prop_assert_eq!(part, expected);
            prop_assert_eq!(part.offset, next);
            next = part.end();
            if start == 0 {
                prop_assert_eq!(headers.transport_fields(), transport(&sample));
                prop_assert_eq!(headers.tcp_flags(), sample.tcp_flags);
            } else {
                prop_assert_eq!(headers.transport_fields(), Transport::default());
                let known = headers.of_transport(transport(&sample));
                prop_assert_eq!((known.sport(), known.dport()), sample.ports);
                let flags = if sample.ip.protocol == IpNumber::TCP { 16 } else { 0 };
                prop_assert_eq!(known.tcp_flags(), flags, "neither opens, ends nor resets");
                prop_assert!(!may_answer(&known, &bytes));
            }
        }
    }
}

/// A packet of this protocol with these flags and offset, as in the header, and so many bytes of payload.
fn fragment(protocol: u8, word: u16, payload: &[u8]) -> Result<Headers, ParseError> {
    let mut ip = ipv4([10, 0, 0, 1], [10, 0, 0, 2], protocol, payload.len());
    ip.more_fragments = word & 0x2000 != 0;
    ip.dont_fragment = word & 0x4000 != 0;
    ip.fragment_offset = IpFragOffset::try_new(word & 0x1fff).unwrap();
    ip.header_checksum = ip.calc_header_checksum();
    parse(&frame(&ip, payload))
}

#[test]
fn what_no_fragment_of_a_datagram_can_be_is_refused() {
    const MORE: u16 = 0x2000;
    let bad = [
        ("no payload, more to come", MORE, 0),
        ("no payload, the last", 1, 0),
        ("cut within 8 bytes", MORE, 9),
        ("cut within 8 bytes, later", MORE | 5, 1447),
        ("one byte beyond 65,535", 8189, 4),
        ("at the last offset", 0x1fff, 8),
        ("more to come after the end", MORE | 0x1ffc, 16),
    ];
    for (what, word, len) in bad {
        assert_eq!(fragment(50, word, &vec![0; len]), Err(ParseError::BadFragment), "{what}");
    }
    let sound = [
        ("65,535 bytes with the header", 8189, 3),
        ("the shortest", 1, 1),
        ("DF and a fragment, as Linux sends after path MTU discovery in tunnels", MORE | 0x4000, 8),
    ];
    for (what, word, len) in sound {
        assert!(fragment(50, word, &vec![0; len]).is_ok(), "{what}");
    }
}

#[test]
fn tiny_fragments_are_refused() {
    const MORE: u16 = 0x2000;
    let tcp = [&[0; 12][..], &[0x50, 0x02], &[0; 10]].concat();
    let with_options = [&[0; 12][..], &[0x60, 0x02], &[0; 18]].concat();
    let udp = [&[0, 53, 0, 53, 5, 220, 0, 0][..], &[0; 8]].concat();
    let cases: Vec<(&str, u8, u16, &[u8], bool)> = vec![
        ("TCP without its control bits", 6, MORE, &tcp[..8], false),
        ("TCP cut before its end", 6, MORE, &tcp[..16], false),
        ("TCP whole", 6, MORE, &tcp, true),
        ("TCP options cut", 6, MORE, &with_options[..16], false),
        ("TCP options whole", 6, MORE, &with_options, true),
        ("over TCP's control bits", 6, MORE | 1, &tcp[..16], false),
        ("over TCP's control bits, the last", 6, 1, &tcp[..1], false),
        ("behind them", 6, 2, &tcp[..1], true),
        ("offset 8 of UDP", 17, 1, &udp[..8], true),
        ("UDP's ports and no more", 17, MORE, &udp[..8], true),
        ("UDP", 17, MORE, &udp, true),
        ("SCTP without its tag", 132, MORE, &udp[..8], false),
        ("of a protocol without ports", 50, MORE, &udp[..8], true),
    ];
    for (what, protocol, word, payload, is_sound) in cases {
        let parsed = fragment(protocol, word, payload);
        assert_eq!(parsed.is_ok(), is_sound, "{what}: {parsed:?}");
        assert!(is_sound || parsed == Err(ParseError::TinyFragment), "{what}: {parsed:?}");
    }
}

#[test]
fn checksum_of_a_first_fragment_is_never_ours_to_complete() {
    // In every one of these the field holds what a whole packet would mean offload by.
    let sctp = [&[0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0][..], &[0; 12]].concat();
    assert!(!fragment(132, 0x2000, &sctp).unwrap().checksum_partial());
    let ip = ipv4([10, 0, 0, 1], [10, 0, 0, 2], 17, 16);
    let sum = margay_encap::checksum::pseudo_header_v4(0x0a00_0001, 0x0a00_0002, 17, 16).fold();
    let udp = [&[0, 53, 0, 53, 0, 16][..], &sum.to_be_bytes(), &[0; 8]].concat();
    assert!(parse(&frame(&ip, &udp)).unwrap().checksum_partial(), "the packet in one piece");
    assert!(!fragment(17, 0x2000, &udp).unwrap().checksum_partial());
}

/// A fragment of IPv6 with these fields, and so many bytes of payload.
fn fragment6(next: u8, units: u16, more: bool, payload: &[u8]) -> Result<Headers, ParseError> {
    let header = etherparse::Ipv6FragmentHeader::new(
        IpNumber(next),
        IpFragOffset::try_new(units).unwrap(),
        more,
        0x1234_5678,
    );
    let length = u16::try_from(8 + payload.len()).unwrap().to_be_bytes();
    let fixed = [&[0; 14][..], &[0x60, 0, 0, 0], &length, &[44, 64], &[1; 32]].concat();
    parse_ip6(&[&fixed[..], &header.to_bytes(), payload].concat(), 14)
}

#[test]
fn fragments_of_ipv6_say_the_same() {
    let udp = [&[0, 53, 0, 54, 5, 220, 0, 0][..], &[0; 8]].concat();
    let first = fragment6(17, 0, true, &udp).unwrap();
    assert!(first.is_fragment() && !first.is_later_fragment() && !first.checksum_partial());
    assert_eq!((first.sport(), first.dport(), first.identification()), (53, 54, 0x1234_5678));
    assert_eq!(first.part(), Part { offset: 0, len: 16, is_last: false });
    assert_eq!(usize::from(first.transport()), 14 + 40 + 8);
    let later = fragment6(17, 5, false, &[1; 9]).unwrap();
    assert!(later.is_later_fragment() && later.dont_fragment());
    assert_eq!(later.part(), Part { offset: 40, len: 9, is_last: true });
    assert_eq!(later.of_transport(first.transport_fields()).dport(), 54);
    assert!(!fragment6(58, 5, false, &[1; 3]).unwrap().is_icmp_error(), "its header is in the first one");
    let longest = fragment6(17, 8191, false, &[0; 7]).unwrap();
    assert_eq!(longest.part().end(), 65_535);
    let refused = [
        (fragment6(17, 8191, false, &[0; 8]), ParseError::BadFragment),
        (fragment6(17, 1, true, &[0; 9]), ParseError::BadFragment),
        (fragment6(17, 1, false, &[]), ParseError::BadFragment),
        (fragment6(6, 0, true, &[0; 16]), ParseError::TinyFragment),
        (fragment6(6, 1, true, &[0; 16]), ParseError::TinyFragment),
        (fragment6(60, 0, true, &[0; 16]), ParseError::ExtensionHeaders),
        (fragment6(44, 0, true, &[0; 16]), ParseError::ExtensionHeaders),
    ];
    for (parsed, error) in refused {
        assert_eq!(parsed, Err(error));
    }
    let whole = fragment6(17, 0, false, &[&udp[..4], &[0, 16], &udp[6..]].concat()).unwrap();
    assert!(!whole.is_fragment(), "an atomic fragment is a whole packet (RFC 6946)");
}
