//! What policies refer to: tiers, network sets, host endpoints, service accounts.

use margay_control::manifest::load_dir;
use margay_control::state::policy::{Order, TierAction, TierSpec};
use margay_control::state::{Name, Protocol};

use crate::{load, object};

const V3: &str = "projectcalico.org/v3";

fn refused(text: &str, expected: &str) {
    let (_, problems) = load(text);
    assert!(
        problems.len() == 1 && problems[0].contains(expected),
        "{text}expected {expected}, got {problems:?}"
    );
}

#[test]
fn a_tier_has_an_order_and_a_default_action() {
    for (spec, order, default_action) in [
        ("{}", Order::NONE, TierAction::Deny),
        ("order: 10\ndefaultAction: Pass", Order::new(10.0), TierAction::Pass),
        ("order: 1.5\ndefaultAction: Deny", Order::new(1.5), TierAction::Deny),
    ] {
        let (cluster, problems) = load(&object(V3, "Tier", "t", spec));
        assert_eq!((*cluster.tiers["t"], problems), (TierSpec { order, default_action }, vec![]), "{spec}");
    }
    refused(
        &object(V3, "Tier", "t", "defaultAction: Allow"),
        "Tier t: spec.defaultAction: \"Allow\" is neither",
    );
    refused(&object(V3, "Tier", "a.b", "{}"), "metadata.name: \"a.b\" has a dot");
}

#[test]
fn tiers_that_are_always_there_stay_what_they_are() {
    for (name, expected) in TierSpec::IMPLIED {
        for spec in ["{}".to_owned(), format!("order: {}", expected.order)] {
            let (cluster, problems) = load(&object(V3, "Tier", name, &spec));
            assert_eq!((*cluster.tiers[name], problems), (expected, vec![]), "{name} {spec}");
        }
        refused(&object(V3, "Tier", name, "order: 7"), "spec.order: must be ");
        let other = if expected.default_action == TierAction::Deny { "Pass" } else { "Deny" };
        refused(
            &object(V3, "Tier", name, &format!("defaultAction: {other}")),
            "spec.defaultAction: must be ",
        );
    }
}

#[test]
fn network_sets_have_labels_and_nets() {
    let labelled = |kind, name| {
        object(V3, kind, name, "nets: [10.0.0.0/8, 192.0.2.1, 'fd00::/8']")
            .replace("metadata:\n", "metadata:\n  labels: {role: partner}\n")
    };
    for (text, key) in [
        (labelled("NetworkSet", "x/s"), Name::new("x", "s")),
        (labelled("GlobalNetworkSet", "s"), Name::new("", "s")),
    ] {
        let (cluster, problems) = load(&text);
        let set = &cluster.network_sets[&key];
        let nets: Vec<_> = set.nets.iter().map(ToString::to_string).collect();
        assert_eq!((nets.join(" "), problems), ("10.0.0.0/8 192.0.2.1/32 fd00::/8".to_owned(), vec![]));
        assert_eq!(set.labels["role"], "partner");
    }
    refused(&object(V3, "NetworkSet", "x/s", "nets: [10.0.0.0/33]"), "NetworkSet x/s: spec.nets[0]: ");
    let text = labelled("GlobalNetworkSet", "s").replace("role", "projectcalico.org/namespace");
    refused(&text, "metadata.labels[\"projectcalico.org/namespace\"]: is given by the set's namespace");
}

#[test]
fn labels_of_the_other_api_groups_form_count() {
    let annotation =
        "metadata:\n  annotations: {projectcalico.org/metadata: '{\"labels\": {\"a\": \"b\"}}'}\n";
    let text = object("crd.projectcalico.org/v1", "GlobalNetworkSet", "s", "nets: []")
        .replace("metadata:\n", annotation);
    let (cluster, problems) = load(&text);
    assert_eq!((cluster.network_sets[&Name::new("", "s")].labels["a"].as_str(), problems), ("b", vec![]));
    refused(
        &text.replace("\"b\"", "[]"),
        "metadata.annotations[\"projectcalico.org/metadata\"].labels.a: invalid type",
    );
}

