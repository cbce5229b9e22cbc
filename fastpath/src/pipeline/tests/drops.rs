//! What does not get through, each with its reason.

use super::*;

#[test]
fn every_refusal_names_its_reason() {
    use DropReason as R;
    let good = || udp(OPEN_IP, PEER_IP, (1000, 53), b"query");
    let from_open = |dst| udp(OPEN_IP, dst, (1000, 53), b"query");
    let inner = || udp(PEER_IP, OPEN_IP, (1000, 53), b"query");
    let with = |mut packet: Vec<u8>, at, value| {
        set_ip_byte(&mut packet, at, value);
        packet
    };
    let raw = |mut packet: Vec<u8>, at: usize, value| {
        packet[at] = value;
        packet
    };
    let vxlan = |inner: &[u8]| vxlan_from(REMOTE_NODE_IP, 4096, inner);
    let cases: Vec<(R, PortId, Vec<u8>)> = vec![
        (R::Runt, OPEN, good()[..13].to_vec()),
        (R::BadHeaderLength, OPEN, good()[..20].to_vec()),
        (R::NotIp, OPEN, raw(good(), 13, 6)),
        (R::Vlan, OPEN, raw(raw(good(), 12, 0x81), 13, 0)),
        (R::BadVersion, OPEN, raw(raw(udp(OPEN_IP, PEER_IP, (1000, 53), &[0; 20]), 12, 0x86), 13, 0xdd)),
        (R::BadVersion, OPEN, with(good(), 0, 0x55)),
        (R::BadHeaderLength, OPEN, with(good(), 0, 0x44)),
        (R::BadTotalLength, OPEN, with(good(), 2, 9)),
        (R::BadHeaderChecksum, OPEN, raw(good(), 24, good()[24] ^ 1)),
        (R::BadFragment, OPEN, with(good(), 6, 0x20)),
        (R::BadFragment, OPEN, with(with(good(), 6, 0x1f), 7, 0xff)),
        (R::TinyFragment, OPEN, with(tcp(OPEN_IP, PEER_IP, (1000, 53), SYN), 7, 1)),
        (R::TunnelFragment, UPLINK, with(vxlan(&udp(PEER_IP, OPEN_IP, (1, 2), b"123456")), 6, 0x20)),
        (R::TunnelFragment, UPLINK, with(ipip_from(REMOTE_NODE_IP, &inner()), 7, 9)),
        (R::TunnelFromPod, OPEN, with(udp(OPEN_IP, NODE_IP, (50_000, 4789), &[8; 40]), 6, 0x20)),
        (R::NestedTunnel, UPLINK, vxlan(&with(ipip_from(REMOTE_NODE_IP, &inner()), 7, 9))),
        (R::SourceSpoofed, UPLINK, vxlan(&with(udp(WEB_IP, OPEN_IP, (1000, 53), b""), 7, 9))),
        (R::TruncatedTransport, OPEN, raw(good(), 38, 9)),
        (R::Multicast, OPEN, raw(good(), 0, 0xff)),
        (R::Multicast, OPEN, from_open([224, 0, 0, 9])),
        (R::Multicast, OPEN, from_open([255; 4])),
        (R::MartianDestination, OPEN, from_open([127, 0, 0, 1])),
        (R::MartianDestination, OPEN, from_open([250, 0, 0, 1])),
        (R::MartianDestination, OPEN, from_open([0, 0, 0, 1])),
        (R::MartianSource, UPLINK, vxlan(&udp([127, 0, 0, 1], OPEN_IP, (1, 2), b""))),
        (R::MartianSource, UPLINK, vxlan(&udp([224, 0, 0, 1], OPEN_IP, (1, 2), b""))),
        (R::MartianSource, UPLINK, vxlan(&udp(NODE_IP, WEB_IP, (1, 2), b""))),
        (R::SourceSpoofed, OPEN, udp(WEB_IP, PEER_IP, (1000, 53), b"")),
        (R::SourceSpoofed, UPLINK, vxlan(&udp(WEB_IP, OPEN_IP, (1000, 53), b""))),
        (R::MartianSource, UPLINK, vxlan(&udp([169, 254, 9, 9], OPEN_IP, (1, 2), b""))),
        (R::InnerSource, UPLINK, vxlan(&udp([10, 65, 22, 5], OPEN_IP, (1000, 53), b""))),
        (R::InnerSource, UPLINK, vxlan(&udp([192, 0, 2, 1], OPEN_IP, (1000, 53), b""))),
        (R::InnerSource, UPLINK, ipip_from(OTHER_NODE_IP, &inner())),
        (R::TunnelFromPod, OPEN, udp(OPEN_IP, NODE_IP, (50_000, 4789), &[8; 40])),
        (R::TunnelFromPod, OPEN, udp(OPEN_IP, REMOTE_NODE_IP, (50_000, 4789), &[8; 40])),
        (R::TunnelFromPod, OPEN, with(udp(OPEN_IP, REMOTE_NODE_IP, (1, 2), &[8; 40]), 9, 4)),
        (R::UnknownTunnelSource, UPLINK, vxlan_from([172, 20, 1, 99], 4096, &inner())),
        (R::UnknownTunnelSource, UPLINK, ipip_from([172, 20, 1, 99], &inner())),
        (R::UnknownTunnelSource, UPLINK, vxlan_from([0; 4], 4096, &inner())),
        (R::UnknownTunnelSource, UPLINK, ipip_from([0; 4], &inner())),
        (R::WrongVni, UPLINK, vxlan_from(REMOTE_NODE_IP, 1, &inner())),
        (R::BadVxlanHeader, UPLINK, raw(vxlan(&inner()), 42, 0)),
        (R::InnerNotIp, UPLINK, raw(vxlan(&inner()), 63, 5)),
        (R::InnerArp, UPLINK, raw(vxlan(&inner()), 63, 6)),
        (R::InnerVlan, UPLINK, raw(raw(vxlan(&inner()), 62, 0x81), 63, 0)),
        (R::InnerVlan, UPLINK, raw(raw(vxlan(&inner()), 62, 0x88), 63, 0xa8)),
        (R::InnerWrongMac, UPLINK, raw(vxlan(&inner()), 50, 0x64)),
        (R::InnerWrongMac, UPLINK, raw(vxlan(&inner()), 50, 0x01)),
        (R::NestedTunnel, UPLINK, vxlan(&vxlan(&inner()))),
        (R::EcnNotCapable, UPLINK, with(vxlan(&inner()), 1, 3)),
        (R::NoRoute, OPEN, from_open([192, 0, 2, 1])),
        (R::Blackhole, OPEN, from_open([10, 65, 10, 60])),
        (R::NeighbourUnresolved, OPEN, from_open([10, 65, 41, 1])),
        (R::HostBound, UPLINK, vxlan(&udp(PEER_IP, NODE_IP, (1000, 53), b""))),
        (R::PolicyDeny, OPEN, tcp(OPEN_IP, WEB_IP, (1000, 80), SYN)),
        (R::PolicyDeny, UPLINK, vxlan(&tcp(PEER_IP, WEB_IP, (1000, 81), SYN))),
        (R::PolicyDeny, UPLINK, vxlan(&udp(PEER_IP, WEB_IP, (1000, 80), b""))),
        (R::PortGone, PortId(9), good()),
    ];
    for (i, (reason, port, packet)) in cases.into_iter().enumerate() {
        let outcome = Gateway::new().run(port, &packet);
        assert_eq!(outcome.dropped, Some(reason), "case {i}");
        assert!(outcome.sent.is_empty(), "case {i}: {:?}", outcome.sent);
    }
}

