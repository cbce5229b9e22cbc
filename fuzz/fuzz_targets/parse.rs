//! Whatever the bytes: what a parser says of them lies inside them, and is what others read there (`view`, etherparse).

#![no_main]

use std::net::IpAddr;

use etherparse::{Ipv4Slice, Ipv6Slice, TcpSlice, UdpSlice};
use libfuzzer_sys::fuzz_target;
use margay_encap::pull::{self, Inner, PullError, ZeroChecksum};
use margay_encap::{
    Headers, addresses6, parse, parse_ip, parse_ip6, parse_outer, parse_plain, parse_quoted, parse_quoted6,
};
use margay_fuzz::packet::mend;
use margay_fuzz::view::{TCP, UDP, View};

const L3: usize = 14;

fuzz_target!(|bytes: &[u8]| {
    let mut frame = bytes.to_vec();
    // Random bytes seldom have a right checksum, and would all end there.
    mend(frame.get_mut(L3..).unwrap_or_default());
    for frame in [bytes, &frame] {
        read(frame);
        read_at_any_offset(frame);
    }
    let _ = parse_quoted(bytes);
    let _ = parse_quoted6(bytes);
});

fn read(frame: &[u8]) {
    let (any, plain) = (parse_ip(frame, L3 as u16), parse_plain(frame));
    // The short way agrees with the long one.
    assert!(plain.is_none_or(|plain| any == Ok(plain)));
    if let Some(outer) = parse_outer(frame) {
        tunnel(frame, &outer);
    }
    if let Ok(headers) = parse(frame) {
        assert_eq!(any, Ok(headers));
    }
    if let Ok(headers) = any {
        assert!(!headers.is_ipv6());
        ipv4(frame, &headers);
        said(frame, &headers, [headers.src().to_be_bytes().into(), headers.dst().to_be_bytes().into()]);
    }
    if let Ok(headers) = parse_ip6(frame, L3 as u16) {
        assert!(headers.is_ipv6());
        ipv6(frame, &headers);
        tunnel6(frame, &headers);
        said(frame, &headers, addresses6(frame, &headers).map(IpAddr::V6));
    }
}

/// The packet inside a tunnel is parsed where it lies.
fn read_at_any_offset(frame: &[u8]) {
    let Some((offset, frame)) = frame.split_first_chunk::<2>() else { return };
    let offset = u16::from_le_bytes(*offset);
    for headers in [parse_ip(frame, offset), parse_ip6(frame, offset)].into_iter().flatten() {
        assert_eq!(headers.l3(), offset);
        assert!(headers.transport() >= offset && u32::from(headers.transport()) <= headers.end());
        assert!(headers.end() as usize <= frame.len());
    }
}

/// What headers say is what an observer sees.
fn said(frame: &[u8], headers: &Headers, ends: [IpAddr; 2]) {
    let packet = &frame[L3..];
    let view = View::of(packet).expect("what was parsed is a packet");
    assert!(view.header_sum_holds(packet));
    assert_eq!([view.src, view.dst], ends);
    assert_eq!((view.tos, view.ttl, view.protocol), (headers.tos(), headers.ttl(), headers.protocol()));
    assert_eq!((view.transport + L3, view.end + L3), (headers.transport().into(), headers.end() as usize));
    assert_eq!(view.dont_fragment, headers.dont_fragment());
    assert_eq!(view.is_icmp_error(packet), headers.is_icmp_error() && !headers.is_later_fragment());
    assert_eq!(view.part.is_some(), headers.is_fragment());
    if let Some(part) = view.part {
        let said = headers.part();
        assert_eq!(
            (part.ident, part.offset, part.has_more),
            (headers.identification(), said.offset as usize, !said.is_last)
        );
        assert_eq!(view.end - view.transport, said.len as usize);
        assert!(!headers.checksum_partial());
    }
    if let Some(ports) = view.ports(packet) {
        assert_eq!(ports, (headers.sport(), headers.dport()));
    }
    if headers.is_icmp_error() && !headers.is_later_fragment() {
        let quote = &view.segment(packet)[8..];
        let _ =
            if headers.is_ipv6() { parse_quoted6(quote).is_some() } else { parse_quoted(quote).is_some() };
    }
}