#[test]
fn members_of_a_set_that_are_no_addresses_are_named_and_the_others_stand() {
    let text = object(V3, "GlobalNetworkSet", "s", "nets: [10.0.0.0/8]\nallowedEgressDomains: [a.b]");
    let (cluster, problems) = load(&text);
    assert_eq!(cluster.network_sets[&Name::new("", "s")].nets.len(), 1);
    assert_eq!(
        problems,
        [
            "a.yaml:7: GlobalNetworkSet s: spec.allowedEgressDomains: is not known here: what it names is not in the set; \
          the rest is in force"
        ]
    );
}

#[test]
fn a_host_endpoint_is_an_interface_of_a_node() {
    let spec = "node: n\ninterfaceName: '*'\nexpectedIPs: [192.0.2.1, 'fd00::1']\nprofiles: [a]\n\
                ports: [{name: web, protocol: TCP, port: 80}]";
    let text = object(V3, "HostEndpoint", "h", spec).replace("metadata:\n", "metadata:\n  labels: {a: b}\n");
    let (cluster, problems) = load(&text);
    assert!(problems.is_empty(), "{problems:?}");
    let endpoint = &cluster.host_endpoints["h"];
    assert_eq!((endpoint.node.as_str(), endpoint.interface.as_deref()), ("n", Some("*")));
    assert_eq!((endpoint.expected.len(), endpoint.labels["a"].as_str()), (2, "b"));
    assert_eq!((endpoint.ports[0].protocol, endpoint.ports[0].port), (Protocol::TCP, 80));
    for (spec, expected) in [
        ("interfaceName: eth0", "HostEndpoint h: spec.node: \"\" is not a name"),
        ("node: n", "spec.interfaceName: is required where there are no expectedIPs"),
        ("node: n\ninterfaceName: a/b", "spec.interfaceName: \"a/b\" is neither an interface's name nor *"),
        ("node: n\nexpectedIPs: [10.0.0.0/8]", "spec.expectedIPs[0]: \"10.0.0.0/8\" is not an IP address"),
        (
            "node: n\ninterfaceName: a\nports: [{name: web, protocol: ICMP, port: 80}]",
            "spec.ports[0].protocol: has no ports",
        ),
        (
            "node: n\ninterfaceName: a\nports: [{name: web, protocol: UDP, port: 0}]",
            "spec.ports[0].port: 0 is not a port",
        ),
    ] {
        refused(&object(V3, "HostEndpoint", "h", spec), expected);
    }
}

#[test]
fn pods_have_a_service_account_and_these_have_labels() {
    let pod = |name: &str, spec: &str| {
        format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: x}}\nspec: {spec}\n---\n")
    };
    let account =
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: s, namespace: x, labels: {role: r}}\n";
    let text =
        pod("a", "{serviceAccountName: s}") + &pod("b", "{serviceAccount: old}") + &pod("c", "{}") + account;
    let (cluster, problems) = load(&text);
    assert!(problems.is_empty(), "{problems:?}");
    let of = |name| cluster.pods[&Name::new("x", name)].service_account.as_str();
    assert_eq!((of("a"), of("b"), of("c")), ("s", "old", "default"));
    assert_eq!(cluster.service_accounts[&Name::new("x", "s")].labels["role"], "r");
}

#[test]
fn what_stands_in_part_is_no_last_good_version() {
    let spec = "priority: 5\nsubject: {namespaces: {}}\negress: [{action: Deny, to: [{domainNames: [a.b]}]}]";
    let text = object("policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy", "p", spec);
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a.yaml"), text).unwrap();
    let (cluster, problems) = load_dir(directory.path()).unwrap();
    assert_eq!((cluster.policies.len(), problems.len()), (1, 1));
    assert!(problems[0].is_in_part() && !problems[0].last_good_stands && !problems[0].is_skip());
}
