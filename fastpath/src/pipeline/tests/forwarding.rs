//! Where packets go and what they look like there.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use super::*;

/// Parses with etherparse, which checks lengths, and checks every checksum.
#[track_caller]
fn check(packet: &[u8]) -> SlicedPacket<'_> {
    let sliced = SlicedPacket::from_ethernet(packet).expect("well-formed");
    let Some(NetSlice::Ipv4(ip)) = &sliced.net else { panic!("no IPv4 in {packet:02x?}") };
    let header = ip.header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum(), "IP header checksum");
    match &sliced.transport {
        Some(TransportSlice::Udp(udp)) if udp.checksum() != 0 => {
            let expected = udp.to_header().calc_checksum_ipv4(&header, udp.payload()).expect("fits");
            assert_eq!(udp.checksum(), expected, "UDP checksum");
        }
        Some(TransportSlice::Tcp(tcp)) => {
            let expected = tcp.calc_checksum_ipv4(header.source, header.destination).expect("fits");
            assert_eq!(tcp.checksum(), expected, "TCP checksum");
        }
        _ => {}
    }
    sliced
}

#[track_caller]
fn ipv4_of(packet: &[u8]) -> etherparse::Ipv4Header {
    match check(packet).net {
        Some(NetSlice::Ipv4(ip)) => ip.header().to_header(),
        other => panic!("no IPv4: {other:?}"),
    }
}

/// The packet as it should be one hop later, behind no Ethernet header.
fn one_hop_later(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let ttl = packet[22] - 1;
    set_ip_byte(&mut packet, 8, ttl);
    packet.split_off(14)
}

#[test]
fn pod_to_pod_changes_ttl_and_ethernet_header_alone() {
    let packet = udp(OPEN_IP, OTHER_IP, (1000, 53), b"query");
    let back = udp(OTHER_IP, OPEN_IP, (53, 1000), b"answer");
    let mut gateway = Gateway::new();
    gateway.run(OPEN, &packet).only();
    let (port, out) = gateway.run(UPLINK, &vxlan_from(REMOTE_NODE_IP, 4096, &back)).only();
    assert_eq!(port, OPEN);
    assert_eq!(out[..14], [&[2, 0, 0, 0, 1, 8][..], &OUR_MAC, &[8, 0]].concat());
    assert_eq!(out[14..], one_hop_later(&back));
}

#[test]
fn vxlan_route_encapsulates() {
    let packet = tcp(OPEN_IP, PEER_IP, (1000, 80), SYN);
    let (port, out) = Gateway::new().run(OPEN, &packet).only();
    assert_eq!(port, UPLINK);
    let outer = ipv4_of(&out);
    assert_eq!((outer.source, outer.destination, outer.protocol.0), (NODE_IP, REMOTE_NODE_IP, 17));
    let udp = match check(&out).transport {
        Some(TransportSlice::Udp(udp)) => udp.to_header(),
        other => panic!("{other:?}"),
    };
    assert_eq!((udp.destination_port, udp.checksum), (4789, 0));
    assert!(udp.source_port >= 1024);
    assert_eq!(out[42..50], [8, 0, 0, 0, 0, 0x10, 0, 0], "flags and VNI 4096");
    assert_eq!(out[50..64], [&REMOTE_VTEP[..], &OUR_VTEP, &[8, 0]].concat());
    assert_eq!(out[64..], one_hop_later(&packet));
}

#[test]
fn ipip_route_encapsulates_and_copies_df() {
    for flags in [0x40, 0] {
        let mut packet = udp(OPEN_IP, IPIP_IP, (1000, 53), b"query");
        set_ip_byte(&mut packet, 6, flags);
        let (port, out) = Gateway::new().run(OPEN, &packet).only();
        let outer = ipv4_of(&out);
        assert_eq!(
            (port, outer.source, outer.destination, outer.protocol.0),
            (UPLINK, NODE_IP, REMOTE_NODE_IP, 4)
        );
        assert_eq!(outer.dont_fragment, flags != 0);
        assert_eq!(out[34..], one_hop_later(&packet));
    }
}

#[test]
fn tunnel_packets_are_decapsulated() {
    let inner = udp(PEER_IP, OPEN_IP, (1000, 53), b"query");
    for outer in [vxlan_from(REMOTE_NODE_IP, 4096, &inner), ipip_from(REMOTE_NODE_IP, &inner)] {
        let (port, out) = Gateway::new().run(UPLINK, &outer).only();
        assert_eq!(port, OPEN);
        assert_eq!(out[14..], one_hop_later(&inner));
    }
}

