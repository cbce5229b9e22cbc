//! Labs themselves, without Margay: what stands, what `down` leaves, what the program prints. They need root.

mod common;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use common::{Options, TestLab, assert_agree, two_zones, unique_name};
use margay_testbed::topology::Dataplane;
use margay_testbed::{ip, lab, netns, state};

const KERNELS: [(&str, Dataplane); 2] = [("gw-a", Dataplane::Kernel), ("gw-b", Dataplane::Kernel)];

fn margay_lab(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_margay-lab")).args(arguments).output().unwrap()
}

/// A lab that the program brings up on kernels alone.
struct Cli {
    name: String,
}

impl Cli {
    fn up(name: String) -> Self {
        let this = Self { name };
        let up = this.try_up();
        assert!(up.status.success(), "{up:?}");
        this
    }

    fn try_up(&self) -> Output {
        let manifests = two_zones().join("manifests");
        let kernels = ["--dataplane", "gw-a=kernel", "--dataplane", "gw-b=kernel"];
        let arguments = ["up", "--name", &self.name, "--margay", "/bin/true", "--manifests"];
        margay_lab(&[&arguments[..], &[manifests.to_str().unwrap()], &kernels].concat())
    }

    fn exec(&self, place: &str, command: &[&str]) -> Output {
        margay_lab(&[&["exec", "--name", &self.name, place, "--"], command].concat())
    }

    fn namespaces(&self) -> Vec<String> {
        netns::list(&netns::prefix(&self.name)).unwrap()
    }
}

impl Drop for Cli {
    fn drop(&mut self) {
        let _ = lab::down(&self.name);
    }
}

#[test]
fn kernels_alone_carry_all_that_needs_no_ip_in_ip() {
    let lab = TestLab::two_zones(Options { dataplanes: KERNELS.to_vec(), ..Options::default() });
    assert!(lab.notes.iter().any(|note| note.contains("IP-in-IP")), "{:?}", lab.notes);
    let places = ["shop/api", "shop/web", "far/client", "far/batch", "node:a1", "node:b1"];
    let mut probes = String::new();
    for from in places {
        for to in places {
            for (proto, port) in [("TCP", "4000"), ("UDP", "4000"), ("ICMP", "0"), ("47", "0")] {
                let _ = writeln!(
                    probes,
                    "- {{from: '{from}', to: '{to}', proto: {proto}, port: {port}, expect: allow}}"
                );
            }
        }
    }
    assert_agree(&lab.probe(&probes), &[]);
}

#[test]
fn probes_that_nobody_can_try_or_enforce_are_skipped_with_the_reason() {
    let lab = TestLab::two_zones(Options { dataplanes: KERNELS.to_vec(), ..Options::default() });
    let outcomes = lab.probe(
        "- {from: far/client, to: 192.0.2.1, proto: ICMP, expect: deny}\n\
         - {from: far/none, to: shop/web, proto: TCP, port: 80, expect: allow}\n\
         - {from: far/client, to: shop/cache, proto: TCP, port: 80, expect: allow}\n\
         - {from: far/batch, to: shop/web, proto: TCP, port: 80, expect: deny}\n\
         - {from: far/client, to: 10.65.11.5, proto: UDP, port: 53, sport: 999, expect: allow}\n",
    );
    let reasons: Vec<_> = outcomes.iter().map(|outcome| outcome.reason.as_deref().unwrap_or("")).collect();
    let expected =
        ["outside the lab", "not in the manifests", "no IP-in-IP", "ingress policy of shop/web", ""];
    for (reason, expected) in reasons.iter().zip(expected) {
        assert!(reason.contains(expected), "{reason:?} says nothing of {expected:?}");
    }
    assert_eq!(outcomes.iter().filter(|outcome| outcome.seen.is_some()).count(), 1);
}

