//! Objects that surprise, through the source that watches the stub: what is wrong, strange, made anew or shared.

mod watching;

use std::time::Duration;

use margay_control::compile::owners::Owners;
use margay_control::compile::routes;
use margay_control::state::Name;
use margay_testbed::kube::Resource;
use margay_testbed::kube::stub::{Fault, Interrupt, On};
use serde_json::{Value, json};
use watching::world::{World, news, pod, policy};

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

#[test]
fn of_pods_on_one_address_one_holds_it() {
    let world = World::new();
    let watching = world.watched();
    let holder = || {
        let owners = Owners::of(&watching.told().cluster);
        owners.get("10.0.0.77".parse().unwrap()).map(|owner| owner.name.name.clone())
    };
    let claim = |name: &str, day: u32, is_going: bool| {
        let mut pod = pod(name, "10.0.0.77");
        pod["metadata"]["creationTimestamp"] = json!(format!("2026-01-0{day}T00:00:00Z"));
        if is_going {
            pod["metadata"]["deletionTimestamp"] = json!("2026-02-01T00:00:00Z");
        }
        world.stub.put(&pod);
        watching.wait("the claim", |told| {
            told.cluster.pods.get(&Name::new("x", name)).is_some_and(|pod| pod.terminating == is_going)
        });
    };
    // Each with who holds the address then.
    for (name, day, is_going, then) in [
        ("old", 1, false, "old"),
        ("new", 3, false, "new"),
        ("twin", 3, false, "new"),
        ("middle", 2, false, "new"),
        ("new", 3, true, "twin"),
        ("twin", 3, true, "middle"),
    ] {
        claim(name, day, is_going);
        assert_eq!(holder().as_deref(), Some(then), "after {name}");
    }
    for (name, then) in [("middle", Some("old")), ("old", Some("new")), ("new", Some("twin")), ("twin", None)]
    {
        world.stub.delete(&pod(name, ""));
        watching.has_no_pod(name);
        assert_eq!(holder().as_deref(), then, "without {name}");
    }
}

#[test]
fn nodes_that_share_an_address_have_the_routes_of_their_own_blocks() {
    let world = World::new();
    let watching = world.watched();
    let node = |name: &str, address: &str, pods: &str| {
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "annotations": {"projectcalico.org/IPv4Address": format!("{address}/24")}},
            "spec": {"podCIDR": pods, "podCIDRs": [pods]},
        })
    };
    for (name, address, pods) in [
        ("gw", "172.20.1.9", "10.9.0.0/24"),
        ("one", "172.20.1.7", "10.9.1.0/24"),
        ("other", "172.20.1.7", "10.9.2.0/24"),
    ] {
        world.stub.put(&node(name, address, pods));
        watching.wait("the node", |told| told.cluster.nodes.contains_key(name));
    }
    let ways = || -> Vec<(String, Option<String>, Option<String>)> {
        let routes = routes(&watching.told().cluster, "gw").unwrap();
        let others = routes.iter().filter(|route| route.next_node.is_some());
        others
            .map(|route| {
                (route.dst.to_string(), route.next_node.clone(), route.via.map(|via| via.to_string()))
            })
            .collect()
    };
    let way =
        |pods: &str, node: &str| (pods.to_owned(), Some(node.to_owned()), Some("172.20.1.7".to_owned()));
    assert_eq!(ways(), [way("10.9.1.0/24", "one"), way("10.9.2.0/24", "other")]);
    // One that goes, or goes elsewhere, takes its own alone along.
    world.stub.delete(&node("one", "", ""));
    watching.wait("the end of the node", |told| !told.cluster.nodes.contains_key("one"));
    assert_eq!(ways(), [way("10.9.2.0/24", "other")]);
}
