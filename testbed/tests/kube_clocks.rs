//! What an API server says of time and of its own history, and should not be believed: clocks of other centuries, and an
//! etcd that was restored to an older state.

mod watching;

use std::time::Duration;

use margay_control::compile::owners::Owners;
use margay_control::state::Name;
use margay_testbed::kube::stub::{Fault, Interrupt, On};
use serde_json::{Value, json};
use watching::world::{KINDS, World, news, pod};

const CLOCKS: [(&str, &str); 2] = [
    ("Mon, 01 Jan 1900 00:00:00 GMT", "1900-01-01T00:00:00Z"),
    ("Sat, 01 Jan 2250 00:00:00 GMT", "2250-01-01T00:00:00Z"),
];

fn made_at(mut pod: Value, time: &str) -> Value {
    pod["metadata"]["creationTimestamp"] = json!(time);
    pod
}

#[test]
fn a_server_in_another_century_is_followed_as_any_other() {
    for (answers, time) in CLOCKS {
        let world = World::new();
        world.stub.set_clock(answers, time);
        let watching = world.watched();
        // The newest of two pods holds an address: by what the server says alone, whatever our clock says.
        world.stub.put(&made_at(pod("older", "10.0.0.77"), "1899-06-01T00:00:00Z"));
        world.stub.put(&made_at(pod("newer", "10.0.0.77"), time));
        world.stub.put(&made_at(pod("other", "10.0.0.77"), "1899-07-01T00:00:00Z"));
        for name in ["older", "newer", "other"] {
            watching.has_pod(name);
        }
        let owners = Owners::of(&watching.told().cluster);
        let holder = owners.get("10.0.0.77".parse().unwrap()).unwrap();
        assert_eq!(*holder.name, Name::new("x", "newer"), "{time}");

        for (number, how) in [Interrupt::End, Interrupt::Gone, Interrupt::Break].into_iter().enumerate() {
            world.settle();
            world.stub.interrupt("pods", how);
            world.stub.put(&made_at(news(number), time));
            watching.has_pod(&format!("new-{number}"));
        }
        // What fails is tried again after the same waits, and has failed since a moment of ours.
        world.stub.fail(On::kind("pods"), Fault::Status(503));
        world.stub.interrupt("pods", Interrupt::End);
        watching.has_trouble("Pod");
        let trouble = watching.told().troubles[0].clone();
        assert!(trouble.began.elapsed() < Duration::from_secs(3600));
        world.stub.heal();
        watching.has_no_trouble();
        assert_eq!(watching.told().removed, [""; 0]);
    }
}

#[test]
fn a_server_that_has_not_come_so_far_is_listed_anew() {
    let world = World::new();
    world.stub.stream_lists(false);
    let watching = world.watched();
    world.stub.fail(On::watch("pods"), Fault::Ahead);
    world.stub.interrupt("pods", Interrupt::End);
    watching.has_trouble("Too large resource version");
    world.stub.put(&news(1));
    watching.has_pod("new-1");
    world.stub.heal();
    world.stub.put(&news(2));
    watching.has_pod("new-2");
    watching.has_no_trouble();
    assert_eq!(watching.told().removed, [""; 0]);
}

#[test]
fn a_server_that_was_restored_to_an_older_state_is_listed_anew() {
    for streaming in [true, false] {
        let mut world = World::new();
        world.stub.stream_lists(streaming);
        let watching = world.watched();
        let backup = world.stub.back_up();
        // It comes a long way, is restored, and does not come as far again while the test runs.
        for number in 0..50 {
            world.stub.put(&news(number));
        }
        world.stub.delete(&pod("e", ""));
        watching.has_pod("new-49");
        watching.has_no_pod("e");
        world.stub.down().unwrap();
        world.stub.restore(backup.clone());
        world.stub.put(&pod("after", "10.0.4.1"));
        world.stub.up().unwrap();

        watching.has_pod("after");
        watching.has_pod("e");
        watching.has_no_pod("new-49");
        watching.has_no_trouble();
        assert_eq!(watching.told().cluster.pods.len(), 6);
        // Its history goes on from there.
        world.settle();
        world.stub.put(&pod("later", "10.0.4.2"));
        watching.has_pod("later");

        // The same while nobody sees the server go: every watch ends in good order.
        world.stub.put(&news(50));
        watching.has_pod("new-50");
        world.stub.restore(backup);
        world.stub.put(&pod("again", "10.0.4.3"));
        for plural in KINDS {
            world.stub.interrupt(plural, Interrupt::End);
        }
        watching.has_pod("again");
        watching.has_no_pod("new-50");
        watching.has_no_trouble();
        assert_eq!(watching.told().cluster.pods.len(), 6);
    }
}