#[test]
fn decapsulated_and_routed_on_plainly() {
    let inner = udp(PEER_IP, DIRECT_IP, (1000, 53), b"query");
    let (port, out) = Gateway::new().run(UPLINK, &vxlan_from(REMOTE_NODE_IP, 4096, &inner)).only();
    assert_eq!(port, UPLINK);
    assert_eq!(out[..6], ROUTER_MAC);
    assert_eq!(out[14..], one_hop_later(&inner));
}

#[test]
fn checksum_left_to_offload_is_completed_under_encapsulation() {
    for mut packet in [udp(OPEN_IP, PEER_IP, (1000, 53), b"odd"), tcp(OPEN_IP, PEER_IP, (1000, 80), SYN)] {
        let whole = one_hop_later(&packet);
        let (protocol, at) = if packet[23] == 6 { (6, 50) } else { (17, 40) };
        let length = (packet.len() - 34) as u16;
        let [src, dst] = [OPEN_IP, PEER_IP].map(u32::from_be_bytes);
        let partial = checksum::pseudo_header_v4(src, dst, protocol, length).fold();
        packet[at..at + 2].copy_from_slice(&partial.to_be_bytes());
        let (_, out) = Gateway::new().run(OPEN, &packet).only();
        assert_eq!(out[64..], whole);
    }
}

/// What leaves for this packet whose checksum is left to offload, by ports that take such, and where its checksum starts
/// and has its field by then.
fn left_to_port(packet: &[u8], clamps_mss: bool, takes: Checksums) -> (Vec<u8>, (u16, u16)) {
    let mut gateway = Gateway::new();
    gateway.publish(|snapshot| {
        snapshot.local.clamps_mss = clamps_mss;
        snapshot.ports.iter_mut().flatten().for_each(|port| port.takes_checksums = takes);
    });
    let Gateway { snapshot, pipeline, umem, pool, egress, now, .. } = &mut gateway;
    let mut burst = Box::<Burst>::default();
    let mut frame = pool.get().expect("a free chunk");
    assert!(umem.fill(&mut frame, packet));
    frame.port = OPEN;
    burst.push(frame);
    let turn = Turn { snapshot, umem, now: *now };
    pipeline.process(&turn, &mut burst, pool, egress);
    let mut left = None;
    egress.flush(|_, burst| {
        for frame in burst.drain_front(burst.len()) {
            left = Some((umem.bytes(&frame).to_vec(), (frame.csum_start, frame.csum_offset)));
            pool.put(frame);
        }
    });
    left.expect("it is sent")
}

#[test]
fn a_checksum_is_left_to_a_port_that_takes_it_where_nothing_outer_covers_it() {
    const NONE: (u16, u16) = (0, 0);
    let direct = |payload: &[u8]| udp(OPEN_IP, DIRECT_IP, (1000, 53), payload);
    let vxlan = tcp(OPEN_IP, PEER_IP, (1000, 80), SYN);
    let ipip = udp(OPEN_IP, IPIP_IP, (1000, 53), b"odd");
    let mut shorter = direct(b"odd and more");
    // The datagram ends before the packet does.
    shorter[38..40].copy_from_slice(&11u16.to_be_bytes());
    for (what, whole, clamps_mss, expected) in [
        ("in no tunnel", direct(b"odd"), false, (34, 6)),
        ("in VXLAN", vxlan.clone(), false, (84, 16)),
        ("in IP-in-IP", ipip, false, NONE),
        ("a SYN whose MSS is changed", vxlan, true, NONE),
        ("a datagram that ends early", shorter, false, NONE),
    ] {
        let (protocol, at) = if whole[23] == 6 { (6, 50) } else { (17, 40) };
        let length = if protocol == 6 {
            (whole.len() - 34) as u16
        } else {
            u16::from_be_bytes([whole[38], whole[39]])
        };
        let address = |at: usize| u32::from_be_bytes(whole[at..at + 4].try_into().expect("four bytes"));
        let partial = checksum::pseudo_header_v4(address(26), address(30), protocol, length).fold();
        let mut packet = whole.clone();
        packet[at..at + 2].copy_from_slice(&partial.to_be_bytes());
        let (out, field) = left_to_port(&packet, clamps_mss, Checksums::Any);
        assert_eq!(field, expected, "{what}");
        // A device that looks for the header itself would take the outer one.
        let outermost = if expected == (34, 6) { expected } else { NONE };
        assert_eq!(left_to_port(&packet, clamps_mss, Checksums::Outermost).1, outermost, "{what}");
        if expected != NONE {
            let at = usize::from(field.0 + field.1);
            assert_eq!(out[at..at + 2], partial.to_be_bytes(), "{what}");
        }
    }
}

