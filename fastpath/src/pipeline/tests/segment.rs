//! Packets that are several in one, as ports in skb mode have them, where the kernel does not tell which: TCP leaves in segments,
//! wherever it goes.

use std::net::Ipv6Addr;

use margay_encap::{parse, parse_ip6, pull};
use margay_flowtable::{Entrance, Rewrite};

use super::*;
use crate::frame::Gso;

pub(super) const OPEN6: Ipv6Addr = ipv6::OPEN6;
pub(super) const PEER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x65, 0x21, 0, 0, 0, 0, 5);
const FIN: u8 = 1;
const PSH: u8 = 8;

pub(super) fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

/// TCP that ends a stream, whose checksum is left to the device.
fn several(src: IpAddr, dst: IpAddr, payload: &[u8]) -> Vec<u8> {
    let mut header = etherparse::TcpHeader::new(1000, 80, 5000, 65535);
    (header.ack, header.psh, header.fin) = (true, true, true);
    let (mut packet, builder) = (Vec::new(), PacketBuilder::ethernet2([2; 6], OUR_MAC));
    let len = payload.len() as u16 + 20;
    let (builder, l4, partial) = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let sum = checksum::pseudo_header_v4(src.to_bits(), dst.to_bits(), 6, len);
            (builder.ipv4(src.octets(), dst.octets(), 64), 34, sum)
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let sum = checksum::pseudo_header_v6(src.to_bits(), dst.to_bits(), 6, len.into());
            (builder.ipv6(src.octets(), dst.octets(), 64), 54, sum)
        }
        _ => unreachable!(),
    };
    builder.tcp_header(header).write(&mut packet, payload).expect("a Vec takes all");
    packet[l4 + 16..l4 + 18].copy_from_slice(&partial.fold().to_be_bytes());
    packet
}

pub(super) fn of_open(dst: [u8; 4], payload: &[u8]) -> Vec<u8> {
    several(ip(OPEN_IP).into(), ip(dst).into(), payload)
}

/// Runs a packet that came by way of an skb.
fn run(gateway: &mut Gateway, port: PortId, packet: &[u8]) -> Outcome {
    let before = gateway.drops(port);
    let mut frame = gateway.frame(port, packet);
    frame.gso = Gso::Untold;
    let mut burst = Box::<Burst>::default();
    burst.push(frame);
    let sent = gateway.run_frames(burst);
    let after = gateway.drops(port);
    let dropped = (0..DropReason::COUNT).find(|&i| before[i] != after[i]).map(|i| DropReason::ALL[i]);
    Outcome { sent, dropped }
}

/// The stream that the segments are, `l3` behind the start of each frame, none longer than the MTU, all sound.
#[track_caller]
pub(super) fn stream(sent: &[(PortId, Vec<u8>)], port: PortId, l3: usize, mtu: usize) -> Vec<u8> {
    let mut stream = Vec::new();
    for (index, (to, frame)) in sent.iter().enumerate() {
        assert_eq!(*to, port);
        let is_ipv6 = frame[l3] >> 4 == 6;
        let inner = &frame[l3 - 14..];
        let headers = if is_ipv6 {
            parse_ip6(inner, 14)
        } else {
            parse(&[&[2; 12][..], &[8, 0], &inner[14..]].concat())
        };
        let headers = headers.expect("a sound packet");
        assert_eq!(headers.end() as usize, inner.len());
        assert!(inner.len() - 14 <= mtu, "{} is longer than {mtu}", inner.len() - 14);
        let segment = &inner[usize::from(headers.transport())..];
        let sum = if is_ipv6 {
            let [src, dst] = margay_encap::addresses6(inner, &headers).map(Ipv6Addr::to_bits);
            checksum::pseudo_header_v6(src, dst, 6, segment.len() as u32)
        } else {
            checksum::pseudo_header_v4(headers.src(), headers.dst(), 6, segment.len() as u16)
        };
        assert_eq!(sum.add(checksum::Sum::of(segment)).fold(), 0xffff, "a whole checksum");
        assert_eq!(segment[4..8], (5000 + stream.len() as u32).to_be_bytes());
        let is_last = index + 1 == sent.len();
        assert_eq!(segment[13], ACK | if is_last { PSH | FIN } else { 0 });
        stream.extend_from_slice(&segment[20..]);
    }
    stream
}

