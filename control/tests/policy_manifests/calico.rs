//! Calico's policies: NetworkPolicy, GlobalNetworkPolicy and the staged ones.

use margay_control::selector::Selector;
use margay_control::state::policy::{HostUse, Order, PolicyKind, StagedAction};

use crate::shown::{canonical, rules};
use crate::{load, object, policy, refused};

const V3: &str = "projectcalico.org/v3";

fn namespaced(spec: &str) -> String {
    object(V3, "NetworkPolicy", "x/p", spec)
}

fn global(spec: &str) -> String {
    object(V3, "GlobalNetworkPolicy", "p", spec)
}

/// The one rule of an ingress list, without its index.
fn ingress_rule(text: &str) -> String {
    let rules = rules(policy(text).ingress.as_deref());
    rules[0].strip_prefix("0 ").unwrap().to_owned()
}

#[test]
fn types_are_those_written_else_of_the_rules_that_there_are() {
    for (spec, ingress, egress) in [
        ("order: 1", true, false),
        ("ingress: [{action: Allow}]", true, false),
        ("egress: [{action: Allow}]", false, true),
        ("ingress: []\negress: [{action: Allow}]", false, true),
        ("ingress: [{action: Allow}]\negress: [{action: Allow}]", true, true),
        ("types: [Egress]\ningress: [{action: Allow}]", false, true),
        ("types: [Ingress, Egress]", true, true),
    ] {
        for policy in [policy(&namespaced(spec)), policy(&global(spec))] {
            assert_eq!((policy.ingress.is_some(), policy.egress.is_some()), (ingress, egress), "{spec}");
        }
    }
}

#[test]
fn tier_and_order_are_as_written_else_default_and_last() {
    for (spec, tier, order) in [
        ("types: [Ingress]", "default", Order::NONE),
        ("tier: ''\norder: 10.5", "default", Order::new(10.5)),
        ("tier: security\norder: -3", "security", Order::new(-3.0)),
    ] {
        let policy = policy(&global(spec));
        assert_eq!((policy.tier.as_str(), policy.order), (tier, order), "{spec}");
    }
}

#[test]
fn the_subject_is_limited_to_the_namespace_of_a_namespaced_policy() {
    for (text, expected) in [
        (namespaced("selector: a == 'b'"), "a == 'b' && projectcalico.org/namespace == 'x'"),
        (namespaced("selector: all()"), "projectcalico.org/namespace == 'x'"),
        (
            namespaced("selector: a == 'b' || c == 'd'"),
            "(a == 'b' || c == 'd') && projectcalico.org/namespace == 'x'",
        ),
        (namespaced("serviceAccountSelector: has(a)"), "has(pcsa.a) && projectcalico.org/namespace == 'x'"),
        (global("order: 1"), ""),
        (global("selector: a == 'b'"), "a == 'b'"),
        (global("namespaceSelector: all()"), "has(projectcalico.org/namespace)"),
        (global("namespaceSelector: a == 'b'\nselector: c == 'd'"), "c == 'd' && pcns.a == 'b'"),
        (global("namespaceSelector: a != 'b'"), "pcns.a != 'b'"),
        (global("serviceAccountSelector: all()"), "has(projectcalico.org/serviceaccount)"),
    ] {
        assert_eq!(policy(&text).subject, Selector::parse(expected).unwrap(), "{text}");
    }
}

