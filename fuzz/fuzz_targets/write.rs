//! Whatever the packet: what is written before it is taken off again, its fragments add up to it, an error about it is a
//! sound packet, and a checksum that was mended by the difference is the one that is computed from nothing.

#![no_main]

use std::net::{Ipv4Addr, Ipv6Addr};

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use margay_encap::checksum::{self, Sum as Words};
use margay_encap::icmp_error::{self, IcmpError};
use margay_encap::icmp6_error::{self, Icmp6Error};
use margay_encap::pull::{self, ZeroChecksum, decapsulate_ecn};
use margay_encap::rewrite::{complete_checksum, decrement_hop_limit, decrement_ttl};
use margay_encap::segment::Segments;
use margay_encap::split::Split;
use margay_encap::{Headers, parse_ip, parse_ip6, parse_outer, parse_quoted, parse_quoted6, tcp};
use margay_flowtable::{Adjacency, NextHop, NextHops, Tunnel};
use margay_fuzz::oracle::tunnel;
use margay_fuzz::packet::{Packet, mend};
use margay_fuzz::view::{self, Sum, TCP, View};
use margay_fuzz::world::{Config, Hop};

const L3: usize = 14;

#[derive(Arbitrary, Debug)]
struct Case {
    packet: Packet,
    changes: Vec<(u16, u8)>,
    config: Config,
    #[arbitrary(with = |u: &mut Unstructured<'_>| u.int_in_range(0..=1500))]
    mtu: u16,
    outer_tos: u8,
    quote: u16,
    fields: [u32; 2],
}

fuzz_target!(|case: Case| {
    checksums(&case);
    let mut packet = case.packet.bytes(case.mtu);
    for (at, value) in &case.changes {
        let at = usize::from(*at) % packet.len();
        packet[at] = *value;
    }
    mend(&mut packet);
    let mut frame = [&[2; 12], &[0; 2][..], &packet].concat();
    let Some(headers) =
        [parse_ip(&frame, L3 as u16), parse_ip6(&frame, L3 as u16)].into_iter().find_map(Result::ok)
    else {
        return;
    };
    frame.truncate(headers.end() as usize);
    tunnels(&case, &frame, &headers);
    if !headers.is_ipv6() {
        split(&case, &frame[L3..]);
    }
    segments(&case, &frame, &headers);
    errors(&case, &frame, &headers);
    completed(frame.clone(), &headers);
    clamped(frame.clone(), &headers, case.mtu);
    forwarded(frame.clone(), &headers);
    marked(frame, headers, case.outer_tos);
});

fn view(packet: &[u8]) -> View {
    View::of(packet).expect("a packet")
}

fn checksums(case: &Case) {
    let [old, new] = case.fields;
    let mut bytes = case.packet.extra.clone();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    assert_eq!(
        Words::of(&case.packet.extra).finish(),
        margay_fuzz::checksum::internet(&[&case.packet.extra])
    );
    let sum = |field: u32| Words::of(&[&field.to_be_bytes()[..], &bytes, &[1]].concat()).finish();
    assert_eq!(checksum::update_u32(sum(old), old, new), sum(new));
    let word = |field: u32| field & 0xffff;
    assert_eq!(checksum::update_u16(sum(word(old)), old as u16, new as u16), sum(word(new)));
}

fn tunnels(case: &Case, frame: &[u8], headers: &Headers) {
    for hop in [Hop::Uplink, Hop::Ipip, Hop::Vxlan, Hop::VxlanOverIpv6] {
        let next_hop = hop.next_hop(&case.config);
        let NextHop::Forward { adjacency, tunnel } = &next_hop else { unreachable!("it leads out") };
        let next_hops = NextHops::from(vec![next_hop.clone()]);
        let rewrite = next_hops.rewrite(0).expect("it leads out");
        assert_eq!(rewrite.template.overhead(), tunnel::overhead(tunnel.as_ref()));
        let mut sent = [&vec![0xa5; rewrite.template.overhead().into()], frame].concat();
        if headers.is_ipv6() {
            rewrite.template.write6(&mut sent, headers, headers.ttl(), 0xc000, 7);
        } else {
            rewrite.template.write(&mut sent, headers, headers.ttl(), 0xc000, 7);
        }
        opened(adjacency, tunnel.as_ref(), &sent, &frame[L3..]);
    }
}

