//! What `margay run --check` says of configurations.

use std::fs;
use std::process::Command;

use crate::MARGAY;
use crate::world::{NODES, POD};

const KUBECONFIG: &str = "
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: k, user: u}}]
clusters: [{name: k, cluster: {server: 'https://127.0.0.1:6443', insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: t}}]
";

#[test]
fn a_configuration_is_checked_without_a_gateway() {
    let home = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| fs::write(home.path().join(file), text).unwrap();
    let check = || {
        let mut command = Command::new(MARGAY);
        let output =
            command.args(["run", "--check", "--config"]).arg(home.path().join("m.toml")).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let cases = [
        ("source.directory = \"all\"\nnode.name = \"gw\"", 0, ""),
        ("source.directory = \"all\"\nnode.name = \"gx\"", 2, "no Node gx"),
        ("source.directory = \"none\"\nnode.name = \"gw\"", 2, "cannot read the manifest directory"),
        ("node.name = \"gw\"", 2, "no source: [source] needs either `directory"),
        (
            "source.directory = \"all\"\nsource.kubernetes = \"kc\"",
            2,
            "two sources: [source] needs either `directory",
        ),
        (
            "source.directory = \"all\"\ncalico.vxlan_tunnel_address = \"10.9.0.1\"",
            2,
            "[calico] says what an API server is told: it needs source.kubernetes",
        ),
        ("source.kubernetes = \"kubeconfig\"\ncalico.vxlan_tunnel_address = \"10.9.0.1\"", 0, ""),
        ("source.kubernetes = \"kubeconfig\"\nnode.name = \"gw\"", 0, ""),
        ("source.kubernetes = \"none\"\nnode.name = \"gw\"", 2, "/none: "),
        ("source.kubernetes = \"bad/pod.yaml\"\nnode.name = \"gw\"", 2, "kubeconfig "),
        ("source.kubernetes = \"in-cluster\"\nnode.name = \"gw\"", 2, "the pod's access to its API server: "),
        (
            "source.directory = \"all\"\nnod.name = \"gw\"",
            2,
            "m.toml:2:1: unknown key `nod`: did you mean `node`?",
        ),
        ("source.directory = \"bad\"\nnode.name = \"gw\"", 2, "bad/pod.yaml:4: Pod: metadata.name"),
    ];
    write("kubeconfig", KUBECONFIG);
    for directory in ["all", "bad"] {
        fs::create_dir(home.path().join(directory)).unwrap();
        write(&format!("{directory}/nodes.yaml"), NODES);
    }
    write(
        "bad/pod.yaml",
        &POD.replace("metadata: {name: web", "metadata: {name: Web!").replace("Running", "Runnin"),
    );
    for (config, code, message) in cases {
        write("m.toml", config);
        let (actual, error) = check();
        assert_eq!(actual, code, "{config}\n{error}");
        assert!(error.contains(message), "{config}\n{error}");
    }
    let none =
        Command::new(MARGAY).args(["status", "--socket"]).arg(home.path().join("none")).output().unwrap();
    assert_eq!(none.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&none.stderr).contains("no Margay answers at"));
}
