use std::net::{IpAddr, Ipv4Addr};

use margay_flowtable::{Endpoint, EndpointId, Holder, IdentityId};

use super::*;
use crate::state::Name;
use crate::state::policy::{PolicyId, PolicyKind};

const POD: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5));

fn name(policy: &str) -> RuleName {
    let id = PolicyId { kind: PolicyKind::NetworkPolicy, name: Name::new("ns", policy) };
    RuleName { policy: Arc::new(id), direction: PolicyType::Ingress, index: None }
}

/// Of one pod, `ns/pod`, which is endpoint 3.
fn policies() -> Policies {
    let mut policies = Policies::default();
    policies.endpoints.set(3, Arc::new(Endpoint { name: "ns/pod".into(), node_addresses: [].into() }));
    policies.addresses.insert(POD, Holder { identity: IdentityId(0), endpoint: Some(EndpointId(3)) });
    policies
}

fn drop(rule: RuleId, dst: IpAddr, dport: u16) -> PolicyDrop {
    let src = Ipv4Addr::new(192, 0, 2, 1).into();
    PolicyDrop {
        rule,
        direction: PolicyType::Ingress,
        endpoint: Some(EndpointId(3)),
        tuple: Tuple { src, dst, protocol: 6, sport: 1000, dport, icmp: None },
    }
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn drops_are_summed_by_rule_and_endpoint_the_latest_first() {
    let (mut rules, policies) = (RuleIds::default(), policies());
    let [first, second] = ["a", "b"].map(|policy| rules.give(name(policy)));
    let mut recent = RecentDrops::default();
    for (rule, port, seconds) in [(first, 80, 10), (second, 81, 11), (first, 82, 20), (RuleId::NONE, 83, 21)]
    {
        recent.take(&drop(rule, POD, port), &rules, &policies, at(seconds));
    }
    // Another pod's now, or nobody's.
    recent.take(&drop(first, Ipv4Addr::new(10, 0, 0, 9).into(), 84), &rules, &policies, at(22));
    let rows: Vec<_> = recent
        .rows(at(30))
        .into_iter()
        .map(|row| {
            let policy = row.rule.map_or("none".to_owned(), |rule| rule.policy);
            (policy, row.endpoint, row.count, row.last_seen_seconds_ago, row.last.dport)
        })
        .collect();
    let expected = [
        ("ns/a", "10.0.0.9", 1, 8, 84),
        ("none", "ns/pod", 1, 9, 83),
        ("ns/a", "ns/pod", 2, 10, 82),
        ("ns/b", "ns/pod", 1, 19, 81),
    ];
    assert_eq!(
        rows,
        expected.map(|(rule, pod, n, ago, port)| (rule.to_owned(), pod.to_owned(), n, ago, port))
    );
}

#[test]
fn a_rule_that_is_gone_keeps_its_name_until_another_has_its_number() {
    let (mut rules, policies) = (RuleIds::default(), policies());
    let id = rules.give(name("old"));
    let mut recent = RecentDrops::default();
    let mut row = |rules: &RuleIds| {
        recent.take(&drop(id, POD, 80), rules, &policies, at(0));
        let row = recent.rows(at(0)).remove(0);
        (row.rule.map(|rule| rule.policy), row.count)
    };
    assert_eq!(row(&rules), (Some("ns/old".to_owned()), 1));
    rules.take_back(id);
    assert_eq!(row(&rules), (Some("ns/old".to_owned()), 2), "a worker had not taken the change yet");
    let mut given = RuleIds::default();
    assert_eq!(given.give(name("new")), id);
    assert_eq!(row(&given), (Some("ns/new".to_owned()), 1));
}

#[test]
fn what_has_not_dropped_for_longest_makes_room() {
    let (rules, policies) = (RuleIds::default(), policies());
    let mut recent = RecentDrops::default();
    let number = |n: u32| RuleId(n);
    for n in 0..3 * KEPT as u32 {
        recent.take(&drop(number(n), POD, 80), &rules, &policies, at(1));
        recent.take(&drop(number(7), POD, 80), &rules, &policies, at(2));
    }
    let rows = recent.rows(at(2));
    assert_eq!((rows.len(), recent.entries.len(), recent.order.len()), (KEPT, KEPT, KEPT));
    assert_eq!(rows.iter().map(|row| row.count).max(), Some(3 * KEPT as u64 + 1), "it drops on and on");
}
