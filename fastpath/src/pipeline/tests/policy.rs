//! Verdicts of flows, and what a change does to them.

use super::*;

fn vxlan(packet: &[u8]) -> Vec<u8> {
    vxlan_from(REMOTE_NODE_IP, 4096, packet)
}

#[test]
fn allowed_flow_passes_both_ways() {
    let mut gateway = Gateway::new();
    assert_eq!(gateway.run(UPLINK, &vxlan(&tcp(PEER_IP, WEB_IP, (1000, 80), SYN))).only().0, WEB);
    assert_eq!(gateway.run(WEB, &tcp(WEB_IP, PEER_IP, (80, 1000), SYN | ACK)).only().0, UPLINK);
    assert_eq!(gateway.run(UPLINK, &vxlan(&tcp(PEER_IP, WEB_IP, (1000, 80), ACK))).only().0, WEB);
}

#[test]
fn reply_needs_no_rule_of_its_own() {
    let mut gateway = Gateway::new();
    let query = udp(WEB_IP, OTHER_IP, (1000, 53), b"query");
    let answer = vxlan(&udp(OTHER_IP, WEB_IP, (53, 1000), b"answer"));
    assert_eq!(gateway.run(UPLINK, &answer).dropped, Some(DropReason::PolicyDeny), "before the query");
    gateway.run(WEB, &query).only();
    assert_eq!(gateway.run(UPLINK, &answer).only().0, WEB);
}

#[test]
fn icmp_error_passes_with_the_flow_that_it_quotes() {
    let mut gateway = Gateway::new();
    let query = udp(WEB_IP, OTHER_IP, (1000, 53), b"query");
    let error = |quoted: &[u8]| {
        let mut message = vec![3, 3, 0, 0, 0, 0, 0, 0];
        message.extend_from_slice(&quoted[14..42]);
        let sum = checksum::Sum::of(&message).finish();
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut packet = Vec::new();
        PacketBuilder::ethernet2([2; 6], OUR_MAC)
            .ipv4([10, 65, 21, 1], WEB_IP, 64)
            .write(&mut packet, etherparse::IpNumber::ICMP, &message)
            .expect("a Vec takes all");
        vxlan(&packet)
    };
    assert_eq!(gateway.run(UPLINK, &error(&query)).dropped, Some(DropReason::PolicyDeny), "no such flow yet");
    gateway.run(WEB, &query).only();
    assert_eq!(gateway.run(UPLINK, &error(&query)).only().0, WEB);
    let other = udp(WEB_IP, OTHER_IP, (1001, 53), b"query");
    assert_eq!(gateway.run(UPLINK, &error(&other)).dropped, Some(DropReason::PolicyDeny), "another flow");
}

#[test]
fn change_holds_for_the_next_packet_and_leaves_other_flows_alone() {
    let mut gateway = Gateway::new();
    let peer = vxlan(&tcp(PEER_IP, WEB_IP, (1000, 80), ACK));
    let reply = tcp(WEB_IP, PEER_IP, (80, 1000), ACK);
    let bystander = udp(OPEN_IP, OTHER_IP, (1000, 53), b"query");
    gateway.run(UPLINK, &peer).only();
    gateway.run(WEB, &reply).only();
    gateway.run(OPEN, &bystander).only();

    gateway.publish(|snapshot| set_endpoint(snapshot, WEB_IP, &[], &[allow_tcp_80(&[OTHER_IP])]));
    gateway.run(OPEN, &bystander).only();
    assert_eq!(gateway.counters.flows_reclassified.get(), 0, "the change cannot affect the bystander");
    assert_eq!(gateway.run(WEB, &reply).dropped, Some(DropReason::PolicyDeny), "replies end with their flow");
    assert_eq!(gateway.counters.flows_reclassified.get(), 1);
    assert_eq!(gateway.run(UPLINK, &peer).dropped, Some(DropReason::PolicyDeny));

    gateway.publish(|snapshot| set_endpoint(snapshot, WEB_IP, &[], &[allow_tcp_80(&[PEER_IP, OTHER_IP])]));
    gateway.run(UPLINK, &peer).only();
    gateway.run(WEB, &reply).only();
}

