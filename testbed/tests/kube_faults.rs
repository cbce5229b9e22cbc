//! The source that watches an API server, while the server fails in every way that the stub knows: the last state stands,
//! status says why, and what happened meanwhile is learnt once it is over.

mod watching;

use std::time::Duration;

use margay_control::state::Name;
use margay_testbed::kube::stub::{Asked, Fault, Interrupt, On, Stub};
use margay_testbed::kube::{CALICO, POLICY, Resource};
use serde_json::{Value, json};
use tempfile::TempDir;
use watching::Watching;

/// What every cluster has, and is watched.
const KINDS: [&str; 7] =
    ["namespaces", "nodes", "pods", "services", "serviceaccounts", "endpointslices", "networkpolicies"];

/// A namespace, a node, pods from `a` to `e`, a policy.
struct World {
    stub: Stub,
    directory: TempDir,
}

fn pod(name: &str, address: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "x", "labels": {"app": name}},
        "spec": {"nodeName": "n", "containers": [{"name": "main", "image": "none"}]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    })
}

/// A pod that stands for a change.
fn news(number: usize) -> Value {
    pod(&format!("new-{number}"), &format!("10.0.1.{number}"))
}

fn policy(name: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": "x"},
        "spec": {"podSelector": {"matchLabels": {"app": "a"}}, "policyTypes": ["Ingress"]},
    })
}

fn tier(order: f64) -> Value {
    json!({
        "apiVersion": "crd.projectcalico.org/v1", "kind": "Tier", "metadata": {"name": "t"},
        "spec": {"order": order},
    })
}

