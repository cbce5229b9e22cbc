//! `margay check` as scripts use it: the cases, the JSON form, exit codes, stdout and stderr.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

fn margay(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_margay")).arg("check").args(arguments).output().unwrap()
}

fn check(manifests: &Path, probes: &Path) -> (Option<i32>, Value, String) {
    let (manifests, probes) = (manifests.to_str().unwrap(), probes.to_str().unwrap());
    let output = margay(&["--manifests", manifests, "--probes", probes, "-o", "json"]);
    let stdout = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code(), stdout, String::from_utf8(output.stderr).unwrap())
}

/// Two pods on a node and one on another, a service, and one policy.
const WORLD: &str = "
{apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: 172.18.0.1}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: n2}, status: {addresses: [{type: InternalIP, address: 172.18.0.2}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: x, labels: {app: a}}, spec: {nodeName: n1}, status: {podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: b, namespace: x, labels: {app: b}}, spec: {nodeName: n1}, status: {podIPs: [{ip: 10.0.0.2}, {ip: 'fd00::2'}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: c, namespace: x, labels: {app: c}}, spec: {nodeName: n2}, status: {podIP: 10.0.1.1}}
---
{apiVersion: v1, kind: Pod, metadata: {name: host, namespace: x, labels: {app: b}}, spec: {nodeName: n2, hostNetwork: true}, status: {podIP: 172.18.0.2}}
---
{apiVersion: v1, kind: Pod, metadata: {name: starting, namespace: x, labels: {app: b}}, spec: {nodeName: n1, hostNetwork: true}}
---
{apiVersion: v1, kind: Pod, metadata: {name: done, namespace: x, labels: {app: b}}, spec: {nodeName: n1}, status: {phase: Succeeded, podIP: 10.0.0.1}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: x}
spec:
  podSelector: {matchLabels: {app: a}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from: [{podSelector: {matchLabels: {app: c}}}]
  - from: [{podSelector: {matchLabels: {app: b}}}]
    ports: [{port: 80}]
---
{apiVersion: v1, kind: Service, metadata: {name: s, namespace: x}, spec: {clusterIP: 10.96.0.1, ports: [{name: web, port: 8080}, {name: dns, port: 53, protocol: UDP}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
addressType: IPv4
metadata: {name: s-1, namespace: x, labels: {kubernetes.io/service-name: s}}
ports: [{name: web, port: 80}]
endpoints:
- {addresses: [10.0.0.1], conditions: {ready: true}}
- {addresses: [10.0.1.1], conditions: {ready: false}}
- {addresses: [10.0.0.2]}
";

struct Files(tempfile::TempDir);

impl Files {
    fn new(manifest: &str, probes: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("manifests")).unwrap();
        fs::write(directory.path().join("manifests/all.yaml"), manifest).unwrap();
        fs::write(directory.path().join("probes.yaml"), probes).unwrap();
        Self(directory)
    }

    fn check(&self) -> (Option<i32>, Value, String) {
        check(&self.0.path().join("manifests"), &self.0.path().join("probes.yaml"))
    }
}

#[test]
fn every_case_has_the_verdicts_that_it_expects() {
    let cases = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testbed/cases/policy");
    let mut names: Vec<_> = fs::read_dir(cases).unwrap().map(|case| case.unwrap().path()).collect();
    names.sort();
    assert!(names.len() > 50, "{} cases", names.len());
    let mut wrong = Vec::new();
    for case in names {
        let (code, answers, stderr) = check(&case.join("manifests"), &case.join("probes.yaml"));
        let answers = answers.as_array().unwrap_or_else(|| panic!("{}: {stderr}", case.display()));
        let disagreeing: Vec<_> =
            answers.iter().filter(|answer| answer["verdict"] != answer["expect"]).collect();
        wrong.extend(disagreeing.iter().map(|answer| format!("{}: {answer}", case.display())));
        assert_eq!(code, Some(i32::from(!disagreeing.is_empty())), "{}", case.display());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn json_says_what_decided_and_gives_back_what_was_given() {
    let files = Files::new(
        WORLD,
        "- {from: x/b, to: x/a, proto: tcp, port: '80', expect: allow}\n\
         - {from: x/b, to: 10.0.0.1, proto: 17, port: 80, expect: allow}\n\
         - {from: x/a, to: x/c, proto: ICMP}\n",
    );
    let (code, answers, stderr) = files.check();
    let open = json!({"verdict": "allow", "policy": null, "rule": null});
    let isolated = json!({"verdict": "deny", "policy": "x/p", "rule": null});
    assert_eq!(
        answers,
        json!([
            {
                "from": "x/b", "to": "x/a", "proto": "tcp", "port": "80", "verdict": "allow", "expect": "allow",
                "egress": open, "ingress": {"verdict": "allow", "policy": "x/p", "rule": 1},
            },
            {
                "from": "x/b", "to": "10.0.0.1", "proto": 17, "port": 80, "verdict": "deny", "expect": "allow",
                "egress": open, "ingress": isolated,
            },
            {
                "from": "x/a", "to": "x/c", "proto": "ICMP", "port": null, "verdict": "deny", "expect": null,
                "egress": isolated, "ingress": open,
            },
        ])
    );
    assert_eq!((code, stderr.as_str()), (Some(1), ""));
}

#[test]
fn who_is_under_policy_and_who_is_not() {
    for (probe, verdict) in [
        // A node reaches its own pods and they reach it; another node is a stranger; a pod reaches itself.
        ("from: node:n1, to: x/a, proto: TCP, port: 1", "allow"),
        ("from: x/a, to: node:n1, proto: TCP, port: 1", "allow"),
        ("from: node:n2, to: x/a, proto: TCP, port: 1", "deny"),
        ("from: x/a, to: node:n2, proto: TCP, port: 1", "deny"),
        ("from: x/a, to: x/a, proto: TCP, port: 1", "allow"),
        // A host-network pod is its node: its labels pick nothing.
        ("from: x/host, to: x/a, proto: TCP, port: 80", "deny"),
        ("from: x/b, to: x/host, proto: TCP, port: 80", "allow"),
        ("from: x/starting, to: x/a, proto: TCP, port: 1", "allow"),
        ("from: x/a, to: x/starting, proto: TCP, port: 1", "allow"),
        // Both families; where both ends have both it is IPv4.
        ("from: x/b, to: x/a, proto: TCP, port: 80, family: 6", "allow"),
        ("from: x/b, to: x/a, proto: TCP, port: 81, family: 6", "deny"),
        ("from: x/c, to: x/a, proto: ICMP", "allow"),
        ("from: x/b, to: x/a, proto: ICMPv6", "deny"),
        // A service is each of its ready endpoints at their own port; without any it answers nobody.
        ("from: x/b, to: 'svc:x/s', proto: TCP, port: 8080", "allow"),
        ("from: x/c, to: 'svc:x/s', proto: TCP, port: 8080", "allow"),
        ("from: x/a, to: 'svc:x/s', proto: TCP, port: 8080", "deny"),
        ("from: node:n2, to: 'svc:x/s', proto: TCP, port: 8080", "deny"),
        ("from: x/b, to: 'svc:x/s', proto: TCP, port: 80", "deny"),
        ("from: x/b, to: 'svc:x/s', proto: UDP, port: 53", "deny"),
    ] {
        let (code, answers, stderr) =
            Files::new(WORLD, &format!("- {{{probe}, expect: {verdict}}}\n")).check();
        assert_eq!((code, &answers[0]["verdict"]), (Some(0), &json!(verdict)), "{probe}: {answers} {stderr}");
    }
}

#[test]
fn a_finished_pod_has_no_address_whoever_has_it_now() {
    for probe in [
        "from: x/done, to: x/c, proto: TCP, port: 80",
        "from: x/done, to: x/a, proto: TCP, port: 80",
        "from: x/b, to: x/done, proto: TCP, port: 80, family: 6",
        "from: x/done, to: 'svc:x/s', proto: TCP, port: 8080",
    ] {
        let (code, answers, stderr) = Files::new(WORLD, &format!("- {{{probe}, expect: deny}}\n")).check();
        assert_eq!(code, Some(0), "{probe}: {stderr}");
        let nobody = json!({"verdict": "deny", "policy": null, "rule": null});
        assert_eq!((&answers[0]["egress"], &answers[0]["ingress"]), (&nobody, &nobody), "{probe}");
    }
}

#[test]
fn an_object_that_cannot_be_enforced_is_named_and_changes_no_exit_code() {
    let manifest = format!(
        "{WORLD}---\n{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: q, namespace: x}}, spec: {{policyTypes: [In]}}}}\n"
    );
    let (code, _, stderr) =
        Files::new(&manifest, "- {from: x/b, to: x/c, proto: TCP, port: 80, expect: allow}\n").check();
    assert_eq!(code, Some(0));
    let line = WORLD.lines().count() + 2;
    let expected = format!("all.yaml:{line}: NetworkPolicy x/q: spec.policyTypes[0]: \"In\" is neither");
    assert!(stderr.contains(&expected), "{stderr}");
}

#[test]
fn bad_input_exits_2_and_prints_nothing_on_stdout() {
    let good = "- {from: x/a, to: x/b, proto: TCP, port: 80, expect: allow}\n";
    for (probes, expected) in [
        ("- {from: x/a}\n", "probes.yaml:1: "),
        (
            &*format!("{good}- {{from: x/a, to: x/nobody, proto: TCP, port: 1}}\n"),
            "probes.yaml:2: x/nobody is not in the manifests",
        ),
        ("- {from: x/a, to: 'svc:x/none', proto: TCP, port: 1}\n", "svc:x/none is not in the manifests"),
        ("- {from: x/a, to: 'node:none', proto: TCP, port: 1}\n", "node:none is not in the manifests"),
        ("- {from: x/c, to: x/a, proto: TCP, port: 1, family: 6}\n", "x/c has no IPv6 address"),
        (
            "- {from: x/c, to: 'fd00::2', proto: TCP, port: 1}\n",
            "x/c and fd00::2 have no address family in common",
        ),
    ] {
        let (code, stdout, stderr) = Files::new(WORLD, probes).check();
        assert_eq!((code, stdout), (Some(2), Value::Null), "{probes}");
        assert!(stderr.contains(expected), "{probes}: {stderr}");
    }
    let files = Files::new(WORLD, good);
    let (code, _, stderr) = check(Path::new("/nonexistent"), &files.0.path().join("probes.yaml"));
    assert!(code == Some(2) && stderr.contains("/nonexistent"), "{stderr}");
    assert_eq!(stderr.matches("No such file").count(), 1, "{stderr}");
    assert_eq!(margay(&["--manifests", "x"]).status.code(), Some(2));
}

#[test]
fn a_reader_that_has_gone_is_no_error_and_a_full_disk_is() {
    let files = Files::new(WORLD, "- {from: x/b, to: x/a, proto: TCP, port: 81, expect: allow}\n");
    let path = |name: &str| files.0.path().join(name);
    let run = |stdout: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_margay"));
        command
            .args(["check", "--manifests"])
            .arg(path("manifests"))
            .arg("--probes")
            .arg(path("probes.yaml"));
        let output =
            command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(run(writer.into()), (Some(1), String::new()));
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let (code, stderr) = run(full.into());
    assert!(code == Some(2) && stderr.starts_with("margay: cannot write to stdout: "), "{stderr}");
}

#[test]
fn people_get_a_table_and_a_summary() {
    let files = Files::new(WORLD, "- {from: x/b, to: x/a, proto: TCP, port: 81, expect: allow}\n");
    let path = |name: &str| files.0.path().join(name).to_str().unwrap().to_owned();
    let output = margay(&["--manifests", &path("manifests"), "--probes", &path("probes.yaml")]);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(lines[1], "x/b x/a TCP 81 deny allow allow deny by x/p <- not as expected");
    assert_eq!(lines[2], "1 probes, 1 not as expected");
}
