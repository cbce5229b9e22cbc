//! Packets of a pod to its own node: judged by what it obeys on that way, and into the kernel by a port of its own.

use margay_flowtable::{Entrance, Rewrite};

use super::*;

const HOST: PortId = PortId(3);
const KERNEL_MAC: [u8; 6] = [2, 0, 0, 0, 9, 0];
const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 9, 1];
/// An address of the node that the cluster does not know.
const BRIDGE_IP: [u8; 4] = [192, 0, 2, 1];

const FIN: u8 = 1;
const RST: u8 = 4;

/// A gateway whose pods may enter the node as `allow` says, and may go nowhere else.
fn gateway(allow: &[Allow]) -> Gateway {
    let mut gateway = Gateway::new();
    gateway.egress.open(HOST);
    gateway.publish(|snapshot| {
        let adjacency = Adjacency { port: HOST, dst_mac: KERNEL_MAC, src_mac: HOST_MAC, mtu: 1500 };
        snapshot.entrance = Entrance::Open(Rewrite::to(&adjacency));
        snapshot.local.addresses.insert(ip(BRIDGE_IP).into());
        let routes = [(NODE_IP, 32, 1), (BRIDGE_IP, 32, 1), (WEB_IP, 32, 3), ([10, 65, 21, 0], 26, 5)];
        snapshot.fib = Fib::build(routes.map(|(net, length, id)| (ip(net).into(), length, NextHopId(id))));
    });
    gateway.publish(|snapshot| allow_to_node(snapshot, allow));
    gateway
}

fn allow_to_node(snapshot: &mut Snapshot, allow: &[Allow]) {
    set_endpoint(snapshot, WEB_IP, &[Allow { protocol: 200, ..allow_tcp_80(&[]) }], &[]);
    let to_node = add_program(snapshot, PolicyType::Egress, allow);
    let number = u32::from(WEB_IP[3]);
    let obeys = *snapshot.policies.obeys.get(number).expect("it is set");
    snapshot.policies.obeys.set(number, Obeys { to_node, ..obeys });
}

fn allowed() -> [Allow; 2] {
    let ends = vec![NODE_IP, BRIDGE_IP];
    [
        Allow { peers: ends.clone(), ..allow_tcp_80(&[]) },
        Allow { protocol: 17, port: Some(53), icmp: None, peers: ends },
    ]
}

fn to_node(port: u16, flags: u8) -> Vec<u8> {
    tcp(WEB_IP, NODE_IP, (1000, port), flags)
}

#[test]
fn what_policy_allows_enters_the_kernel_as_the_pod_sent_it() {
    let mut gateway = gateway(&allowed());
    for packet in [
        to_node(80, SYN),
        to_node(80, ACK),
        udp(WEB_IP, NODE_IP, (1000, 53), b"query"),
        udp(WEB_IP, BRIDGE_IP, (1000, 53), b"query"),
    ] {
        for ttl in [64, 1] {
            let mut packet = packet.clone();
            set_ip_byte(&mut packet, 8, ttl);
            let (port, sent) = gateway.run(WEB, &packet).only();
            assert_eq!(port, HOST);
            assert_eq!(sent[..14], [&KERNEL_MAC[..], &HOST_MAC, &[8, 0]].concat());
            assert_eq!(sent[14..], packet[14..], "no router is on the way: the TTL stays");
        }
    }
}

#[test]
fn what_policy_denies_does_not() {
    let mut gateway = gateway(&allowed());
    for packet in [
        to_node(81, SYN),
        udp(WEB_IP, NODE_IP, (1000, 54), b"query"),
        udp(WEB_IP, BRIDGE_IP, (1000, 54), b"query"),
        udp(WEB_IP, PEER_IP, (1000, 53), b"elsewhere it obeys all of its egress"),
    ] {
        assert_eq!(gateway.run(WEB, &packet).dropped, Some(DropReason::PolicyDeny));
    }
}

#[test]
fn without_a_policy_for_this_way_a_pod_reaches_its_node_whatever_its_egress() {
    let mut gateway = gateway(&[]);
    gateway.run(WEB, &to_node(81, SYN)).only();
    gateway.run(WEB, &udp(WEB_IP, BRIDGE_IP, (1000, 54), b"query")).only();
}

#[test]
fn a_change_of_policy_ends_a_connection_to_the_node() {
    let mut gateway = gateway(&allowed());
    gateway.run(WEB, &to_node(80, SYN)).only();
    gateway.run(WEB, &to_node(80, ACK)).only();
    gateway.publish(|snapshot| allow_to_node(snapshot, &allowed()[1..]));
    assert_eq!(gateway.run(WEB, &to_node(80, ACK)).dropped, Some(DropReason::PolicyDeny));
    gateway.publish(|snapshot| allow_to_node(snapshot, &allowed()));
    gateway.run(WEB, &to_node(80, ACK)).only();
}

