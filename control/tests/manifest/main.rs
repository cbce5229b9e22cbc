//! Reading directories of manifests: what is taken, and how what is wrong is named.

mod objects;

use std::fs;

use margay_control::manifest::{Problem, load_dir};
use margay_control::state::{Cluster, Name};

fn load(files: &[(&str, &str)]) -> (Cluster, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    let (cluster, problems) = load_dir(directory.path()).unwrap();
    let prefix = format!("{}/", directory.path().display());
    let shown = |problem: &Problem| problem.to_string().replace(&prefix, "");
    (cluster, problems.iter().map(shown).collect())
}

fn policy(spec: &str) -> String {
    let indented = spec.replace('\n', "\n  ");
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: p\n  namespace: x\nspec:\n  {indented}\n"
    )
}

#[test]
fn what_the_api_server_refuses_is_named_with_line_field_and_reason() {
    for (spec, line, expected) in [
        (
            "podSelector: {}\npolicyTypes: [Ingres]",
            8,
            "spec.policyTypes[0]: \"Ingres\" is neither Ingress nor Egress",
        ),
        ("policyTypes: [Ingress, Egress, Ingress]", 7, "spec.policyTypes: holds more than"),
        ("ingress:\n- ports:\n  - port: 0", 9, "spec.ingress[0].ports[0].port: 0 is not a port (1 to 65535)"),
        ("ingress:\n- ports:\n  - port: 65536", 9, "65536 is not a port"),
        (
            "ingress:\n- ports:\n  - port: 80\n    endPort: 79",
            10,
            "spec.ingress[0].ports[0].endPort: 79 is below port 80",
        ),
        ("ingress:\n- ports:\n  - port: http\n    endPort: 90", 10, "cannot stand beside a port name"),
        ("ingress:\n- ports:\n  - endPort: 90", 9, "needs a port that the range begins with"),
        ("ingress:\n- ports:\n  - port: '80'", 9, "\"80\" is not a port name"),
        ("ingress:\n- ports:\n  - protocol: tcp", 9, "\"tcp\" is none of TCP, UDP, SCTP"),
        (
            "egress:\n- to:\n  - ipBlock:\n      cidr: 10.0.0.0/33",
            10,
            "spec.egress[0].to[0].ipBlock.cidr: \"10.0.0.0/33\" is not a CIDR",
        ),
        ("egress:\n- to:\n  - ipBlock: {}", 9, "ipBlock.cidr: \"\" is not a CIDR"),
        (
            "egress:\n- to:\n  - ipBlock:\n      cidr: 10.0.0.0/8\n      except:\n      - 11.0.0.0/16",
            12,
            "spec.egress[0].to[0].ipBlock.except[0]: 11.0.0.0/16 is not a part of 10.0.0.0/8",
        ),
        (
            "egress:\n- to:\n  - ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}",
            9,
            "10.0.0.0/8 is not a part of",
        ),
        (
            "egress:\n- to:\n  - ipBlock: {cidr: 10.0.0.0/8, except: ['fd00::/8']}",
            9,
            "fd00::/8 is not a part of",
        ),
        ("egress:\n- to:\n  - {}", 9, "is empty: it needs podSelector"),
        (
            "egress:\n- to:\n  - ipBlock: {cidr: 10.0.0.0/8}\n    podSelector: {}",
            9,
            "ipBlock stands beside a selector",
        ),
        (
            "podSelector:\n  matchExpressions:\n  - key: a\n    operator: Is",
            10,
            "operator: \"Is\" is none of In, NotIn",
        ),
        ("podSelector:\n  matchExpressions:\n  - key: a\n    operator: In", 9, "values: is empty"),
        (
            "podSelector:\n  matchExpressions:\n  - key: a\n    operator: Exists\n    values: [b]",
            11,
            "values: must be empty",
        ),
        (
            "podSelector:\n  matchExpressions:\n  - key: a b\n    operator: Exists",
            9,
            "\"a b\" is not a label key",
        ),
        (
            "podSelector:\n  matchLabels:\n    app: 'not a value'",
            9,
            "spec.podSelector.matchLabels.app: \"not a value\" is not",
        ),
        ("podSelector:\n  matchLabels:\n    app: 1", 9, "invalid type: integer `1`, expected a string"),
        ("ingress: {}", 7, "spec.ingress: invalid type: map"),
    ] {
        let (cluster, problems) = load(&[("a.yaml", &policy(spec))]);
        assert!(cluster.policies.is_empty(), "{spec}");
        assert_eq!(problems.len(), 1, "{spec}: {problems:?}");
        let prefix = format!("a.yaml:{line}: NetworkPolicy x/p: ");
        assert!(
            problems[0].starts_with(&prefix) && problems[0].contains(expected),
            "{spec}: {}",
            problems[0]
        );
    }
}

