//! Packets of IPv6: the same passes, other headers.

use std::net::Ipv6Addr;

use etherparse::{Icmpv6Type, PacketBuilder, PacketBuilderStep, icmpv6};

use super::*;

const WEB6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x65, 0x10, 0, 0, 0, 0, 5);
pub(super) const OPEN6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x65, 0x10, 0, 0, 0, 0, 8);
/// Behind a plain route, and the one peer that may reach `WEB6`, on TCP 80.
pub(super) const DIRECT6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x69, 0x11, 0, 0, 0, 0, 5);
const STRANGER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x69, 0x11, 0, 0, 0, 0, 6);
const VXLAN6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x65, 0x21, 0, 0, 0, 0, 5);
pub(super) const NODE6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x172, 0x20, 0, 0, 0, 0, 10);
const HOP_LIMIT: u8 = 64;

/// The small gateway, whose pods have an address of either family.
pub(super) fn gateway() -> Gateway {
    let mut gateway = Gateway::new();
    gateway.publish(|snapshot| {
        let ends = [(WEB, WEB6), (OPEN, OPEN6)];
        for (PortId(port), address) in ends {
            let port = snapshot.ports[usize::from(port)].as_mut().expect("a pod's port");
            let PortKind::Pod { addresses } = &mut port.kind else { panic!("{port:?}") };
            addresses.push(address.into());
            snapshot.local.pods.insert(address.into());
        }
        snapshot.local.addresses.insert(NODE6.into());
        snapshot.local.icmp6_source = Some(NODE6);
        let routes = [
            (WEB6, 128, Some(3)),
            (OPEN6, 128, Some(4)),
            (VXLAN6, 122, Some(5)),
            (DIRECT6, 122, Some(7)),
            (NODE6, 128, Some(1)),
        ];
        snapshot.fib.apply(routes.map(|(net, length, id)| (net.into(), length, id.map(NextHopId))));
        serve(snapshot);
    });
    gateway
}

/// Has `WEB6` take TCP 80 of `DIRECT6` alone, and `OPEN6` everything.
fn serve(snapshot: &mut Snapshot) {
    let set = snapshot.policies.sets.len() as u32;
    snapshot.policies.sets.set(set, Arc::new(AddressSet::new([], [(DIRECT6.into(), DIRECT6.into())])));
    let source = Side { all_of: vec![vec![SetId(set)]], ..Side::default() };
    let destination = Side { ports: vec![80..=80], ..Side::default() };
    let allow = Rule { action: Action::Allow, protocol: Some(6), source, destination, ..Rule::default() };
    let ingress = put_program(snapshot, PolicyType::Ingress, vec![allow], RuleId::NONE);
    let policies = &mut snapshot.policies;
    policies.obeys.set(105, Obeys { ingress, ..Obeys::default() });
    for (number, address, like) in [(105, WEB6, 5), (8, OPEN6, 8)] {
        let holder = Holder { identity: IdentityId(number), endpoint: Some(EndpointId(like)) };
        policies.addresses.insert(address.into(), holder);
        snapshot.epochs.touch(address.into());
    }
}

fn ipv6(src: Ipv6Addr, dst: Ipv6Addr) -> PacketBuilderStep<etherparse::IpHeaders> {
    PacketBuilder::ethernet2([2; 6], OUR_MAC).ipv6(src.octets(), dst.octets(), HOP_LIMIT)
}

fn tcp6(src: Ipv6Addr, dst: Ipv6Addr, ports: (u16, u16), flags: u8) -> Vec<u8> {
    let mut header = etherparse::TcpHeader::new(ports.0, ports.1, 1000, 65535);
    (header.syn, header.ack) = (flags & SYN != 0, flags & ACK != 0);
    let mut packet = Vec::new();
    ipv6(src, dst).tcp_header(header).write(&mut packet, b"payload").expect("a Vec takes all");
    packet
}