#[test]
fn a_rules_end_is_a_conjunction_of_what_is_written() {
    // The end; what it is in a policy of namespace x; what it is in a global policy.
    for (source, in_namespaced, in_global) in [
        ("", "", ""),
        (
            "selector: a == 'b'",
            " from [<a == 'b' && projectcalico.org/namespace == 'x'>]",
            " from [<a == 'b'>]",
        ),
        (
            "selector: a == 'b', namespaceSelector: all()",
            " from [<a == 'b' && has(projectcalico.org/namespace)>]",
            " from [<a == 'b' && has(projectcalico.org/namespace)>]",
        ),
        (
            "selector: a == 'b', namespaceSelector: global()",
            " from [<a == 'b' && !has(projectcalico.org/namespace)>]",
            " from [<a == 'b' && !has(projectcalico.org/namespace)>]",
        ),
        (
            "namespaceSelector: n == 'm' || n == 'o'",
            " from [<pcns.n == 'm' || pcns.n == 'o'>]",
            " from [<pcns.n == 'm' || pcns.n == 'o'>]",
        ),
        (
            "notSelector: a == 'b'",
            " from [<projectcalico.org/namespace == 'x'>] not <a == 'b'>",
            " from not <a == 'b'>",
        ),
        (
            "serviceAccounts: {names: [s, t], selector: has(r)}",
            " from [<projectcalico.org/namespace == 'x' && has(pcsa.r) && (projectcalico.org/serviceaccount == 's' || projectcalico.org/serviceaccount == 't')>]",
            " from [<has(pcsa.r) && (projectcalico.org/serviceaccount == 's' || projectcalico.org/serviceaccount == 't')>]",
        ),
        ("serviceAccounts: {}", "", ""),
        (
            "selector: has(a), nets: [10.0.0.0/8, 192.0.2.1], notNets: [10.1.0.0/16]",
            " IPv4 from [<has(a) && projectcalico.org/namespace == 'x'>] [10.0.0.0/8, 192.0.2.1/32] not 10.1.0.0/16",
            " IPv4 from [<has(a)>] [10.0.0.0/8, 192.0.2.1/32] not 10.1.0.0/16",
        ),
        ("nets: []", "", ""),
        ("nets: [10.0.0.0/8, 'fd00::/8']", " from [10.0.0.0/8, fd00::/8]", " from [10.0.0.0/8, fd00::/8]"),
        ("notNets: ['fd00::/8']", " IPv6 from not fd00::/8", " IPv6 from not fd00::/8"),
        ("services: {name: s, namespace: n}", " from [service n/s]", " from [service n/s]"),
    ] {
        let spec = format!("ingress: [{{action: Allow, source: {{{source}}}}}]");
        assert_eq!(ingress_rule(&namespaced(&spec)), canonical(&format!("Allow{in_namespaced}")), "{source}");
        assert_eq!(ingress_rule(&global(&spec)), canonical(&format!("Allow{in_global}")), "{source}");
    }
}

#[test]
fn a_rule_is_a_conjunction_of_its_conditions() {
    for (rule, expected) in [
        ("action: Log", "Log"),
        ("action: pass", "Pass"),
        ("action: Deny, ipVersion: 6", "Deny IPv6"),
        ("action: Deny, protocol: TCP", "Deny protocol 6"),
        ("action: Deny, protocol: udplite", "Deny protocol 136"),
        ("action: Deny, protocol: 47", "Deny protocol 47"),
        ("action: Deny, protocol: '47'", "Deny protocol 47"),
        ("action: Deny, notProtocol: ICMPv6", "Deny protocol not 58"),
        ("action: Deny, protocol: ICMP, icmp: {type: 8, code: 0}", "Deny protocol 1 icmp 8/0"),
        (
            "action: Deny, protocol: ICMP, icmp: {type: 8}, notICMP: {type: 3}",
            "Deny protocol 1 icmp 8/any icmp not 3/any",
        ),
        ("action: Deny, protocol: ICMPv6, icmp: {}", "Deny protocol 58"),
        (
            "action: Allow, protocol: TCP, destination: {ports: [80, '90:99', '100', web, a_B.c]}",
            "Allow protocol 6 to ports 80,90-99,100,web,a_B.c",
        ),
        (
            "action: Allow, protocol: SCTP, source: {notPorts: [1]}, destination: {ports: ['1:65535'], notPorts: [web]}",
            "Allow protocol 132 from notPorts 1 to ports 1-65535 notPorts web",
        ),
        ("action: Allow, destination: {ports: [web]}", "Allow to ports web"),
        ("action: Allow, metadata: {annotations: {a: b}}", "Allow"),
        // Nothing is of both families.
        (
            "action: Allow, source: {nets: [10.0.0.0/8]}, destination: {nets: ['fd00::/8']}",
            "Allow from [] to [fd00::/8]",
        ),
        (
            "action: Allow, source: {nets: [10.0.0.0/8]}, destination: {nets: ['fd00::/8', 11.0.0.0/8]}",
            "Allow IPv4 from [10.0.0.0/8] to [fd00::/8, 11.0.0.0/8]",
        ),
    ] {
        assert_eq!(ingress_rule(&global(&format!("ingress: [{{{rule}}}]"))), expected, "{rule}");
    }
}

