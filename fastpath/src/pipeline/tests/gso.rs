//! Packets that are several in one, where the kernel has told where to cut them.

use std::net::Ipv6Addr;

use margay_encap::{parse, parse_ip6};
use margay_flowtable::{Entrance, Rewrite};

use super::segment::{OPEN6, PEER6, of_open, payload, stream};
use super::*;
use crate::frame::Gso;

/// Runs a packet that the kernel has told this of.
fn run(gateway: &mut Gateway, port: PortId, packet: &[u8], gso: Gso, gso_size: u16) -> Outcome {
    let before = gateway.drops(port);
    let mut frame = gateway.frame(port, packet);
    (frame.gso, frame.gso_size) = (gso, gso_size);
    let mut burst = Box::<Burst>::default();
    burst.push(frame);
    let sent = gateway.run_frames(burst);
    let after = gateway.drops(port);
    let dropped = (0..DropReason::COUNT).find(|&i| before[i] != after[i]).map(|i| DropReason::ALL[i]);
    Outcome { sent, dropped }
}

/// Datagrams to port 53 in one, with DF.
fn several(dst: [u8; 4], payload: &[u8]) -> Vec<u8> {
    udp(OPEN_IP, dst, (1000, 53), payload)
}

/// What is in the datagrams, `l3` behind the start of each frame, all sound and with identifications that count on.
#[track_caller]
fn datagrams(sent: &[(PortId, Vec<u8>)], port: PortId, l3: usize) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    let ident = |at: usize| u16::from_be_bytes([sent[at].1[l3 + 4], sent[at].1[l3 + 5]]);
    for (at, (to, frame)) in sent.iter().enumerate() {
        let is_ipv6 = frame[l3] >> 4 == 6;
        let inner = [&[2; 12][..], if is_ipv6 { &[0x86, 0xdd] } else { &[8, 0] }, &frame[l3..]].concat();
        let headers = if is_ipv6 { parse_ip6(&inner, 14) } else { parse(&inner) }.expect("a sound packet");
        let segment = &inner[headers.transport().into()..];
        let sum = if is_ipv6 {
            let [src, dst] = margay_encap::addresses6(&inner, &headers).map(Ipv6Addr::to_bits);
            checksum::pseudo_header_v6(src, dst, 17, segment.len() as u32)
        } else {
            assert_eq!(ident(at), ident(0).wrapping_add(at as u16));
            checksum::pseudo_header_v4(headers.src(), headers.dst(), 17, segment.len() as u16)
        };
        assert_eq!(sum.add(checksum::Sum::of(segment)).fold(), 0xffff, "a whole checksum");
        assert_eq!((*to, headers.end() as usize, headers.ttl()), (port, inner.len(), 63));
        assert_eq!(segment[4..6], (segment.len() as u16).to_be_bytes());
        all.push(segment[8..].to_vec());
    }
    all
}

/// Runs datagrams in one, where the pool has too few frames for them.
#[track_caller]
fn assert_leaves_nothing_for_want_of_frames(gateway: &mut Gateway, packet: &[u8], size: u16) {
    let before = gateway.drops(OPEN)[DropReason::NoFrame as usize];
    let mut frame = gateway.frame(OPEN, packet);
    (frame.gso, frame.gso_size) = (Gso::Udp, size);
    let mut burst = Box::<Burst>::default();
    burst.push(frame);
    let turn = Turn { snapshot: &gateway.snapshot, umem: &gateway.umem, now: gateway.now };
    gateway.pipeline.process(&turn, &mut burst, &mut gateway.pool, &mut gateway.egress);
    assert_eq!(gateway.drops(OPEN)[DropReason::NoFrame as usize], before + 1);
    assert!(gateway.egress.is_empty());
}

fn parts(payload: &[u8], size: usize) -> Vec<Vec<u8>> {
    payload.chunks(size).map(<[u8]>::to_vec).collect()
}