#[test]
fn other_kinds_are_validated_too() {
    for (text, line, expected) in [
        (
            "apiVersion: crd.projectcalico.org/v1\nkind: FelixConfiguration\nmetadata: {name: default}\nspec:\n  ipipMTU: 20",
            5,
            "FelixConfiguration default: spec.ipipMTU: 20 is not an MTU (576 to 65535, or 0)",
        ),
        (
            "apiVersion: crd.projectcalico.org/v1\nkind: FelixConfiguration\nmetadata: {name: default}\nspec:\n  vxlanMTUV6: 70000",
            5,
            "FelixConfiguration default: spec.vxlanMTUV6: 70000 is not an MTU (576 to 65535, or 0)",
        ),
        (
            "apiVersion: crd.projectcalico.org/v1\nkind: FelixConfiguration\nmetadata: {name: default}\nspec:\n  vxlanVNI: 16777216",
            5,
            "FelixConfiguration default: spec.vxlanVNI: 16777216 is not a VNI",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: x}\nstatus:\n  podIP: 10.0.0",
            5,
            "Pod x/a: status.podIP: \"10.0.0\" is not an IP address",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - name: c\n    ports:\n    - containerPort: 70000",
            8,
            "Pod default/a: spec.containers[0].ports[0].containerPort: 70000",
        ),
        ("apiVersion: v1\nkind: Pod\nmetadata:\n  namespace: x", 3, "Pod: metadata.name: is required"),
        (
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: A}",
            3,
            "Namespace: metadata.name: \"A\" is not a name",
        ),
        ("apiVersion: v1\nkind: List\nitems: {a: b}", 3, "items: is not a list of objects"),
        ("apiVersion: v1\nkind: PodList\nitems: none", 3, "items: is not a list of objects"),
        (
            "apiVersion: v1\nkind: Node\nmetadata:\n  name: n\n  annotations:\n    projectcalico.org/IPv4Address: fd00::1",
            6,
            "Node n: metadata.annotations[\"projectcalico.org/IPv4Address\"]: fd00::1 is not IPv4",
        ),
        (
            "apiVersion: v1\nkind: Node\nmetadata: {name: n}\nspec:\n  podCIDRs: [10.0.0.0/8, x]",
            5,
            "spec.podCIDRs[1]: \"x\" is not a CIDR",
        ),
        (
            "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: n}\nspec:\n  cidr: 10.0.0.0/8\n  ipipMode: Sometimes",
            6,
            "IPPool n: spec.ipipMode: \"Sometimes\" is none of",
        ),
        (
            "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: n}\nspec:\n  cidr: 10.0.0.0/8\n  ipipMode: Always\n  vxlanMode: Always",
            7,
            "one of them must be Never",
        ),
        (
            "apiVersion: crd.projectcalico.org/v1\nkind: IPAMBlock\nmetadata: {name: n}\nspec:\n  cidr: 10.0.0.0/31\n  allocations: [null, 0, 0]\n  attributes: [{}]",
            6,
            "spec.allocations[2]: lies outside of the block 10.0.0.0/31",
        ),
        (
            "apiVersion: crd.projectcalico.org/v1\nkind: IPAMBlock\nmetadata: {name: n}\nspec:\n  cidr: 10.0.0.0/31\n  allocations: [1]\n  attributes: [{}]",
            6,
            "names attributes[1], but there are 1",
        ),
        (
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\nmetadata: {name: s}\nendpoints:\n- addresses: [nowhere]",
            6,
            "endpoints[0].addresses[0]: \"nowhere\" is not an IP address",
        ),
        ("kind: Pod", 1, "is no Kubernetes object: it has no `apiVersion`"),
        ("- a", 1, "is no Kubernetes object: it has no `kind`"),
        ("a: [", 2, "is not valid YAML"),
    ] {
        let (_, problems) = load(&[("a.yaml", text)]);
        assert_eq!(problems.len(), 1, "{text}: {problems:?}");
        let prefix = format!("a.yaml:{line}: ");
        assert!(
            problems[0].starts_with(&prefix) && problems[0].contains(expected),
            "{text}: {}",
            problems[0]
        );
    }
}

