//! The policy cases through an API server: each world is made in it, the source says what it holds, and every probe has
//! the verdict that `margay check` gives of the same manifests in a directory. One gateway runs all the while, and of each
//! case some probes are asked of it by `margay explain`.

mod common;
mod gateway;
mod watching;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::{env, fs};

use common::eventually;
use gateway::{Gateway, Namespace};
use margay_control::probe::{Expect, Family, Probe};
use margay_control::state::Protocol;
use margay_control::{check, manifest, probe};
use margay_testbed::kube::stub::Stub;
use margay_testbed::kube::{ADMIN, CALICO, POLICY, Resource, Server, Site, documents};
use serde_json::{Value, json};
use watching::{Watching, differences};

/// Cases that say what the API server 1.20 does not keep: it drops `endPort` without a word. They go through the stub.
const BEYOND: [&str; 3] =
    ["cyc-ports-egress-range-53-80-udp", "cyc-ports-ingress-range-53-84-sctp", "lab-mixed-kinds"];

/// Objects by where the API keeps them.
type World = BTreeMap<String, Value>;

struct Case {
    name: String,
    directory: PathBuf,
    world: World,
}

/// Probes of a case that the gateway is asked, at most: each is a process.
const ASKED: usize = 6;

fn cases() -> Vec<Case> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/policy");
    let mut directories: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    directories.sort();
    assert!(directories.len() > 50, "{} cases", directories.len());
    directories.into_iter().map(Case::read).collect()
}

impl Case {
    fn read(directory: PathBuf) -> Self {
        let name = directory.file_name().unwrap().to_str().unwrap().to_owned();
        let mut world = World::new();
        for file in fs::read_dir(directory.join("manifests")).unwrap() {
            let text = fs::read_to_string(file.unwrap().path()).unwrap();
            for object in documents(&text).unwrap() {
                insert(&mut world, behind_the_gateway(object));
            }
        }
        insert(&mut world, gateway_node());
        Self { name, directory, world }
    }

    /// Waits until the source says what the manifests say, and asks every probe.
    fn hold(&self, watching: &Watching) {
        let manifests = tempfile::tempdir().unwrap();
        for (index, object) in self.world.values().enumerate() {
            fs::write(manifests.path().join(format!("{index}.json")), object.to_string()).unwrap();
        }
        let (expected, problems) = manifest::load_dir(manifests.path()).unwrap();
        let mut left = Vec::new();
        let comes = watching.comes(|told| {
            left = differences(&told.cluster, &expected);
            left.is_empty()
        });
        assert!(comes, "{}: {left:#?}; {:#?}", self.name, watching.told().troubles);
        let probes = probe::load(&self.directory.join("probes.yaml")).unwrap();
        let told = watching.told();
        assert_eq!(told.problems.len(), problems.len(), "{}: {:#?}", self.name, told.problems);
        let verdicts = check::check(&told.cluster, &probes).unwrap();
        let wrong: Vec<_> = verdicts.iter().filter(|answer| !answer.agrees()).collect();
        assert!(wrong.is_empty(), "{}: {wrong:#?}", self.name);
        assert_eq!(verdicts, check::check(&expected, &probes).unwrap(), "{}", self.name);
    }

    /// Asks the gateway some of the probes. What it serves follows the API server as the source here does.
    fn ask(&self, gateway: &Gateway) {
        let mut probes = probe::load(&self.directory.join("probes.yaml")).unwrap();
        probes.retain(|probe| probe.expect.is_some());
        let step = probes.len().div_ceil(ASKED).max(1);
        for probe in probes.iter().step_by(step) {
            let code = i32::from(probe.expect != Some(Expect::Allow));
            let arguments = arguments(probe);
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let ask = || gateway.ask("explain", &arguments);
            let agrees = eventually(|| ask().status.code() == Some(code));
            assert!(agrees, "{}: {arguments:?}, not {code}: {:?}", self.name, ask());
        }
    }
}

fn insert(world: &mut World, object: Value) {
    let resource = Resource::of_object(&object).unwrap_or_else(|| panic!("{object}"));
    world.insert(resource.path(&object), object);
}

/// A node of the case with its pods behind the gateway, which serves them then.
fn behind_the_gateway(mut object: Value) -> Value {
    if object["kind"] == "Node" {
        object["metadata"]["labels"]["margay.dev/gateway"] = json!("gw");
    }
    object
}