#[test]
fn a_service_in_an_egress_rule_means_its_ports_too() {
    let policy = policy(&namespaced("egress: [{action: Allow, destination: {services: {name: s}}}]"));
    assert_eq!(rules(policy.egress.as_deref()), ["0 Allow to ports service x/s"]);
}

#[test]
fn host_endpoints_are_meant_as_written() {
    let host =
        |apply_on_forward, pre_dnat, do_not_track| HostUse { apply_on_forward, pre_dnat, do_not_track };
    for (spec, expected) in [
        ("order: 1", host(false, false, false)),
        ("applyOnForward: true", host(true, false, false)),
        ("preDNAT: true", host(true, true, false)),
        ("doNotTrack: true\napplyOnForward: true\ntypes: [Ingress, Egress]", host(true, false, true)),
        ("preDNAT: false\ndoNotTrack: false\napplyOnForward: false", host(false, false, false)),
    ] {
        assert_eq!(policy(&global(spec)).host, expected, "{spec}");
    }
}

#[test]
fn staged_policies_say_what_they_stage() {
    let global = |spec: &str| object(V3, "StagedGlobalNetworkPolicy", "p", spec);
    for (spec, action) in [
        ("order: 1", StagedAction::Set),
        ("stagedAction: Set", StagedAction::Set),
        ("stagedAction: Learn", StagedAction::Learn),
        ("stagedAction: Ignore", StagedAction::Ignore),
    ] {
        let policy = policy(&global(spec));
        assert_eq!((policy.staged, policy.ingress.is_some()), (Some(action), true), "{spec}");
    }
    let deletion = policy(&global("stagedAction: Delete\ntier: security"));
    assert_eq!((deletion.tier.as_str(), deletion.staged), ("security", Some(StagedAction::Delete)));
    assert_eq!((deletion.subject, deletion.ingress, deletion.egress), (Selector::none(), None, None));

    let spec = "selector: a == 'b'\negress: [{action: Deny, destination: {selector: c == 'd'}}]";
    let staged = policy(&object(V3, "StagedNetworkPolicy", "x/p", spec));
    let enforced = policy(&namespaced(spec));
    assert_eq!((staged.subject, staged.egress), (enforced.subject, enforced.egress));

    let spec = "podSelector: {}\ningress: [{from: [{podSelector: {}}], ports: [{port: 80}]}]";
    let text = object(V3, "StagedKubernetesNetworkPolicy", "x/p", &format!("stagedAction: Set\n{spec}"));
    let staged = policy(&text);
    let enforced = policy(&object("networking.k8s.io/v1", "NetworkPolicy", "x/p", spec));
    assert_eq!(staged.staged, Some(StagedAction::Set));
    assert_eq!(
        (staged.order, staged.subject, staged.ingress),
        (enforced.order, enforced.subject, enforced.ingress)
    );
}

#[test]
fn both_groups_and_both_forms_of_a_name_are_one_policy() {
    let spec = "selector: a == 'b'\ningress: [{action: Allow}]";
    for (kind, new, old) in [
        ("NetworkPolicy", "x/p", "x/default.p"),
        ("GlobalNetworkPolicy", "p", "default.p"),
        ("StagedNetworkPolicy", "x/p", "x/default.p"),
        ("StagedGlobalNetworkPolicy", "p", "default.p"),
    ] {
        let text = format!(
            "{}---\n{}",
            object(V3, kind, new, spec),
            object("crd.projectcalico.org/v1", kind, old, &format!("tier: default\n{spec}")),
        );
        let (cluster, problems) = load(&text);
        assert_eq!((cluster.policies.len(), &problems[..]), (1, &[][..]), "{kind}");
        let differs = text.replace("tier: default", "order: 7");
        let (cluster, problems) = load(&differs);
        assert_eq!((cluster.policies.len(), problems.len()), (1, 1), "{kind}");
        assert!(problems[0].contains("is already defined at a.yaml:1"), "{problems:?}");
    }
    // The older group keeps the name of the newer in an annotation.
    let annotation = "metadata:\n  annotations: {projectcalico.org/metadata: '{\"name\": \"p\"}'}\n";
    let spec = format!("tier: security\n{spec}");
    let annotated = object("crd.projectcalico.org/v1", "GlobalNetworkPolicy", "security.p", &spec)
        .replace("metadata:\n", annotation);
    let (cluster, problems) = load(&format!("{}---\n{annotated}", global(&spec)));
    assert_eq!((cluster.policies.len(), &problems[..]), (1, &[][..]));
    let (_, problems) = load(&annotated.replace("{\"name", "[{\"name"));
    assert!(problems[0].contains("metadata.annotations[\"projectcalico.org/metadata\"]: is no JSON"));
    // In the newer form the prefix is a part of the name, and so it is where the annotation says the name.
    let unlike = global("order: 7").replace("name: p", "name: default.p");
    let annotated = object("crd.projectcalico.org/v1", "GlobalNetworkPolicy", "hash", "order: 8")
        .replace("metadata:\n", &annotation.replace("\"p\"", "\"default.default.p\""));
    let (cluster, problems) = load(&format!("{}---\n{unlike}---\n{annotated}", global("order: 6")));
    assert_eq!((cluster.policies.len(), &problems[..]), (3, &[][..]));
    // So it is in another tier.
    let (cluster, _) = load(&global("tier: security").replace("name: p", "name: security.p"));
    assert_eq!(cluster.policies.keys().next().unwrap().to_string(), "GlobalNetworkPolicy security.p");
}

