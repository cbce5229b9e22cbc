//! `networking.k8s.io/v1` NetworkPolicy.

use margay_control::selector::Selector;
use margay_control::state::policy::{HostUse, Order};

use crate::shown::{canonical, rules};
use crate::{object, policy};

const PODS_OF_X: &str = "projectcalico.org/namespace == 'x' && projectcalico.org/orchestrator == 'k8s'";

fn written(spec: &str) -> String {
    object("networking.k8s.io/v1", "NetworkPolicy", "x/p", spec)
}

#[test]
fn it_stands_in_the_default_tier_at_1000_and_is_for_pods_of_its_namespace() {
    let policy = policy(&written("podSelector: {matchLabels: {app: web}}"));
    assert_eq!((policy.tier.as_str(), policy.order), ("default", Order::new(1000.0)));
    assert_eq!(policy.subject, Selector::parse(&format!("app == 'web' && {PODS_OF_X}")).unwrap());
    assert_eq!((policy.staged, policy.host), (None, HostUse::default()));
}

#[test]
fn directions_are_those_of_policy_types_else_ingress_and_that_of_egress_rules() {
    for (spec, ingress, egress) in [
        ("podSelector: {}", true, false),
        ("podSelector: {}\negress: []", true, false),
        ("podSelector: {}\negress: [{}]", true, true),
        ("podSelector: {}\npolicyTypes: [Egress]\ningress: [{}]", false, true),
        ("podSelector: {}\npolicyTypes: [Ingress, Egress]", true, true),
    ] {
        let policy = policy(&written(spec));
        assert_eq!((policy.ingress.is_some(), policy.egress.is_some()), (ingress, egress), "{spec}");
    }
}

#[test]
fn peers_are_pods_or_blocks_and_ports_go_by_protocol() {
    for (ingress, expected) in [
        ("- {}", vec!["0 Allow"]),
        ("- from: []\n  ports: []", vec!["0 Allow"]),
        (
            "- {}\n- from: [{podSelector: {matchLabels: {a: b}}}]",
            vec!["0 Allow", &format!("1 Allow from [<a == 'b' && {PODS_OF_X}>]")],
        ),
        (
            "- from:\n  - namespaceSelector: {}\n  - namespaceSelector: {matchLabels: {n: m}}\n    podSelector: {matchExpressions: [{key: a, operator: DoesNotExist}]}",
            vec![
                "0 Allow from [<projectcalico.org/orchestrator == 'k8s'>, \
                 <!has(a) && pcns.n == 'm' && projectcalico.org/orchestrator == 'k8s'>]",
            ],
        ),
        (
            "- from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]",
            vec!["0 Allow from [10.0.0.0/8 except [10.1.0.0/16]]"],
        ),
        (
            "- ports: [{port: 80}, {port: http}, {port: 90, endPort: 99}, {port: 53, protocol: UDP}]",
            vec!["0 Allow protocol 6 to ports 80,http,90-99", "0 Allow protocol 17 to ports 53"],
        ),
        ("- ports: [{port: 80}, {protocol: TCP}]", vec!["0 Allow protocol 6"]),
        ("- ports: [{protocol: SCTP}, {protocol: SCTP, port: 80}]", vec!["0 Allow protocol 132"]),
    ] {
        let policy = policy(&written(&format!("ingress:\n{ingress}")));
        let expected: Vec<_> = expected.into_iter().map(canonical).collect();
        assert_eq!(rules(policy.ingress.as_deref()), expected, "{ingress}");
    }
}

#[test]
fn egress_peers_and_ports_are_the_destination() {
    let policy = policy(&written("egress:\n- to: [{podSelector: {}}]\n  ports: [{port: 80}]"));
    let expected = canonical(&format!("0 Allow protocol 6 to [<{PODS_OF_X}>] ports 80"));
    assert_eq!(rules(policy.egress.as_deref()), [expected]);
}