#[test]
fn ended_connection_does_not_revive_from_its_other_end() {
    let mut gateway = Gateway::new();
    let peer = vxlan(&tcp(PEER_IP, WEB_IP, (1000, 80), ACK));
    let reply = tcp(WEB_IP, PEER_IP, (80, 1000), ACK);
    gateway.run(UPLINK, &peer).only();
    gateway.run(WEB, &reply).only();
    gateway.publish(|snapshot| set_endpoint(snapshot, WEB_IP, &[], &[allow_tcp_80(&[OTHER_IP])]));
    for _ in 0..3 {
        assert_eq!(gateway.run(UPLINK, &peer).dropped, Some(DropReason::PolicyDeny));
        assert_eq!(gateway.run(WEB, &reply).dropped, Some(DropReason::PolicyDeny));
        let again = vxlan(&tcp(PEER_IP, WEB_IP, (1000, 80), SYN));
        assert_eq!(gateway.run(UPLINK, &again).dropped, Some(DropReason::PolicyDeny));
        // Also under later snapshots that have nothing to do with it.
        gateway.publish(|_| {});
    }
    let fresh = tcp(WEB_IP, PEER_IP, (80, 1000), SYN);
    assert_eq!(
        gateway.run(WEB, &fresh).only().0,
        UPLINK,
        "a new connection the other way, which policy allows"
    );
}

#[test]
fn ended_flow_of_udp_is_forgotten_when_it_expires() {
    let mut gateway = Gateway::new();
    let query = udp(OPEN_IP, PEER_IP, (1000, 53), b"query");
    let answer = vxlan(&udp(PEER_IP, OPEN_IP, (53, 1000), b"answer"));
    gateway.run(OPEN, &query).only();
    let mut deny_all = allow_tcp_80(&[]);
    deny_all.protocol = 200;
    gateway.publish(|snapshot| set_endpoint(snapshot, OPEN_IP, &[deny_all], &[]));
    assert_eq!(gateway.run(OPEN, &query).dropped, Some(DropReason::PolicyDeny));
    assert_eq!(gateway.run(UPLINK, &answer).dropped, Some(DropReason::PolicyDeny));
    gateway.now += 62_000;
    while gateway.expiry.run(&gateway.pipeline, gateway.now, gateway.snapshot.generation) {}
    assert_eq!(gateway.run(UPLINK, &answer).only().0, OPEN, "a flow of its own, which policy allows");
}

