//! Records as they come out, from flows as they are told.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;

use jiff::Timestamp;
use margay_flowtable::{PolicyType, Traffic};
use serde_json::{Value, json};

use super::flow::{End, Flow, Key, Party, Reason, Sum, What};
use super::*;
use crate::compile::policy::RuleName;
use crate::state::policy::{PolicyId, PolicyKind};
use crate::state::{Name, Pod};

pub(super) fn seconds(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("within the times that there are")
}

/// A flow of a pod to an address of nobody's.
pub(super) fn flow(what: What, sport: u16, dport: u16) -> Flow {
    let pod = Pod { node: "gw-a".to_owned(), ..Pod::default() };
    let src = End {
        address: Ipv4Addr::new(10, 65, 10, 5).into(),
        party: Party::Pod { name: Arc::new(Name::new("shop", "web")), pod: Arc::new(pod) },
    };
    let dst = End { address: Ipv4Addr::new(192, 0, 2, 7).into(), party: Party::Other };
    let key = Key { what, src, dst, protocol: 6, sport: Some(sport), dport, icmp: None, rules: [None, None] };
    let original = Traffic { packets: 1, bytes: 100 };
    Flow {
        key,
        sum: Sum { flows: 1, original, reply: Traffic::default(), first: seconds(1000), last: seconds(1001) },
    }
}

fn rule(index: u32) -> RuleName {
    let policy = PolicyId { kind: PolicyKind::NetworkPolicy, name: Name::new("shop", "limits") };
    RuleName { policy: Arc::new(policy), direction: PolicyType::Egress, index: Some(index) }
}

/// What a flow log of this configuration has written when it has been told of these, and what it says of itself then.
fn written(config: &config::FlowLog, flows: Vec<Flow>) -> Status {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let log = FlowLog::start(config, "gw-a").unwrap().expect("it is wanted");
        log.tell(flows);
        let (counts, sinks) = (Arc::clone(&log.counts), log.sinks.clone());
        log.close().await;
        counts.status(&sinks, 0, 0)
    })
}

#[test]
fn each_event_is_a_line_with_the_ends_and_the_rules() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("flows.jsonl");
    let config = config::FlowLog {
        file: Some(path.clone()),
        aggregate: config::Aggregate::Flow,
        ..config::FlowLog::default()
    };
    let mut end = flow(What::End(Reason::Closed), 40_000, 443);
    end.key.rules = [Some(rule(1)), None];
    end.sum.reply = Traffic { packets: 7, bytes: 9000 };
    end.key.dst.party = Party::Node("gw-b".into());
    let mut denial = flow(What::Denial, 40_001, 22);
    denial.sum.first = seconds(1002);
    denial.sum.last = seconds(1003);
    let status = written(&config, vec![end, denial]);
    assert_eq!((status.records, status.written["file"], status.lost.is_nothing()), (2, 2, true));
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &mut lines {
        let time: Timestamp = line["time"].take().as_str().unwrap().parse().unwrap();
        assert!(time > seconds(1_000_000));
    }
    let src = json!({"address": "10.65.10.5", "namespace": "shop", "pod": "web", "node": "gw-a"});
    let egress = json!({"kind": "NetworkPolicy", "policy": "shop/limits", "direction": "egress", "rule": 1});
    let expected = [
        json!({
            "time": null, "gateway": "gw-a", "event": "end", "action": "allow", "reason": "closed",
            "first": "1970-01-01T00:16:40Z", "last": "1970-01-01T00:16:41Z",
            "src": src, "dst": {"address": "192.0.2.7", "node": "gw-b"},
            "protocol": 6, "sport": 40_000, "dport": 443, "rules": {"egress": egress, "ingress": null},
            "flows": 1, "packets": 1, "bytes": 100, "reply_packets": 7, "reply_bytes": 9000,
        }),
        json!({
            "time": null, "gateway": "gw-a", "event": "denial", "action": "deny",
            "first": "1970-01-01T00:16:42Z", "last": "1970-01-01T00:16:43Z",
            "src": src, "dst": {"address": "192.0.2.7"},
            "protocol": 6, "sport": 40_001, "dport": 22, "rules": {"egress": null, "ingress": null},
            "flows": 1, "packets": 1, "bytes": 100, "reply_packets": 0, "reply_bytes": 0,
        }),
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_sink_that_takes_nothing_loses_its_records_alone() {
    let directory = tempfile::tempdir().unwrap();
    let collector = UdpSocket::bind("127.0.0.1:0").unwrap();
    let config = config::FlowLog {
        file: Some(directory.path().join("missing/flows.jsonl")),
        ipfix: Some(collector.local_addr().unwrap()),
        ..config::FlowLog::default()
    };
    let status = written(&config, (0..3).map(|dport| flow(What::Start, 1, dport)).collect());
    assert_eq!((status.records, status.written["file"], status.written["ipfix"]), (3, 0, 3));
    assert_eq!((status.lost.records["file"], status.lost.records["ipfix"]), (3, 0));
    assert!(status.failing["file"].contains("No such file"), "{status:?}");
    assert!(!status.lost.is_nothing());
}

#[test]
fn what_an_interval_has_no_room_for_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("flows.jsonl");
    let config = config::FlowLog { file: Some(path.clone()), records: 10, ..config::FlowLog::default() };
    let status = written(&config, (0..100).map(|dport| flow(What::Denial, 1, dport)).collect());
    assert_eq!((status.records, status.lost.interval), (10, 90));
    assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 10);
}

#[test]
fn nothing_runs_where_nothing_is_wanted() {
    assert!(FlowLog::start(&config::FlowLog::default(), "gw-a").unwrap().is_none());
}

#[test]
fn a_thread_that_is_behind_keeps_nobody() {
    let (flows, told) = sync_channel(WAITING);
    let thread = std::thread::spawn(|| ());
    let counts = Arc::new(Counts::default());
    let log = FlowLog { flows, counts: Arc::clone(&counts), sinks: Vec::new(), thread };
    for n in 0..WAITING as u16 + 5 {
        log.tell(vec![flow(What::Start, n, 80); 3]);
    }
    assert_eq!(log.status(0, 0).lost.queue, 15);
    assert_eq!(told.try_iter().count(), WAITING);
}
