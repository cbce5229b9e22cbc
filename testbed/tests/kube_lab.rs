//! The demonstration's world with its objects in an API server that the gateways reach over their uplinks, while the
//! server dies, comes back and forgets. They need root.

mod common;

use std::cell::OnceCell;
use std::env;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use common::traffic::{Connection, Place, steady_echoes};
use common::{Options, TestLab, assert_agree, eventually, two_zones};
use margay_testbed::kube::stub::{Interrupt, Stub};
use margay_testbed::kube::{ADMIN, CALICO, Client, Server, Site, documents};
use margay_testbed::topology::Dataplane;
use serde_json::Value;
use tempfile::TempDir;

/// The only probe that no Margay can decide: two pods of one Linux node.
const BEYOND_MARGAY: [(&str, &str); 1] = [("far/client", "far/batch")];
/// The port of the only probe that a range of ports lets in: API server 1.20 drops `endPort` without a word.
const BEYOND_SERVER: u16 = 9005;
/// Pods that may exchange anything, by VXLAN and by IP-in-IP between the zones.
const PAIRS: [(&str, &str); 2] = [("far/client", "shop/bench"), ("shop/cache", "far/audit")];

/// What every cluster has, and is watched.
const CORE_KINDS: usize = 7;

/// Longer than an echo takes, shorter than a patient user.
const ECHO: Duration = Duration::from_secs(1);

const CLOSE_BENCH: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: bench-from-far, namespace: shop}
spec:
  podSelector: {matchLabels: {app: bench}}
  policyTypes: [Ingress]
";

fn objects() -> Vec<Value> {
    let directory = two_zones().join("manifests");
    // Namespaces before what is in them.
    ["namespaces.yaml", "nodes.yaml", "ipam.yaml", "pods.yaml", "policies.yaml"]
        .into_iter()
        .flat_map(|file| documents(&std::fs::read_to_string(directory.join(file)).unwrap()).unwrap())
        .collect()
}

/// Datagrams and their echoes between each pair until the work is done; none may be lost.
fn under_traffic(lab: &TestLab, work: impl FnOnce()) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let flows = PAIRS.map(|(from, to)| {
            let (from, to, done) = (lab.place(from), lab.place(to), &done);
            scope.spawn(move || steady_echoes(&from, &to, done))
        });
        {
            // Work that panics ends the traffic too.
            let _end = End(&done);
            work();
        }
        for (pair, flow) in PAIRS.iter().zip(flows) {
            let (sent, back) = flow.join().unwrap();
            assert!(sent > 0 && back == sent, "{pair:?}: {back} of {sent} came back");
        }
    });
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn connections(lab: &TestLab) -> [Connection; 2] {
    PAIRS.map(|(from, to)| Connection::open(&lab.place(from), &lab.place(to)).unwrap())
}

fn troubles(lab: &TestLab) -> usize {
    lab.status("gw-a")["source"]["troubles"].as_array().map_or(0, Vec::len)
}

/// A policy that comes holds for living connections, and lets go of them when it goes.
fn a_change_arrives(from: &Place, to: &Place, put: impl FnOnce(&Value), delete: impl FnOnce(&Value)) {
    let policy = documents(CLOSE_BENCH).unwrap().remove(0);
    let mut connection = Connection::open(from, to).unwrap();
    connection.exchange(ECHO).unwrap();
    put(&policy);
    assert!(eventually(|| connection.exchange(ECHO).is_err()), "the policy does not hold");
    delete(&policy);
    assert!(eventually(|| connection.exchange(ECHO).is_ok()), "the policy holds on");
}

fn start_server(site: Site, kubeconfig: &Path) -> anyhow::Result<(Server, Client)> {
    // An error, and no panic: the lab that is half up goes down again.
    let binaries =
        env::var_os("MARGAY_KUBE").context("MARGAY_KUBE names no directory: run make test-kube")?;
    let server = Server::start(&PathBuf::from(binaries), site)?;
    server.install(CALICO)?;
    let client = server.client(ADMIN)?;
    objects().iter().try_for_each(|object| client.apply(object))?;
    std::fs::copy(server.kubeconfig(ADMIN), kubeconfig)?;
    Ok((server, client))
}

#[test]
#[ignore = "needs the API server: make test-kube"]
fn packets_go_on_while_the_api_server_dies_and_comes_back() {
    let directory = TempDir::new().unwrap();
    let kubeconfig = directory.path().join("kubeconfig");
    let started = OnceCell::new();
    let options = Options { kubeconfig: Some(kubeconfig.clone()), ..Options::default() };
    let lab = TestLab::two_zones_after(options, |lab| {
        let (server, client) = start_server(Site::in_lab(lab)?, &kubeconfig)?;
        let _ = started.set((server, client));
        Ok(())
    });
    let (mut server, client) = started.into_inner().unwrap();
    let mut outcomes = lab.probe_file(&two_zones().join("probes.yaml"));
    outcomes.retain(|outcome| outcome.given.port != BEYOND_SERVER);
    assert_agree(&outcomes, &BEYOND_MARGAY);
    assert_eq!(troubles(&lab), 0);
    let [(from, to), _] = PAIRS.map(|(from, to)| (lab.place(from), lab.place(to)));

    let mut living = connections(&lab);
    under_traffic(&lab, || {
        server.kill_api();
        assert!(eventually(|| troubles(&lab) > 0), "status says nothing of the server's death");
        // What is new is judged as before.
        for connection in connections(&lab).iter_mut().chain(&mut living) {
            connection.exchange(ECHO).unwrap();
        }
        server.start_api().unwrap();
        assert!(eventually(|| troubles(&lab) == 0), "{}", lab.status("gw-a"));
    });
    a_change_arrives(
        &from,
        &to,
        |policy| client.apply(policy).unwrap(),
        |policy| client.delete(policy).unwrap(),
    );
    for connection in &mut living {
        connection.exchange(ECHO).unwrap();
    }
}

#[test]
fn a_hundred_resyncs_lose_no_packet() {
    let directory = TempDir::new().unwrap();
    let started = OnceCell::new();
    let kubeconfig = Some(directory.path().join("kubeconfig"));
    // One gateway more than the demonstration has.
    let dataplanes = vec![("a1", Dataplane::Margay)];
    let lab = TestLab::two_zones_after(Options { dataplanes, kubeconfig, ..Options::default() }, |lab| {
        let stub = Stub::start_at(&Site::in_lab(lab)?)?;
        stub.serve(CALICO);
        for object in objects() {
            stub.put(&object);
        }
        stub.kubeconfig(directory.path(), "token")?;
        let _ = started.set(stub);
        Ok(())
    });
    let stub = started.into_inner().unwrap();
    let [(from, to), _] = PAIRS.map(|(from, to)| (lab.place(from), lab.place(to)));
    let mut living = connections(&lab);
    under_traffic(&lab, || {
        let (gateways, mut resyncs) = (lab.lab.margay_nodes().count(), 0);
        while resyncs < 100 {
            // Every watch of every gateway begins anew with a list, all at once.
            let all = gateways * (CORE_KINDS + CALICO.len());
            assert!(eventually(|| stub.all_watches() == all), "{} of {all} watches", stub.all_watches());
            assert_eq!(stub.interrupt_all(Interrupt::Gone), all);
            resyncs += gateways;
            for connection in &mut living {
                connection.exchange(ECHO).unwrap();
            }
        }
    });
    a_change_arrives(
        &from,
        &to,
        |policy| stub.put(policy),
        |policy| {
            stub.delete(policy);
        },
    );
    assert!(eventually(|| troubles(&lab) == 0), "{}", lab.status("gw-a"));
}
