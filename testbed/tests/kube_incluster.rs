//! A gateway that reaches a real API server as a pod of the cluster does: by its service account's files, at the paths where
//! a kubelet puts them, with the role of `deploy/`.

mod common;
mod gateway;

use std::path::{Path, PathBuf};
use std::{env, fs};

use gateway::{Gateway, Namespace, until};
use hyper::Method;
use margay_testbed::kube::{ADMIN, CALICO, Client, Server, Site, documents};
use serde_json::{Value, json};

const ACCOUNT: &str = "/api/v1/namespaces/margay-system/serviceaccounts/margay";
const SECRETS: &str = "/api/v1/namespaces/margay-system/secrets";

/// The service account and its role, and a Node for the gateway.
fn put_objects(admin: &Client) {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    for file in ["namespace", "service-account", "cluster-role", "cluster-role-binding"] {
        let text = fs::read_to_string(deploy.join(file).with_extension("yaml")).unwrap();
        documents(&text).unwrap().iter().for_each(|object| admin.apply(object).unwrap());
    }
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "gw"},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.7"}]},
    });
    admin.apply(&node).unwrap();
}

/// A token of the account's that is good for as long as the secret is there.
fn token(admin: &Client, secret: &str) -> String {
    let made = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret}});
    let made = admin.request(&Method::POST, SECRETS, Some(&made)).unwrap();
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {
            "expirationSeconds": 3600,
            "boundObjectRef":
                {"kind": "Secret", "apiVersion": "v1", "name": secret, "uid": made["metadata"]["uid"]},
        },
    });
    let answer = admin.request(&Method::POST, &format!("{ACCOUNT}/token"), Some(&request)).unwrap();
    answer["status"]["token"].as_str().unwrap().to_owned()
}

/// Lines of a shell that make the directory the account's, as in a pod.
fn as_in_a_pod(files: &Path) -> String {
    format!(
        "mount -t tmpfs tmpfs /var/run\n\
         mkdir -p /var/run/secrets/kubernetes.io/serviceaccount\n\
         mount --bind {} /var/run/secrets/kubernetes.io/serviceaccount\n\
         export KUBERNETES_SERVICE_HOST=127.0.0.1 KUBERNETES_SERVICE_PORT=6443",
        files.display()
    )
}

/// A policy that status speaks of, for there is no such Tier.
fn apply_noticed(admin: &Client, name: &str) {
    let policy = json!({
        "apiVersion": "crd.projectcalico.org/v1", "kind": "GlobalNetworkPolicy",
        "metadata": {"name": format!("none.{name}")}, "spec": {"tier": "none", "selector": "all()"},
    });
    admin.apply(&policy).unwrap();
}

fn says(list: &Value, text: &str) -> bool {
    list.as_array().is_some_and(|list| list.iter().any(|line| line.to_string().contains(text)))
}

#[test]
#[ignore = "needs the API server: make test-kube"]
fn a_token_that_is_rotated_in_its_file_goes_on_without_a_restart() {
    let binaries = env::var_os("MARGAY_KUBE").expect("MARGAY_KUBE names no directory: run make test-kube");
    let namespace = Namespace::new();
    let site = Site::Netns { name: namespace.0.clone(), address: std::net::Ipv4Addr::LOCALHOST };
    let mut server = Server::start(&PathBuf::from(binaries), site).unwrap();
    server.install(CALICO).unwrap();
    let admin = server.client(ADMIN).unwrap();
    put_objects(&admin);
    let files = tempfile::tempdir().unwrap();
    let write = |token: &str| {
        // As a kubelet does: nobody sees half of it.
        fs::write(files.path().join("next"), token).unwrap();
        fs::rename(files.path().join("next"), files.path().join("token")).unwrap();
    };
    fs::copy(server.authority(), files.path().join("ca.crt")).unwrap();
    fs::write(files.path().join("namespace"), "margay-system").unwrap();
    write(&token(&admin, "first"));

    let mut gateway =
        Gateway::start_after(&namespace, "source.kubernetes = \"in-cluster\"", &as_in_a_pod(files.path()));
    gateway.wait_ready();
    apply_noticed(&admin, "first");
    gateway.until("the first policy", |status| says(&status["source"]["problems"], "none.first"));
    until("our Node's annotation", || {
        let node = admin.get("/api/v1/nodes/gw").unwrap();
        node["metadata"]["annotations"]["margay.dev/status"].as_str().map(str::to_owned)
    });

    // The first token is good for nothing any more, and nobody has written another.
    let second = token(&admin, "second");
    admin.request(&Method::DELETE, &format!("{SECRETS}/first"), None).unwrap();
    server.kill_api();
    server.start_api().unwrap();
    let status =
        gateway.until("the first token is refused", |status| says(&status["source"]["troubles"], "(401:"));
    assert_eq!(status["ready"], true);
    assert!(says(&status["source"]["problems"], "none.first"), "{status}");
    write(&second);
    gateway.until("no trouble", |status| {
        status["source"]["troubles"].as_array().is_some_and(Vec::is_empty)
            && status["reporting"].as_array().is_none_or(Vec::is_empty)
    });
    apply_noticed(&server.client(ADMIN).unwrap(), "second");
    gateway.until("the second policy", |status| says(&status["source"]["problems"], "none.second"));
    assert!(gateway.process.child().try_wait().unwrap().is_none(), "it is the process that was started");
}
