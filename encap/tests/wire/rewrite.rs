//! What forwarding changes, against etherparse's full computation.

use etherparse::{IpNumber, Ipv4Header, TcpHeaderSlice, UdpHeaderSlice};
use margay_encap::parse;
use margay_encap::rewrite::{complete_checksum, decrement_ttl};
use proptest::prelude::*;

use crate::packets::{Sample, any_sample, frame, ipv4};

/// Sum of the pseudo header, folded: what Linux leaves in the field.
fn partial(sample: &Sample) -> [u8; 2] {
    let len = u16::try_from(sample.segment.len()).unwrap();
    let words = [sample.ip.source, sample.ip.destination].concat();
    let mut sum = u32::from(sample.ip.protocol.0) + u32::from(len);
    sum += words.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum::<u32>();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    u16::try_from(sum).unwrap().to_be_bytes()
}

/// Where in the frame the checksum of TCP or UDP stands.
fn field(sample: &Sample) -> Option<usize> {
    let segment = 14 + sample.ip.header_len();
    match sample.ip.protocol {
        IpNumber::TCP => Some(segment + 16),
        IpNumber::UDP => Some(segment + 6),
        _ => None,
    }
}

fn full_checksum(sample: &Sample) -> u16 {
    let segment = &sample.segment;
    if sample.ip.protocol == IpNumber::TCP {
        let tcp = TcpHeaderSlice::from_slice(segment).unwrap();
        tcp.calc_checksum_ipv4_raw(sample.ip.source, sample.ip.destination, &segment[tcp.slice().len()..])
            .unwrap()
    } else {
        let udp = UdpHeaderSlice::from_slice(segment).unwrap().to_header();
        udp.calc_checksum_ipv4_raw(sample.ip.source, sample.ip.destination, &segment[8..]).unwrap()
    }
}

proptest! {
    #[test]
    fn ttl_goes_down_by_one(sample in any_sample()) {
        prop_assume!(sample.ip.time_to_live > 1);
        let before = sample.frame();
        let mut after = before.clone();
        let headers = parse(&before).unwrap();
        decrement_ttl(after[14..].first_chunk_mut().unwrap(), &headers);

        let mut ip = sample.ip;
        ip.time_to_live -= 1;
        ip.header_checksum = ip.calc_header_checksum();
        let segment = 14 + ip.header_len();
        prop_assert_eq!(&after[14..segment], &ip.to_bytes()[..]);
        prop_assert_eq!(&after[segment..], &before[segment..]);
        prop_assert_eq!(parse(&after).map(|after| after.ttl()), Ok(headers.ttl() - 1));
    }

    #[test]
    fn what_was_left_to_offload_is_completed(sample in any_sample()) {
        let mut frame = sample.frame();
        let Some(at) = field(&sample) else { return Ok(()) };
        frame[at..at + 2].copy_from_slice(&partial(&sample));
        let headers = parse(&frame).unwrap();
        prop_assert!(headers.checksum_partial());
        complete_checksum(&mut frame, &headers);

        let mut expected = sample.frame();
        expected[at..at + 2].copy_from_slice(&full_checksum(&sample).to_be_bytes());
        prop_assert_eq!(frame, expected);
    }

    #[test]
    fn what_is_finished_stays(sample in any_sample()) {
        let mut frame = sample.frame();
        if let Some(at) = field(&sample) {
            frame[at..at + 2].copy_from_slice(&full_checksum(&sample).to_be_bytes());
        } else if sample.ip.protocol == IpNumber(132) {
            frame[14 + sample.ip.header_len()..][8..12].fill(0xa5);
        }
        let before = frame.clone();
        let headers = parse(&frame).unwrap();
        if headers.checksum_partial() {
            complete_checksum(&mut frame, &headers);
        }
        prop_assert_eq!(frame, before);
    }
}

fn udp(src: [u8; 4], dst: [u8; 4], segment: &[u8]) -> (Ipv4Header, Vec<u8>) {
    let ip = ipv4(src, dst, 17, segment.len());
    let bytes = frame(&ip, segment);
    (ip, bytes)
}

#[test]
fn a_udp_checksum_of_zero_means_none() {
    let (_, frame) = udp([10, 0, 0, 1], [10, 0, 0, 2], &[0, 53, 0, 53, 0, 10, 0, 0, 1, 2]);
    assert!(!parse(&frame).unwrap().checksum_partial());
}

/// RFC 768: a computed zero is sent as all ones.
#[test]
fn a_udp_checksum_that_comes_out_zero_is_all_ones() {
    // Pseudo header 0a00 0001 0a00 0002 0011 000a = 141e; ports, length and data fill it up to ffff.
    let (_, mut frame) = udp([10, 0, 0, 1], [10, 0, 0, 2], &[0, 0, 0, 0, 0, 10, 0x14, 0x1e, 0xeb, 0xd7]);
    let headers = parse(&frame).unwrap();
    assert!(headers.checksum_partial());
    complete_checksum(&mut frame, &headers);
    assert_eq!(frame[40..42], [0xff, 0xff]);
}

/// The UDP length may end before the packet does; the rest is not summed.
#[test]
fn udp_is_summed_to_its_own_length() {
    let (_, mut frame) =
        udp([10, 0, 0, 1], [10, 0, 0, 2], &[0, 0, 0, 0, 0, 10, 0x14, 0x1e, 0xeb, 0xd6, 9, 9]);
    let headers = parse(&frame).unwrap();
    assert!(headers.checksum_partial());
    complete_checksum(&mut frame, &headers);
    assert_eq!(frame[40..42], [0, 1]);
}

#[test]
fn an_sctp_checksum_of_zero_is_filled_in() {
    let ip = ipv4([10, 0, 0, 1], [10, 0, 0, 2], 132, 32);
    let mut bytes = frame(&ip, &[0; 32]);
    let headers = parse(&bytes).unwrap();
    assert!(headers.checksum_partial());
    complete_checksum(&mut bytes, &headers);
    assert_eq!(bytes[42..46], [0xaa, 0x36, 0x91, 0x8a], "RFC 3720 B.4");
    assert!(!parse(&bytes).unwrap().checksum_partial());
}
