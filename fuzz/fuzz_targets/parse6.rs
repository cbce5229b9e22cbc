//! Whatever the bytes: parsing, rewriting and answering packets of IPv6 stay inside the frame, and what they write is sound.

#![no_main]

use std::net::Ipv6Addr;

use libfuzzer_sys::fuzz_target;
use margay_encap::icmp6_error::{self, Icmp6Error};
use margay_encap::rewrite::{complete_checksum, decrement_hop_limit};
use margay_encap::{Headers, addresses6, parse_ip6, parse_quoted6};

const L3: u16 = 14;

fuzz_target!(|bytes: &[u8]| {
    let mut frame = bytes.to_vec();
    // Random bytes seldom are of this version, and would all end there.
    if let Some(first) = frame.get_mut(usize::from(L3)) {
        *first = 0x60 | *first & 0xf;
    }
    if let Ok(headers) = parse_ip6(&frame, L3) {
        forward(frame, headers);
    }
});

fn forward(mut frame: Vec<u8>, headers: Headers) {
    assert!(u32::from(headers.transport()) <= headers.end() && headers.end() as usize <= frame.len());
    let ends = addresses6(&frame, &headers);
    if headers.is_icmp_error() && !headers.is_later_fragment() {
        let payload = usize::from(headers.transport()) + 8;
        let _ = parse_quoted6(&frame[payload..headers.end() as usize]);
    }
    let error = Icmp6Error::PacketTooBig { mtu: 1400 };
    if error.may_answer(&headers, &frame) {
        let mut packet = [0; icmp6_error::MAX_LEN];
        let len = error.write(&mut packet, Ipv6Addr::LOCALHOST, &frame, &headers);
        assert!(parse_ip6(&packet[..len], 0).is_ok_and(|error| error.is_icmp_error()));
    }
    if headers.checksum_partial() {
        complete_checksum(&mut frame, &headers);
    }
    if headers.ttl() > 1 {
        let header = frame[usize::from(L3)..].first_chunk_mut().expect("parsed");
        decrement_hop_limit(header, &headers);
        let after = parse_ip6(&frame, L3).expect("as sound as before");
        assert_eq!(after.ttl(), headers.ttl() - 1);
        assert_eq!((addresses6(&frame, &after), after.ports_ne()), (ends, headers.ports_ne()));
        assert_eq!(
            (after.tos(), after.protocol(), after.end()),
            (headers.tos(), headers.protocol(), headers.end())
        );
    }
}
