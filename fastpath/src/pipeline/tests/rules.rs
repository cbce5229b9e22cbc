//! What rules count, and what is said of what they drop.

use margay_flowtable::Tuple;

use super::*;
use crate::counters::{PolicyDrop, RuleCount};
use crate::pipeline::Established;

/// The end of every pod's tier, both ways.
pub(super) const END: RuleId = RuleId(90);

pub(super) fn rule(number: u32, action: Action, port: Option<u16>) -> Rule {
    let ports = port.map(|port| port..=port).into_iter().collect();
    let destination = Side { ports, ..Side::default() };
    Rule { id: RuleId(number), action, destination, ..Rule::default() }
}

pub(super) fn allow(number: u32) -> Rule {
    rule(number, Action::Allow, None)
}

/// Has the pod obey these rules, and nothing where they are `None`.
pub(super) fn obey(
    snapshot: &mut Snapshot,
    pod: [u8; 4],
    egress: Option<Vec<Rule>>,
    ingress: Option<Vec<Rule>>,
) {
    set_endpoint(snapshot, pod, &[], &[]);
    let mut program = |way, rules: Option<Vec<Rule>>| {
        rules.map_or(ProgramId::NONE, |rules| put_program(snapshot, way, rules, END))
    };
    let [egress, ingress] = [program(PolicyType::Egress, egress), program(PolicyType::Ingress, ingress)];
    let obeys = Obeys { egress, ingress, to_node: egress, ..Obeys::default() };
    snapshot.policies.obeys.set(u32::from(pod[3]), obeys);
}

pub(super) fn gateway(egress_of_open: Option<Vec<Rule>>, ingress_of_web: Option<Vec<Rule>>) -> Gateway {
    let mut gateway = Gateway::new();
    obey(&mut gateway.snapshot, OPEN_IP, egress_of_open, None);
    obey(&mut gateway.snapshot, WEB_IP, None, ingress_of_web);
    gateway
}

impl Gateway {
    /// What the rule has counted, by itself and in trails.
    pub(super) fn count(&self, rule: u32) -> RuleCount {
        let (rules, trails) = (&self.counters.rules, self.pipeline.flows.table().trails());
        let mut sum = rules.get(RuleId(rule)).expect("within the capacity");
        for trail in trails.iter() {
            let times = trails.rules(trail).filter(|held| held.0 == rule).count() as u64;
            let count = rules.by_trail(trail);
            sum.packets += times * count.packets;
            sum.bytes += times * count.bytes;
        }
        sum
    }

    pub(super) fn policy_drops(&self) -> Vec<PolicyDrop> {
        self.counters.policy_drops.take().collect()
    }
}

/// What a rule has counted of packets of so many IP bytes each.
pub(super) fn of(packets: u64, packet: &[u8], flows: u64, denied: u64) -> RuleCount {
    RuleCount { packets, bytes: packets * (packet.len() as u64 - 14), flows, denied }
}

pub(super) fn open_to_web(port: u16, flags: u8) -> Vec<u8> {
    tcp(OPEN_IP, WEB_IP, (1000, port), flags)
}

pub(super) fn web_to_open(port: u16, flags: u8) -> Vec<u8> {
    tcp(WEB_IP, OPEN_IP, (port, 1000), flags)
}

#[test]
fn both_rules_of_a_flow_count_its_packets_both_ways() {
    let other = rule(12, Action::Allow, Some(443));
    let mut gateway = gateway(Some(vec![allow(5)]), Some(vec![rule(11, Action::Allow, Some(80)), other]));
    gateway.run(OPEN, &open_to_web(80, SYN)).only();
    gateway.run(WEB, &web_to_open(80, SYN | ACK)).only();
    gateway.run_burst(OPEN, &vec![open_to_web(80, ACK); 10]);
    gateway.run(OPEN, &open_to_web(443, SYN)).only();
    let packet = open_to_web(80, ACK);
    assert_eq!(gateway.count(5), of(13, &packet, 2, 0));
    assert_eq!(gateway.count(11), of(12, &packet, 1, 0));
    assert_eq!(gateway.count(12), of(1, &packet, 1, 0));
    assert_eq!((gateway.count(END.0), gateway.policy_drops()), (RuleCount::default(), vec![]));
    // No policy looks at what goes to the peer.
    gateway.run(WEB, &tcp(WEB_IP, PEER_IP, (1000, 80), SYN)).only();
    let all: u64 = (0..100).map(|rule| gateway.count(rule).packets).sum();
    assert_eq!((all, gateway.counters.rules.beyond()), (26, RuleCount::default()));
}

#[test]
fn rules_beyond_the_capacity_count_together() {
    let mut gateway = gateway(Some(vec![allow(3)]), Some(vec![allow(4)]));
    let counters = Arc::new(Counters::with_rules(4));
    gateway.pipeline = Pipeline::new(
        Arc::new(FlowTable::new(1024, [1, 2, 3, 4], Timeouts::default())),
        Arc::clone(&counters),
    );
    gateway.counters = counters;
    for flags in [SYN, ACK] {
        gateway.run(OPEN, &open_to_web(80, flags)).only();
    }
    let packet = open_to_web(80, ACK);
    assert_eq!(gateway.count(3), of(2, &packet, 1, 0));
    assert_eq!(gateway.counters.rules.beyond(), of(2, &packet, 1, 0));
}

