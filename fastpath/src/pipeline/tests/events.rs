//! What flows carry, and what is told of them: that they begin, are denied, and end.

use margay_flowtable::{EndedFlow, FlowCounts, FlowEnd, Key, Traffic, TrailId};

use super::*;
use crate::events::{Denied, Event, was_cut};

/// A gateway of which somebody asks what becomes of flows.
fn watched() -> Gateway {
    let gateway = Gateway::new();
    gateway.counters.events.want();
    gateway
}

impl Gateway {
    fn told(&mut self) -> Vec<Event> {
        self.now += 1000;
        self.expiry.run(&self.pipeline, self.now, self.snapshot.generation);
        self.counters.events.take().collect()
    }

    fn ended(&self) -> Vec<EndedFlow> {
        self.pipeline.flows.table().ended().collect()
    }

    /// What the one connection has carried.
    fn carried(&self) -> [Traffic; 2] {
        let table = self.pipeline.flows.table();
        let flows: Vec<_> = table.flows().collect();
        assert_eq!(flows.len(), 1);
        traffic(table.counts(flows[0].flow).expect("it lives"))
    }

    fn expire(&mut self) {
        self.now += 4_000_000;
        while self.expiry.run(&self.pipeline, self.now, self.snapshot.generation) {}
    }
}

fn traffic(counts: FlowCounts) -> [Traffic; 2] {
    [counts.original, counts.reply]
}

fn vxlan(packet: &[u8]) -> Vec<u8> {
    vxlan_from(REMOTE_NODE_IP, 4096, packet)
}

/// Bytes of an IP packet of TCP or UDP, as `tcp` and `udp` make them.
const TCP_BYTES: u64 = 20 + 20 + 7;

#[test]
fn each_way_of_a_connection_counts_what_it_carries_without_its_tunnel() {
    let mut gateway = Gateway::new();
    gateway.run(UPLINK, &vxlan(&tcp(PEER_IP, WEB_IP, (1000, 80), SYN))).only();
    gateway.run(WEB, &tcp(WEB_IP, PEER_IP, (80, 1000), SYN | ACK)).only();
    // A burst of both kinds: what goes on as it is, and what changes the connection.
    let peer = vxlan(&tcp(PEER_IP, WEB_IP, (1000, 80), ACK));
    gateway.run_burst(UPLINK, &vec![peer.clone(); 5]);
    let expected =
        |packets, replies| [packets, replies].map(|packets| Traffic { packets, bytes: packets * TCP_BYTES });
    assert_eq!(gateway.carried(), expected(6, 1));
    // Under a snapshot that has not judged it yet.
    gateway.publish(|snapshot| set_endpoint(snapshot, WEB_IP, &[], &[allow_tcp_80(&[PEER_IP, OTHER_IP])]));
    gateway.run(UPLINK, &peer).only();
    gateway.run(WEB, &tcp(WEB_IP, PEER_IP, (80, 1000), ACK)).only();
    assert_eq!(gateway.carried(), expected(7, 2));
    // What is denied is not carried.
    gateway.publish(|snapshot| set_endpoint(snapshot, WEB_IP, &[], &[allow_tcp_80(&[OTHER_IP])]));
    assert_eq!(gateway.run(UPLINK, &peer).dropped, Some(DropReason::PolicyDeny));
    assert_eq!(gateway.carried(), expected(7, 2));
}

#[test]
fn a_connection_that_begins_and_expires_is_told_of_with_what_it_carried() {
    let mut gateway = watched();
    gateway.run(UPLINK, &vxlan(&tcp(PEER_IP, WEB_IP, (1000, 80), SYN))).only();
    gateway.run(WEB, &tcp(WEB_IP, PEER_IP, (80, 1000), SYN | ACK)).only();
    let told = gateway.told();
    let [Event::Started { tuple, trails, at }] = told[..] else { panic!("{told:?}") };
    assert_eq!((tuple.src, tuple.dst, tuple.dport), (ip(PEER_IP).into(), ip(WEB_IP).into(), 80));
    assert_eq!((trails, at), ([TrailId::NONE; 2], 1_000_000));
    assert!(gateway.ended().is_empty());
    gateway.expire();
    let ended = gateway.ended();
    let [ended] = ended[..] else { panic!("{ended:?}") };
    assert_eq!((ended.why, ended.key.ports(), was_cut(&ended)), (FlowEnd::Expired, (1000, 80), false));
    let counts = ended.counts.expect("accounts are kept");
    assert_eq!(counts.started, 1000);
    assert_eq!(traffic(counts), [Traffic { packets: 1, bytes: TCP_BYTES }; 2]);
    assert!(gateway.told().is_empty());
}

