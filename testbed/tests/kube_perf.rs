//! `margay perf control --kubeconfig`: it writes to a cluster that says that it may be written to, and leaves nothing.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use margay_testbed::kube::{ADMIN, Server, Site};
use serde_json::{Value, json};

const SMALL: [&str; 15] = [
    "control",
    "--nodes",
    "4",
    "--pods",
    "80",
    "--namespaces",
    "4",
    "--policies",
    "20",
    "--seconds",
    "4",
    "--rate",
    "20",
    "-o",
    "json",
];

fn control(kubeconfig: &Path, more: &[&str]) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_margay-lab")).with_file_name("margay-perf");
    let output = Command::new(program).args(SMALL).args(more).arg("--kubeconfig").arg(kubeconfig).output();
    output.expect("make build has built margay-perf")
}

#[test]
#[ignore = "asks a real API server: make test-kube"]
fn a_disposable_cluster_is_filled_measured_and_emptied() {
    let binaries = PathBuf::from(env::var_os("MARGAY_KUBE").expect("MARGAY_KUBE, as make test-kube sets it"));
    let server = Server::start(&binaries, Site::Loopback).unwrap();
    let client = server.client(ADMIN).unwrap();
    let kubeconfig = server.kubeconfig(ADMIN);
    let namespaces = || {
        let list = client.get("/api/v1/namespaces").unwrap();
        let names = list["items"].as_array().unwrap().iter();
        names.map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };

    let before = namespaces();
    let refused = control(&kubeconfig, &[]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("is not marked"), "{said}");
    assert_eq!(namespaces(), before);

    let marker = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "margay-perf", "labels": {"margay.dev/perf": "disposable"}},
    });
    client.apply(&marker).unwrap();
    let before = namespaces();
    let said = measured(&control(&kubeconfig, &["--keep"]));
    assert!(said.contains("writing 20 networkpolicies\nwriting 80 pods\n"), "{said}");
    // But for the pods that have changed all is still there.
    let said = measured(&control(&kubeconfig, &[]));
    assert!(said.contains("writing 0 nodes\n") && said.contains("writing 0 networkpolicies\n"), "{said}");
    assert!(!said.contains("writing 80 pods"), "{said}");
    assert_eq!(namespaces(), before);
    for left in ["nodes", "pods", "serviceaccounts"] {
        let list = client.get(&format!("/api/v1/{left}")).unwrap();
        assert_eq!(list["items"].as_array().unwrap().len(), 0, "{left}");
    }
}

/// Holds that all was measured; what was said of the way there.
fn measured(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let reports: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let [report] = &reports[..] else { panic!("{reports:#?}") };
    assert_eq!(report["environment"]["server"], "kube-apiserver v1.20.2");
    let churn = &report["churn"];
    let names = |list: &str, name: &str| {
        let list = churn[list].as_array().unwrap().iter();
        list.map(|of| of[name].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("latency_by_kind", "kind"), ["relabelled", "removed", "added"], "{churn:#}");
    assert_eq!(names("phases", "phase"), ["watch", "turn", "snapshot"], "{churn:#}");
    said
}
