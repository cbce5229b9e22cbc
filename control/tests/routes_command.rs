//! `margay routes` as scripts call it.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn margay_routes(world: &str, more: &[&str]) -> Output {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/routes").join(world);
    Command::new(env!("CARGO_BIN_EXE_margay"))
        .args(["routes", "--manifests"])
        .arg(manifests)
        .args(more)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn json_alone_stands_on_stdout_in_order_of_destination() {
    let output = margay_routes("pod_cidrs", &["--node", "k1", "-o", "json"]);
    assert_eq!(output.status.code(), Some(0));
    let routes: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let destinations: Vec<&str> = routes.iter().map(|route| route["dst"].as_str().unwrap()).collect();
    let expected = [
        "10.1.1.0/24",
        "10.1.1.7/32",
        "10.1.3.0/24",
        "10.2.2.0/24",
        "10.2.3.0/24",
        "172.16.4.0/24",
        "fd00:1::1:0/122",
        "fd00:1::1:7/128",
        "fd00:1::2:0/122",
        "fd00:1::3:0/122",
    ];
    assert_eq!(destinations, expected);
    assert_eq!(routes[5]["pool"], Value::Null);
    assert!(text(&output.stderr).contains("no route to 10.1.4.0/24 on node k4: "), "{output:?}");
}

#[test]
fn people_get_columns() {
    let output = margay_routes("subnets", &["--node", "near"]);
    let expected = "\
DESTINATION  KIND       NODE  VIA         TUNNEL      POOL
10.4.1.0/26  ipip       wide  172.20.1.1  172.20.1.1  ipip
10.4.2.0/26  blackhole  near  -           -           ipip
";
    assert!(text(&output.stdout).starts_with(expected), "{}", text(&output.stdout));
}

#[test]
fn bad_input_is_exit_code_2_with_nothing_on_stdout() {
    for (world, node, reason) in [
        ("subnets", "waide", "the known nodes are bare, near, wide"),
        ("no-such-directory", "near", "no-such-directory"),
    ] {
        let output = margay_routes(world, &["--node", node, "-o", "json"]);
        assert_eq!(output.status.code(), Some(2));
        assert!(output.stdout.is_empty());
        assert!(text(&output.stderr).contains(reason), "{output:?}");
    }
}
