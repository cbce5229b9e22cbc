//! Whatever the bytes: parsing, pulling, rewriting and answering them stay inside the frame, and what they write is
//! sound.

#![no_main]

use libfuzzer_sys::fuzz_target;
use margay_encap::icmp_error::{self, IcmpError, may_answer};
use margay_encap::pull::{self, Inner, decapsulate_ecn};
use margay_encap::rewrite::{complete_checksum, decrement_ttl};
use margay_encap::{Headers, checksum::Sum, parse, parse_ip, parse_quoted, protocol};

fuzz_target!(|bytes: &[u8]| {
    let mut frame = bytes.to_vec();
    mend_header_checksum(&mut frame, 14);
    if let Ok(headers) = parse(&frame) {
        forward(frame, headers);
    }
});

/// Random bytes seldom have a right checksum, and would all end there.
fn mend_header_checksum(frame: &mut [u8], l3: usize) {
    if let Some(header) = frame.get_mut(l3..l3 + 20) {
        header[10..12].fill(0);
        let checksum = Sum::of(header).finish();
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
}

fn forward(mut frame: Vec<u8>, headers: Headers) {
    assert!(u32::from(headers.transport()) <= headers.end() && headers.end() as usize <= frame.len());
    if let Some(inner) = tunnelled(&frame, &headers) {
        inside(frame.clone(), &headers, inner);
    }
    if headers.is_icmp_error() {
        let _ = parse_quoted(&frame[usize::from(headers.transport()) + 8..headers.end() as usize]);
    }
    if may_answer(&headers, &frame) {
        let mut packet = [0; icmp_error::MAX_LEN];
        let len = IcmpError::FragmentationNeeded { mtu: 1400 }.write(&mut packet, 1, 2, &frame, &headers);
        assert!(parse_ip(&packet[..len], 0).is_ok_and(|error| error.is_icmp_error()));
    }
    if headers.checksum_partial() {
        complete_checksum(&mut frame, &headers);
    }
    if headers.ttl() > 1 {
        decrement_ttl(frame[usize::from(headers.l3())..].first_chunk_mut().expect("parsed"), &headers);
        let after = parse(&frame).expect("as sound as before");
        assert_eq!(after.ttl(), headers.ttl() - 1);
        assert_eq!((after.addresses_ne(), after.ports_ne()), (headers.addresses_ne(), headers.ports_ne()));
        assert_eq!(
            (after.tos(), after.protocol(), after.end()),
            (headers.tos(), headers.protocol(), headers.end())
        );
    }
}

fn tunnelled(frame: &[u8], outer: &Headers) -> Option<Inner> {
    match outer.protocol() {
        protocol::IPIP => Some(pull::ipip(outer)),
        protocol::UDP => pull::vxlan(frame, outer).ok().map(|vxlan| vxlan.inner),
        _ => None,
    }
}

fn inside(mut frame: Vec<u8>, outer: &Headers, inner: Inner) {
    let mut frame = frame.split_off(inner.frame_start());
    frame.truncate(inner.frame_len());
    mend_header_checksum(&mut frame, 14);
    if let Ok(headers) = parse_ip(&frame, 14)
        && let Ok(marked) = decapsulate_ecn(outer.tos(), &mut frame, headers)
    {
        assert_eq!(parse_ip(&frame, 14), Ok(marked));
    }
}
