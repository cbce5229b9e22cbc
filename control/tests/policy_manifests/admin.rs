//! The policies of `policy.networking.k8s.io`.

use margay_control::selector::Selector;
use margay_control::state::policy::Order;

use crate::shown::{canonical, rules};
use crate::{load, object, policy, refused};

const PODS: &str = "projectcalico.org/orchestrator == 'k8s'";

fn cluster_policy(spec: &str) -> String {
    let spec = format!("priority: 5\ntier: Admin\nsubject: {{namespaces: {{}}}}\n{spec}");
    object("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy", "p", &spec)
}

fn admin_policy(spec: &str) -> String {
    let spec = format!("priority: 5\nsubject: {{namespaces: {{}}}}\n{spec}");
    object("policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy", "p", &spec)
}

fn baseline_policy(name: &str, spec: &str) -> String {
    let spec = format!("subject: {{namespaces: {{}}}}\n{spec}");
    object("policy.networking.k8s.io/v1alpha1", "BaselineAdminNetworkPolicy", name, &spec)
}

#[test]
fn each_kind_has_its_tier_and_the_priority_is_its_order() {
    let baseline = cluster_policy("").replace("Admin", "Baseline");
    for (text, tier, order) in [
        (cluster_policy(""), "kube-admin", Order::new(5.0)),
        (baseline, "kube-baseline", Order::new(5.0)),
        (admin_policy(""), "adminnetworkpolicy", Order::new(5.0)),
        (baseline_policy("default", ""), "baselineadminnetworkpolicy", Order::NONE),
    ] {
        let policy = policy(&text);
        assert_eq!((policy.tier.as_str(), policy.order), (tier, order));
        assert_eq!(policy.subject, Selector::parse(PODS).unwrap());
        // Without rules it says nothing, unlike a NetworkPolicy.
        assert_eq!((policy.ingress, policy.egress), (None, None));
    }
}

#[test]
fn the_subject_is_pods_by_namespace_or_by_namespace_and_label() {
    for (subject, expected) in [
        ("namespaces: {matchLabels: {n: m}}", "pcns.n == 'm'"),
        ("pods: {namespaceSelector: {}, podSelector: {matchLabels: {a: b}}}", "a == 'b'"),
        ("pods: {podSelector: {matchLabels: {a: b}}}", "a == 'b'"),
        (
            "pods: {namespaceSelector: {matchLabels: {n: m}}, podSelector: {matchLabels: {a: b}}}",
            "pcns.n == 'm' && a == 'b'",
        ),
    ] {
        let policy = policy(&cluster_policy("").replace("namespaces: {}", subject));
        assert_eq!(policy.subject, Selector::parse(&format!("{expected} && {PODS}")).unwrap(), "{subject}");
    }
}

#[test]
fn rules_have_names_actions_peers_and_ports() {
    for (egress, expected) in [
        (
            "- {name: one, action: Accept, to: [{namespaces: {matchLabels: {n: m}}}]}\n\
             - {action: Deny, to: [{pods: {namespaceSelector: {}, podSelector: {}}}, {networks: [10.0.0.0/8, 'fd00::/8']}]}\n\
             - {name: three, action: Pass, to: [{nodes: {matchLabels: {zone: a}}}]}",
            vec![
                format!("0 one Allow to [<pcns.n == 'm' && {PODS}>]"),
                format!("1 Deny to [<{PODS}>, 10.0.0.0/8, fd00::/8]"),
                "2 three Pass to [nodes <zone == 'a'>]".to_owned(),
            ],
        ),
        (
            "- action: Deny\n  to: [{networks: [10.0.0.0/8]}]\n  protocols:\n  \
             - {tcp: {destinationPort: {number: 80}}}\n  - {tcp: {destinationPort: {range: {start: 90, end: 99}}}}\n  \
             - {udp: {destinationPort: {number: 53}}}\n  - {sctp: {destinationPort: {number: 9}}}\n  \
             - {destinationNamedPort: web}",
            vec![
                "0 Deny to [10.0.0.0/8] ports web".to_owned(),
                "0 Deny protocol 6 to [10.0.0.0/8] ports 80,90-99".to_owned(),
                "0 Deny protocol 17 to [10.0.0.0/8] ports 53".to_owned(),
                "0 Deny protocol 132 to [10.0.0.0/8] ports 9".to_owned(),
            ],
        ),
    ] {
        let policy = policy(&cluster_policy(&format!("egress:\n{egress}")));
        let expected: Vec<_> = expected.iter().map(|rule| canonical(rule)).collect();
        assert_eq!(rules(policy.egress.as_deref()), expected, "{egress}");
    }
}

#[test]
fn the_older_kinds_write_ports_and_allow_otherwise() {
    let spec = "ingress:\n- action: Allow\n  from: [{namespaces: {}}]\n  ports:\n  - portNumber: {port: 80}\n  \
                - portNumber: {protocol: UDP, port: 53}\n  - portRange: {protocol: TCP, start: 90, end: 99}\n  \
                - namedPort: web";
    let expected = [
        format!("0 Allow from [<{PODS}>] to ports web"),
        format!("0 Allow protocol 6 from [<{PODS}>] to ports 80,90-99"),
        format!("0 Allow protocol 17 from [<{PODS}>] to ports 53"),
    ];
    for text in [admin_policy(spec), baseline_policy("default", spec)] {
        assert_eq!(rules(policy(&text).ingress.as_deref()), expected.clone().map(|rule| canonical(&rule)));
    }
}