pub(super) fn udp6(src: Ipv6Addr, dst: Ipv6Addr, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    ipv6(src, dst).udp(ports.0, ports.1).write(&mut packet, payload).expect("a Vec takes all");
    packet
}

fn icmp6(src: Ipv6Addr, dst: Ipv6Addr, kind: Icmpv6Type, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    ipv6(src, dst).icmpv6(kind).write(&mut packet, payload).expect("a Vec takes all");
    packet
}

/// What forwarding makes of the packet, in front of the neighbour's Ethernet header.
pub(super) fn forwarded(packet: &[u8]) -> Vec<u8> {
    let mut ip = packet[14..].to_vec();
    ip[7] -= 1;
    ip
}

#[test]
fn packets_of_allowed_flows_go_on_with_a_hop_less_and_their_own_ethertype() {
    let mut gateway = gateway();
    let there = tcp6(DIRECT6, WEB6, (4000, 80), SYN);
    let back = tcp6(WEB6, DIRECT6, (80, 4000), SYN | ACK);
    for (port, packet, out) in [(UPLINK, &there, WEB), (WEB, &back, UPLINK), (UPLINK, &there, WEB)] {
        let (sent_by, sent) = gateway.run(port, packet).only();
        assert_eq!(sent_by, out);
        assert_eq!(sent[12..14], [0x86, 0xdd]);
        assert_eq!(sent[14..], forwarded(packet));
    }
    assert_eq!(gateway.counters.flows_inserted.get(), 1);
}

#[test]
fn a_burst_of_both_families_is_told_apart() {
    let mut gateway = gateway();
    let packets: Vec<Vec<u8>> = (0..16u16)
        .flat_map(|n| [udp(DIRECT_IP, OPEN_IP, (n, 53), b"four"), udp6(DIRECT6, OPEN6, (n, 53), b"sixteen")])
        .collect();
    for _ in 0..2 {
        let sent = gateway.run_burst(UPLINK, &packets);
        let versions: Vec<u8> = sent.iter().map(|(_, packet)| packet[14] >> 4).collect();
        assert_eq!(versions, [4, 6].repeat(16));
    }
    assert_eq!(gateway.counters.flows_inserted.get(), 32);
}

#[test]
fn what_does_not_pass_has_its_reason() {
    use DropReason as R;
    let mut cut = tcp6(DIRECT6, WEB6, (4000, 80), SYN);
    cut.truncate(60);
    let mut long = tcp6(DIRECT6, WEB6, (4000, 80), SYN);
    long[18] = 0xff;
    let fragment = |dst: Ipv6Addr| {
        let mut packet = udp6(DIRECT6, dst, (4000, 53), &[0; 16]);
        packet[20] = 44;
        packet[54..62].copy_from_slice(&[17, 0, 0, 1, 0, 0, 0, 9]);
        packet
    };
    for (reason, port, packet) in [
        (R::PolicyDeny, UPLINK, tcp6(STRANGER6, WEB6, (4000, 80), SYN)),
        (R::PolicyDeny, UPLINK, tcp6(DIRECT6, WEB6, (4000, 81), SYN)),
        (R::SourceSpoofed, WEB, udp6(OPEN6, DIRECT6, (1, 2), b"")),
        (R::SourceSpoofed, UPLINK, udp6(OPEN6, WEB6, (1, 2), b"")),
        (R::MartianSource, UPLINK, udp6("fe80::1".parse().unwrap(), OPEN6, (1, 2), b"")),
        (R::MartianSource, UPLINK, udp6("ff02::1".parse().unwrap(), OPEN6, (1, 2), b"")),
        (R::MartianSource, UPLINK, udp6(Ipv6Addr::LOCALHOST, OPEN6, (1, 2), b"")),
        (R::MartianSource, UPLINK, udp6(NODE6, OPEN6, (1, 2), b"")),
        (R::MartianDestination, OPEN, udp6(OPEN6, "fe80::1".parse().unwrap(), (1, 2), b"")),
        (R::Multicast, OPEN, udp6(OPEN6, "ff02::1".parse().unwrap(), (1, 2), b"")),
        (R::NoRoute, OPEN, udp6(OPEN6, "2001:db8::1".parse().unwrap(), (1, 2), b"")),
        (R::HostBound, OPEN, udp6(OPEN6, NODE6, (1, 2), b"")),
        (R::TunnelFromPod, OPEN, udp6(OPEN6, NODE6, (1, 4789), b"")),
        (R::BadTotalLength, UPLINK, cut),
        (R::BadTotalLength, UPLINK, long),
        (R::TinyFragment, UPLINK, fragment(OPEN6)),
    ] {
        assert_eq!(gateway().run(port, &packet).dropped, Some(reason), "{packet:02x?}");
    }
}