#[test]
fn policies_of_one_name_and_of_several_kinds_stand_side_by_side() {
    let spec = "types: [Ingress]";
    let kubernetes = object("networking.k8s.io/v1", "NetworkPolicy", "x/p", "podSelector: {}");
    let (cluster, problems) = load(&format!("{}---\n{}---\n{kubernetes}", namespaced(spec), global(spec)));
    let kinds: Vec<_> = cluster.policies.keys().map(|id| id.kind).collect();
    let expected =
        [PolicyKind::NetworkPolicy, PolicyKind::CalicoNetworkPolicy, PolicyKind::GlobalNetworkPolicy];
    assert_eq!((kinds.as_slice(), &problems[..]), (&expected[..], &[][..]));
}

#[test]
fn what_is_wrong_with_a_policy_is_named() {
    for (spec, expected) in [
        ("selector: a = 'b'", "a.yaml:7: CalicoNetworkPolicy x/p: spec.selector: at byte"),
        ("selector: global()", "spec.selector: global() stands alone in the namespaceSelector of a rule"),
        ("serviceAccountSelector: '!'", "spec.serviceAccountSelector: at byte"),
        ("namespaceSelector: all()", "spec.namespaceSelector: is for policies without a namespace"),
        ("applyOnForward: true", "spec.applyOnForward: is for policies without a namespace"),
        ("preDNAT: true", "spec.preDNAT: is for policies without a namespace"),
        ("doNotTrack: true", "spec.doNotTrack: is for policies without a namespace"),
        ("types: [Ingres]", "spec.types[0]: \"Ingres\" is neither Ingress nor Egress"),
        ("tier: A", "spec.tier: \"A\" is not a name"),
        ("stagedAction: Set", "spec.stagedAction: is for the staged kinds alone"),
        ("selecter: a == 'b'", "unknown field `selecter`"),
        ("order: first", "spec.order: invalid type"),
    ] {
        refused(&namespaced(spec), expected);
    }
    for (spec, expected) in [
        ("preDNAT: true\nequals: 1", "unknown field `equals`"),
        ("preDNAT: true\ndoNotTrack: true", "spec.preDNAT: stands beside doNotTrack"),
        ("preDNAT: true\napplyOnForward: false", "spec.applyOnForward: must be true beside preDNAT"),
        ("preDNAT: true\negress: [{action: Allow}]", "spec.preDNAT: is for what comes in"),
        ("preDNAT: true\ntypes: [Egress]", "spec.preDNAT: is for what comes in"),
        ("namespaceSelector: global()", "spec.namespaceSelector: global() stands alone"),
    ] {
        refused(&global(spec), expected);
    }
    let staged = object(V3, "StagedNetworkPolicy", "x/p", "stagedAction: Undo");
    refused(&staged, "StagedNetworkPolicy x/p: spec.stagedAction: \"Undo\" is none of Set, Delete, Learn");
}