#[test]
fn denials_are_told_of_together_and_make_no_connection() {
    let mut gateway = watched();
    for sport in 1000..1010 {
        let packet = vxlan(&tcp(OTHER_IP, WEB_IP, (sport, 80), SYN));
        assert_eq!(gateway.run(UPLINK, &packet).dropped, Some(DropReason::PolicyDeny));
        gateway.now += 1;
    }
    let told = gateway.told();
    let [Event::Denied(Denied { tuple, direction, packets, bytes, first, last, .. })] = told[..] else {
        panic!("{told:?}")
    };
    assert_eq!((tuple.src, tuple.sport, direction), (ip(OTHER_IP).into(), 1009, PolicyType::Ingress));
    assert_eq!((packets, bytes, first, last), (10, 10 * TCP_BYTES, 1_000_000, 1_000_009));
    gateway.expire();
    assert!(gateway.ended().is_empty());
}

#[test]
fn a_change_of_policy_ends_a_connection_once_and_another_lets_it_go_on() {
    let mut gateway = watched();
    let peer = vxlan(&tcp(PEER_IP, WEB_IP, (1000, 80), ACK));
    let reply = tcp(WEB_IP, PEER_IP, (80, 1000), ACK);
    gateway.run(UPLINK, &peer).only();
    gateway.run(WEB, &reply).only();
    gateway.told();
    gateway.publish(|snapshot| set_endpoint(snapshot, WEB_IP, &[], &[allow_tcp_80(&[OTHER_IP])]));
    for (port, packet) in [(WEB, &reply), (UPLINK, &peer), (WEB, &reply)] {
        assert_eq!(gateway.run(port, packet).dropped, Some(DropReason::PolicyDeny));
    }
    let told = gateway.told();
    let [Event::Cut { tuple, counts, .. }] = told[..] else { panic!("{told:?}") };
    assert_eq!(tuple.src, IpAddr::from(ip(PEER_IP)), "as its first packet went");
    let once = Traffic { packets: 1, bytes: TCP_BYTES };
    assert_eq!(counts.map(traffic), Some([once; 2]));

    gateway.publish(|snapshot| set_endpoint(snapshot, WEB_IP, &[], &[allow_tcp_80(&[PEER_IP])]));
    gateway.run(UPLINK, &peer).only();
    let told = gateway.told();
    assert!(matches!(told[..], [Event::Started { .. }]), "{told:?}");
    gateway.expire();
    let ended = gateway.ended();
    assert_eq!(ended.len(), 1);
    assert!(!was_cut(&ended[0]));
    assert_eq!(
        ended[0].counts.map(traffic),
        Some([once, Traffic::default()]),
        "what was told of is not told again"
    );
}

#[test]
fn an_ended_connection_that_expires_is_told_apart() {
    let mut gateway = watched();
    let peer = vxlan(&tcp(PEER_IP, WEB_IP, (1000, 80), ACK));
    gateway.run(UPLINK, &peer).only();
    gateway.publish(|snapshot| set_endpoint(snapshot, WEB_IP, &[], &[allow_tcp_80(&[OTHER_IP])]));
    gateway.run(UPLINK, &peer);
    gateway.expire();
    let ended = gateway.ended();
    assert!(ended.len() == 1 && was_cut(&ended[0]), "{ended:?}");
}

#[test]
fn nothing_is_told_where_nobody_asks() {
    let mut gateway = Gateway::new();
    gateway.run(UPLINK, &vxlan(&tcp(PEER_IP, WEB_IP, (1000, 80), SYN))).only();
    gateway.run(UPLINK, &vxlan(&tcp(OTHER_IP, WEB_IP, (1000, 80), SYN)));
    assert!(gateway.told().is_empty());
}