#[test]
fn datagrams_leave_as_their_sender_sent_them_plain_and_in_tunnels() {
    // Some that would fit together, one byte more than one of them, and as many as Linux takes of a sender.
    for (len, size) in [(300, 100), (1001, 1000), (10_000, 1000), (12_800, 100), (40_000, 1372)] {
        for (dst, overhead) in [(PEER_IP, 50), (IPIP_IP, 20), (DIRECT_IP, 0)] {
            let (mut gateway, payload) = (Gateway::new(), payload(len));
            let outcome = run(&mut gateway, OPEN, &several(dst, &payload), Gso::Udp, size);
            assert_eq!(outcome.dropped, None, "{len} {size} {overhead}");
            assert_eq!(
                datagrams(&outcome.sent, UPLINK, 14 + overhead),
                parts(&payload, size.into()),
                "{len} {size} {overhead}"
            );
            assert_eq!(gateway.counters.port(OPEN).forwarded.get(), 1);
            assert_eq!(gateway.counters.port(UPLINK).tx.get(), outcome.sent.len() as u64);
        }
    }
}

#[test]
fn datagrams_of_ipv6_leave_so_too() {
    let (mut gateway, payload) = (ipv6::gateway(), payload(9000));
    let packet = ipv6::udp6(OPEN6, PEER6, (1000, 53), &payload);
    let outcome = run(&mut gateway, OPEN, &packet, Gso::Udp, 1300);
    assert_eq!(datagrams(&outcome.sent, UPLINK, 64), parts(&payload, 1300));
}

#[test]
fn datagrams_out_of_a_tunnel_are_told_from_tunnel_packets() {
    for (src, overhead) in [(PEER_IP, 50), (IPIP_IP, 20)] {
        let (mut gateway, payload) = (Gateway::new(), payload(9000));
        let inner = udp(src, OPEN_IP, (53, 1000), &payload);
        let packet = if overhead == 50 {
            vxlan_from(REMOTE_NODE_IP, 4096, &inner)
        } else {
            ipip_from(REMOTE_NODE_IP, &inner)
        };
        let outcome = run(&mut gateway, UPLINK, &packet, Gso::UdpInTunnel, 1000);
        assert_eq!(datagrams(&outcome.sent, OPEN, 14), parts(&payload, 1000));
        // The outer UDP is what was to be cut: behind its first part there are more outer headers.
        let outcome = run(&mut gateway, UPLINK, &packet, Gso::Udp, 1000);
        assert_eq!((outcome.dropped, outcome.sent.len()), (Some(DropReason::UdpGso), 0));
    }
}

#[test]
fn segments_are_no_longer_than_their_sender_wanted_nor_than_the_way_takes() {
    for (size, overhead, step) in [(536, 50, 536), (1460, 50, 1410), (1460, 0, 1460), (1, 0, 1)] {
        let (mut gateway, payload) = (Gateway::new(), payload(if size == 1 { 300 } else { 30_000 }));
        gateway.set_mtu(OPEN, 9000);
        let dst = if overhead == 50 { PEER_IP } else { DIRECT_IP };
        let outcome = run(&mut gateway, OPEN, &of_open(dst, &payload), Gso::Tcp, size);
        assert_eq!((outcome.dropped, outcome.sent.len()), (None, payload.len().div_ceil(step)));
        assert_eq!(stream(&outcome.sent, UPLINK, 14 + overhead, 40 + step), payload);
    }
}

#[test]
fn what_is_told_to_be_one_is_not_cut() {
    let mut gateway = Gateway::new();
    let outcome = run(&mut gateway, OPEN, &of_open(PEER_IP, &payload(3000)), Gso::One, 0);
    assert_eq!(outcome.dropped, Some(DropReason::FragmentationNeeded));
    let outcome = run(&mut gateway, OPEN, &several(PEER_IP, &payload(1000)), Gso::One, 100);
    assert_eq!((outcome.dropped, outcome.sent.len()), (None, 1));
}

#[test]
fn a_sender_whose_datagrams_do_not_fit_is_told() {
    let mut gateway = Gateway::new();
    // One fits the pod's port, and not VXLAN.
    let outcome = run(&mut gateway, OPEN, &several(PEER_IP, &payload(5000)), Gso::Udp, 1423);
    assert_eq!(outcome.dropped, Some(DropReason::FragmentationNeeded));
    let (port, answer) = &outcome.sent[0];
    assert_eq!((*port, &answer[34..36], &answer[40..42]), (OPEN, &[3, 4][..], &1450u16.to_be_bytes()[..]));
    let outcome = run(&mut gateway, OPEN, &several(PEER_IP, &payload(5000)), Gso::Udp, 1422);
    assert_eq!((outcome.dropped, outcome.sent.len()), (None, 4));
}

