//! What counts a flow beside the rules that decide about it: Log and Pass rules, staged ones, and host endpoints'.

use margay_flowtable::{HostObeys, HostPolicies, Interface};

use super::rules::{END, allow, gateway, obey, of, open_to_web, rule, web_to_open};
use super::*;
use crate::counters::RuleCount;
use crate::pipeline::Established;

fn log(number: u32) -> Rule {
    rule(number, Action::Log, None)
}

/// Has the pod obey these rules on ingress or egress if what is staged were enforced.
fn stage(snapshot: &mut Snapshot, pod: [u8; 4], way: PolicyType, rules: Vec<Rule>) {
    let staged = Some(put_program(snapshot, way, rules, END));
    let pod = u32::from(pod[3]);
    let obeys = *snapshot.policies.obeys.get(pod).expect("set");
    let obeys = match way {
        PolicyType::Egress => Obeys { staged_egress: staged, ..obeys },
        PolicyType::Ingress => Obeys { staged_ingress: staged, ..obeys },
    };
    snapshot.policies.obeys.set(pod, obeys);
}

/// A handshake from one pod to the other, and what follows: twelve packets of one size.
fn talk(gateway: &mut Gateway, port: u16) {
    gateway.run(OPEN, &open_to_web(port, SYN)).only();
    gateway.run(WEB, &web_to_open(port, SYN | ACK)).only();
    assert_eq!(gateway.run_burst(OPEN, &vec![open_to_web(port, ACK); 10]).len(), 10);
}

fn counted(packets: u64, flows: u64, denied: u64) -> RuleCount {
    of(packets, &open_to_web(80, ACK), flows, denied)
}

#[test]
fn log_pass_and_staged_rules_count_every_packet_of_their_flows() {
    let ingress = vec![log(20), rule(21, Action::Pass, Some(80)), allow(11)];
    let mut gateway = gateway(Some(vec![log(40), allow(5)]), Some(ingress.clone()));
    // A staged policy before the others, which would deny port 80, and pass port 81 by no rule of theirs.
    let staged = [log(31), rule(30, Action::Deny, Some(80)), rule(32, Action::Pass, Some(81))];
    stage(&mut gateway.snapshot, WEB_IP, PolicyType::Ingress, [&staged[..], &ingress].concat());
    stage(&mut gateway.snapshot, OPEN_IP, PolicyType::Egress, vec![log(40), allow(5)]);
    for port in [80, 81, 82] {
        talk(&mut gateway, port);
    }
    let expected = [
        (40, counted(36, 3, 0)),
        (5, counted(36, 3, 0)),
        (20, counted(36, 3, 0)),
        (21, counted(12, 1, 0)),
        // Where both ask the same rule it counts once.
        (11, counted(24, 2, 0)),
        (31, counted(36, 3, 0)),
        (30, counted(12, 0, 1)),
        (32, counted(12, 1, 0)),
        (END.0, counted(0, 0, 0)),
    ];
    assert_eq!(expected.map(|(rule, _)| (rule, gateway.count(rule))), expected);
    assert_eq!((gateway.policy_drops(), gateway.counters.rules.flows_cut_short.get()), (vec![], 0));
}

#[test]
fn of_what_is_denied_they_count_every_packet_too() {
    let mut gateway = gateway(Some(vec![log(40), allow(5)]), Some(vec![log(20), allow(11)]));
    talk(&mut gateway, 80);
    let deny = vec![log(20), rule(7, Action::Deny, None)];
    gateway.publish(|snapshot| {
        obey(snapshot, WEB_IP, None, Some(deny.clone()));
        stage(snapshot, WEB_IP, PolicyType::Ingress, vec![rule(30, Action::Deny, Some(80)), allow(31)]);
    });
    // The flow that the change has ended, from both ends, and one that never begins.
    for _ in 0..2 {
        assert_eq!(gateway.run(OPEN, &open_to_web(80, ACK)).dropped, Some(DropReason::PolicyDeny));
        assert_eq!(gateway.run(WEB, &web_to_open(80, ACK)).dropped, Some(DropReason::PolicyDeny));
        assert_eq!(gateway.run(OPEN, &open_to_web(81, SYN)).dropped, Some(DropReason::PolicyDeny));
    }
    let expected = [
        (40, counted(18, 3, 0)),
        (5, counted(12, 1, 0)),
        (20, counted(18, 3, 0)),
        (11, counted(12, 1, 0)),
        (7, counted(6, 0, 3)),
        (30, counted(4, 0, 1)),
        (31, counted(2, 2, 0)),
    ];
    assert_eq!(expected.map(|(rule, _)| (rule, gateway.count(rule))), expected);
    assert_eq!(gateway.policy_drops().len(), 3);
}

