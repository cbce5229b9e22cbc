//! An API server that stops speaking without a word of it, to a source that bears silence for seconds only: what is known
//! stands, status says since when and why, and the source gets on again.

mod watching;

use std::collections::BTreeSet;
use std::time::Duration;

use margay_control::state::Name;
use margay_testbed::kube::stub::{Asked, Fault, Interrupt, On, Stub};
use watching::Watching;
use watching::world::{KINDS, World, news};

/// Some times what there is between the stub's bookmarks.
const SHORT: Duration = Duration::from_secs(3);
/// More than an open watch needs to be taken for a good one.
const LONG: Duration = Duration::from_secs(6);
const WHY: &str = "nothing comes from the API server any more";

fn watched(world: &World, silence: Duration) -> Watching {
    world.settled(Watching::within(&world.kubeconfig(), silence))
}

/// Says nothing more in any open watch.
fn silence(stub: &Stub) {
    for plural in KINDS {
        stub.interrupt(plural, Interrupt::Silence);
    }
}

#[test]
fn a_watch_that_falls_silent_is_trouble_until_one_says_something() {
    let world = World::new();
    let watching = watched(&world, SHORT);
    world.stub.interrupt("pods", Interrupt::Silence);
    world.stub.put(&news(1));
    watching.has_trouble(&format!("Pod: {WHY}"));
    watching.has_pod("new-1");
    watching.has_no_trouble();

    // All at once, as when a router forgets connections.
    silence(&world.stub);
    let mut kinds = BTreeSet::new();
    watching.wait("trouble with every kind", |told| {
        kinds.extend(
            told.troubles.iter().filter(|trouble| trouble.why == WHY).map(|trouble| trouble.what.clone()),
        );
        kinds.len() == KINDS.len()
    });
    watching.has_no_trouble();
    world.stub.put(&news(2));
    watching.has_pod("new-2");
    assert_eq!(watching.told().removed, [""; 0]);
}

#[test]
fn watches_that_open_and_say_nothing_are_trouble_and_lists_take_their_place() {
    let world = World::new();
    world.stub.stream_lists(false);
    let watching = watched(&world, LONG);
    world.stub.fail(On::watch("pods"), Fault::Mute);
    world.stub.interrupt("pods", Interrupt::Silence);
    watching.has_trouble(&format!("Pod: {WHY}"));
    let since = watching.told().troubles[0].since;
    world.stub.put(&news(1));
    // The next watch is silent too, and no word of its opening ends the trouble before the list.
    watching.wait("the list's pod", |told| {
        let has_news = told.cluster.pods.contains_key(&Name::new("x", "new-1"));
        assert!(
            has_news || told.troubles.iter().any(|trouble| trouble.since == since),
            "{:?}",
            told.troubles
        );
        has_news
    });
    world.stub.heal();
    world.stub.put(&news(2));
    watching.has_pod("new-2");
    watching.has_no_trouble();
    assert_eq!(watching.told().removed, [""; 0]);
}

#[test]
fn a_request_that_is_never_answered_is_trouble_and_made_again() {
    for streaming in [true, false] {
        let world = World::new();
        world.stub.stream_lists(streaming);
        let watching = watched(&world, SHORT);
        let cases = [(On::watch("pods"), Interrupt::End), (On::kind("pods"), Interrupt::Gone)];
        for (number, (on, how)) in cases.into_iter().enumerate() {
            world.settle();
            world.stub.fail(on, Fault::Hang);
            world.stub.interrupt("pods", how);
            world.stub.put(&news(number));
            watching.has_trouble(WHY);
            let since = watching.told().troubles[0].since;
            assert_eq!(watching.told().cluster.policies.len(), 1);
            world.stub.heal();
            watching.has_pod(&format!("new-{number}"));
            assert!(watching.told().troubles.iter().all(|trouble| trouble.since == since));
            watching.has_no_trouble();
        }
        assert_eq!(watching.told().removed, [""; 0]);
    }
}

#[test]
fn questions_of_what_is_served_that_are_never_answered_are_trouble_of_their_own() {
    let world = World::new();
    let watching = watched(&world, SHORT);
    world.stub.fail(On::all(Asked::Discovery), Fault::Hang);
    watching.has_trouble(&format!("the kinds that the API server has: {WHY}"));
    world.stub.put(&news(1));
    watching.has_pod("new-1");
    world.stub.heal();
    watching.has_no_trouble();
}

#[test]
fn a_first_list_that_never_comes_is_trouble_and_delivers_nothing() {
    for fault in [Fault::Hang, Fault::Mute] {
        let world = World::new();
        world.stub.fail(On::kind("pods"), fault);
        let watching = Watching::within(&world.kubeconfig(), SHORT);
        watching.has_trouble(&format!("Pod: {WHY}"));
        assert!(!watching.told().is_whole);
        world.stub.heal();
        watching.wait("the first state", |told| told.is_whole);
        watching.has_no_trouble();
        assert_eq!(watching.told().cluster.pods.len(), 5);
    }
}