#[test]
fn what_is_denied_counts_by_what_denied_it_and_is_said() {
    let deny = rule(7, Action::Deny, Some(81));
    let mut gateway = gateway(Some(vec![deny, allow(5)]), Some(vec![rule(11, Action::Allow, Some(80))]));
    for port in [81, 82, 82] {
        assert_eq!(gateway.run(OPEN, &open_to_web(port, SYN)).dropped, Some(DropReason::PolicyDeny));
    }
    let packet = open_to_web(81, SYN);
    assert_eq!(gateway.count(7), of(1, &packet, 0, 1));
    assert_eq!(gateway.count(END.0), of(2, &packet, 0, 2));
    assert_eq!(gateway.count(5), RuleCount::default(), "it let the packet out, and the receiver refused it");
    let expected = [(7, PolicyType::Egress, 8, 81), (END.0, PolicyType::Ingress, 5, 82)];
    let expected = expected.map(|(rule, direction, endpoint, dport)| PolicyDrop {
        rule: RuleId(rule),
        direction,
        endpoint: Some(EndpointId(endpoint)),
        tuple: Tuple {
            src: ip(OPEN_IP).into(),
            dst: ip(WEB_IP).into(),
            protocol: 6,
            sport: 1000,
            dport,
            icmp: None,
        },
    });
    assert_eq!(gateway.policy_drops(), [expected[0], expected[1], expected[1]]);
}

#[test]
fn a_change_moves_a_flow_to_the_rule_that_admits_it_now_or_denies_it() {
    let mut gateway = gateway(Some(vec![allow(5)]), Some(vec![allow(11)]));
    let packet = open_to_web(80, ACK);
    gateway.run(OPEN, &open_to_web(80, SYN)).only();
    gateway.publish(|snapshot| obey(snapshot, WEB_IP, None, Some(vec![allow(12)])));
    // From whichever side it is noticed.
    gateway.run(WEB, &web_to_open(80, SYN | ACK)).only();
    gateway.run(OPEN, &packet).only();
    assert_eq!(gateway.count(5), of(3, &packet, 1, 0), "it admitted the flow before the change and after it");
    assert_eq!(gateway.count(11), of(1, &packet, 1, 0));
    assert_eq!(gateway.count(12), of(2, &packet, 1, 0));

    gateway.publish(|snapshot| obey(snapshot, WEB_IP, None, Some(vec![])));
    for _ in 0..2 {
        assert_eq!(gateway.run(WEB, &web_to_open(80, ACK)).dropped, Some(DropReason::PolicyDeny));
        assert_eq!(gateway.run(OPEN, &open_to_web(80, SYN)).dropped, Some(DropReason::PolicyDeny));
        gateway.publish(|snapshot| obey(snapshot, OPEN_IP, Some(vec![allow(5)]), None));
    }
    assert_eq!(gateway.count(END.0), of(4, &packet, 0, 1), "packets count, and the flow ends once");
    let drops = gateway.policy_drops();
    assert_eq!(drops.len(), 1, "{drops:?}");
    assert_eq!((drops[0].rule, drops[0].tuple.src), (END, IpAddr::V4(ip(OPEN_IP))), "as the flow began");
    assert_eq!(gateway.count(5), of(3, &packet, 1, 0));

    gateway.publish(|snapshot| obey(snapshot, WEB_IP, None, Some(vec![allow(13)])));
    gateway.run(OPEN, &packet).only();
    assert_eq!(gateway.count(13), of(1, &packet, 1, 0));
    assert_eq!(gateway.count(5), of(4, &packet, 2, 0));
}

#[test]
fn established_flows_are_kept_where_that_is_configured() {
    let mut gateway = gateway(None, Some(vec![allow(11)]));
    gateway.pipeline.flows.judge.established = Established::Keep;
    let packet = open_to_web(80, ACK);
    gateway.run(OPEN, &open_to_web(80, SYN)).only();
    gateway.publish(|snapshot| obey(snapshot, WEB_IP, None, Some(vec![])));
    for _ in 0..2 {
        gateway.run(WEB, &web_to_open(80, SYN | ACK)).only();
        gateway.run(OPEN, &packet).only();
        gateway.publish(|snapshot| obey(snapshot, WEB_IP, None, Some(vec![])));
    }
    assert_eq!(gateway.count(11), of(1, &packet, 1, 0), "no rule admits it any more");
    assert_eq!((gateway.count(END.0), gateway.policy_drops()), (RuleCount::default(), vec![]));
    assert_eq!(gateway.run(OPEN, &open_to_web(81, SYN)).dropped, Some(DropReason::PolicyDeny), "a new flow");
    assert_eq!(gateway.policy_drops().len(), 1);

    gateway.publish(|snapshot| obey(snapshot, WEB_IP, None, Some(vec![allow(12)])));
    gateway.run(OPEN, &packet).only();
    assert_eq!(gateway.count(12), of(1, &packet, 1, 0), "allowed again, and by whom");
}