/// What was put into a tunnel comes out of it.
fn opened(adjacency: &Adjacency, tunnel: Option<&Tunnel>, sent: &[u8], packet: &[u8]) {
    let opened = tunnel::open(adjacency, tunnel, sent);
    assert_eq!(opened, Some(packet), "{tunnel:?} {sent:02x?}");
    let inner = match tunnel {
        None => return,
        Some(Tunnel::Ipip { .. }) if packet[0] >> 4 == 6 => return,
        Some(Tunnel::Ipip { .. }) => pull::ipip(&parse_outer(sent).expect("a sound header")),
        Some(Tunnel::Vxlan { .. }) => {
            pull::vxlan(sent, &parse_outer(sent).expect("a sound header")).expect("a tunnel packet").inner
        }
        Some(Tunnel::Vxlan6 { .. }) => {
            let outer = parse_ip6(sent, L3 as u16).expect("a sound header");
            pull::vxlan_over_ipv6(sent, &outer, ZeroChecksum::Accepted).expect("a tunnel packet").inner
        }
    };
    assert_eq!(&sent[inner.l3.into()..inner.end as usize], packet);
}

/// Fragments, and fragments of these.
fn split(case: &Case, packet: &[u8]) {
    let Some(parts) = parts(packet, case.mtu) else { return };
    let whole = view(packet);
    let offset = whole.part.map_or(0, |part| part.offset);
    let has_more = whole.part.is_some_and(|part| part.has_more);
    let parts: Vec<_> = parts
        .into_iter()
        .flat_map(|part| self::parts(&part, case.mtu / 2).unwrap_or_else(|| vec![part]))
        .collect();
    let mut payload: Vec<u8> = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let view = view(part);
        assert!(view.header_sum_holds(part) && view.end == part.len() && part.len() <= case.mtu.into());
        assert_eq!((view.src, view.dst, view.protocol), (whole.src, whole.dst, whole.protocol));
        assert_eq!(view.part.map_or(0, |part| part.offset), offset + payload.len());
        let is_last = at + 1 == parts.len();
        assert_eq!(view.part.is_some_and(|part| part.has_more), !is_last || has_more);
        payload.extend(view.segment(part));
    }
    assert_eq!(payload, whole.segment(packet));
}

/// TCP or UDP that is several packets in one, of a size that is known or not.
fn segments(case: &Case, frame: &[u8], headers: &Headers) {
    let [low, high, ..] = case.fields[1].to_ne_bytes();
    let size = (low & 1 == 1).then_some(u16::from_ne_bytes([low, high]) >> 4);
    let Some(segments) = Segments::new(frame, headers, headers.ttl(), case.mtu, size) else { return };
    let (packet, whole) = (&frame[L3..], view(&frame[L3..]));
    let is_tcp = headers.protocol() == TCP;
    let header_len = if is_tcp { usize::from(packet[whole.transport + 12] >> 4) * 4 } else { 8 };
    let header_len = whole.transport + header_len;
    let mut payload: Vec<u8> = Vec::new();
    for index in 0..segments.count() {
        let mut segment = vec![0xa5; segments.len(index)];
        segments.write(index, &mut segment);
        let view = view(&segment);
        assert!(view.end == segment.len() && segment.len() <= segments.longest());
        assert!(!is_tcp || segment.len() <= case.mtu.into());
        assert!(size.is_none_or(|size| segment.len() <= header_len + usize::from(size)));
        assert!(view.header_sum_holds(&segment) && view.sum(&segment) == Sum::Right);
        assert_eq!(view, View { end: view.end, ..whole.clone() });
        payload.extend(&segment[header_len..]);
    }
    assert_eq!(payload, packet[header_len..]);
}

fn parts(packet: &[u8], mtu: u16) -> Option<Vec<Vec<u8>>> {
    let split = Split::new(packet, packet[8], mtu)?;
    let payload = view(packet).transport;
    let (count, packet) = (split.count(), &packet[payload..]);
    let parts = split.fragments().map(|part| [part.header(), &packet[part.payload.clone()]].concat());
    let parts: Vec<_> = parts.collect();
    assert_eq!(parts.len(), count);
    Some(parts).filter(|parts| !parts.is_empty())
}

