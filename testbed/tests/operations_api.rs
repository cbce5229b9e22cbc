//! What a user sees of a running gateway: each command that asks it, as a table and as JSON, on the demonstration's world.
//! Needs root.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use common::traffic::Connection;
use common::{Options, TestLab, eventually, margay};
use margay_testbed::daemon;
use serde_json::Value;

const GATEWAY: &str = "gw-a";

fn command(lab: &TestLab, words: &str) -> Command {
    let mut command = Command::new(margay());
    command.args(words.split(' ')).arg("--socket").arg(daemon::socket(lab.name(), GATEWAY));
    command
}

fn ask(lab: &TestLab, words: &str) -> Output {
    command(lab, words).output().unwrap()
}

fn text(lab: &TestLab, words: &str) -> String {
    let output = ask(lab, words);
    assert!(output.status.success(), "{words}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(lab: &TestLab, words: &str) -> Value {
    serde_json::from_str(&text(lab, &format!("{words} -o json"))).unwrap()
}

/// The row of a list whose field is this.
fn row<'a>(rows: &'a Value, field: &str, value: &str) -> &'a Value {
    let found = rows.as_array().unwrap().iter().find(|row| row[field] == value);
    found.unwrap_or_else(|| panic!("no {field} {value} in {rows:#}"))
}

#[test]
fn each_command_tells_of_the_gateway_that_runs() {
    let lab = TestLab::two_zones(Options::default());
    let (client, web) = (lab.place("far/client"), lab.place("shop/web").at(80));
    let mut stream = Connection::open(&client, &web).unwrap();
    stream.exchange(Duration::from_secs(10)).unwrap();
    assert!(!lab.place("far/batch").opens(&web.at(81)), "policy denies it");

    connections(&lab, &client.address.to_string());
    drops(&lab);
    ports_and_ways(&lab);
    endpoints(&lab);
    bad_input_is_named(&lab);
    watching_ends_with_its_reader(&lab);
    stream.exchange(Duration::from_secs(10)).unwrap();
}

fn connections(lab: &TestLab, client: &str) {
    let page = json(lab, "flows --pod shop/web --state established");
    let flow = row(&page["flows"], "src_name", "far/client");
    assert_eq!(
        (&flow["dst_name"], &flow["dport"], &flow["assured"]),
        (&"shop/web".into(), &80.into(), &true.into())
    );
    assert_eq!(flow["src"], client);
    assert!(
        flow["original"]["packets"].as_u64() > Some(2) && flow["reply"]["bytes"].as_u64() > Some(0),
        "{flow:#}"
    );
    assert_eq!(flow["ingress"].as_array().unwrap().last().unwrap()["policy"], "shop/web-from-frontends");
    for filter in [
        "--address 10.65.11.5",
        "--address 10.65.21.0/26",
        "--port 80",
        "--protocol tcp",
        "--policy shop/web-from-frontends",
        "--sort bytes",
        "--sort rate",
    ] {
        let page = json(lab, &format!("flows {filter}"));
        row(&page["flows"], "src_name", "far/client");
    }
    for filter in [
        "--address 10.65.11.99",
        "--port 4",
        "--protocol sctp",
        "--state DENIED",
        "--policy shop/db-from-api",
    ] {
        let page = json(lab, &format!("flows {filter}"));
        assert_eq!((&page["flows"], &page["matched"]), (&Value::Array(Vec::new()), &0.into()), "{filter}");
    }
    let table = text(lab, "flows --pod shop/web --rates");
    assert!(table.starts_with("PROTO  SOURCE"), "{table}");
    let line = table.lines().find(|line| line.contains("shop/web:80")).unwrap_or_else(|| panic!("{table}"));
    for cell in ["tcp", "far/client:", "ESTABLISHED", "bit/s", "shop/web-from-frontends ingress 0"] {
        assert!(line.contains(cell), "{cell} is not in {line}");
    }
}

fn drops(lab: &TestLab) {
    let denied = || json(lab, "drops --reason policy-deny");
    assert!(eventually(|| denied()["reasons"][0]["frames"].as_u64() > Some(0)), "{:#}", denied());
    assert_eq!(denied()["reasons"][0]["port"], "uplink0");
    let by_policy = json(lab, "drops --policy shop/web-from-frontends");
    let row = row(&by_policy["policies"], "endpoint", "shop/web");
    assert_eq!(row["last"]["dport"], 81);
    assert_eq!(
        by_policy["reasons"],
        Value::Array(Vec::new()),
        "workers count reasons by port, not by policy"
    );
    assert_eq!(json(lab, "drops --pod shop/db")["policies"], Value::Array(Vec::new()));
    let table = text(lab, "drops");
    assert!(table.contains("policy-deny") && table.contains("A policy denied it."), "{table}");
}