#[test]
fn spoofed_packet_of_a_live_flow_is_refused() {
    let mut gateway = Gateway::new();
    let packet = udp(OPEN_IP, PEER_IP, (1000, 53), b"query");
    gateway.run(OPEN, &packet).only();
    let spoofed = gateway.run(UPLINK, &vxlan_from(REMOTE_NODE_IP, 4096, &packet));
    assert_eq!(spoofed.dropped, Some(DropReason::SourceSpoofed));
    gateway.run(OPEN, &packet).only();
}

#[test]
fn unanswered_flows_make_room_in_a_full_table_and_established_ones_do_not() {
    let mut gateway = Gateway::new();
    connect(&mut gateway, 1);
    for port in 0..4096 {
        gateway.run(OPEN, &udp(OPEN_IP, OTHER_IP, (port, 53), b"q")).only();
    }
    assert!(gateway.pipeline.flows.table().evicted() > 3000);
    gateway.run(OPEN, &tcp(OPEN_IP, PEER_IP, (1, 80), ACK)).only();
    for port in 2..=1024 {
        connect(&mut gateway, port);
    }
    let one_more = tcp(OPEN_IP, PEER_IP, (1025, 80), SYN);
    assert_eq!(gateway.run(OPEN, &one_more).dropped, Some(DropReason::FlowTableFull));
    gateway.run(OPEN, &tcp(OPEN_IP, PEER_IP, (1, 80), ACK)).only();
}

