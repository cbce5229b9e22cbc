//! Input that is meant to hurt: it is refused by a short error, or taken, and nothing else suffers.

use std::fmt::Write;

use margay_control::state::policy::PolicyKind;

use crate::{load, object};

/// The text is read beside a good policy, which stands. The problems with the rest.
fn beside_a_good_one(text: &str) -> Vec<String> {
    let good = object("projectcalico.org/v3", "GlobalNetworkPolicy", "good", "selector: all()");
    let (cluster, problems) = load(&format!("{good}---\n{text}"));
    let stands = |kind, name: &str| cluster.policies.keys().any(|id| id.kind == kind && id.name.name == name);
    assert!(stands(PolicyKind::GlobalNetworkPolicy, "good"));
    for problem in &problems {
        assert!(problem.len() < 1000, "{}", &problem[..1000]);
    }
    problems
}

fn policy(spec: &str) -> String {
    object("projectcalico.org/v3", "GlobalNetworkPolicy", "p", spec)
}

#[test]
fn hostile_selectors_are_taken_or_refused_and_never_crash() {
    let or = |count: usize| {
        let terms: Vec<_> = (0..count).map(|i| format!("label-{i} == 'value {i}'")).collect();
        terms.join(" || ")
    };
    let nested = |depth| format!("{}a == 'b'{}", "(".repeat(depth), ")".repeat(depth));
    for (selector, expected) in [
        (or(10_000), None),
        (or(10_000).replace("||", "&&"), None),
        (or(5_000).replace("label", "!label"), None),
        (nested(50), None),
        (nested(100_000), Some("spec.selector: at byte")),
        ("(".repeat(1_000_000), Some("spec.selector: at byte")),
        ("!".repeat(1_000_001) + "all()", None),
        (format!("{} == 'b'", "a".repeat(1_000_000)), Some("spec.selector: at byte")),
        (format!("a == '{}'", "b".repeat(1_000_000)), None),
        (format!("a == '{}", "b".repeat(1_000_000)), Some("spec.selector: at byte")),
        (format!("a in {{{}}}", "'b',".repeat(100_000)), None),
        ("a == 'b' &&".repeat(100_000), Some("spec.selector: at byte")),
        ("\u{fffd}é\u{1f600}".to_owned(), Some("spec.selector: at byte")),
    ] {
        let text = quoted(&selector);
        let start: String = selector.chars().take(40).collect();
        let problems = beside_a_good_one(&policy(&format!("selector: {text}")));
        match expected {
            None => assert!(problems.is_empty(), "{start}: {problems:?}"),
            Some(expected) => {
                assert!(problems.len() == 1 && problems[0].contains(expected), "{start}: {problems:?}");
            }
        }
    }
}

/// The text as a YAML string in double quotes.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[test]
fn hostile_labels_are_refused_where_kubernetes_refuses_them() {
    let (long, longer) = ("a".repeat(64), "a".repeat(1_000_000));
    for (version, kind, labels, rest) in [
        ("v1", "Pod", format!("{{app: {longer}}}"), ""),
        ("v1", "Pod", format!("{{{longer}: b}}"), ""),
        ("v1", "Namespace", format!("{{app: {long}}}"), ""),
        ("v1", "ServiceAccount", format!("{{{long}: b}}"), ""),
        ("projectcalico.org/v3", "NetworkSet", "{'': b}".to_owned(), "spec: {nets: []}\n"),
        ("projectcalico.org/v3", "GlobalNetworkSet", format!("{{app: {long}}}"), "spec: {nets: []}\n"),
        (
            "projectcalico.org/v3",
            "HostEndpoint",
            format!("{{{long}: b}}"),
            "spec: {node: n, interfaceName: a}\n",
        ),
    ] {
        let text =
            format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a, labels: {labels}}}\n{rest}");
        let problems = beside_a_good_one(&text);
        assert!(problems.len() == 1 && problems[0].contains("metadata.labels"), "{kind} {problems:?}");
    }
    for labels in [format!("{{app: {longer}}}"), format!("{{{longer}: b}}")] {
        let spec = format!("podSelector: {{matchLabels: {labels}}}");
        let problems = beside_a_good_one(&object("networking.k8s.io/v1", "NetworkPolicy", "x/p", &spec));
        assert!(problems.len() == 1 && problems[0].contains("podSelector.matchLabels"), "{problems:?}");
    }
}

#[test]
fn hostile_values_of_rules_are_cut_where_shown() {
    let long = "9".repeat(1_000_000);
    for (rule, expected) in [
        (format!("action: 'A{long}'"), "action: "),
        (format!("action: Allow, protocol: '{long}'"), "protocol: "),
        (format!("action: Allow, protocol: TCP, destination: {{ports: ['{long}']}}"), "ports[0]: "),
        (format!("action: Allow, protocol: TCP, destination: {{ports: ['{long}:{long}']}}"), "ports[0]: "),
        (format!("action: Allow, source: {{nets: ['{long}']}}"), "nets[0]: "),
        (format!("action: Allow, source: {{services: {{name: '{long}'}}}}"), "services.name: "),
        ("action: Allow, protocol: 9223372036854775807".to_owned(), "protocol: "),
        ("action: Allow, ipVersion: -9223372036854775808".to_owned(), "ipVersion: "),
        ("action: Allow, protocol: TCP, source: {ports: [-1]}".to_owned(), "ports[0]: "),
    ] {
        let problems = beside_a_good_one(&policy(&format!("ingress: [{{{rule}}}]")));
        assert!(problems.len() == 1 && problems[0].contains(expected), "{expected} {problems:?}");
    }
}

#[test]
fn hostile_fields_are_cut_where_shown() {
    let long = "a".repeat(1_000_000);
    let admin = |peer: &str| {
        let rule = format!("{{action: Deny, to: [{peer}]}}");
        let spec = format!("priority: 1\nsubject: {{namespaces: {{}}}}\negress: [{rule}]");
        object("policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy", "p", &spec)
    };
    for (text, expected) in [
        (policy(&format!("{}: a", &long[..1000])), "unknown field"),
        (policy(&format!("order: {long}")), "spec.order: invalid type"),
        (policy(&format!("ingress: [{{action: Allow, {long}: b}}]")), "unknown field"),
        (admin(&format!("{{{long}: a}}")), "is a field that is not known here"),
        (admin(&format!("{{nodes: {{{long}: a}}}}")), "is a field that is not known here"),
        (admin(&format!("{{nodes: {long}}}")), "egress[0].to[0].nodes: invalid type"),
        (admin(&format!("{{domainNames: [{long}]}}")), "domain names are not resolved"),
    ] {
        let problems = beside_a_good_one(&text);
        assert!(problems.len() == 1 && problems[0].contains(expected), "{expected} {problems:?}");
    }
}

#[test]
fn a_policy_of_many_rules_is_read_whole() {
    let mut spec = "ingress:\n".to_owned();
    for i in 0..2000 {
        writeln!(spec, "- {{action: Allow, source: {{selector: \"app == 'a{i}'\"}}}}").unwrap();
    }
    assert_eq!(beside_a_good_one(&policy(spec.trim_end())), [""; 0]);
    let rules =
        |rule: &str| format!("priority: 1\nsubject: {{namespaces: {{}}}}\negress:\n{}", rule.repeat(2000));
    let text = object(
        "policy.networking.k8s.io/v1alpha1",
        "AdminNetworkPolicy",
        "p",
        &rules("- {action: Deny, to: [{}]}\n").trim_end().replace("\n\n", "\n"),
    );
    assert_eq!(beside_a_good_one(&text).len(), 2000);
}