fn ports_and_ways(lab: &TestLab) {
    let ports = json(lab, "ports");
    let uplink = row(&ports["ports"], "name", "uplink0");
    assert_eq!((&uplink["state"], &uplink["kind"]), (&"open".into(), &"uplink".into()));
    assert!(uplink["traffic"]["rx"].as_u64() > Some(0) && uplink["mtu"].as_u64() > Some(1000), "{uplink:#}");
    assert!(text(lab, "ports").lines().any(|line| line.starts_with("uplink0 ") && line.contains(" open ")));

    let routes = json(lab, "routes");
    let block = row(&routes, "dst", "10.65.21.0/26");
    assert_eq!(
        (&block["kind"], &block["node"], &block["port"]),
        (&"vxlan".into(), &"b1".into(), &"uplink0".into())
    );
    assert!(block["mac"].is_string() && block["why"].is_null(), "{block:#}");
    assert!(routes.as_array().unwrap().iter().any(|route| route["kind"] == "local"), "{routes:#}");
    let to_pod = json(lab, "routes --address 10.65.21.5");
    assert!(to_pod.as_array().unwrap().iter().any(|route| route["dst"] == block["dst"]), "{to_pod:#}");
    assert!(to_pod.as_array().unwrap().iter().all(|route| route["dst"] != "10.65.10.0/26"), "{to_pod:#}");

    let tunnels = json(lab, "tunnels");
    let tunnel = row(&tunnels["tunnels"], "node", "b1");
    assert_eq!((&tunnel["kind"], &tunnel["remote"]), (&"vxlan".into(), &block["tunnel_dst"]));
    let fits = block["mtu"].as_u64().unwrap() - 50;
    assert_eq!(tunnel["mtu"], fits, "what fits inside");
    assert!(text(lab, "tunnels").contains("VNI 4096"));
}

fn endpoints(lab: &TestLab) {
    let all = json(lab, "endpoints");
    let web = row(&all, "pod", "shop/web");
    assert_eq!((&web["node"], &web["addresses"][0]), (&"a1".into(), &"10.65.11.5".into()));
    assert_eq!(web["ingress"][0]["policies"][0], "shop/web-from-frontends");
    assert_eq!((&web["port"], &web["egress"]), (&Value::Null, &Value::Array(Vec::new())));
    let here = json(lab, "endpoints --node gw-a");
    assert_eq!(row(&here, "pod", "shop/db")["port_state"], "open");
    assert!(here.as_array().unwrap().iter().all(|row| row["node"] == "gw-a"), "{here:#}");
    let table = text(lab, "endpoints --pod shop/web");
    assert!(table.contains("default: shop/web-from-frontends"), "{table}");
    let version = json(lab, "version");
    assert_eq!((&version["running"]["node"], &version["running"]["api"]), (&GATEWAY.into(), &"v1".into()));
}

fn bad_input_is_named(lab: &TestLab) {
    for (words, why) in [
        ("flows --state open", "there are SYN_SENT, SYN_RECV, ESTABLISHED"),
        ("flows --pod web", "is no pod: it is NAMESPACE/NAME"),
        ("flows --pod shop/nobody", "there is no pod shop/nobody"),
        ("flows --policy shop/nothing", "no policy shop/nothing is in force"),
        ("flows --address 10.0.0", "neither an IP address nor a network"),
        ("flows --protocol tpc", "is no protocol"),
        ("flows --limit 0", "limit is 1 to 10000"),
        ("flows --sort bytes --cursor 7", "is of no page that is sorted so"),
        ("drops --reason bad-luck", "there are runt, not-ip"),
        ("ports --watch=0", "0.1 to 3600 seconds"),
    ] {
        let output = ask(lab, words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{words}: {output:?}");
        assert!(said.contains(why), "{words}: {said}");
    }
}

fn watching_ends_with_its_reader(lab: &TestLab) {
    let mut command = command(lab, "ports -o json --watch=0.1");
    let mut watching = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        let ports: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        row(&ports["ports"], "name", "uplink0");
    }
    drop(lines);
    assert!(watching.wait().unwrap().success(), "nobody reads any more, which is no failure");
}