#[test]
fn a_change_moves_a_flow_to_what_it_passes_now() {
    let mut gateway = gateway(Some(vec![allow(5)]), Some(vec![log(20), log(21), allow(11)]));
    talk(&mut gateway, 80);
    gateway.publish(|snapshot| {
        obey(snapshot, WEB_IP, None, Some(vec![log(21), log(22), allow(11)]));
        stage(snapshot, WEB_IP, PolicyType::Ingress, vec![rule(30, Action::Deny, None)]);
    });
    gateway.run(WEB, &web_to_open(80, ACK)).only();
    gateway.run(OPEN, &open_to_web(80, ACK)).only();
    gateway.publish(|snapshot| obey(snapshot, WEB_IP, None, Some(vec![log(22), allow(12)])));
    gateway.run(OPEN, &open_to_web(80, ACK)).only();
    let expected = [
        (20, counted(12, 1, 0)),
        (21, counted(14, 1, 0)),
        (22, counted(3, 1, 0)),
        (30, counted(2, 0, 1)),
        (11, counted(14, 1, 0)),
        (12, counted(1, 1, 0)),
        (5, counted(15, 1, 0)),
    ];
    assert_eq!(expected.map(|(rule, _)| (rule, gateway.count(rule))), expected);
}

#[test]
fn flows_that_are_kept_go_on_counting_by_what_they_pass() {
    let mut gateway = gateway(None, Some(vec![log(20), allow(11)]));
    gateway.pipeline.flows.judge.established = Established::Keep;
    talk(&mut gateway, 80);
    for _ in 0..2 {
        gateway.publish(|snapshot| obey(snapshot, WEB_IP, None, Some(vec![log(20), log(21)])));
        gateway.run(OPEN, &open_to_web(80, ACK)).only();
    }
    let expected = [(20, counted(14, 1, 0)), (21, counted(2, 1, 0)), (11, counted(12, 1, 0))];
    assert_eq!(expected.map(|(rule, _)| (rule, gateway.count(rule))), expected);
    assert_eq!((gateway.count(END.0), gateway.policy_drops()), (RuleCount::default(), vec![]));
}

/// With the next era of trails flows that have one are judged again, once, and no count is lost or doubled.
#[test]
fn a_flow_goes_on_into_the_next_era_of_trails() {
    let mut gateway = gateway(None, Some(vec![rule(20, Action::Log, Some(80)), allow(11)]));
    for era in 1..=3 {
        talk(&mut gateway, 80);
        talk(&mut gateway, 81);
        assert_eq!(gateway.count(20), counted(12 * era, 1, 0));
        assert_eq!(gateway.count(11), counted(24 * era, 2, 0));
        assert_eq!(gateway.counters.flows_reclassified.get(), era - 1, "the other has no trail");
        gateway.publish(Snapshot::begin_trails);
    }
    let trails = gateway.pipeline.flows.table().trails();
    assert_eq!((trails.iter().count(), trails.used(gateway.snapshot.trails)), (2, 1));
}

#[test]
fn what_has_no_room_counts_first_packets_and_that_is_counted() {
    let mut gateway = gateway(None, Some((20..40).map(log).chain([allow(11)]).collect()));
    talk(&mut gateway, 80);
    assert_eq!(gateway.counters.rules.flows_cut_short.get(), 1);
    assert_eq!((gateway.count(11), gateway.count(20)), (counted(12, 1, 0), counted(12, 1, 0)));
    assert_eq!(gateway.count(39), counted(1, 1, 0), "more than a trail has");

    let mut gateway = super::rules::gateway(None, Some(vec![log(20), allow(11)]));
    let (table, era) = (Arc::clone(&gateway.pipeline.flows.judge.table), gateway.snapshot.trails);
    let pairs = (100..).flat_map(|a| (0..1000).map(move |b| (RuleId(a), RuleId(b))));
    pairs.take_while(|(a, b)| table.trails().extend(era, (*a).into(), *b).is_some()).for_each(drop);
    let full =
        (0..1 << 16).map(RuleId).find(|n| table.trails().extend(era, (*n).into(), log(20).id).is_none());
    let decides = full.expect("a trail without a place").0;
    gateway.publish(|snapshot| obey(snapshot, WEB_IP, None, Some(vec![log(20), allow(decides)])));
    talk(&mut gateway, 80);
    assert_eq!(gateway.counters.rules.flows_cut_short.get(), 1);
    assert_eq!((gateway.count(decides), gateway.count(20)), (counted(12, 1, 0), counted(1, 1, 0)));
}

/// The host endpoint of an uplink and the pod behind it both have a rule that lets the flow in.
#[test]
fn the_rule_of_a_host_endpoint_counts_beside_that_of_a_pod() {
    let mut gateway = gateway(Some(vec![allow(5)]), None);
    gateway.publish(|snapshot| {
        let egress = put_program(snapshot, PolicyType::Egress, vec![log(60), allow(61)], END);
        let ingress = put_program(snapshot, PolicyType::Ingress, vec![log(62), allow(63)], END);
        let pods = HostObeys { egress, ingress, ..HostObeys::default() };
        let staged =
            put_program(snapshot, PolicyType::Egress, vec![log(60), rule(64, Action::Deny, None)], END);
        let would_be = HostObeys { egress: staged, ..pods };
        snapshot.policies.host = HostPolicies::new([(Interface::Pod, pods)], [(Interface::Pod, would_be)]);
        snapshot.epochs.touch_interface(Interface::Pod);
    });
    talk(&mut gateway, 80);
    for rule in [5, 60, 61, 62, 63] {
        assert_eq!(gateway.count(rule), counted(12, 1, 0), "rule {rule}");
    }
    assert_eq!(gateway.count(64), counted(12, 0, 1), "what is staged there");
}