#[test]
fn what_cannot_go_on_is_answered_by_icmpv6() {
    let mut gateway = gateway();
    let mut dying = udp6(DIRECT6, OPEN6, (4000, 53), b"payload");
    dying[21] = 1;
    let big = udp6(OPEN6, VXLAN6, (53, 4000), &[7; 1450]);
    for (port, packet, reason, kind, word, out) in [
        (UPLINK, &dying, DropReason::TtlExceeded, [3, 0], 0, UPLINK),
        (OPEN, &big, DropReason::FragmentationNeeded, [2, 0], 1450, OPEN),
    ] {
        let Outcome { sent, dropped } = gateway.run(port, packet);
        assert_eq!(dropped, Some(reason));
        let [(sent_by, answer)] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!((*sent_by, &answer[12..14]), (out, &[0x86, 0xdd][..]));
        let parsed = etherparse::SlicedPacket::from_ethernet(answer).unwrap();
        let Some(etherparse::NetSlice::Ipv6(ip)) = &parsed.net else { panic!("{parsed:?}") };
        assert_eq!(ip.header().source_addr(), NODE6);
        assert_eq!(ip.header().destination(), packet[22..38]);
        let Some(etherparse::TransportSlice::Icmpv6(icmp)) = parsed.transport else { panic!("{parsed:?}") };
        assert!(icmp.is_checksum_valid(ip.header().source(), ip.header().destination()));
        assert_eq!([icmp.type_u8(), icmp.code_u8()], kind);
        assert_eq!(u32::from_be_bytes(icmp.bytes5to8()), word);
        let quote = icmp.payload();
        assert_eq!(quote, &packet[14..14 + quote.len()]);
        assert!(quote.len() == packet.len() - 14 || ip.header().payload_length() == 1240);
    }
    let error = Icmpv6Type::TimeExceeded(icmpv6::TimeExceededCode::HopLimitExceeded);
    let mut dying = icmp6(DIRECT6, OPEN6, error, &[0; 48]);
    dying[21] = 1;
    assert!(gateway.run(UPLINK, &dying).sent.is_empty(), "no error about an error");
}