#[test]
fn ethernet_padding_is_left_behind() {
    let packet = udp(OPEN_IP, PEER_IP, (1000, 53), b"x");
    let mut padded = packet.clone();
    padded.resize(60, 0xa5);
    let (_, out) = Gateway::new().run(OPEN, &padded).only();
    assert_eq!(out[64..], one_hop_later(&packet));
}

#[test]
fn outer_congestion_mark_reaches_the_inner_packet() {
    let mut inner = udp(PEER_IP, OPEN_IP, (1000, 53), b"query");
    set_ip_byte(&mut inner, 1, 0b10);
    let mut outer = vxlan_from(REMOTE_NODE_IP, 4096, &inner);
    set_ip_byte(&mut outer, 1, 0b11);
    let (_, out) = Gateway::new().run(UPLINK, &outer).only();
    assert_eq!(ipv4_of(&out).ecn.value(), 3);
}

#[test]
fn one_flow_has_one_vxlan_source_port_and_flows_differ() {
    let mut gateway = Gateway::new();
    let mut port_of = |sport: u16| {
        let (_, out) = gateway.run(OPEN, &udp(OPEN_IP, PEER_IP, (sport, 53), b"q")).only();
        u16::from_be_bytes([out[34], out[35]])
    };
    assert_eq!(port_of(1), port_of(1));
    let distinct: std::collections::HashSet<u16> = (0..64).map(&mut port_of).collect();
    assert!(distinct.len() > 48, "{distinct:?}");
}

#[test]
fn expired_ttl_is_answered_and_dropped() {
    let mut packet = udp(OPEN_IP, PEER_IP, (1000, 53), b"query");
    set_ip_byte(&mut packet, 8, 1);
    let outcome = Gateway::new().run(OPEN, &packet);
    assert_eq!(outcome.dropped, Some(DropReason::TtlExceeded));
    let (port, answer) = &outcome.sent[0];
    let header = ipv4_of(answer);
    assert_eq!((*port, header.source, header.destination), (OPEN, NODE_IP, OPEN_IP));
    assert_eq!(answer[34..36], [11, 0]);
    assert_eq!(answer[42..], packet[14..], "quotes the packet");
    assert_eq!(checksum::Sum::of(&answer[34..]).finish(), 0);
}

#[test]
fn too_big_with_df_is_answered_with_the_inner_mtu() {
    let mut packet = udp(OPEN_IP, PEER_IP, (1000, 53), &[7; 1423]);
    set_ip_byte(&mut packet, 6, 0x40);
    let outcome = Gateway::new().run(OPEN, &packet);
    assert_eq!(outcome.dropped, Some(DropReason::FragmentationNeeded));
    let (port, answer) = &outcome.sent[0];
    assert_eq!((*port, &answer[34..36], &answer[40..42]), (OPEN, &[3, 4][..], &1450u16.to_be_bytes()[..]));

    let mut fits = udp(OPEN_IP, PEER_IP, (1000, 53), &[7; 1422]);
    set_ip_byte(&mut fits, 6, 0x40);
    let (_, out) = Gateway::new().run(OPEN, &fits).only();
    assert_eq!(out.len(), 1514);
}

#[test]
fn answers_are_limited() {
    let mut packet = udp(OPEN_IP, PEER_IP, (1000, 53), b"query");
    set_ip_byte(&mut packet, 8, 1);
    let mut gateway = Gateway::new();
    let answered: usize = (0..200).map(|_| gateway.run(OPEN, &packet).sent.len()).sum();
    assert_eq!(answered, 50);
    gateway.now += 10;
    let answered: usize = (0..200).map(|_| gateway.run(OPEN, &packet).sent.len()).sum();
    assert_eq!(answered, 10);
}
