//! What does not fit: fragments where DF is clear, errors where it is set, and the MSS that keeps TCP from trying.

use etherparse::{Ipv4HeaderSlice, TcpHeaderSlice, TcpOptionElement};
use margay_encap::pull;

use super::*;

/// A UDP packet of the pod `open` with DF clear.
pub(super) fn long(dst: [u8; 4], payload: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..payload).map(|i| i as u8).collect();
    let mut packet = udp(OPEN_IP, dst, (1000, 53), &payload);
    set_ip_byte(&mut packet, 6, 0);
    packet
}

/// The IP packets that left, out of their tunnels.
fn inner(sent: &[(PortId, Vec<u8>)], overhead: usize) -> Vec<Vec<u8>> {
    let inner = |(port, frame): &(PortId, Vec<u8>)| {
        assert_eq!(*port, UPLINK);
        assert!(frame.len() <= 1514, "fits the link");
        let outer = margay_encap::parse(frame).expect("a whole outer packet");
        match overhead {
            50 => assert_eq!(pull::vxlan(frame, &outer).unwrap().inner.l3, 64),
            20 => assert_eq!(pull::ipip(&outer).l3, 34),
            _ => unreachable!(),
        }
        frame[14 + overhead..].to_vec()
    };
    sent.iter().map(inner).collect()
}

/// The payload of fragments of one packet, in the order in which they left, each checked to follow the one before.
pub(super) fn reassemble(fragments: &[Vec<u8>]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (i, fragment) in fragments.iter().enumerate() {
        let header = Ipv4HeaderSlice::from_slice(fragment).unwrap();
        assert_eq!(header.to_header().calc_header_checksum(), header.header_checksum());
        assert_eq!(usize::from(header.total_len()), fragment.len());
        assert_eq!(usize::from(header.fragments_offset().value()) * 8, payload.len());
        assert_eq!(header.more_fragments(), i + 1 < fragments.len());
        assert_eq!((header.ttl(), header.dont_fragment()), (63, false));
        payload.extend_from_slice(&fragment[20..]);
    }
    payload
}

#[test]
fn every_length_around_the_boundary_arrives_whole() {
    for (dst, overhead) in [(PEER_IP, 50), (IPIP_IP, 20)] {
        let fits = 1500 - overhead - 28;
        for payload in fits - 20..=fits + 20 {
            let mut gateway = Gateway::new();
            let packet = long(dst, payload);
            let outcome = gateway.run(OPEN, &packet);
            assert_eq!(outcome.dropped, None);
            let fragments = inner(&outcome.sent, overhead);
            assert_eq!(fragments.len(), if payload > fits { 2 } else { 1 }, "{payload}");
            assert_eq!(reassemble(&fragments), packet[34..], "{payload}");
            let tx = gateway.counters.port(UPLINK);
            assert_eq!(tx.tx.get(), fragments.len() as u64);
            assert_eq!(gateway.counters.port(OPEN).forwarded.get(), 1);
        }
    }
}

#[test]
fn a_checksum_left_to_offload_is_completed_before() {
    let whole = long(PEER_IP, 1600);
    let mut packet = whole.clone();
    let [src, dst] = [OPEN_IP, PEER_IP].map(u32::from_be_bytes);
    let partial = checksum::pseudo_header_v4(src, dst, 17, 1608).fold();
    packet[40..42].copy_from_slice(&partial.to_be_bytes());
    let fragments = inner(&Gateway::new().run(OPEN, &packet).sent, 50);
    assert_eq!(reassemble(&fragments), whole[34..]);
}

#[test]
fn a_small_mtu_makes_many_and_where_frames_or_room_are_short_none_leaves() {
    let mut gateway = Gateway::new();
    gateway.set_mtu(UPLINK, 128);
    let packet = long(PEER_IP, 1500);
    let fragments = inner(&gateway.run(OPEN, &packet).sent, 50);
    assert_eq!((fragments.len(), reassemble(&fragments)), (27, packet[34..].to_vec()));

    let kept: Vec<_> = (0..CHUNKS - 27).map(|_| gateway.pool.get().expect("a free chunk")).collect();
    let before = gateway.drops(OPEN)[DropReason::NoFrame as usize];
    let mut burst = Box::<Burst>::default();
    let mut frame = gateway.pool.get().expect("a free chunk");
    assert!(gateway.umem.fill(&mut frame, &packet));
    frame.port = OPEN;
    burst.push(frame);
    let turn = Turn { snapshot: &gateway.snapshot, umem: &gateway.umem, now: gateway.now };
    gateway.pipeline.process(&turn, &mut burst, &mut gateway.pool, &mut gateway.egress);
    assert_eq!(gateway.drops(OPEN)[DropReason::NoFrame as usize], before + 1);
    assert!(gateway.egress.is_empty());
    gateway.pool.extend(kept);
    assert_eq!(gateway.pool.len(), CHUNKS as usize);

    gateway.set_mtu(UPLINK, 77);
    assert_eq!(gateway.run(OPEN, &packet).dropped, Some(DropReason::TooBig), "no room for 8 bytes inside");
    gateway.set_mtu(UPLINK, 78);
    let fragments = inner(&gateway.run(OPEN, &packet).sent, 50);
    assert_eq!(reassemble(&fragments), packet[34..], "{} of 8 bytes", fragments.len());
}