fn errors(case: &Case, frame: &[u8], headers: &Headers) {
    let packet = &frame[L3..];
    let room = 48 + usize::from(case.quote) % (icmp6_error::MAX_LEN - 48 + 1);
    let mut error = vec![0; room];
    if headers.is_ipv6() {
        for kind in [
            Icmp6Error::TimeExceeded,
            Icmp6Error::PacketTooBig { mtu: case.mtu },
            Icmp6Error::Unreachable { code: 0 },
        ] {
            let _ = kind.may_answer(headers, frame);
            let len = kind.write(&mut error, Ipv6Addr::LOCALHOST, frame, headers);
            assert!(parse_ip6(&error[..len], 0).is_ok_and(|error| error.is_icmp_error()));
            quoted(&error[..len], packet, headers);
        }
        return;
    }
    let _ = icmp_error::may_answer(headers, frame);
    for kind in [
        IcmpError::TimeExceeded,
        IcmpError::FragmentationNeeded { mtu: case.mtu },
        IcmpError::Unreachable { code: 1 },
    ] {
        let len = kind.write(&mut error, Ipv4Addr::LOCALHOST.to_bits(), 7, frame, headers);
        assert!(
            len <= icmp_error::MAX_LEN && parse_ip(&error[..len], 0).is_ok_and(|error| error.is_icmp_error())
        );
        quoted(&error[..len], packet, headers);
    }
}

/// An error is a sound packet, and who gets it finds in it what it is about.
fn quoted(error: &[u8], packet: &[u8], headers: &Headers) {
    let view = view(error);
    assert!(view.header_sum_holds(error) && view.sum(error) == Sum::Right);
    let quote = &view.segment(error)[8..];
    assert!(packet.starts_with(quote));
    let said = if headers.is_ipv6() {
        parse_quoted6(quote).map(|quoted| (quoted.protocol, quoted.sport, quoted.dport))
    } else {
        parse_quoted(quote).map(|quoted| (quoted.protocol, quoted.sport, quoted.dport))
    };
    let own = (headers.protocol(), headers.sport(), headers.dport());
    assert!(said.is_none_or(|said| said == own), "{said:?} of {own:?}");
    assert!(said.is_none() || !headers.is_later_fragment());
}

/// Checksums that are left to the device.
fn completed(mut frame: Vec<u8>, headers: &Headers) {
    let came = view(&frame[L3..]);
    let sum = came.sum(&frame[L3..]);
    assert!(sum != Sum::Partial || headers.checksum_partial());
    if headers.checksum_partial() {
        complete_checksum(&mut frame, headers);
        assert_eq!(came.sum(&frame[L3..]), Sum::Right);
    }
}

fn clamped(mut frame: Vec<u8>, headers: &Headers, most: u16) {
    if headers.protocol() != TCP || headers.is_later_fragment() {
        return;
    }
    let came = view(&frame[L3..]);
    let sum = came.sum(&frame[L3..]);
    tcp::clamp_mss(&mut frame[headers.transport().into()..], most);
    let segment = &frame[headers.transport().into()..];
    for option in view::options(&segment[20..usize::from(segment[12] >> 4) * 4]) {
        assert!(!matches!(option, [2, 4, ..]) || view::be16(option, 2) <= most);
    }
    assert!(sum != Sum::Right || came.sum(&frame[L3..]) == Sum::Right);
}

fn forwarded(mut frame: Vec<u8>, headers: &Headers) {
    if headers.ttl() <= 1 {
        return;
    }
    let came = view(&frame[L3..]);
    let packet = &mut frame[L3..];
    let header = packet.first_chunk_mut().expect("a header");
    if headers.is_ipv6() {
        decrement_hop_limit(header, headers)
    } else {
        decrement_ttl(header, headers)
    }
    let left = view(packet);
    assert!(left.header_sum_holds(packet));
    assert_eq!(left, View { ttl: came.ttl - 1, ..came });
}

/// RFC 6040 4.2, figure 4.
fn marked(mut frame: Vec<u8>, headers: Headers, outer_tos: u8) {
    let came = view(&frame[L3..]);
    let (inner, outer) = (came.tos & 3, outer_tos & 3);
    let Ok(after) = decapsulate_ecn(outer_tos, &mut frame, headers) else {
        return assert_eq!((inner, outer), (0, 3));
    };
    let left = view(&frame[L3..]);
    let mark = match (inner, outer) {
        (1..=3, 3) => 3,
        (2, 1) => 1,
        _ => inner,
    };
    assert!(left.header_sum_holds(&frame[L3..]));
    assert_eq!(left, View { tos: came.tos & !3 | mark, ..came });
    let again = [parse_ip(&frame, L3 as u16), parse_ip6(&frame, L3 as u16)].into_iter().find_map(Result::ok);
    assert_eq!(again, Some(after));
}