#[test]
fn what_is_wrong_with_a_rule_is_named() {
    for (rule, expected) in [
        ("action: Accept", "spec.ingress[0].action: \"Accept\" is none of Allow, Deny, Log, Pass"),
        ("protocol: TCP", "missing field `action`"),
        ("action: Allow, http: {methods: [GET]}", "spec.ingress[0].http: is about HTTP requests"),
        ("action: Allow, protocol: TPC", "protocol: \"TPC\" is no protocol"),
        ("action: Allow, protocol: 0", "protocol: 0 is no protocol"),
        ("action: Allow, notProtocol: 256", "notProtocol: 256 is no protocol"),
        ("action: Allow, ipVersion: 5", "ipVersion: 5 is neither 4 nor 6"),
        ("action: Allow, icmp: {type: 8}", "icmp: needs protocol ICMP or ICMPv6 beside it"),
        ("action: Allow, protocol: ICMP, icmp: {code: 8}", "icmp.code: stands without a type"),
        ("action: Allow, protocol: ICMP, icmp: {type: 255}", "icmp.type: is not from 0 to 254"),
        ("action: Allow, notICMP: {type: 3, code: 256}", "notICMP.code: is not from 0 to 255"),
        ("action: Allow, protocol: ICMP, ipVersion: 6", "protocol: ICMP is of IPv4"),
        ("action: Allow, notProtocol: ICMPv6, ipVersion: 4", "notProtocol: ICMPv6 is of IPv6"),
        ("action: Allow, destination: {ports: [80]}", "destination.ports: needs protocol TCP, UDP or SCTP"),
        ("action: Allow, protocol: ICMP, source: {notPorts: [a]}", "source.notPorts: needs protocol TCP"),
        ("action: Allow, protocol: TCP, destination: {ports: [0]}", "destination.ports[0]: 0 is not a port"),
        ("action: Allow, protocol: TCP, destination: {ports: [1, 65536]}", "ports[1]: 65536 is not a port"),
        ("action: Allow, protocol: TCP, destination: {ports: ['65536']}", "\"65536\" is not a port"),
        ("action: Allow, protocol: TCP, destination: {ports: ['9:8']}", "\"9:8\" ends below its beginning"),
        ("action: Allow, protocol: TCP, destination: {ports: ['0:8']}", "\"0\" is not a port"),
        ("action: Allow, protocol: TCP, destination: {ports: ['a b']}", "\"a b\" is neither a port, nor"),
        ("action: Allow, protocol: TCP, destination: {ports: ['']}", "\"\" is neither a port, nor"),
        ("action: Allow, protocol: TCP, destination: {ports: [1.5]}", "destination.ports[0]: invalid type"),
        ("action: Allow, source: {nets: [10.0.0.0/33]}", "source.nets[0]: \"10.0.0.0/33\" is not a CIDR"),
        ("action: Allow, source: {notNets: [a.b]}", "source.notNets[0]: \"a.b\" is neither a CIDR nor an IP"),
        ("action: Allow, ipVersion: 4, source: {nets: ['::/0']}", "source.nets: holds nothing of IPv4"),
        ("action: Allow, source: {selector: a ==}", "source.selector: at byte"),
        ("action: Allow, source: {selector: global()}", "source.selector: global() stands alone"),
        ("action: Allow, source: {notSelector: (a}", "source.notSelector: at byte"),
        (
            "action: Allow, source: {namespaceSelector: global() && all()}",
            "namespaceSelector: global() stands",
        ),
        ("action: Allow, source: {serviceAccounts: {selector: a}}", "serviceAccounts.selector: at byte"),
        ("action: Allow, source: {domains: [a.b]}", "unknown field `domains`"),
        ("action: Allow, source: {services: {namespace: n}}", "services.name: is required"),
        (
            "action: Allow, source: {services: {name: s}}",
            "services.namespace: is required in a policy without",
        ),
        (
            "action: Allow, source: {services: {name: s, namespace: n}, nets: [10.0.0.0/8]}",
            "stand beside nets",
        ),
        (
            "action: Allow, destination: {services: {name: s, namespace: n}}",
            "destination.services: stand in the source",
        ),
    ] {
        refused(&global(&format!("ingress: [{{{rule}}}]")), expected);
    }
    let services = "services: {name: s, namespace: n}";
    let rule = format!("egress: [{{action: Allow, protocol: TCP, destination: {{{services}, ports: [1]}}}}]");
    refused(&global(&rule), "destination.services: stand beside ports or notPorts");
    refused(
        &global(&format!("egress: [{{action: Allow, source: {{{services}}}}}]")),
        "source.services: stand in the source of an ingress rule",
    );
}
