//! The source that watches an API server, while the server fails in every way that the stub knows: the last state stands,
//! status says why, and what happened meanwhile is learnt once it is over.

mod watching;

use std::time::Duration;

use margay_testbed::kube::stub::{Asked, Fault, Interrupt, On};
use margay_testbed::kube::{CALICO, POLICY};
use serde_json::{Value, json};
use watching::world::{KINDS, World, news, pod, policy};

fn tier(order: f64) -> Value {
    json!({
        "apiVersion": "crd.projectcalico.org/v1", "kind": "Tier", "metadata": {"name": "t"},
        "spec": {"order": order},
    })
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