/// The first fragments of large datagrams that came in one burst, which become more than a burst.
#[test]
fn a_whole_burst_is_split_and_what_follows_keeps_its_place() {
    let mut gateway = Gateway::new();
    let mut packets: Vec<_> = (0..40).map(|i| long(PEER_IP, 1500 + i)).collect();
    packets.extend((0..3).map(|i| long(PEER_IP, i)));
    let sent = inner(&gateway.run_burst(OPEN, &packets), 50);
    assert_eq!(sent.len(), 83);
    let (split, whole) = sent.split_at(80);
    for (fragments, packet) in split.chunks(2).zip(&packets) {
        assert_eq!(reassemble(fragments), packet[34..]);
    }
    for (sent, packet) in whole.iter().zip(&packets[40..]) {
        assert_eq!(sent[20..], packet[34..]);
    }
    // More than wait behind a burst: each packet leaves whole or not at all.
    gateway.set_mtu(UPLINK, 128);
    let sent = inner(&gateway.run_burst(OPEN, &vec![long(PEER_IP, 1500); 20]), 50);
    assert!(sent.len() < 20 * 27 && sent.len().is_multiple_of(27), "{}", sent.len());
    let dropped = gateway.drops(OPEN)[DropReason::TxFull as usize];
    assert_eq!(dropped as usize, 20 - sent.len() / 27);
}

#[test]
fn packets_of_a_burst_keep_to_their_own_ways() {
    let mut gateway = Gateway::new();
    let packets = [long(PEER_IP, 1500), long(PEER_IP, 10), long([192, 0, 2, 1], 1500), long(PEER_IP, 1600)];
    let sent = inner(&gateway.run_burst(OPEN, &packets), 50);
    assert_eq!(sent.len(), 5);
    assert_eq!(reassemble(&sent[..2]), packets[0][34..]);
    assert_eq!(reassemble(&sent[2..3]), packets[1][34..]);
    assert_eq!(reassemble(&sent[3..]), packets[3][34..]);
    let from = gateway.counters.port(OPEN);
    assert_eq!((from.rx.get(), from.forwarded.get()), (4, 3));
}

/// A SYN of the pod `open` that tells this MSS.
fn syn(dst: [u8; 4], mss: u16) -> Vec<u8> {
    let mut header = etherparse::TcpHeader::new(1000, 80, 1, 65535);
    header.syn = true;
    header.set_options(&[TcpOptionElement::MaximumSegmentSize(mss)]).unwrap();
    let mut packet = Vec::new();
    let builder = PacketBuilder::ethernet2([2; 6], OUR_MAC).ipv4(OPEN_IP, dst, 64).tcp_header(header);
    builder.write(&mut packet, b"").expect("a Vec takes all");
    packet
}