#[test]
fn the_kernel_s_unseen_answers_keep_a_connection_and_let_it_end() {
    let mut gateway = gateway(&allowed());
    // From when only the beginning of a connection is picked up.
    gateway.pipeline.flows.mid_flow = MidFlow::Drop;
    let expire = |gateway: &mut Gateway, seconds: u64| {
        gateway.now += seconds * 1000;
        while gateway.expiry.run(&gateway.pipeline, gateway.now, gateway.snapshot.generation) {}
        gateway.pipeline.flows.table().len()
    };
    gateway.run(WEB, &to_node(80, SYN)).only();
    assert_eq!(expire(&mut gateway, 22), 0, "the kernel did not answer, or refused");
    assert_eq!(gateway.run(WEB, &to_node(80, ACK)).dropped, Some(DropReason::NoConnection));
    gateway.run(WEB, &to_node(80, SYN)).only();
    gateway.run(WEB, &to_node(80, ACK)).only();
    assert_eq!(expire(&mut gateway, 3000), 1, "it is open, and silent");
    gateway.run(WEB, &to_node(80, FIN | ACK)).only();
    assert_eq!(expire(&mut gateway, 119), 1);
    assert_eq!(expire(&mut gateway, 5), 0, "it is closed");
    gateway.run(WEB, &to_node(80, SYN)).only();
    gateway.run(WEB, &to_node(80, ACK)).only();
    gateway.run(WEB, &to_node(80, RST)).only();
    assert_eq!(expire(&mut gateway, 45), 0, "it is reset");
}

#[test]
fn only_what_a_pod_sends_enters() {
    let mut gateway = gateway(&allowed());
    gateway.run(WEB, &to_node(80, SYN)).only();
    let vxlan = |packet: &[u8]| vxlan_from(REMOTE_NODE_IP, 4096, packet);
    for (packet, reason) in [
        (tcp(PEER_IP, NODE_IP, (1000, 80), SYN), DropReason::HostBound),
        (to_node(80, ACK), DropReason::SourceSpoofed),
        (tcp(NODE_IP, WEB_IP, (80, 1000), SYN | ACK), DropReason::MartianSource),
        (tcp(NODE_IP, WEB_IP, (81, 1000), ACK), DropReason::MartianSource),
    ] {
        assert_eq!(gateway.run(UPLINK, &vxlan(&packet)).dropped, Some(reason));
    }
    assert_eq!(
        gateway.run(WEB, &tcp(NODE_IP, WEB_IP, (80, 1000), ACK)).dropped,
        Some(DropReason::SourceSpoofed)
    );
}

#[test]
fn an_address_that_comes_to_the_node_or_leaves_it_takes_its_connections_along() {
    let mut gateway = gateway(&[]);
    let allow = Allow { protocol: 17, ..allow_tcp_80(&[PEER_IP]) };
    gateway.publish(|snapshot| set_endpoint(snapshot, WEB_IP, &[allow], &[]));
    let packet = udp(WEB_IP, PEER_IP, (1000, 80), b"query");
    assert_eq!(gateway.run(WEB, &packet).only().0, UPLINK);
    let answer = vxlan_from(REMOTE_NODE_IP, 4096, &udp(PEER_IP, WEB_IP, (80, 1000), b"answer"));
    gateway.run(UPLINK, &answer).only();
    let route = |to: u32| {
        let routes = [(PEER_IP, 32, to), (WEB_IP, 32, 3)];
        Fib::build(routes.map(|(net, length, id)| (ip(net).into(), length, NextHopId(id))))
    };
    gateway.publish(|snapshot| snapshot.fib = route(1));
    assert_eq!(gateway.run(WEB, &packet).only().0, HOST);
    gateway.publish(|snapshot| snapshot.fib = route(5));
    assert_eq!(gateway.run(WEB, &packet).only().0, UPLINK);
    gateway.run(UPLINK, &answer).only();
}

#[test]
fn the_configuration_may_close_the_node_to_its_pods() {
    let mut gateway = gateway(&allowed());
    gateway.run(WEB, &to_node(80, SYN)).only();
    for (entrance, reason) in
        [(Entrance::Closed, DropReason::EndpointToHost), (Entrance::None, DropReason::HostBound)]
    {
        gateway.publish(|snapshot| snapshot.entrance = entrance);
        assert_eq!(gateway.run(WEB, &to_node(80, ACK)).dropped, Some(reason));
        assert_eq!(gateway.run(WEB, &udp(WEB_IP, NODE_IP, (1, 53), b"")).dropped, Some(reason));
        let denied = gateway.run(WEB, &to_node(81, SYN)).dropped;
        assert_eq!(denied, Some(DropReason::PolicyDeny), "policy is asked first");
    }
}

#[test]
fn a_packet_that_the_port_cannot_take_is_dropped_unanswered() {
    let mut gateway = gateway(&allowed());
    let mut packet = udp(WEB_IP, NODE_IP, (1000, 53), &[0; 1480]);
    set_ip_byte(&mut packet, 6, 0x40);
    let outcome = gateway.run(WEB, &packet);
    assert_eq!((outcome.dropped, outcome.sent.len()), (Some(DropReason::TooBig), 0));
}
