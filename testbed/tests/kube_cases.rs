//! The policy cases through an API server: each world is made in it, the source says what it holds, and every probe has
//! the verdict that `margay check` gives of the same manifests in a directory.

mod watching;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

use margay_control::{check, manifest, probe};
use margay_testbed::kube::stub::Stub;
use margay_testbed::kube::{ADMIN, CALICO, POLICY, Resource, Server, Site, documents};
use serde_json::Value;
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
                let resource = Resource::of_object(&object).unwrap_or_else(|| panic!("{name}: {object}"));
                world.insert(resource.path(&object), object);
            }
        }
        Self { name, directory, world }
    }

    /// Waits until the source says what the manifests say, and asks every probe.
    fn hold(&self, watching: &Watching) {
        let (expected, problems) = manifest::load_dir(self.directory.join("manifests")).unwrap();
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
    let server = Server::start(&PathBuf::from(binaries), Site::Loopback).unwrap();
    server.install(POLICY).unwrap();
    server.install(CALICO).unwrap();
    let client = server.client(ADMIN).unwrap();
    let watching = Watching::whole(&server.kubeconfig(ADMIN));
    let cases = cases();
    let kept = cases.iter().filter(|case| !BEYOND.contains(&case.name.as_str()));
    let done = go_through(
        kept,
        &watching,
        |object| client.apply(object).unwrap_or_else(|error| panic!("{error:#}")),
        |object| client.delete(object).unwrap_or_else(|error| panic!("{error:#}")),
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
    );
    assert_eq!(done, BEYOND.len());
}