fn gateway_node() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "gw"},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.7"}]},
    })
}

/// The probe as `margay explain` is asked it.
fn arguments(probe: &Probe) -> Vec<String> {
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let Probe { given, port, sport, icmp: (kind, code), family, .. } = probe;
    let mut arguments = vec![given.from.clone(), given.to.clone(), word(&given.proto)];
    arguments.extend(port.map(|port| port.to_string()));
    arguments.extend(sport.map(|port| format!("--sport={port}")));
    if matches!(probe.protocol, Protocol::ICMP | Protocol::ICMPV6) {
        arguments.extend([format!("--icmp-type={kind}"), format!("--icmp-code={code}")]);
    }
    arguments.extend(family.map(|family| format!("--family={}", if family == Family::V4 { 4 } else { 6 })));
    arguments
}

/// Namespaces before what is in them.
fn in_order(world: &World) -> Vec<&Value> {
    let (mut first, then): (Vec<_>, Vec<_>) =
        world.values().partition(|object| object["kind"] == "Namespace");
    first.extend(then);
    first
}

/// Goes through the cases, each made of the one before: what the next does not have goes, what it has otherwise is
/// changed.
fn go_through<'a>(
    cases: impl Iterator<Item = &'a Case>,
    watching: &Watching,
    put: impl Fn(&Value),
    delete: impl Fn(&Value),
    then: impl Fn(&Case),
) -> usize {
    let (mut before, mut done) = (World::new(), 0);
    for case in cases {
        for object in in_order(&before).into_iter().rev() {
            let path = Resource::of_object(object).unwrap().path(object);
            let is_kept = case.world.get(&path).is_some_and(|next| !must_be_made_anew(object, next));
            if !is_kept {
                delete(object);
            }
        }
        for object in in_order(&case.world) {
            let path = Resource::of_object(object).unwrap().path(object);
            if before.get(&path) != Some(object) {
                put(object);
            }
        }
        case.hold(watching);
        then(case);
        before.clone_from(&case.world);
        done += 1;
    }
    done
}

/// Where the server lets too little of the object change.
fn must_be_made_anew(object: &Value, next: &Value) -> bool {
    matches!(object["kind"].as_str(), Some("Pod" | "Service" | "Node"))
        && (&object["spec"], &object["status"]) != (&next["spec"], &next["status"])
}

#[test]
#[ignore = "needs the API server: make test-kube"]
fn every_case_that_a_real_server_keeps_has_its_verdicts() {
    let binaries = env::var_os("MARGAY_KUBE").expect("MARGAY_KUBE names no directory: run make test-kube");
    let namespace = Namespace::new();
    let site = Site::Netns { name: namespace.0.clone(), address: Ipv4Addr::LOCALHOST };
    let server = Server::start(&PathBuf::from(binaries), site).unwrap();
    server.install(POLICY).unwrap();
    server.install(CALICO).unwrap();
    let client = server.client(ADMIN).unwrap();
    client.apply(&gateway_node()).unwrap();
    let kubeconfig = server.kubeconfig(ADMIN);
    let gateway = Gateway::start(&namespace, &format!("source.kubernetes = '{}'", kubeconfig.display()));
    gateway.wait_ready();
    let watching = Watching::inside(&namespace.0, &kubeconfig);
    let cases = cases();
    let kept = cases.iter().filter(|case| !BEYOND.contains(&case.name.as_str()));
    let done = go_through(
        kept,
        &watching,
        |object| client.apply(object).unwrap_or_else(|error| panic!("{error:#}")),
        |object| client.delete(object).unwrap_or_else(|error| panic!("{error:#}")),
        |case| case.ask(&gateway),
    );
    assert_eq!(done, cases.len() - BEYOND.len());
    watching.has_no_trouble();
}

#[test]
fn what_the_real_server_does_not_keep_goes_through_the_stub() {
    let stub = Stub::start().unwrap();
    stub.serve(POLICY);
    stub.serve(CALICO);
    let directory = tempfile::tempdir().unwrap();
    let watching = Watching::whole(&stub.kubeconfig(directory.path(), "token").unwrap());
    let cases = cases();
    let done = go_through(
        cases.iter().filter(|case| BEYOND.contains(&case.name.as_str())),
        &watching,
        |object| stub.put(object),
        |object| {
            stub.delete(object);
        },
        |_| {},
    );
    assert_eq!(done, BEYOND.len());
}