#[test]
fn datagrams_that_do_not_fit_and_may_be_split_leave_in_fragments() {
    let (mut gateway, payload) = (Gateway::new(), payload(5000));
    let mut packet = several(PEER_IP, &payload);
    set_ip_byte(&mut packet, 6, 0);
    let outcome = run(&mut gateway, OPEN, &packet, Gso::Udp, 1440);
    assert_eq!((outcome.dropped, outcome.sent.len()), (None, 3 * 2 + 1));
    let inner: Vec<Vec<u8>> = outcome.sent.iter().map(|(_, frame)| frame[64..].to_vec()).collect();
    let (mut left, mut whole) = (&inner[..], Vec::new());
    while let [first, rest @ ..] = left {
        let of_it = 1 + rest.iter().take_while(|fragment| fragment[4..6] == first[4..6]).count();
        whole.extend_from_slice(&split::reassemble(&left[..of_it])[8..]);
        left = &left[of_it..];
    }
    assert_eq!(whole, payload);
    assert_eq!((gateway.pool.len(), gateway.pool.large()), (CHUNKS as usize, LARGE));
    // All of them or none.
    let kept: Vec<_> = (0..CHUNKS - 6).map(|_| gateway.pool.get().expect("a free chunk")).collect();
    assert_leaves_nothing_for_want_of_frames(&mut gateway, &packet, 1440);
    gateway.pool.extend(kept);
    assert_eq!((gateway.pool.len(), gateway.pool.large()), (CHUNKS as usize, LARGE));
}

#[test]
fn datagrams_that_no_chunk_holds_leave_whole_where_the_way_is_wide() {
    let (mut gateway, payload) = (Gateway::new(), payload(20_000));
    gateway.set_mtu(UPLINK, 9000);
    gateway.set_mtu(OPEN, 9000);
    let outcome = run(&mut gateway, OPEN, &several(PEER_IP, &payload), Gso::Udp, 8000);
    assert_eq!(datagrams(&outcome.sent, UPLINK, 64), parts(&payload, 8000));
    let kept: Vec<_> = (0..LARGE - 3).map(|_| gateway.pool.get_large().expect("a large buffer")).collect();
    assert_leaves_nothing_for_want_of_frames(&mut gateway, &several(PEER_IP, &payload), 8000);
    gateway.pool.extend(kept);
    assert_eq!((gateway.pool.len(), gateway.pool.large()), (CHUNKS as usize, LARGE));
}

#[test]
fn datagrams_enter_the_node_one_by_one() {
    const HOST: PortId = PortId(3);
    let (mut gateway, payload) = (Gateway::new(), payload(900));
    gateway.egress.open(HOST);
    gateway.publish(|snapshot| {
        let adjacency = Adjacency { port: HOST, dst_mac: [2; 6], src_mac: [4; 6], mtu: 9000 };
        snapshot.entrance = Entrance::Open(Rewrite::to(&adjacency));
    });
    let outcome = run(&mut gateway, OPEN, &several(NODE_IP, &payload), Gso::Udp, 300);
    assert_eq!((outcome.dropped, outcome.sent.len()), (None, 3));
    assert!(
        outcome.sent.iter().all(|(port, frame)| (*port, frame[22]) == (HOST, 64)),
        "no router is on the way"
    );
}

#[test]
fn what_cannot_be_cut_is_dropped_and_nothing_of_it_leaves() {
    let mut gateway = Gateway::new();
    let mut drop_of = |packet: &[u8], gso, size| {
        let outcome = run(&mut gateway, OPEN, packet, gso, size);
        assert!(outcome.sent.is_empty());
        outcome.dropped
    };
    let (datagrams, segments) = (several(PEER_IP, &payload(5000)), of_open(PEER_IP, &payload(5000)));
    assert_eq!(drop_of(&datagrams, Gso::Other, 1000), Some(DropReason::UdpGso));
    // Not what the packet is.
    assert_eq!(drop_of(&datagrams, Gso::Tcp, 1000), Some(DropReason::UdpGso));
    assert_eq!(drop_of(&segments, Gso::Udp, 1000), Some(DropReason::UdpGso));
    assert_eq!(drop_of(&datagrams, Gso::UdpInTunnel, 1000), Some(DropReason::UdpGso));
    // More than may wait for a port.
    assert_eq!(drop_of(&datagrams, Gso::Udp, 1), Some(DropReason::TxFull));
    assert_eq!(drop_of(&segments, Gso::Tcp, 1), Some(DropReason::TxFull));
}