#[test]
fn a_rule_that_cannot_be_enforced_fails_closed_and_the_rest_stands() {
    for (condition, field) in [
        ("to: [{domainNames: ['*.example.com']}]", "to[0].domainNames: domain names are not resolved"),
        ("to: [{networks: [10.0.0.0/8]}, {}]", "to[1]: has no field that is known here"),
        ("to: [{namespaces: null}]", "to[0]: has no field that is known here"),
        ("to: [{gateways: {}}]", "to[0].gateways: is a field that is not known here"),
        ("to: [{namespaces: {namespaceSelector: {}}}]", "to[0].namespaces.namespaceSelector: is a field"),
        ("to: [{networks: [10.0.0.0/8]}], until: 2030", "until: is a field that is not known here"),
        ("to: [{networks: [10.0.0.0/8]}], from: []", "from: is not a field of rules of this direction"),
        ("to: [{networks: [10.0.0.0/8]}], protocols: [{icmp: {}}]", "protocols[0].icmp: is a field"),
        ("to: [{networks: [10.0.0.0/8]}], protocols: [{tcp: {}}]", "protocols[0].tcp: has no field"),
    ] {
        for (action, effect, expected) in [
            ("Accept", "matches nothing", vec![]),
            ("Deny", "denies everything", vec!["1 Deny"]),
            ("Pass", "denies everything", vec!["1 Deny"]),
        ] {
            let first = "{action: Accept, to: [{networks: [10.0.0.0/8]}]}";
            let text = cluster_policy(&format!("egress:\n- {first}\n- {{action: {action}, {condition}}}"));
            let (cluster, problems) = load(&text);
            assert_eq!(problems.len(), 1, "{problems:?}");
            let problem = &problems[0];
            assert!(problem.starts_with("a.yaml:11: ClusterNetworkPolicy p: spec.egress[1]."), "{problem}");
            let ending = format!(": the rule {effect}; the rest is in force");
            assert!(problem.contains(field) && problem.ends_with(&ending), "{field}: {problem}");
            let policy = cluster.policies.values().next().unwrap();
            let mut all = vec!["0 Allow to [10.0.0.0/8]"];
            all.extend(expected);
            assert_eq!(rules(policy.egress.as_deref()), all, "{condition}");
        }
    }
}

#[test]
fn peers_of_egress_alone_are_not_known_in_ingress() {
    for peer in ["networks: [10.0.0.0/8]", "nodes: {}", "domainNames: [a.b]"] {
        let text = admin_policy(&format!("ingress: [{{action: Deny, from: [{{{peer}}}]}}]"));
        let (cluster, problems) = load(&text);
        assert!(problems[0].contains("is a field that is not known here: the rule denies everything"));
        assert_eq!(rules(cluster.policies.values().next().unwrap().ingress.as_deref()), ["0 Deny"]);
    }
}

#[test]
fn what_the_api_server_would_refuse_is_refused_as_a_whole() {
    let networks = "to: [{networks: [10.0.0.0/8]}]";
    let range =
        |range: &str| format!("action: Deny, {networks}, protocols: [{{tcp: {{destinationPort: {range}}}}}]");
    for (rule, expected) in [
        ("action: Log, to: []".to_owned(), "action: \"Log\" is none of Accept, Deny, Pass"),
        ("action: Allow, to: []".to_owned(), "action: \"Allow\" is none of Accept, Deny, Pass"),
        ("action: Accept".to_owned(), "to: is required, with one peer at least"),
        ("action: Accept, to: []".to_owned(), "to: is required, with one peer at least"),
        ("action: Accept, to: [{networks: []}]".to_owned(), "to[0].networks: is empty"),
        ("action: Accept, to: [{networks: [10.0.0.0/33]}]".to_owned(), "networks[0]: \"10.0.0.0/33\" is not"),
        ("action: Accept, to: [{nodes: {}, namespaces: {}}]".to_owned(), "to[0]: has namespaces and nodes"),
        ("action: Accept, to: [{pods: {namespaceSelector: {}}}]".to_owned(), "podSelector: is required"),
        (
            "action: Accept, to: [{nodes: {matchLabels: {a: 1}}}]".to_owned(),
            "to[0].nodes.matchLabels.a: invalid type",
        ),
        (
            "action: Accept, to: [{nodes: {matchExpressions: [{key: a, operator: Is}]}}]".to_owned(),
            "to[0].nodes.matchExpressions[0].operator: \"Is\" is none of",
        ),
        (range("{number: 0}"), "protocols[0].tcp.destinationPort.number: 0 is not a port"),
        (range("{number: 65536}"), "number: 65536 is not a port"),
        (range("{range: {start: 9, end: 8}}"), "destinationPort.range.end: 8 is below start 9"),
        (range("{range: {start: 0, end: 8}}"), "destinationPort.range.start: 0 is not a port"),
        (range("{number: 1, range: {start: 1, end: 8}}"), "has number and range"),
    ] {
        refused(&cluster_policy(&format!("egress:\n- {{{rule}}}")), expected);
    }
    refused(&admin_policy("egress: [{action: Accept, to: []}]"), "\"Accept\" is none of Allow, Deny, Pass");
    refused(
        &baseline_policy("default", "egress: [{action: Pass, to: []}]"),
        "\"Pass\" is none of Allow, Deny",
    );
    refused(&baseline_policy("other", ""), "metadata.name: \"other\" must be \"default\"");
    refused(&cluster_policy("").replace("Admin", "Other"), "spec.tier: \"Other\" is neither Admin nor");
    refused(&cluster_policy("").replace("priority: 5", "priority: 1001"), "spec.priority: is not a priority");
    refused(&cluster_policy("").replace("priority: 5", "priority: -1"), "spec.priority: is not a priority");
    refused(&cluster_policy("").replace("  priority: 5\n", ""), "spec.priority: is required");
    refused(&cluster_policy("").replace("namespaces: {}", ""), "spec.subject: has no field that is known");
}
