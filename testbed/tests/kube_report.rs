//! What a gateway says of itself and of objects, written to a stub of the API server that goes wrong on command.

use std::fmt::Debug;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use margay_control::config;
use margay_control::manifest::{FieldPath, Invalid, Kind, Place, Problem, Reason, Reference, Step};
use margay_control::report::{Pace, Report, Reporter};
use margay_control::source::kubernetes::Access;
use margay_control::state::Name;
use margay_control::state::policy::PolicyKind;
use margay_testbed::kube::Client;
use margay_testbed::kube::stub::{Asked, Fault, On, Stub};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Longest wait for something to come; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything at once, and nothing twice.
fn pace() -> Pace {
    let soon = Duration::from_millis(5);
    Pace { gap: soon, spread: soon, event: soon, retry: soon, patience: 4 * soon, ..Pace::default() }
}

/// A stub that has the gateway's Node, and a gateway that reports to it.
struct Bench {
    stub: Stub,
    directory: TempDir,
    client: Client,
    reporter: Reporter,
}

fn bench() -> Bench {
    let stub = Stub::start().unwrap();
    stub.put(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "gw"}}));
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = stub.kubeconfig(directory.path(), "first").unwrap();
    let client = Client::new(&kubeconfig, None).unwrap();
    let access = Access::Kubeconfig(kubeconfig);
    let reporter = Reporter::start(access, "gw", &config::Report::default(), pace()).unwrap();
    Bench { stub, directory, client, reporter }
}

impl Bench {
    /// What the Node says, once it says something.
    fn status(&self) -> Option<Value> {
        let node = self.client.get("/api/v1/nodes/gw").ok()?;
        serde_json::from_str(node["metadata"]["annotations"]["margay.dev/status"].as_str()?).ok()
    }

    fn events(&self) -> Vec<Value> {
        let list = self.client.get("/apis/events.k8s.io/v1/events").unwrap_or_default();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    fn troubles(&self) -> Vec<String> {
        self.reporter.troubles().into_iter().map(|trouble| trouble.what).collect()
    }
}

/// The first that is so of what comes by asking again and again.
fn until<T: Debug>(ask: impl Fn() -> T, is_so: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = ask();
        if is_so(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "still {answer:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn problem(name: &str) -> Problem {
    let field = FieldPath(vec![Step::Key("spec".into()), Step::Key("ingress".into())]);
    let reference = Reference {
        kind: Kind::Policy(PolicyKind::NetworkPolicy),
        name: Name::new("shop", name),
        uid: format!("uid-{name}"),
    };
    Problem {
        place: Place::Api(Arc::new(reference)),
        object: None,
        reason: Reason::Invalid(Invalid { field, why: "is not a list".into() }),
        last_good_stands: false,
    }
}

fn report(ready: bool, problems: &[&str]) -> Report {
    let problems = Arc::new(problems.iter().map(|name| problem(name)).collect());
    Report { ready, problems, ..Report::default() }
}

#[test]
fn the_node_and_the_objects_say_how_things_are() {
    let bench = bench();
    bench.reporter.tell(report(true, &["web", "db"]));
    let status = until(|| bench.status(), Option::is_some).unwrap();
    assert_eq!((&status["ready"], &status["problems"]), (&json!(true), &json!(2)));
    let events = until(|| bench.events(), |events| events.len() == 2);
    let event = events.iter().find(|event| event["regarding"]["name"] == "web").unwrap();
    assert_eq!(event["metadata"]["namespace"], "shop");
    assert_eq!(event["regarding"]["uid"], "uid-web");
    assert_eq!(event["note"], "spec.ingress: is not a list");
    assert_eq!(event["reportingInstance"], "gw");

    // The same again, and one more.
    bench.reporter.tell(report(true, &["web", "db", "api"]));
    until(|| bench.events(), |events| events.len() == 3);
    bench.reporter.tell(report(false, &[]));
    until(|| bench.status(), |status| status.as_ref().is_some_and(|status| status["ready"] == false));
    assert_eq!(bench.troubles(), [""; 0]);
}

#[test]
fn a_gateway_that_ends_says_that_it_is_not_ready() {
    let bench = bench();
    bench.reporter.tell(report(true, &[]));
    until(|| bench.status(), |status| status.as_ref().is_some_and(|status| status["ready"] == true));
    let Bench { stub: _stub, client, reporter, .. } = bench;
    end(reporter);
    let node = client.get("/api/v1/nodes/gw").unwrap();
    let status = node["metadata"]["annotations"]["margay.dev/status"].as_str().unwrap();
    assert!(status.contains("\"ready\":false"), "{status}");
}

fn end(reporter: Reporter) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(reporter.close());
}

#[test]
fn whatever_fails_is_trouble_and_tried_again() {
    let bench = bench();
    let faults = [
        Fault::Status(403),
        Fault::Status(429),
        Fault::Status(500),
        Fault::Status(503),
        Fault::Garbage,
        Fault::Half,
        Fault::Close,
    ];
    for (round, fault) in faults.into_iter().enumerate() {
        bench.stub.fail(On { asked: Some(Asked::Object), plural: None }, fault);
        let name = format!("round-{round}");
        bench.reporter.tell(report(round % 2 == 0, &[&name]));
        until(|| bench.troubles().len(), |troubles| *troubles == 2);
        bench.stub.heal();
        until(|| bench.events(), |events| events.iter().any(|event| event["regarding"]["name"] == *name));
        until(|| bench.troubles(), Vec::is_empty);
    }
}

#[test]
fn an_api_server_that_was_gone_or_has_another_token_is_written_to_again() {
    let mut bench = bench();
    bench.stub.down().unwrap();
    bench.reporter.tell(report(true, &["web"]));
    until(|| bench.troubles().len(), |troubles| *troubles == 2);
    bench.stub.up().unwrap();
    until(|| bench.events().len(), |events| *events == 1);
    until(|| bench.troubles(), Vec::is_empty);

    bench.stub.require_token(Some("second"));
    bench.reporter.tell(report(false, &["db"]));
    until(|| bench.troubles().len(), |troubles| *troubles == 2);
    bench.stub.write_token(bench.directory.path(), "second").unwrap();
    until(|| bench.troubles(), Vec::is_empty);
}

#[test]
fn an_event_that_is_not_taken_holds_up_no_other() {
    let bench = bench();
    // Its namespace is gone.
    bench.stub.fail_times(1, On { asked: Some(Asked::Object), plural: Some("events") }, Fault::Status(404));
    bench.reporter.tell(report(true, &["web", "db"]));
    until(|| bench.events().len(), |events| *events == 1);
    // Somebody has written the other one.
    bench.stub.fail_times(1, On { asked: Some(Asked::Object), plural: Some("events") }, Fault::Status(409));
    bench.reporter.tell(report(true, &["api", "cache"]));
    until(|| bench.events().len(), |events| *events == 2);
    assert_eq!(bench.troubles(), [""; 0]);
}

#[test]
fn an_api_server_that_never_answers_keeps_nobody() {
    let bench = bench();
    bench.stub.fail(On::ANY, Fault::Hang);
    for round in 0..1000 {
        bench.reporter.tell(report(round % 2 == 0, &["web"]));
    }
    end(bench.reporter);
}
