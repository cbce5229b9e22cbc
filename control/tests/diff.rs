//! `margay diff`: what it says of small worlds, and that it finds what asking every probe of both worlds finds.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use margay_control::check::check;
use margay_control::diff::{Change, Diff, Ends, diff};
use margay_control::manifest::load_dir;
use margay_control::probe::{self, Expect};
use margay_control::state::{Cluster, Name};
use proptest::prelude::*;
use serde_json::{Value, json};

#[allow(dead_code, reason = "each test program uses its part")]
#[path = "agreement/generate/mod.rs"]
mod generate;

const PROBES_OF_A_WORLD: usize = 300;

const WORLD: &str = "
{apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: 172.18.0.1}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: n2}, status: {addresses: [{type: InternalIP, address: 172.18.0.2}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: x, labels: {app: a}}, spec: {nodeName: n1, containers: [{name: c, ports: [{name: web, containerPort: 8080}]}]}, status: {podIP: 10.0.0.1}}
---
{apiVersion: v1, kind: Pod, metadata: {name: b, namespace: x, labels: {app: b}}, spec: {nodeName: n1}, status: {podIP: 10.0.0.2}}
---
{apiVersion: v1, kind: Pod, metadata: {name: c, namespace: x, labels: {app: c}}, spec: {nodeName: n2}, status: {podIP: 10.0.1.1}}
";

/// A policy for x/a.
fn policy(ingress: &str) -> String {
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: p, namespace: x}}, spec: \
         {{podSelector: {{matchLabels: {{app: a}}}}, ingress: [{ingress}]}}}}"
    )
}

fn run(old: &str, new: &str, flows: Option<&str>) -> (Option<i32>, String, String) {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_margay"));
    command.arg("diff");
    for (name, policies) in [("old", old), ("new", new)] {
        let at = directory.path().join(name);
        fs::create_dir(&at).unwrap();
        fs::write(at.join("all.yaml"), format!("{WORLD}---\n{policies}\n")).unwrap();
        command.arg("--manifests").arg(at);
    }
    if let Some(flows) = flows {
        let file = directory.path().join("flows");
        fs::write(&file, flows).unwrap();
        command.arg("--flows").arg(file);
    }
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let output = command.output().unwrap();
    let json = command.args(["-o", "json"]).output().unwrap();
    assert_eq!(output.status.code(), json.status.code());
    if output.status.code() != Some(2) {
        let _: Value = serde_json::from_slice(&json.stdout).unwrap();
    }
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn people_are_told_who_reaches_whom_where_and_by_what() {
    let from = |app: &str, port: &str| {
        format!("{{from: [{{podSelector: {{matchLabels: {{app: {app}}}}}}}], ports: [{{port: {port}}}]}}")
    };
    for (old, new, expected) in [
        (from("b", "80"), from("b", "80"), "no verdict changes\n".to_owned()),
        (
            from("b", "80"),
            from("b", "80, endPort: 90"),
            "x/b -> x/a\n  deny to allow  TCP 81-90\n    old  ingress: end of the tier of NetworkPolicy x/p\n    \
             new  egress: no policy decides; ingress: NetworkPolicy x/p rule 0\n\n"
                .to_owned(),
        ),
        (
            from("b", "web"),
            from("c", "web"),
            "x/b -> x/a\n  allow to deny  TCP 8080\n    old  egress: no policy decides; ingress: NetworkPolicy x/p rule 0\n    \
             new  ingress: end of the tier of NetworkPolicy x/p\n\nx/c -> x/a\n  deny to allow  TCP 8080\n    old  ingress: \
             end of the tier of NetworkPolicy x/p\n    new  egress: no policy decides; ingress: NetworkPolicy x/p rule 0\n\n"
                .to_owned(),
        ),
        (
            "{from: [{ipBlock: {cidr: 10.9.0.0/16}}]}".to_owned(),
            "{from: [{ipBlock: {cidr: 10.9.0.0/16, except: [10.9.1.0/24]}}]}".to_owned(),
            "10.9.1.0-10.9.1.255 -> x/a\n  allow to deny  ICMP, TCP any port, UDP any port, SCTP any port, other \
             protocols\n    old  egress: no policy decides; ingress: NetworkPolicy x/p rule 0\n    new  ingress: end of the \
             tier of NetworkPolicy x/p\n\n"
                .to_owned(),
        ),
    ] {
        let (code, text, stderr) = run(&policy(&old), &policy(&new), None);
        assert_eq!(text, expected, "{stderr}");
        assert_eq!(code, Some(i32::from(!expected.starts_with("no verdict"))));
    }
}

#[test]
fn recorded_flows_that_would_change_are_named_by_their_lines() {
    let old = policy("{from: [{podSelector: {}}]}");
    let new = policy("{from: [{podSelector: {matchLabels: {app: b}}}]}");
    let flows = r#"{"src": "10.0.0.2", "dst": "10.0.0.1", "proto": "tcp", "sport": 1024, "dport": 80}

{"src": "10.0.1.1", "dst": "10.0.0.1", "proto": 17, "sport": 1024, "dport": 53}
{"src": "10.0.1.1", "dst": "10.0.0.1", "proto": "icmp"}
"#;
    let (code, text, _) = run(&old, &new, Some(flows));
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("flow ")).collect();
    let decided = "old egress: no policy decides; ingress: NetworkPolicy x/p rule 0; new ingress: end of the tier of NetworkPolicy x/p";
    let expected = [
        format!("flow 3: allow to deny  UDP 10.0.1.1 1024 -> 10.0.0.1 53  {decided}"),
        format!("flow 4: allow to deny  ICMP 10.0.1.1 -> 10.0.0.1  {decided}"),
    ];
    assert_eq!((code, lines), (Some(1), expected.iter().map(String::as_str).collect()));
}