#[test]
fn segments_leave_plain_and_in_tunnels_and_fit_both_ports() {
    for len in [1461, 2000, 9000, 65_535 - 40] {
        for (dst, overhead) in [(PEER_IP, 50), (IPIP_IP, 20), (DIRECT_IP, 0)] {
            let (mut gateway, payload) = (Gateway::new(), payload(len));
            let outcome = run(&mut gateway, OPEN, &of_open(dst, &payload));
            assert_eq!(outcome.dropped, None);
            assert_eq!(outcome.sent.len(), len.div_ceil(1460 - overhead));
            assert_eq!(stream(&outcome.sent, UPLINK, 14 + overhead, 1500 - overhead), payload);
            for (_, frame) in &outcome.sent {
                let outer = parse(frame).expect("a sound outer packet");
                assert_eq!(outer.end() as usize, frame.len());
                match overhead {
                    50 => assert_eq!(pull::vxlan(frame, &outer).expect("VXLAN").inner.l3, 64),
                    20 => assert_eq!(pull::ipip(&outer).l3, 34),
                    _ => assert_eq!(outer.ttl(), 63),
                }
            }
            let (from, to) = (gateway.counters.port(OPEN), gateway.counters.port(UPLINK));
            assert_eq!((from.rx.get(), from.forwarded.get()), (1, 1));
            assert_eq!(to.tx.get(), outcome.sent.len() as u64);
        }
    }
}

#[test]
fn a_wider_way_out_does_not_make_them_longer_than_they_came() {
    let (mut gateway, payload) = (Gateway::new(), payload(4000));
    gateway.set_mtu(UPLINK, 9000);
    let outcome = run(&mut gateway, OPEN, &of_open(DIRECT_IP, &payload));
    assert_eq!((outcome.dropped, outcome.sent.len()), (None, 3));
    assert_eq!(stream(&outcome.sent, UPLINK, 14, 1500), payload);
    // Where both are wider than a chunk, they fit one.
    let state = gateway.snapshot.ports[usize::from(OPEN.0)].as_mut().expect("the pod's port");
    state.mtu = 9000;
    let whole = run(&mut gateway, OPEN, &of_open(DIRECT_IP, &payload)).only().1;
    assert_eq!(whole.len(), 4054, "one packet");
    let long = vec![0x5a; 20_000];
    let outcome = run(&mut gateway, OPEN, &of_open(DIRECT_IP, &long));
    assert_eq!(stream(&outcome.sent, UPLINK, 14, 1778), long);
}

#[test]
fn segments_of_ipv6_leave_too() {
    let (mut gateway, payload) = (ipv6::gateway(), payload(30_000));
    let outcome = run(&mut gateway, OPEN, &several(OPEN6.into(), PEER6.into(), &payload));
    assert_eq!((outcome.dropped, outcome.sent.len()), (None, 30_000usize.div_ceil(1390)));
    assert_eq!(stream(&outcome.sent, UPLINK, 64, 1450), payload);
}

#[test]
fn what_comes_out_of_a_tunnel_is_cut_to_what_the_tunnel_took() {
    for overhead in [50, 20] {
        let mut gateway = Gateway::new();
        // One byte more than one packet in its tunnel.
        for len in [1461 - overhead, 30_000] {
            let payload = payload(len);
            let src = if overhead == 50 { PEER_IP } else { IPIP_IP };
            let inner = several(ip(src).into(), ip(OPEN_IP).into(), &payload);
            let packet = if overhead == 50 {
                vxlan_from(REMOTE_NODE_IP, 4096, &inner)
            } else {
                ipip_from(REMOTE_NODE_IP, &inner)
            };
            let outcome = run(&mut gateway, UPLINK, &packet);
            assert_eq!((outcome.dropped, outcome.sent.len()), (None, len.div_ceil(1460 - overhead)));
            assert_eq!(stream(&outcome.sent, OPEN, 14, 1500 - overhead), payload);
        }
        let one = payload(1460 - overhead);
        let src = if overhead == 50 { PEER_IP } else { IPIP_IP };
        let inner = several(ip(src).into(), ip(OPEN_IP).into(), &one);
        let packet = if overhead == 50 {
            vxlan_from(REMOTE_NODE_IP, 4096, &inner)
        } else {
            ipip_from(REMOTE_NODE_IP, &inner)
        };
        assert_eq!(
            stream(&run(&mut gateway, UPLINK, &packet).sent, OPEN, 14, 1500),
            one,
            "one packet stays one"
        );
    }
}