#[test]
fn icmp_error_does_not_ride_a_flow_that_policy_has_ended() {
    let mut gateway = Gateway::new();
    let query = udp(OPEN_IP, WEB_IP, (1000, 80), b"query");
    set_endpoint(&mut gateway.snapshot, WEB_IP, &[], &[]);
    gateway.run(OPEN, &query).only();
    let mut message = vec![3, 3, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(&query[14..42]);
    let sum = checksum::Sum::of(&message).finish();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut error = Vec::new();
    PacketBuilder::ethernet2([2; 6], OUR_MAC)
        .ipv4(WEB_IP, OPEN_IP, 64)
        .write(&mut error, etherparse::IpNumber::ICMP, &message)
        .expect("a Vec takes all");
    assert_eq!(gateway.run(WEB, &error).only().0, OPEN);
    gateway.publish(|snapshot| set_endpoint(snapshot, WEB_IP, &[], &[allow_tcp_80(&[PEER_IP])]));
    assert_eq!(gateway.run(WEB, &error).dropped, Some(DropReason::PolicyDeny));
}

#[test]
fn forged_reset_leaves_the_connection_as_it_is() {
    let mut gateway = Gateway::new();
    gateway.run(OPEN, &tcp(OPEN_IP, PEER_IP, (1000, 80), SYN)).only();
    gateway.run(UPLINK, &vxlan(&tcp(PEER_IP, OPEN_IP, (80, 1000), SYN | ACK))).only();
    gateway.run(OPEN, &tcp(OPEN_IP, PEER_IP, (1000, 80), ACK)).only();
    let forged = gateway.run(UPLINK, &vxlan(&tcp(OPEN_IP, PEER_IP, (1000, 80), 4)));
    assert_eq!(forged.dropped, Some(DropReason::SourceSpoofed));
    // A reset connection would have expired by now.
    gateway.now += 50_000;
    gateway.run(OPEN, &tcp(OPEN_IP, PEER_IP, (1000, 80), ACK)).only();
    assert_eq!(gateway.counters.flows_inserted.get(), 1);
}

#[test]
fn unrelated_snapshots_re_evaluate_nothing() {
    let mut gateway = Gateway::new();
    let packet = udp(OPEN_IP, PEER_IP, (1000, 53), b"query");
    gateway.run(OPEN, &packet).only();
    for _ in 0..3 {
        gateway.publish(|snapshot| set_endpoint(snapshot, WEB_IP, &[], &[allow_tcp_80(&[OTHER_IP])]));
        gateway.publish(|_| {});
        gateway.run(OPEN, &packet).only();
    }
    assert_eq!(gateway.counters.flows_reclassified.get(), 0);
}

#[test]
fn new_route_moves_a_live_flow() {
    let mut gateway = Gateway::new();
    let packet = udp(OPEN_IP, DIRECT_IP, (1000, 53), b"query");
    assert_eq!(gateway.run(OPEN, &packet).only().0, UPLINK);
    gateway.publish(|snapshot| {
        snapshot.fib = Fib::build([(ip(DIRECT_IP).into(), 32, NextHopId(3))]);
    });
    assert_eq!(gateway.run(OPEN, &packet).only().0, WEB);
    gateway.publish(|snapshot| snapshot.fib = Fib::build([]));
    assert_eq!(gateway.run(OPEN, &packet).dropped, Some(DropReason::NoRoute));
}

#[test]
fn new_syn_after_a_closed_connection_is_judged_as_new() {
    let mut gateway = Gateway::new();
    gateway.run(UPLINK, &vxlan(&tcp(PEER_IP, WEB_IP, (1000, 80), SYN))).only();
    gateway.run(WEB, &tcp(WEB_IP, PEER_IP, (80, 1000), 4)).only();
    let from_web = gateway.run(WEB, &tcp(WEB_IP, PEER_IP, (80, 1000), SYN));
    assert_eq!(from_web.only().0, UPLINK);
    assert_eq!(gateway.counters.flows_inserted.get(), 2);
}

/// An echo request, or its reply.
fn echo(src: [u8; 4], dst: [u8; 4], is_reply: bool) -> Vec<u8> {
    let packet = PacketBuilder::ethernet2([2; 6], OUR_MAC).ipv4(src, dst, 64);
    let packet = if is_reply { packet.icmpv4_echo_reply(7, 1) } else { packet.icmpv4_echo_request(7, 1) };
    let mut frame = Vec::new();
    packet.write(&mut frame, b"ping").expect("a Vec takes all");
    frame
}

#[test]
fn icmp_is_judged_by_the_type_of_its_request() {
    let of_type = |kind| Allow {
        protocol: 1,
        port: None,
        icmp: Some(IcmpMatch { kind: Some(kind), code: None }),
        peers: vec![PEER_IP],
    };
    let (request, reply) = (vxlan(&echo(PEER_IP, WEB_IP, false)), echo(WEB_IP, PEER_IP, true));
    let mut gateway = Gateway::new();
    gateway.publish(|snapshot| set_endpoint(snapshot, WEB_IP, &[], &[of_type(0)]));
    assert_eq!(gateway.run(UPLINK, &request).dropped, Some(DropReason::PolicyDeny));
    gateway.publish(|snapshot| set_endpoint(snapshot, WEB_IP, &[], &[of_type(8)]));
    gateway.run(UPLINK, &request).only();
    gateway.run(WEB, &reply).only();
    // Judged again when the reply comes, and when the next request does.
    for packet in [(WEB, &reply), (UPLINK, &request)] {
        gateway.publish(|snapshot| set_endpoint(snapshot, WEB_IP, &[], &[of_type(8)]));
        gateway.run(packet.0, packet.1).only();
    }
    assert_eq!(gateway.counters.flows_reclassified.get(), 2);
    gateway.publish(|snapshot| set_endpoint(snapshot, WEB_IP, &[], &[of_type(13)]));
    assert_eq!(gateway.run(WEB, &reply).dropped, Some(DropReason::PolicyDeny));
}