#[test]
fn what_is_wrong_takes_nothing_else_down() {
    let good = "apiVersion: v1\nkind: Namespace\nmetadata: {name: good}\n";
    let bad = policy("ingress: [{ports: [{port: 0}]}]");
    let (cluster, problems) = load(&[
        ("a.yaml", &format!("{good}---\n{bad}")),
        ("b.yaml", "{"),
        ("c.yaml", &good.replace("good", "other")),
    ]);
    assert_eq!(cluster.namespaces.keys().collect::<Vec<_>>(), ["good", "other"]);
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].starts_with("a.yaml:11: NetworkPolicy x/p: "), "{}", problems[0]);
    assert!(problems[1].starts_with("b.yaml:"), "{}", problems[1]);
}

#[test]
fn a_second_object_of_one_name_names_both_places() {
    let one = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, labels: {from: one}}\n";
    let (cluster, problems) =
        load(&[("1.yaml", one), ("2.yaml", &format!("# two\n{}", one.replace("one", "two")))]);
    assert_eq!(cluster.namespaces["a"].labels["from"], "one");
    assert_eq!(
        problems,
        ["2.yaml:2: Namespace a: is already defined at 1.yaml:1; that one stands, remove one of them"]
    );
}

#[test]
fn unknown_kinds_are_named_once_each() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: a}}\n\
                - {apiVersion: v1, kind: Secret, metadata: {name: b}}\n\
                - {apiVersion: extensions/v1beta1, kind: NetworkPolicy, metadata: {name: b}}\n";
    let (_, problems) = load(&[("a.yaml", text), ("b.yaml", text)]);
    assert_eq!(
        problems,
        [
            "a.yaml:4: Secret of v1 is not a kind that Margay reads: skipped",
            "a.yaml:6: NetworkPolicy of extensions/v1beta1 is not a kind that Margay reads: skipped",
        ]
    );
}

#[test]
fn files_of_other_names_and_hidden_ones_are_left_alone() {
    let namespace = |name: &str| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n");
    let names = ["a.yaml", "b.yml", "c.json", "d.txt", ".e.yaml", "f.yaml~"];
    let files: Vec<_> = names.iter().map(|name| (*name, namespace(&name.replace(['.', '~'], "")))).collect();
    let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let (cluster, problems) = load(&files);
    assert_eq!(cluster.namespaces.keys().collect::<Vec<_>>(), ["ayaml", "byml", "cjson"]);
    assert!(problems.is_empty());
}

#[test]
fn lists_of_one_kind_need_not_repeat_it() {
    let text = "apiVersion: v1\nkind: PodList\nmetadata: {resourceVersion: ''}\nitems:\n\
                - metadata: {name: a, namespace: x}\n  status: {podIP: 10.0.0.1}\n\
                - metadata: {name: b, namespace: x}\n  status: {podIP: bad}\n";
    let (cluster, problems) = load(&[("a.yaml", text)]);
    assert_eq!(
        cluster.pods[&Name::new("x", "a")].addresses,
        ["10.0.0.1".parse::<std::net::IpAddr>().unwrap()]
    );
    assert!(problems[0].starts_with("a.yaml:8: Pod x/b: status.podIP"), "{problems:?}");
}

#[test]
fn one_object_in_both_api_groups_is_one_unless_they_differ() {
    let pool = |version: &str, spec: &str| {
        format!(
            "apiVersion: {version}\nkind: IPPool\nmetadata: {{name: p}}\nspec: {{cidr: 10.0.0.0/8{spec}}}\n"
        )
    };
    let old = pool("crd.projectcalico.org/v1", "");
    let new = pool("projectcalico.org/v3", ", ipipMode: Never");
    let (cluster, problems) = load(&[("1.yaml", &old), ("2.yaml", &new)]);
    assert_eq!((cluster.ip_pools.len(), problems), (1, vec![]));
    for second in [old.clone(), pool("projectcalico.org/v3", ", ipipMode: Always")] {
        let (_, problems) = load(&[("1.yaml", &old), ("2.yaml", &second)]);
        assert!(
            problems[0].starts_with("2.yaml:1: IPPool p: is already defined at 1.yaml:1"),
            "{problems:?}"
        );
    }
}

#[test]
fn a_list_without_items_is_empty() {
    for text in [
        "apiVersion: v1\nkind: List",
        "apiVersion: v1\nkind: List\nitems:",
        "apiVersion: v1\nkind: PodList\nitems: []",
    ] {
        let (cluster, problems) = load(&[("a.yaml", text)]);
        assert_eq!((cluster, problems), (Cluster::default(), vec![]), "{text}");
    }
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let error = load_dir("/nonexistent/manifests").unwrap_err().to_string();
    assert!(error.contains("/nonexistent/manifests"), "{error}");
}