#[test]
fn what_has_no_way_is_answered_where_that_is_configured() {
    let nowhere = "2001:db8::1".parse().unwrap();
    let unheld = Ipv6Addr::new(0xfd00, 0x65, 0x10, 0, 0, 0, 0, 0x20);
    for (answers, dst, reason, code) in [
        (false, nowhere, DropReason::NoRoute, None),
        (true, nowhere, DropReason::NoRoute, Some(0)),
        (true, unheld, DropReason::Blackhole, Some(3)),
    ] {
        let mut gateway = gateway();
        gateway.snapshot.local.answers_unreachable = answers;
        gateway.snapshot.fib.apply([(unheld.into(), 128, Some(NextHopId(0)))]);
        let Outcome { sent, dropped } = gateway.run(OPEN, &udp6(OPEN6, dst, (53, 4000), b"payload"));
        assert_eq!(dropped, Some(reason));
        let said: Vec<_> = sent.iter().map(|(port, answer)| (*port, answer[54], answer[55])).collect();
        assert_eq!(said, code.map(|code| (OPEN, 1, code)).into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn an_icmpv6_error_passes_with_the_flow_that_it_quotes() {
    let mut gateway = gateway();
    let there = tcp6(DIRECT6, WEB6, (4000, 80), SYN);
    let too_big = Icmpv6Type::PacketTooBig { mtu: 1400 };
    let about = |packet: &[u8]| icmp6(STRANGER6, WEB6, too_big, &packet[14..]);
    let back = tcp6(WEB6, DIRECT6, (80, 4000), SYN | ACK);
    assert_eq!(gateway.run(UPLINK, &about(&back)).dropped, Some(DropReason::PolicyDeny));
    gateway.run(UPLINK, &there).only();
    gateway.run(WEB, &back).only();
    assert_eq!(gateway.run(UPLINK, &about(&back)).only().0, WEB);
    let other = tcp6(WEB6, DIRECT6, (80, 4001), SYN | ACK);
    assert_eq!(gateway.run(UPLINK, &about(&other)).dropped, Some(DropReason::PolicyDeny));
}

#[test]
fn a_change_of_policy_ends_a_flow_of_ipv6() {
    let mut gateway = gateway();
    let there = tcp6(DIRECT6, WEB6, (4000, 80), SYN);
    gateway.run(UPLINK, &there).only();
    gateway.publish(|snapshot| {
        let ingress = put_program(snapshot, PolicyType::Ingress, Vec::new(), RuleId::NONE);
        snapshot.policies.obeys.set(105, Obeys { ingress, ..Obeys::default() });
        snapshot.epochs.touch(WEB6.into());
    });
    for _ in 0..2 {
        assert_eq!(
            gateway.run(UPLINK, &tcp6(DIRECT6, WEB6, (4000, 80), ACK)).dropped,
            Some(DropReason::PolicyDeny)
        );
    }
}

#[test]
fn ipv6_in_a_tunnel_over_ipv4_is_named_so() {
    let mut gateway = gateway();
    let packet = udp6(OPEN6, VXLAN6, (53, 4000), b"payload");
    let (out, sent) = gateway.run(OPEN, &packet).only();
    assert_eq!((out, sent.len()), (UPLINK, packet.len() + 50));
    assert_eq!((&sent[12..14], sent[23], &sent[62..64]), (&[8, 0][..], 17, &[0x86, 0xdd][..]));
    assert_eq!(checksum::Sum::of(&sent[14..34]).finish(), 0);
    assert_eq!(sent[64..], forwarded(&packet));
    gateway.publish(|snapshot| {
        snapshot.fib.apply([(VXLAN6.into(), 122, Some(NextHopId(6)))]);
        snapshot.epochs.touch(VXLAN6.into());
    });
    let (_, sent) = gateway.run(OPEN, &packet).only();
    assert_eq!((sent.len(), sent[23]), (packet.len() + 20, 41));
    assert_eq!(checksum::Sum::of(&sent[14..34]).finish(), 0);
    assert_eq!(sent[34..], forwarded(&packet));
}

#[test]
fn a_sum_that_the_sender_left_to_its_device_is_taken() {
    let mut gateway = gateway();
    let whole = udp6(OPEN6, DIRECT6, (53, 4000), b"payload");
    let mut partial = whole.clone();
    let sum = checksum::pseudo_header_v6(OPEN6.to_bits(), DIRECT6.to_bits(), 17, 15).fold();
    partial[60..62].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(gateway.run(OPEN, &partial).only().1[14..], forwarded(&whole));
}

/// The packet in pieces of so many bytes.
pub(super) fn pieces6(packet: &[u8], ident: u32, len: usize) -> Vec<Vec<u8>> {
    let payload = &packet[54..];
    let piece = |at: usize| {
        let part = &payload[at..payload.len().min(at + len)];
        let more = u16::from(at + part.len() < payload.len());
        let mut header =
            [&[packet[20], 0][..], &(at as u16 | more).to_be_bytes(), &ident.to_be_bytes()].concat();
        header.extend_from_slice(part);
        let mut piece = [&packet[..54], &header].concat();
        piece[18..20].copy_from_slice(&(header.len() as u16).to_be_bytes());
        piece[20] = 44;
        piece
    };
    (0..payload.len()).step_by(len).map(piece).collect()
}

#[test]
fn fragments_follow_their_first_in_any_order() {
    let mut gateway = gateway();
    for (ident, order) in
        (0x0001_0000..).zip([[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
    {
        let parts = pieces6(&udp6(OPEN6, DIRECT6, (1000, 53), &[7; 3000]), ident, 1400);
        let sent: Vec<_> =
            order.iter().flat_map(|&n| gateway.run_burst(OPEN, std::slice::from_ref(&parts[n]))).collect();
        let mut came: Vec<_> = sent.iter().map(|(_, packet)| packet[14..].to_vec()).collect();
        let mut expected: Vec<_> = parts.iter().map(|part| forwarded(part)).collect();
        came.sort();
        expected.sort();
        assert_eq!(came, expected, "{order:?}");
    }
    assert_eq!(gateway.counters.flows_inserted.get(), 1);
    assert_eq!(gateway.pipeline.waiting(), 0);
    let denied = pieces6(&tcp6(DIRECT6, WEB6, (4000, 81), SYN), 1, 24);
    for part in denied.iter().rev() {
        assert!(gateway.run_burst(UPLINK, std::slice::from_ref(part)).is_empty());
    }
    assert_eq!(
        gateway.counters.port(UPLINK).drops[DropReason::PolicyDeny as usize].get(),
        denied.len() as u64
    );
}

/// The packet in VXLAN over IPv4 from the other node, with this traffic class outside.
fn vxlan6(inner: &[u8], tos: u8) -> Vec<u8> {
    let mut outer = vxlan_from(REMOTE_NODE_IP, 4096, inner);
    set_ip_byte(&mut outer, 1, tos);
    outer
}

#[test]
fn ipv6_comes_out_of_a_tunnel_over_ipv4() {
    let mut gateway = gateway();
    gateway.publish(|snapshot| {
        snapshot.inner_sources.homes.apply([(VXLAN6.into(), 122, Some(NextHopId(0)))]);
    });
    let packet = udp6(VXLAN6, OPEN6, (4000, 53), b"payload");
    for _ in 0..2 {
        let (out, sent) = gateway.run(UPLINK, &vxlan6(&packet, 0)).only();
        assert_eq!((out, &sent[12..14]), (OPEN, &[0x86, 0xdd][..]));
        assert_eq!(sent[14..], forwarded(&packet));
    }
    // A mark outside is one inside, where that says it can be.
    let mut capable = packet.clone();
    capable[15] |= 2 << 4;
    let mut marked = forwarded(&capable);
    marked[1] |= 3 << 4;
    assert_eq!(gateway.run(UPLINK, &vxlan6(&capable, 3)).only().1[14..], marked);
    assert_eq!(gateway.run(UPLINK, &vxlan6(&packet, 3)).dropped, Some(DropReason::EcnNotCapable));
    let elsewhere = udp6(DIRECT6, OPEN6, (4000, 53), b"payload");
    assert_eq!(gateway.run(UPLINK, &vxlan6(&elsewhere, 0)).dropped, Some(DropReason::InnerSource));
    let stranger = vxlan_from([172, 20, 2, 99], 4096, &packet);
    assert_eq!(gateway.run(UPLINK, &stranger).dropped, Some(DropReason::UnknownTunnelSource));
    let mut cut = vxlan6(&packet, 0);
    cut[64] = 0x50;
    assert_eq!(gateway.run(UPLINK, &cut).dropped, Some(DropReason::BadVersion));
}
