//! ICMP errors: their bytes by etherparse, and who is never answered.

use etherparse::icmpv4::DestUnreachableHeader;
use etherparse::{Icmpv4Slice, Icmpv4Type, Ipv4HeaderSlice};
use margay_encap::checksum::Sum;
use margay_encap::icmp_error::{IcmpError, MAX_LEN, may_answer};
use margay_encap::{Quoted, parse, parse_ip, parse_quoted};
use proptest::prelude::*;

use crate::packets::{UDP_FRAME, any_sample, hex};

const ROUTER: u32 = 0xa9fe_0101;

fn any_error() -> impl Strategy<Value = IcmpError> {
    prop_oneof![
        Just(IcmpError::TimeExceeded),
        any::<u16>().prop_map(|mtu| IcmpError::FragmentationNeeded { mtu }),
        (0..4_u8).prop_map(|code| IcmpError::Unreachable { code }),
    ]
}

/// Type by etherparse's reading.
fn expected_type(error: IcmpError) -> Icmpv4Type {
    use DestUnreachableHeader::{FragmentationNeeded, Host, Network, Port, Protocol};
    match error {
        IcmpError::TimeExceeded => {
            Icmpv4Type::TimeExceeded(etherparse::icmpv4::TimeExceededCode::TtlExceededInTransit)
        }
        IcmpError::FragmentationNeeded { mtu } => {
            Icmpv4Type::DestinationUnreachable(FragmentationNeeded { next_hop_mtu: mtu })
        }
        IcmpError::Unreachable { code } => {
            let codes = [Network, Host, Protocol, Port];
            Icmpv4Type::DestinationUnreachable(codes.into_iter().nth(code.into()).unwrap())
        }
    }
}

proptest! {
    #[test]
    fn an_error_is_sound_and_names_its_flow(sample in any_sample(), error in any_error(), long in 0..600_usize) {
        let mut sample = sample;
        sample.segment.extend(vec![0x5a; long]);
        sample.ip.set_payload_len(sample.segment.len()).unwrap();
        sample.ip.header_checksum = sample.ip.calc_header_checksum();
        let frame = sample.frame();
        let headers = parse(&frame).unwrap();

        let mut buffer = [0xcc; MAX_LEN];
        let len = error.write(&mut buffer, ROUTER, 77, &frame, &headers);
        let packet = &buffer[..len];
        prop_assert_eq!(len, (usize::from(headers.total_len()) + 28).min(576));

        let ip = Ipv4HeaderSlice::from_slice(packet).unwrap();
        prop_assert_eq!(ip.header_checksum(), ip.to_header().calc_header_checksum());
        prop_assert_eq!(usize::from(ip.total_len()), len);
        prop_assert_eq!((ip.source(), ip.destination()), (ROUTER.to_be_bytes(), sample.ip.source));

        prop_assert_eq!(packet[1], 0xc0 | (frame[15] & 0x1c));

        let icmp = Icmpv4Slice::from_slice(&packet[20..]).unwrap();
        prop_assert_eq!(icmp.icmp_type(), expected_type(error));
        prop_assert_eq!(icmp.checksum(), icmp.icmp_type().calc_checksum(icmp.payload()));
        prop_assert_eq!(icmp.payload(), &frame[14..14 + len - 28]);

        let parsed = parse_ip(packet, 0).unwrap();
        prop_assert!(parsed.is_icmp_error());
        prop_assert!(!may_answer(&parsed, &frame), "no error about an error");
        // Which packets quote a flow does not hang on what they carry, but that there are 8 bytes of it.
        if may_answer(&headers, &frame) && sample.segment.len() >= 8 {
            let flow = Quoted {
                src: headers.src(),
                dst: headers.dst(),
                sport: headers.sport(),
                dport: headers.dport(),
                protocol: headers.protocol(),
            };
            prop_assert_eq!(parse_quoted(&packet[28..]), Some(flow));
        }
    }
}

#[test]
fn a_small_buffer_cuts_the_quote() {
    let frame = hex(UDP_FRAME);
    let headers = parse(&frame).unwrap();
    let mut buffer = [0; 28 + 28];
    let len = IcmpError::TimeExceeded.write(&mut buffer, ROUTER, 0, &frame, &headers);
    assert_eq!(len, buffer.len());
    assert_eq!(buffer[28..], frame[14..42]);
}

#[test]
fn who_is_never_answered() {
    let answered = |mac: [u8; 6], change: &dyn Fn(&mut [u8])| {
        let mut frame = hex(UDP_FRAME);
        frame[..6].copy_from_slice(&mac);
        change(&mut frame);
        frame[24..26].fill(0);
        let sum = Sum::of(&frame[14..34]).finish();
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        may_answer(&parse(&frame).unwrap(), &frame)
    };
    let us = [2, 0, 0, 0, 0, 1];
    assert!(answered(us, &|_| {}));
    assert!(!answered([0xff; 6], &|_| {}), "link-layer broadcast");
    assert!(!answered([1, 0, 0x5e, 0, 0, 1], &|_| {}), "link-layer multicast");
    for dst in [0xe000_0001, 0xffff_ffff, 0xf000_0001] {
        assert!(!answered(us, &|frame| frame[30..34].copy_from_slice(&u32::to_be_bytes(dst))), "to {dst:x}");
    }
    for src in [0, 0x0000_0001, 0x7f00_0001, 0xe000_0001, 0xf000_0001, 0xffff_ffff] {
        assert!(
            !answered(us, &|frame| frame[26..30].copy_from_slice(&u32::to_be_bytes(src))),
            "from {src:x}"
        );
    }
    for (icmp_type, expected) in [
        (0, true),
        (8, true),
        (13, true),
        (3, false),
        (4, false),
        (5, false),
        (11, false),
        (12, false),
        (99, false),
    ] {
        let about = |frame: &mut [u8]| {
            frame[23] = 1;
            frame[34] = icmp_type;
        };
        assert_eq!(answered(us, &about), expected, "about ICMP type {icmp_type}");
    }
}