#[test]
fn down_leaves_nothing_behind_and_other_labs_alone() {
    let (one, other) = (Cli::up(unique_name()), Cli::up(unique_name() + "-b"));
    // A process inside, as after a crash of whoever started it.
    let sleeper = &one.namespaces()[0];
    let mut sleeper = ip::in_netns(sleeper, "sleep").arg("120").stdin(Stdio::null()).spawn().unwrap();
    let netns = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    while netns(&sleeper.id().to_string()) == netns("self") {
        std::thread::sleep(Duration::from_millis(5));
    }
    let down = margay_lab(&["down", "--name", &one.name]);
    assert!(down.status.success(), "{down:?}");
    assert!(!sleeper.wait().unwrap().success(), "the process lives on");
    assert_eq!(one.namespaces(), Vec::<String>::new());
    assert!(!state::directory(&one.name).exists());
    assert_eq!(other.namespaces().len(), 14);
    assert!(other.exec("far/client", &["ping", "-c", "1", "-W", "5", "10.65.11.5"]).status.success());
}

#[test]
fn up_over_remains_cleans_them_first() {
    let lab = Cli::up(unique_name());
    // Half of it is gone, its state too.
    netns::remove(&lab.namespaces()[..7]).unwrap();
    state::remove(&lab.name).unwrap();
    let again = lab.try_up();
    assert!(again.status.success(), "{again:?}");
    assert!(lab.exec("shop/web", &["ping", "-c", "1", "-W", "5", "10.65.21.5"]).status.success());
}

#[test]
fn exit_codes_are_those_of_check_and_of_the_command() {
    let lab = Cli::up(unique_name());
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| -> PathBuf {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let to_web =
        |expect| format!("- {{from: far/client, to: shop/web, proto: TCP, port: 80, expect: {expect}}}\n");
    let wrong =
        "- {from: 'node:a1', to: 'node:b1', proto: TCP, port: 80, sport: 70000, expect: allow}\n".to_owned();
    // An unreachable address of a block: no pod has it, so it is outside.
    for (name, text, code) in
        [("good", to_web("allow"), 0), ("skipped", to_web("deny"), 0), ("bad", wrong, 2)]
    {
        let path = file(name, &text);
        let probe =
            margay_lab(&["probe", "--name", &lab.name, "-o", "json", "--probes", path.to_str().unwrap()]);
        assert_eq!(probe.status.code(), Some(code), "{name}: {probe:?}");
        if code != 2 {
            let report: serde_json::Value = serde_json::from_slice(&probe.stdout).unwrap();
            assert_eq!(report[0]["from"], "far/client");
            assert_eq!(report[0]["verdict"], if name == "good" { "allow" } else { "skip" });
        }
    }
    assert_eq!(lab.exec("shop/web", &["sh", "-c", "exit 7"]).status.code(), Some(7));
    assert_eq!(lab.exec("shop/none", &["true"]).status.code(), Some(2));
    let status = margay_lab(&["status", "--name", &lab.name]);
    assert!(String::from_utf8_lossy(&status.stdout).contains("far/client  10.65.21.5"), "{status:?}");
    assert_eq!(margay_lab(&["status", "--name", "not-up"]).status.code(), Some(2));
}

/// Nodes whose addresses are given without a subnet, and blocks that no pool encapsulates.
#[test]
fn nodes_without_a_subnet_meet_in_the_router() {
    let mut manifests = String::new();
    for (number, node) in ["n1", "n2"].iter().enumerate() {
        let _ = write!(
            manifests,
            "---\napiVersion: v1\nkind: Node\nmetadata: {{name: {node}}}\n\
             spec: {{podCIDRs: [10.70.{number}.0/24]}}\n\
             status: {{addresses: [{{type: InternalIP, address: 172.18.0.1{number}}}]}}\n\
             ---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p-{node}, namespace: x}}\n\
             spec: {{nodeName: {node}, containers: [{{name: main, image: none}}]}}\n\
             status: {{phase: Running, podIPs: [{{ip: 10.70.{number}.5}}]}}\n"
        );
    }
    manifests += "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n";
    let lab = TestLab::own(Options { extra: vec![("all.yaml", manifests)], ..Options::default() });
    let outcomes = lab.probe(
        "- {from: x/p-n1, to: x/p-n2, proto: TCP, port: 80, expect: allow}\n\
         - {from: x/p-n2, to: 'node:n1', proto: UDP, port: 80, expect: allow}\n\
         - {from: 'node:n1', to: x/p-n2, proto: ICMP, expect: allow}\n",
    );
    assert_agree(&outcomes, &[]);
}