impl World {
    fn new() -> Self {
        let stub = Stub::start().unwrap();
        stub.put(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}}));
        stub.put(&json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"},
            "status": {"addresses": [{"type": "InternalIP", "address": "172.20.1.1"}]},
        }));
        for (index, name) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
            stub.put(&pod(name, &format!("10.0.0.{}", index + 1)));
        }
        stub.put(&policy("p"));
        Self { stub, directory: TempDir::new().unwrap() }
    }

    /// A source that has not delivered yet.
    fn watch(&self) -> Watching {
        Watching::start(&self.stub.kubeconfig(self.directory.path(), "first").unwrap())
    }

    /// A source that has, and watches.
    fn watched(&self) -> Watching {
        let watching = self.watch();
        watching.wait("the first state", |told| told.is_whole);
        self.settle();
        watching
    }

    /// Waits until pods are watched.
    fn settle(&self) {
        let deadline = std::time::Instant::now() + watching::EVENTUALLY;
        while self.stub.watches("pods") == 0 {
            assert!(std::time::Instant::now() < deadline, "nobody watches pods");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn nothing_is_delivered_before_every_kind_is_whole() {
    for fault in [Fault::Status(403), Fault::Status(500), Fault::Garbage] {
        let world = World::new();
        // Streamed lists are watches.
        world.stub.fail(On::kind("networkpolicies"), fault);
        let watching = world.watch();
        watching.has_trouble("NetworkPolicy");
        world.settle();
        world.stub.put(&news(1));
        std::thread::sleep(Duration::from_millis(200));
        assert!(!watching.told().is_whole, "{fault:?}");
        world.stub.heal();
        watching.wait("the first state", |told| told.is_whole);
        let told = watching.told();
        assert_eq!(told.cluster.policies.len(), 1, "{fault:?}");
        assert_eq!(told.cluster.pods.len(), 6, "{fault:?}");
        assert!(told.cluster.nodes.len() == 1 && told.cluster.namespaces.len() == 1, "{fault:?}");
        drop(told);
        watching.has_no_trouble();
    }
}

#[test]
fn a_watch_that_ends_in_any_way_is_taken_up_again_and_nothing_is_lost() {
    let world = World::new();
    for streaming in [true, false] {
        world.stub.stream_lists(streaming);
        let watching = world.watched();
        for (number, how) in [
            Interrupt::End,
            Interrupt::Break,
            Interrupt::Half,
            Interrupt::Garbage,
            Interrupt::Failed,
            Interrupt::Gone,
        ]
        .into_iter()
        .enumerate()
        {
            world.settle();
            world.stub.put(&pod("passing", "10.0.0.99"));
            watching.has_pod("passing");
            world.stub.interrupt("pods", how);
            world.stub.put(&news(number));
            world.stub.delete(&pod("passing", ""));
            watching.has_pod(&format!("new-{number}"));
            watching.has_no_pod("passing");
            let removed = watching.told().removed.len();
            assert_eq!(removed, number + 1, "{how:?}: {:?}", watching.told().removed);
        }
        watching.has_no_trouble();
    }
}

#[test]
fn requests_that_fail_are_made_again_and_what_is_known_stands_meanwhile() {
    let world = World::new();
    world.stub.stream_lists(false);
    let watching = world.watched();
    let slow = Fault::Slow { piece: 64, pause: Duration::from_millis(1) };
    for (number, (on, fault)) in [
        (On::list("pods"), Fault::Status(403)),
        (On::list("pods"), Fault::Status(410)),
        (On::list("pods"), Fault::Status(429)),
        (On::list("pods"), Fault::Status(500)),
        (On::list("pods"), Fault::Garbage),
        (On::list("pods"), Fault::Half),
        (On::list("pods"), Fault::Close),
        (On::list("pods"), slow),
        (On::watch("pods"), Fault::Status(403)),
        (On::watch("pods"), Fault::Status(410)),
        (On::watch("pods"), Fault::Status(504)),
        (On::watch("pods"), Fault::Garbage),
        (On::watch("pods"), Fault::Half),
        (On::watch("pods"), Fault::Close),
        (On::watch("pods"), slow),
    ]
    .into_iter()
    .enumerate()
    {
        world.settle();
        world.stub.fail_times(2, on, fault);
        // Has it list again, and then watch.
        world.stub.interrupt("pods", Interrupt::Gone);
        world.stub.put(&news(number));
        watching.has_pod(&format!("new-{number}"));
        world.stub.heal();
    }
    watching.has_no_trouble();
    assert_eq!(watching.told().removed, [""; 0]);
}

#[test]
fn a_page_that_is_too_old_begins_the_list_anew() {
    let world = World::new();
    world.stub.stream_lists(false);
    for number in 0..1200 {
        world.stub.put(&pod(&format!("many-{number}"), &format!("10.1.{}.{}", number / 250, number % 250)));
    }
    let watching = world.watched();
    assert_eq!(watching.told().cluster.pods.len(), 1205);
    assert!(world.stub.take_requests().iter().any(|request| request.parameter("continue").is_some()));
    for fault in [Fault::Status(410), Fault::Half] {
        world.stub.fail_times(1, On::page("pods"), fault);
        world.stub.interrupt("pods", Interrupt::Gone);
        world.stub.put(&news(1));
        watching.has_pod("new-1");
        world.stub.delete(&news(1));
        watching.has_no_pod("new-1");
        world.settle();
    }
    assert_eq!(watching.told().removed.len(), 2);
    assert_eq!(watching.told().cluster.pods.len(), 1205);
}

#[test]
fn a_hundred_resyncs_take_nothing_away() {
    let world = World::new();
    let watching = world.watched();
    let mut resyncs = 0;
    while resyncs < 100 {
        world.settle();
        resyncs += KINDS.map(|plural| world.stub.interrupt(plural, Interrupt::Gone)).iter().sum::<usize>();
    }
    world.stub.put(&news(1));
    watching.has_pod("new-1");
    watching.has_no_trouble();
    assert_eq!(watching.told().removed, [""; 0]);
}

#[test]
fn a_token_that_was_rotated_is_read_again() {
    let world = World::new();
    let watching = world.watched();
    world.stub.require_token(Some("second"));
    world.stub.interrupt("pods", Interrupt::End);
    watching.has_trouble("Pod");
    assert_eq!(watching.told().cluster.pods.len(), 5);
    world.stub.write_token(world.directory.path(), "second").unwrap();
    world.stub.put(&news(1));
    watching.has_pod("new-1");
    watching.has_no_trouble();
    assert_eq!(watching.told().removed, [""; 0]);
}

#[test]
fn a_kind_that_is_forbidden_is_trouble_of_its_own() {
    let world = World::new();
    let watching = world.watched();
    world.stub.fail(On::kind("networkpolicies"), Fault::Status(403));
    world.stub.interrupt("networkpolicies", Interrupt::Gone);
    watching.has_trouble("NetworkPolicy");
    let told = watching.told();
    assert_eq!((told.troubles.len(), told.cluster.policies.len()), (1, 1), "{:?}", told.troubles);
    let since = told.troubles[0].since;
    drop(told);
    world.stub.put(&news(1));
    watching.has_pod("new-1");
    assert_eq!(watching.told().troubles[0].since, since);
    world.stub.put(&policy("q"));
    world.stub.heal();
    watching.wait("the policy", |told| told.cluster.policies.len() == 2);
    watching.has_no_trouble();
    assert_eq!(watching.told().removed, [""; 0]);
}

#[test]
fn a_server_that_goes_and_comes_back_is_caught_up_with() {
    let mut world = World::new();
    let watching = world.watched();
    for round in 1..=2 {
        world.stub.down().unwrap();
        watching.has_trouble("Pod");
        assert_eq!(watching.told().cluster.pods.len(), 5);
        world.stub.put(&news(round));
        world.stub.delete(&pod("e", ""));
        if round == 2 {
            world.stub.compact();
        }
        world.stub.up().unwrap();
        watching.has_pod(&format!("new-{round}"));
        watching.has_no_pod("e");
        watching.has_no_trouble();
        assert_eq!(watching.told().removed.len(), round);
        world.stub.put(&pod("e", "10.0.0.5"));
        world.stub.delete(&news(round));
        watching.has_pod("e");
        watching.has_no_pod(&format!("new-{round}"));
        watching.told().removed.truncate(round);
    }
}

#[test]
fn kinds_that_are_installed_are_watched_and_those_that_are_removed_are_empty() {
    let world = World::new();
    let watching = world.watched();
    world.stub.serve(CALICO);
    world.stub.serve(POLICY);
    world.stub.put(&tier(5.0));
    watching.wait("the tier", |told| told.cluster.tiers.contains_key("t"));
    world.stub.put(&tier(6.0));
    watching.wait("the tier's new order", |told| told.cluster.tiers["t"].order.get() == Some(6.0));

    // Discovery that fails says nothing of what is served.
    world.stub.fail(On::all(Asked::Discovery), Fault::Status(503));
    world.stub.interrupt("tiers", Interrupt::Gone);
    world.stub.put(&tier(7.0));
    watching.wait("the tier's newest order", |told| told.cluster.tiers["t"].order.get() == Some(7.0));
    assert_eq!(watching.told().removed, [""; 0]);
    world.stub.heal();

    world.stub.unserve(CALICO);
    watching.wait("the end of the tier", |told| told.cluster.tiers.is_empty());
    watching.has_no_trouble();
    assert_eq!(watching.told().cluster.pods.len(), 5);
}

#[test]
fn an_object_that_is_made_anew_under_its_name_takes_the_place_of_the_old_one() {
    let world = World::new();
    let watching = world.watched();
    let address = |told: &watching::Told| told.cluster.pods[&Name::new("x", "a")].addresses[0].to_string();
    // Seen as it happens, and missed while the watch is away.
    for (number, missed) in [false, true].into_iter().enumerate() {
        let new = format!("10.0.2.{number}");
        world.settle();
        if missed {
            world.stub.fail_times(1, On::kind("pods"), Fault::Close);
            world.stub.interrupt("pods", Interrupt::Gone);
        }
        world.stub.delete(&pod("a", ""));
        world.stub.put(&pod("a", &new));
        let is_new = |told: &watching::Told| {
            told.cluster.pods.contains_key(&Name::new("x", "a")) && address(told) == new
        };
        watching.wait("the new pod", is_new);
    }
    watching.has_no_trouble();
}

/// What a server should never say, and says.
#[test]
fn garbage_is_named_and_changes_nothing_else() {
    let world = World::new();
    let watching = world.watched();
    let of = |api_version, kind| Resource::of(api_version, kind).unwrap();
    let strange = [
        (of("v1", "Pod"), "labels", json!({"labels": 7}), json!({})),
        (of("v1", "Pod"), "phase", json!({}), json!({"status": {"phase": 7}})),
        (of("v1", "Pod"), "address", json!({}), json!({"status": {"podIPs": [{"ip": "10.0.0.300"}]}})),
        (of("v1", "Pod"), "spec", json!({}), json!({"spec": "none"})),
        (of("v1", "Node"), "addresses", json!({}), json!({"status": {"addresses": {"a": 1}}})),
        (of("v1", "Service"), "ports", json!({}), json!({"spec": {"ports": [{"port": 123_456}]}})),
        (
            of("networking.k8s.io/v1", "NetworkPolicy"),
            "types",
            json!({}),
            json!({"spec": {"policyTypes": ["In"]}}),
        ),
        (of("discovery.k8s.io/v1", "EndpointSlice"), "type", json!({}), json!({"addressType": "IPv9"})),
    ];
    for (resource, name, metadata, rest) in &strange {
        let mut object =
            json!({"apiVersion": resource.api_version(), "kind": resource.kind, "metadata": metadata});
        object["metadata"]["name"] = json!(name);
        if resource.namespaced {
            object["metadata"]["namespace"] = json!("x");
        }
        for (key, value) in rest.as_object().unwrap() {
            object[key] = value.clone();
        }
        world.stub.put_as(*resource, "x", name, object);
        watching.has_problem(&format!("{name}: "));
    }
    world.stub.put(&news(1));
    watching.has_pod("new-1");
    assert_eq!(watching.told().cluster.pods[&Name::new("x", "a")].addresses.len(), 1);
    assert_eq!(watching.told().removed, [""; 0]);

    // A policy that turns bad stands as it was; one that is mended is in force.
    let mut bad = policy("p");
    bad["spec"]["policyTypes"] = json!(["In"]);
    world.stub.put(&bad);
    watching.has_problem("NetworkPolicy x/p: ");
    assert!(watching.told().cluster.policies.len() == 1 && watching.told().removed.is_empty());
    world.stub.interrupt("networkpolicies", Interrupt::Gone);
    world.stub.put(&policy("q"));
    watching.wait("the other policy", |told| told.cluster.policies.len() == 2);
    world.stub.put(&policy("p"));
    watching.wait("the end of the problem", |told| !told.problems.iter().any(|text| text.contains("x/p: ")));
}

/// What is no object at all, or deeper than JSON is read: nothing of it can be named but its kind.
#[test]
fn what_cannot_be_read_at_all_stops_nothing() {
    let world = World::new();
    let watching = world.watched();
    let pods = Resource::of("v1", "Pod").unwrap();
    let deep = (0..100).fold(json!("deep"), |inner, _| json!({"a": [inner]}));
    for (name, value) in [
        ("deep", deep),
        ("null", Value::Null),
        ("number", json!(7)),
        ("bare", json!({})),
        ("nameless", json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"namespace": "x"}})),
        ("numbered", json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"namespace": "x", "name": 7}})),
    ] {
        world.settle();
        world.stub.put_as(pods, "x", name, value);
        std::thread::sleep(Duration::from_millis(50));
        // Gone again: a list that holds it may be refused as a whole, and the last state stands.
        world.stub.delete(
            &json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"namespace": "x", "name": name}}),
        );
        world.stub.put(&pod("after", "10.0.3.1"));
        watching.has_pod("after");
        world.stub.delete(&pod("after", ""));
        watching.has_no_pod("after");
    }
    watching.has_no_trouble();
    assert_eq!(watching.told().cluster.pods.len(), 5);
}

#[test]
fn pods_end_and_share_addresses_as_in_any_cluster() {
    let world = World::new();
    let watching = world.watched();
    // A pod that ends is left out by the watch's own selector.
    let mut ended = pod("a", "10.0.0.1");
    ended["status"]["phase"] = json!("Succeeded");
    world.stub.put(&ended);
    watching.has_no_pod("a");
    // Its address may be another's, even while both are there.
    world.stub.put(&pod("twin", "10.0.0.2"));
    watching.has_pod("twin");
    let mut going = pod("b", "10.0.0.2");
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:01:00Z");
    world.stub.put(&going);
    watching.wait("the pod's going", |told| told.cluster.pods[&Name::new("x", "b")].terminating);
    let mut bare = pod("waiting", "");
    bare["status"] = json!({"phase": "Pending"});
    world.stub.put(&bare);
    watching.has_pod("waiting");
    let told = watching.told();
    assert!(told.cluster.pods[&Name::new("x", "waiting")].addresses.is_empty());
    assert_eq!(told.problems, [""; 0]);
}