#[test]
fn bad_input_exits_2_and_says_where() {
    let same = policy("");
    for (flow, expected) in [
        ("{", "flows:1: EOF while parsing"),
        (
            r#"{"src": "10.0.0.1", "dst": "::1", "proto": 6, "dport": 1}"#,
            "flows:1: 10.0.0.1 and ::1 are of two families",
        ),
        (r#"{"src": "10.0.0.1", "dst": "10.0.0.2", "proto": 6}"#, "flows:1: port: is missing"),
        (r#"{"src": "10.0.0.1", "dst": "10.0.0.2", "proto": 300}"#, "flows:1: proto: 300 is none of"),
        (r#"{"src": "10.0.0.1", "dst": "10.0.0.2", "proto": 1, "port": 3}"#, "flows:1: unknown field `port`"),
    ] {
        let (code, text, stderr) = run(&same, &same, Some(flow));
        assert_eq!((code, text.as_str()), (Some(2), ""), "{flow}");
        assert!(stderr.contains(expected), "{flow}: {stderr}");
    }
    let output =
        Command::new(env!("CARGO_BIN_EXE_margay")).args(["diff", "--manifests", "/"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("give --manifests twice"));
}

/// Objects of two worlds that have most in common.
fn worlds() -> impl Strategy<Value = (generate::World, [Vec<Value>; 2])> {
    let edits = prop::collection::vec((0..100u8, any::<prop::sample::Index>()), 64);
    (generate::world(&generate::Kind::ALL), edits).prop_map(|(world, edits)| {
        let mut new = Vec::new();
        let mut old = Vec::new();
        let pods: Vec<Value> =
            world.objects.iter().filter(|object| object["kind"] == "Pod").cloned().collect();
        for (object, (chance, other)) in world.objects.iter().zip(edits.iter().cycle()) {
            let is_pod = object["kind"] == "Pod";
            let is_node = object["kind"] == "Node";
            match chance {
                0..8 if !is_node => old.push(object.clone()),
                8..16 if !is_node => new.push(object.clone()),
                16..26 if is_pod => {
                    let mut relabelled = object.clone();
                    relabelled["metadata"]["labels"] = other.get(&pods)["metadata"]["labels"].clone();
                    old.push(object.clone());
                    new.push(relabelled);
                }
                _ => {
                    old.push(object.clone());
                    new.push(object.clone());
                }
            }
        }
        (world, [old, new])
    })
}

fn load(objects: &[Value]) -> Cluster {
    let directory = tempfile::tempdir().unwrap();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    fs::write(directory.path().join("all.json"), list.to_string()).unwrap();
    load_dir(directory.path()).unwrap().0
}

/// What `diff` compares of an end: the name of a pod that holds its addresses in both worlds, or of a node, or an
/// address that nobody holds.
fn compared(clusters: &[Cluster; 2], end: &str) -> bool {
    if let Some(node) = end.strip_prefix("node:") {
        return clusters.iter().all(|cluster| cluster.nodes.contains_key(node));
    }
    if let Ok(address) = end.parse::<IpAddr>() {
        let holds = |cluster: &Cluster| {
            cluster.pods.values().any(|pod| pod.addresses.contains(&address))
                || cluster.nodes.values().any(|node| node.addresses.contains(&address))
        };
        return !clusters.iter().any(holds);
    }
    let Some((namespace, name)) = end.split_once('/') else { return false };
    clusters.iter().all(|cluster| {
        let pod = cluster.pods.get(&Name::new(namespace, name));
        let shares = |address: &IpAddr| {
            cluster.pods.values().filter(|pod| pod.addresses.contains(address)).count() > 1
        };
        pod.is_some_and(|pod| pod.is_endpoint() && !pod.addresses.iter().any(shares))
    })
}

fn is_among(ends: &Ends, end: &str) -> bool {
    let address = end.parse::<IpAddr>().ok();
    ends.members.iter().any(|member| {
        let range = member.split_once('-').unwrap_or((&**member, &**member));
        let range = range.0.parse::<IpAddr>().ok().zip(range.1.parse::<IpAddr>().ok());
        match (address, range) {
            (Some(address), Some((first, last))) => {
                first.is_ipv4() == address.is_ipv4() && first <= address && address <= last
            }
            _ => **member == *end,
        }
    })
}

/// Whether the change is of such packets: `None` where it is of those "others" that may be these.
fn is_of(change: &Change, probe: &Value) -> Option<bool> {
    let protocol = match probe["proto"].as_str() {
        Some("TCP") => 6,
        Some("UDP") => 17,
        Some("SCTP") => 132,
        Some("ICMP") => 1,
        Some(_) => 58,
        None => probe["proto"].as_u64().unwrap(),
    };
    let Some(of) = change.protocol else {
        let is_usual = [6, 17, 132].contains(&protocol);
        return is_usual.then_some(false);
    };
    if u64::from(of) != protocol {
        return Some(false);
    }
    let within = |range: Option<(u16, u16)>, port: u64| {
        range.is_none_or(|(first, last)| (u64::from(first)..=u64::from(last)).contains(&port))
    };
    let sport = probe["sport"].as_u64().unwrap_or(49152);
    let dport = probe["port"].as_u64().unwrap_or(0);
    if !within(change.ports, dport) || !within(change.sports, sport) {
        return Some(false);
    }
    let Some((kind, code)) = change.icmp else { return Some(true) };
    let request = if protocol == 58 { 128 } else { 8 };
    let sent = (probe["icmp_type"].as_u64().unwrap_or(request), probe["icmp_code"].as_u64().unwrap_or(0));
    match (kind, code) {
        (Some(kind), Some(code)) => Some((u64::from(kind), u64::from(code)) == sent),
        (Some(kind), None) if u64::from(kind) != sent.0 => Some(false),
        _ => None,
    }
}

/// An end of a probe as `diff` names it: of a node, the address that probes of the family take.
fn named(cluster: &Cluster, end: &str, probe: &Value) -> String {
    let node = end.strip_prefix("node:").and_then(|name| cluster.nodes.get(name));
    let net = node.and_then(|node| if probe["family"] == 6 { node.ipv6 } else { node.ipv4 });
    net.map_or(end.to_owned(), |net| format!("{end} ({})", net.addr()))
}

/// Whether the diff says that the probe changes; `None` where it may be one of "others".
fn says(diff: &Diff, clusters: &[Cluster; 2], probe: &Value) -> Option<bool> {
    let (from, to) = (probe["from"].as_str().unwrap(), probe["to"].as_str().unwrap());
    let own = |pod: &str, node: &str| {
        let Some((namespace, name)) = pod.split_once('/') else { return false };
        clusters.iter().any(|cluster| {
            cluster
                .pods
                .get(&Name::new(namespace, name))
                .is_some_and(|pod| node == format!("node:{}", pod.node))
        })
    };
    let is_own = own(from, to) || own(to, from);
    let [source, destination] = [from, to].map(|end| named(&clusters[0], end, probe));
    let pairs = diff.pairs.iter().filter(|pair| {
        probe["family"] == pair.family
            && pair.own_node == is_own
            && is_among(&pair.from, &source)
            && is_among(&pair.to, &destination)
    });
    let said: BTreeSet<Option<bool>> =
        pairs.flat_map(|pair| &pair.changes).map(|change| is_of(change, probe)).collect();
    if said.contains(&Some(true)) {
        Some(true)
    } else if said.contains(&None) {
        None
    } else {
        Some(false)
    }
}

fn verdicts(cluster: &Cluster, file: &Path) -> Vec<Expect> {
    let answers = check(cluster, &probe::load(file).unwrap()).unwrap();
    answers.into_iter().map(|answer| answer.verdict).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_change_that_asking_all_finds_is_found_and_no_other((world, objects) in worlds()) {
        let clusters = objects.each_ref().map(|objects| load(objects));
        let diff = diff(&clusters[0], &clusters[1], &[]);
        let is_compared = |end: &Value| end.as_str().is_some_and(|end| compared(&clusters, end));
        let mut probes = world.probes(PROBES_OF_A_WORLD);
        probes.retain(|probe| is_compared(&probe["from"]) && is_compared(&probe["to"]) && probe["from"] != probe["to"]);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("probes");
        fs::write(&file, Value::from(probes.clone()).to_string()).unwrap();
        let [old, new] = clusters.each_ref().map(|cluster| verdicts(cluster, &file));
        for (probe, (old, new)) in probes.iter().zip(old.into_iter().zip(new)) {
            let said = says(&diff, &clusters, probe);
            prop_assert!(
                said.is_none_or(|said| said == (old != new)),
                "{probe}: {old:?} to {new:?}, said {said:?}\n{}\n{}",
                Value::from(objects[0].clone()),
                Value::from(objects[1].clone())
            );
        }
    }
}