fn ipv4(frame: &[u8], headers: &Headers) {
    // Behind an authentication header etherparse goes on; a gateway does not.
    if headers.protocol() == 51 {
        return;
    }
    let packet = Ipv4Slice::from_slice(&frame[L3..]).expect("what is sound to us is so to others");
    let header = packet.header();
    assert_eq!(header.source(), headers.src().to_be_bytes());
    assert_eq!(header.destination(), headers.dst().to_be_bytes());
    assert_eq!(packet.payload().ip_number.0, headers.protocol());
    transport(headers, packet.payload().payload);
}

fn ipv6(frame: &[u8], headers: &Headers) {
    // An authentication header may be too short for etherparse. (A gateway passes over it as long as it is, as Linux does.)
    let Ok(packet) = Ipv6Slice::from_slice(&frame[L3..]) else { return };
    assert_eq!(packet.payload().ip_number.0, headers.protocol());
    assert_eq!(packet.is_payload_fragmented(), headers.is_fragment());
    // To etherparse no length means that the packet goes on to the frame's end.
    if packet.header().payload_length() > 0 {
        transport(headers, packet.payload().payload);
    }
}

/// What etherparse finds behind the IP header, and ours.
fn transport(headers: &Headers, payload: &[u8]) {
    assert_eq!(payload.len(), headers.end() as usize - usize::from(headers.transport()));
    if headers.is_later_fragment() {
        return;
    }
    match headers.protocol() {
        TCP => {
            let tcp = TcpSlice::from_slice(payload).expect("a whole TCP header");
            assert_eq!((tcp.source_port(), tcp.destination_port()), (headers.sport(), headers.dport()));
            assert_eq!([tcp.syn(), tcp.rst()], [2, 4].map(|flag| headers.tcp_flags() & flag != 0));
        }
        UDP if !headers.is_fragment() => {
            let udp = UdpSlice::from_slice(payload).expect("a whole datagram");
            assert_eq!((udp.source_port(), udp.destination_port()), (headers.sport(), headers.dport()));
        }
        _ => {}
    }
}

/// What lies in a tunnel packet lies in its frame.
fn tunnel(frame: &[u8], outer: &Headers) {
    assert!(outer.end() as usize <= frame.len());
    let inner = match outer.protocol() {
        4 => Some(pull::ipip(outer)),
        UDP => pull::vxlan(frame, outer).ok().map(|vxlan| vxlan.inner),
        _ => None,
    };
    if let Some(inner) = inner {
        inside(frame, outer, inner);
    }
}

fn tunnel6(frame: &[u8], outer: &Headers) {
    if outer.protocol() != UDP || outer.is_fragment() {
        return;
    }
    let taken =
        [ZeroChecksum::Refused, ZeroChecksum::Accepted].map(|zero| pull::vxlan_over_ipv6(frame, outer, zero));
    if let [_, Ok(vxlan)] = taken {
        let has_none = frame[usize::from(outer.transport()) + 6..][..2] == [0, 0];
        assert_eq!(taken[0], if has_none { Err(PullError::NoChecksum) } else { Ok(vxlan) });
        inside(frame, outer, vxlan.inner);
    }
}

fn inside(frame: &[u8], outer: &Headers, inner: Inner) {
    assert!(inner.end <= outer.end() && u32::from(inner.l3) <= inner.end && usize::from(inner.l3) >= L3);
    let frame = &frame[inner.frame_start()..][..inner.frame_len()];
    for headers in [parse_ip(frame, L3 as u16), parse_ip6(frame, L3 as u16)].into_iter().flatten() {
        assert!(headers.end() as usize <= frame.len());
    }
}