/// A TCP handshake of the pod `open` with the peer.
fn connect(gateway: &mut Gateway, port: u16) {
    gateway.run(OPEN, &tcp(OPEN_IP, PEER_IP, (port, 80), SYN)).only();
    let answer = tcp(PEER_IP, OPEN_IP, (80, port), SYN | ACK);
    gateway.run(UPLINK, &vxlan_from(REMOTE_NODE_IP, 4096, &answer)).only();
    gateway.run(OPEN, &tcp(OPEN_IP, PEER_IP, (port, 80), ACK)).only();
}

#[test]
fn an_endpoint_that_holds_its_share_is_refused_alone() {
    let mut gateway = Gateway::new();
    let table = FlowTable::new(1024, [1, 2, 3, 4], Timeouts::default()).with_share(2);
    gateway.pipeline = Pipeline::new(Arc::new(table), Arc::clone(&gateway.counters));
    connect(&mut gateway, 1);
    connect(&mut gateway, 2);
    let third = gateway.run(OPEN, &udp(OPEN_IP, PEER_IP, (3, 53), b"q"));
    assert_eq!(third.dropped, Some(DropReason::EndpointShare));
    let from_outside = udp(PEER_IP, OPEN_IP, (4, 53), b"q");
    let fourth = gateway.run(UPLINK, &vxlan_from(REMOTE_NODE_IP, 4096, &from_outside));
    assert_eq!(fourth.dropped, Some(DropReason::EndpointShare), "counts in the share of whom it is for");
    gateway.run(OPEN, &tcp(OPEN_IP, PEER_IP, (1, 80), ACK)).only();
    gateway.run(UPLINK, &vxlan_from(REMOTE_NODE_IP, 4096, &tcp(PEER_IP, WEB_IP, (5, 80), SYN))).only();
}

#[test]
fn mid_flow_packets_are_dropped_where_they_are_not_picked_up() {
    let mut gateway = Gateway::new();
    let table = Arc::new(FlowTable::new(1024, [1, 2, 3, 4], Timeouts::default()));
    gateway.pipeline = Pipeline::new(table, Arc::clone(&gateway.counters)).with_mid_flow(MidFlow::Drop);
    let from_open = |flags| tcp(OPEN_IP, PEER_IP, (1000, 80), flags);
    assert_eq!(gateway.run(OPEN, &from_open(ACK)).dropped, Some(DropReason::NoConnection));
    assert!(gateway.pipeline.flows.table().is_empty());
    gateway.run(OPEN, &from_open(SYN)).only();
    gateway.run(OPEN, &from_open(ACK)).only();
}
