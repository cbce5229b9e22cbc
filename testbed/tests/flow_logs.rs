//! Flow logs of real connections: who reads the file sees each begin, end and be denied, with the pods and the rules; and a
//! flood of denials stays within its bound. Needs root.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;
use std::path::Path;

use common::traffic::{Place, blob, tcp_transfer};
use common::{Options, TestLab, eventually};
use margay_testbed::netns;
use serde_json::{Value, json};

/// Records of one second at most.
const RECORDS: usize = 100;
const BYTES: usize = 200_000;

fn lab(file: &Path) -> TestLab {
    let configuration = format!(
        "[flow_log]\nfile = \"{}\"\ninterval = \"1s\"\nrecords = {RECORDS}\n[conntrack]\ntcp_fins_seen = \"1s\"\n",
        file.display()
    );
    TestLab::two_zones(Options { configuration, ..Options::default() })
}

/// Every whole line of the file, to which both gateways write.
fn written(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let (whole, _) = text.rsplit_once('\n').unwrap_or_default();
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What the gateway of zone a has written of packets to the port.
fn records(file: &Path, dport: u16) -> Vec<Value> {
    let is_asked = |record: &Value| record["gateway"] == "gw-a" && record["dport"] == dport;
    written(file).into_iter().filter(is_asked).collect()
}

/// The first record of the event.
fn wait_for(file: &Path, event: &str, dport: u16) -> Value {
    let find = || records(file, dport).into_iter().find(|record| record["event"] == event);
    assert!(eventually(|| find().is_some()), "no {event} of {dport}: {:#?}", records(file, dport));
    find().unwrap()
}

fn assert_ends(record: &Value, client: &Place, web: &Place) {
    let who = |place: &Place, namespace: &str, pod: &str, node: &str| json!({"address": place.address, "namespace": namespace, "pod": pod, "node": node});
    assert_eq!(record["src"], who(client, "far", "client", "b1"), "{record:#}");
    assert_eq!(record["dst"], who(web, "shop", "web", "a1"), "{record:#}");
}

/// A datagram to each of so many ports of the web server, where nobody may send.
fn flood(client: &Place, web: &Place, ports: u16) {
    netns::within(&client.netns, || {
        let socket = UdpSocket::bind((client.address, 0)).unwrap();
        for port in 0..ports {
            let _ = socket.send_to(b"knock", (web.address, 20_000 + port));
        }
    })
    .unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn connections_are_told_of_as_they_begin_end_and_are_denied() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("flows.jsonl");
    let lab = lab(&file);
    let (client, web) = (lab.place("far/client"), lab.place("shop/web"));
    let rule = |rule: Value| json!({"kind": "NetworkPolicy", "policy": "shop/web-from-frontends", "direction": "ingress", "rule": rule});

    let sent = blob(BYTES, 7);
    assert!(tcp_transfer(&client, &web.at(80), &sent).unwrap() == sent);
    assert!(!client.opens(&web.at(81)));
    for (event, dport, decided) in
        [("start", 80, json!(0)), ("end", 80, json!(0)), ("denial", 81, Value::Null)]
    {
        let record = wait_for(&file, event, dport);
        assert_ends(&record, &client, &web);
        assert_eq!(record["rules"], json!({"egress": null, "ingress": rule(decided)}), "{record:#}");
        assert_eq!(record["protocol"], 6);
        assert!(record["first"].as_str() <= record["last"].as_str());
    }
    let end = wait_for(&file, "end", 80);
    assert_eq!((&end["reason"], &end["flows"]), (&json!("closed"), &json!(1)));
    let number = |field: &str| end[field].as_u64().unwrap();
    assert!(number("bytes") > BYTES as u64 && number("packets") > 3, "{end:#}");
    assert!(number("reply_packets") > 1 && number("reply_bytes") < number("bytes"), "{end:#}");
    assert!(wait_for(&file, "denial", 81)["flows"].as_u64() >= Some(1));

    // A change of policy ends what it no longer allows, when its next packet comes.
    let socket = netns::within(&client.netns, || UdpSocket::bind((client.address, 0)).unwrap()).unwrap();
    let send = || socket.send_to(b"query", (web.address, 53)).unwrap();
    send();
    wait_for(&file, "start", 53);
    let policies = fs::read_to_string(common::two_zones().join("manifests/policies.yaml")).unwrap();
    lab.write("policies.yaml", &policies.replace("port: 53", "port: 54"));
    let cut = || records(&file, 53).into_iter().find(|record| record["reason"] == "policy");
    assert!(eventually(|| {
        send();
        cut().is_some()
    }));
    assert_eq!(cut().unwrap()["rules"]["ingress"], rule(Value::Null));
    flood_of_denials(&lab, &file, &client, &web);
}

/// How many records each interval of each gateway has made.
fn of_interval(file: &Path) -> BTreeMap<String, usize> {
    let mut of_interval = BTreeMap::new();
    for record in written(file) {
        *of_interval.entry(format!("{} {}", record["gateway"], record["time"])).or_default() += 1;
    }
    of_interval
}

fn flood_of_denials(lab: &TestLab, file: &Path, client: &Place, web: &Place) {
    let lost = || lab.status("gw-a")["flow_log"]["lost"]["interval"].as_u64().unwrap();
    assert_eq!(lost(), 0);
    assert!(eventually(|| {
        flood(client, web, 2000);
        lost() > 0
    }));
    // What an interval had no room for is counted before it is written.
    assert!(eventually(|| of_interval(file).values().any(|records| *records == RECORDS)));
    assert!(of_interval(file).values().all(|records| *records <= RECORDS), "{:?}", of_interval(file));
    // The next one that is denied, when it is over, is told of again.
    assert!(!client.opens(&web.at(82)));
    wait_for(file, "denial", 82);
    let status = lab.status("gw-a");
    assert_eq!(status["flow_log"]["failing"], json!({}));
    assert_eq!(status["flow_log"]["records"], status["flow_log"]["written"]["file"]);
}