#[test]
fn segments_enter_the_node_as_well() {
    const HOST: PortId = PortId(3);
    let (mut gateway, payload) = (Gateway::new(), payload(10_000));
    gateway.egress.open(HOST);
    gateway.publish(|snapshot| {
        let adjacency = Adjacency { port: HOST, dst_mac: [2; 6], src_mac: [4; 6], mtu: 9000 };
        snapshot.entrance = Entrance::Open(Rewrite::to(&adjacency));
    });
    let outcome = run(&mut gateway, OPEN, &of_open(NODE_IP, &payload));
    assert_eq!((outcome.dropped, outcome.sent.len()), (None, 7));
    assert_eq!(stream(&outcome.sent, HOST, 14, 1500), payload);
    assert!(outcome.sent.iter().all(|(_, frame)| frame[22] == 64), "no router is on the way");
}

#[test]
fn one_packet_that_is_too_long_is_answered_and_not_cut() {
    let mut gateway = Gateway::new();
    let packet = of_open(PEER_IP, &payload(1460));
    let outcome = run(&mut gateway, OPEN, &packet);
    assert_eq!(
        outcome.dropped,
        Some(DropReason::FragmentationNeeded),
        "it fits the pod's port, and not VXLAN"
    );
    // Native mode has no several in one.
    let long = of_open(PEER_IP, &payload(3000));
    let outcome = gateway.run(OPEN, &long);
    assert_eq!(outcome.dropped, Some(DropReason::FragmentationNeeded));
    // Nor has a packet with a whole checksum.
    let mut finished = long;
    finished[50..52].copy_from_slice(&[1, 2]);
    let outcome = run(&mut gateway, OPEN, &finished);
    assert_eq!(outcome.dropped, Some(DropReason::FragmentationNeeded));
    let mut expiring = of_open(PEER_IP, &payload(3000));
    set_ip_byte(&mut expiring, 8, 1);
    assert_eq!(run(&mut gateway, OPEN, &expiring).dropped, Some(DropReason::TtlExceeded));
}

#[test]
fn where_nothing_says_where_to_cut_or_there_is_no_room_nothing_leaves() {
    let mut gateway = Gateway::new();
    let mut datagrams = udp(OPEN_IP, PEER_IP, (1000, 53), &payload(5000));
    let sum = checksum::pseudo_header_v4(u32::from_be_bytes(OPEN_IP), u32::from_be_bytes(PEER_IP), 17, 5008);
    datagrams[40..42].copy_from_slice(&sum.fold().to_be_bytes());
    for mtu in [1500, 9000] {
        gateway.set_mtu(UPLINK, mtu);
        let outcome = run(&mut gateway, OPEN, &datagrams);
        assert_eq!((outcome.dropped, outcome.sent.len()), (Some(DropReason::UdpGso), 0));
    }
    let several = of_open(PEER_IP, &payload(60_000));
    gateway.set_mtu(UPLINK, 150);
    assert_eq!(run(&mut gateway, OPEN, &several).dropped, Some(DropReason::TxFull), "more than may wait");
    gateway.set_mtu(UPLINK, 90);
    assert_eq!(run(&mut gateway, OPEN, &several).dropped, Some(DropReason::TooBig), "no room for payload");
    gateway.set_mtu(UPLINK, 1500);
    let kept: Vec<_> = (0..CHUNKS - 10).map(|_| gateway.pool.get().expect("a free chunk")).collect();
    let mut burst = Box::<Burst>::default();
    let mut frame = gateway.frame(OPEN, &several);
    frame.gso = Gso::Untold;
    burst.push(frame);
    let turn = Turn { snapshot: &gateway.snapshot, umem: &gateway.umem, now: gateway.now };
    gateway.pipeline.process(&turn, &mut burst, &mut gateway.pool, &mut gateway.egress);
    assert_eq!(gateway.drops(OPEN)[DropReason::NoFrame as usize], 1);
    assert!(gateway.egress.is_empty() && gateway.pool.large() == LARGE);
    gateway.pool.extend(kept);
    assert_eq!(gateway.pool.len(), CHUNKS as usize);
    let from = gateway.counters.port(OPEN);
    assert_eq!((from.rx.get(), from.forwarded.get()), (5, 0));
}