/// The MSS that a TCP packet tells, whose checksum is right.
fn told_mss(packet: &[u8]) -> u16 {
    let ip = Ipv4HeaderSlice::from_slice(packet).unwrap();
    let tcp = TcpHeaderSlice::from_slice(&packet[20..]).unwrap();
    assert_eq!(tcp.to_header().calc_checksum_ipv4(&ip.to_header(), &[]).unwrap(), tcp.checksum());
    match tcp.options_iterator().next() {
        Some(Ok(TcpOptionElement::MaximumSegmentSize(mss))) => mss,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_mss_is_lowered_to_what_the_narrower_way_takes() {
    let told = |clamps: bool, mss: u16, pod_mtu: u16| {
        let mut gateway = Gateway::new();
        gateway.publish(|snapshot| {
            snapshot.local.clamps_mss = clamps;
            let mut next_hops = snapshot.next_hops.to_vec();
            if let NextHop::Forward { adjacency, .. } = &mut next_hops[4] {
                adjacency.mtu = pod_mtu;
            }
            snapshot.next_hops = next_hops.into();
        });
        let (_, out) = gateway.run(OPEN, &syn(PEER_IP, mss)).only();
        told_mss(&out[64..])
    };
    assert_eq!(told(true, 1460, 1500), 1410, "1450 inside VXLAN");
    assert_eq!(told(true, 1400, 1500), 1400);
    assert_eq!(told(true, 1460, 1300), 1260, "the way back is narrower");
    assert_eq!(told(false, 1460, 1300), 1460, "off by default");
}

#[test]
fn the_mss_is_lowered_where_the_checksum_is_left_to_offload() {
    let mut gateway = Gateway::new();
    gateway.snapshot.local.clamps_mss = true;
    let mut packet = syn(PEER_IP, 1460);
    let [src, dst] = [OPEN_IP, PEER_IP].map(u32::from_be_bytes);
    let partial = checksum::pseudo_header_v4(src, dst, 6, 24).fold();
    packet[50..52].copy_from_slice(&partial.to_be_bytes());
    let (_, out) = gateway.run(OPEN, &packet).only();
    assert_eq!(told_mss(&out[64..]), 1410);
}

#[test]
fn errors_come_from_the_address_that_their_way_leads_back_to() {
    let (in_ipip, in_vxlan) = ([10, 67, 10, 1], [10, 65, 10, 1]);
    let mut gateway = Gateway::new();
    gateway.snapshot.local.icmp_source_in_ipip = Some(ip(in_ipip));
    gateway.snapshot.local.icmp_source_in_vxlan = Some(ip(in_vxlan));
    let mut expired = |port, src: [u8; 4], dst, is_vxlan: bool| {
        let mut packet = udp(src, dst, (1000, 53), b"query");
        set_ip_byte(&mut packet, 8, 1);
        let packet = match port {
            UPLINK if is_vxlan => vxlan_from(REMOTE_NODE_IP, 4096, &packet),
            UPLINK => ipip_from(REMOTE_NODE_IP, &packet),
            _ => packet,
        };
        let outcome = gateway.run(port, &packet);
        assert_eq!(outcome.dropped, Some(DropReason::TtlExceeded));
        let (out, answer) = &outcome.sent[0];
        let l3 = if *out != UPLINK {
            14
        } else if is_vxlan {
            64
        } else {
            34
        };
        assert_eq!((answer[l3 + 20], &answer[l3 + 16..l3 + 20]), (11, &src[..]));
        <[u8; 4]>::try_from(&answer[l3 + 12..l3 + 16]).unwrap()
    };
    assert_eq!(expired(OPEN, OPEN_IP, PEER_IP, false), NODE_IP);
    assert_eq!(expired(UPLINK, PEER_IP, OPEN_IP, true), in_vxlan);
    assert_eq!(expired(UPLINK, IPIP_IP, OPEN_IP, false), in_ipip);
    let local = &mut gateway.snapshot.local;
    (local.icmp_source_in_ipip, local.icmp_source_in_vxlan) = (None, None);
    let mut packet = udp(PEER_IP, OPEN_IP, (1000, 53), b"query");
    set_ip_byte(&mut packet, 8, 1);
    let outcome = gateway.run(UPLINK, &vxlan_from(REMOTE_NODE_IP, 4096, &packet));
    assert_eq!(outcome.sent[0].1[76..80], NODE_IP, "a tunnel without an address");
}

#[test]
fn what_has_no_way_is_answered_where_that_is_configured() {
    for (dst, code) in [([192, 0, 2, 1], 0), ([10, 65, 10, 60], 1)] {
        let packet = udp(OPEN_IP, dst, (1000, 53), b"query");
        let mut gateway = Gateway::new();
        assert!(gateway.run(OPEN, &packet).sent.is_empty());
        gateway.snapshot.local.answers_unreachable = true;
        let outcome = gateway.run(OPEN, &packet);
        assert!(matches!(outcome.dropped, Some(DropReason::NoRoute | DropReason::Blackhole)));
        let (port, answer) = &outcome.sent[0];
        assert_eq!((*port, &answer[34..36]), (OPEN, &[3, code][..]));
        assert_eq!(answer[42..], packet[14..]);
    }
    let mut gateway = Gateway::new();
    gateway.snapshot.local.answers_unreachable = true;
    let denied = gateway.run(OPEN, &tcp(OPEN_IP, WEB_IP, (1000, 80), SYN));
    assert_eq!((denied.dropped, denied.sent.len()), (Some(DropReason::PolicyDeny), 0), "policy says nothing");
}

#[test]
fn an_error_is_no_longer_than_the_way_back_takes() {
    let mut gateway = Gateway::new();
    let mut next_hops = gateway.snapshot.next_hops.to_vec();
    let back = next_hops.iter_mut().find_map(|next_hop| match next_hop {
        NextHop::Forward { adjacency, tunnel: Some(Tunnel::Vxlan { .. }) } => Some(adjacency),
        _ => None,
    });
    back.expect("a route in VXLAN").mtu = 300;
    gateway.snapshot.next_hops = next_hops.into();
    let mut packet = udp(PEER_IP, OPEN_IP, (1000, 53), &[7; 1000]);
    set_ip_byte(&mut packet, 8, 1);
    let outcome = gateway.run(UPLINK, &vxlan_from(REMOTE_NODE_IP, 4096, &packet));
    assert_eq!(outcome.dropped, Some(DropReason::TtlExceeded));
    let (port, answer) = &outcome.sent[0];
    assert_eq!((*port, answer.len()), (UPLINK, 14 + 300));
    assert_eq!(answer[92..], packet[14..][..300 - 50 - 28], "the quote is cut");
    assert_eq!(checksum::Sum::of(&answer[84..]).finish(), 0);
}
