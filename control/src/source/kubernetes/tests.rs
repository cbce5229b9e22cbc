//! What the store makes of what watches say.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{ApiObject, Event, Store, WATCHED, Watched};
use crate::manifest::{Kind, Problem};
use crate::state::policy::PolicyKind;
use crate::state::{Change, Cluster, Name};

/// A store and what follows it.
#[derive(Default)]
struct Followed {
    store: Store,
    cluster: Cluster,
    problems: Vec<String>,
}

impl Followed {
    /// One that has delivered an empty cluster.
    fn new() -> Self {
        let mut followed = Self::default();
        for watched in &WATCHED {
            assert!(followed.tell().is_none(), "nothing is told before all is known");
            followed.store.take(watched.kind, Event::Listing);
            followed.store.take(watched.kind, Event::Listed);
        }
        assert_eq!(followed.tell(), Some(Vec::new()));
        followed
    }

    fn put(&mut self, kind: Kind, object: &Value) -> &mut Self {
        self.store.take(kind, Event::Put(read(kind, object)));
        self
    }

    fn delete(&mut self, kind: Kind, object: &Value) -> &mut Self {
        self.store.take(kind, Event::Deleted(read(kind, object)));
        self
    }

    fn event(&mut self, kind: Kind, event: Event) -> &mut Self {
        self.store.take(kind, event);
        self
    }

    /// Takes over what there is to tell: the changes that changed something.
    fn tell(&mut self) -> Option<Vec<Change>> {
        let (mut changes, problems) = self.store.tell()?;
        self.cluster.apply_all(&mut changes);
        self.problems = problems.iter().map(Problem::to_string).collect();
        Some(changes)
    }

    fn pods(&mut self) -> Vec<(String, i64)> {
        self.tell();
        self.cluster.pods.iter().map(|(name, pod)| (name.to_string(), pod.created)).collect()
    }
}

fn read(kind: Kind, object: &Value) -> ApiObject {
    ApiObject::read(Watched::of(kind).unwrap(), object.to_string().as_bytes()).unwrap()
}

/// A pod whose time of creation, in seconds, tells its versions apart.
fn pod(name: &str, uid: &str, version: i64) -> Value {
    let created = format!("1970-01-01T00:{:02}:{:02}Z", version / 60, version % 60);
    json!({"metadata": {"name": name, "namespace": "x", "uid": uid, "creationTimestamp": created}})
}

fn with(mut object: Value, path: &str, value: Value) -> Value {
    let (parent, key) = path.rsplit_once('/').unwrap();
    let mut at = &mut object;
    for key in parent.split('/').filter(|key| !key.is_empty()) {
        at = at.as_object_mut().unwrap().entry(key).or_insert(json!({}));
    }
    at[key] = value;
    object
}

fn invalid(pod: Value) -> Value {
    with(pod, "/status/podIP", json!("here"))
}

#[test]
fn a_list_takes_effect_as_a_whole_and_leaves_what_it_holds_again() {
    let mut followed = Followed::new();
    followed
        .event(Kind::Pod, Event::Listing)
        .put(Kind::Pod, &pod("a", "1", 1))
        .put(Kind::Pod, &pod("b", "2", 1));
    assert_eq!(followed.tell(), None);
    followed.event(Kind::Pod, Event::Listed);
    assert_eq!(followed.pods(), [("x/a".to_owned(), 1), ("x/b".to_owned(), 1)]);

    // A list that breaks off, and the next one without what the first one began with.
    followed
        .event(Kind::Pod, Event::Listing)
        .put(Kind::Pod, &pod("c", "3", 1))
        .put(Kind::Pod, &pod("a", "1", 2));
    followed
        .event(Kind::Pod, Event::Listing)
        .put(Kind::Pod, &pod("a", "1", 2))
        .put(Kind::Pod, &pod("d", "4", 1));
    assert_eq!(followed.tell(), None);
    followed.event(Kind::Pod, Event::Listed);
    let changes = followed.tell().unwrap();
    let removed = changes.iter().filter(|change| matches!(change, Change::Pod(edit) if edit.new.is_none()));
    assert_eq!(removed.count(), 2, "b, and c after it came: {changes:?}");
    assert_eq!(followed.pods(), [("x/a".to_owned(), 2), ("x/d".to_owned(), 1)]);

    followed
        .event(Kind::Pod, Event::Listing)
        .put(Kind::Pod, &pod("a", "1", 2))
        .put(Kind::Pod, &pod("d", "4", 1));
    followed.event(Kind::Pod, Event::Listed);
    assert_eq!(followed.tell(), None, "the same again is nothing to tell");
}

#[test]
fn an_object_of_the_same_name_and_another_uid_is_another_object() {
    let mut followed = Followed::new();
    followed.put(Kind::Pod, &pod("a", "1", 1)).tell();
    followed.put(Kind::Pod, &pod("a", "2", 2)).delete(Kind::Pod, &pod("a", "1", 1));
    assert_eq!(followed.tell().unwrap().len(), 1, "it takes the place of the other without a gap");
    assert_eq!(followed.pods(), [("x/a".to_owned(), 2)]);

    // What is wrong with it has no last good version in the other.
    followed.put(Kind::Pod, &invalid(pod("a", "3", 3)));
    assert_eq!(followed.pods(), []);
    assert_eq!(followed.problems, ["Pod x/a: status.podIP: \"here\" is not an IP address"]);
    followed.delete(Kind::Pod, &pod("a", "3", 3));
    assert_eq!((followed.pods(), followed.problems.len()), (vec![], 0));
}

#[test]
fn what_becomes_invalid_keeps_its_last_good_version_also_when_it_is_listed_again() {
    let mut followed = Followed::new();
    followed.put(Kind::Pod, &pod("a", "1", 1)).tell();
    followed.put(Kind::Pod, &invalid(pod("a", "1", 2)));
    let problem =
        "Pod x/a: status.podIP: \"here\" is not an IP address (the last good version stays in force)";
    for _ in 0..2 {
        assert_eq!(followed.pods(), [("x/a".to_owned(), 1)]);
        assert_eq!(followed.problems, [problem]);
        followed.event(Kind::Pod, Event::Listing).put(Kind::Pod, &invalid(pod("a", "1", 3)));
        followed.event(Kind::Pod, Event::Listed);
    }
    followed.put(Kind::Pod, &pod("a", "1", 4));
    assert_eq!((followed.pods(), followed.problems.len()), (vec![("x/a".to_owned(), 4)], 0));
}

#[test]
fn surprising_objects_harm_nobody_else() {
    let mut followed = Followed::new();
    let deep = (0..200).fold(json!("deep"), |inner, _| json!([inner]));
    let unnamed = json!({"metadata": {"namespace": "x"}, "spec": {}});
    let wrong = [
        (json!({"metadata": {}}), "Pod: metadata.name: is required, a string"),
        (json!({"metadata": 1}), "Pod: metadata.name: is required, a string"),
        (json!(["no", "object"]), "Pod: metadata.name: is required, a string"),
        (with(pod("b", "2", 1), "/metadata/labels", deep), "Pod x/b: the object: recursion limit exceeded"),
        (unnamed, "Pod: metadata.name: is required, a string"),
        (
            with(pod("b", "2", 1), "/metadata/labels", json!({"a b": ""})),
            "metadata.labels: \"a b\" is not a label key",
        ),
        (
            with(pod("b", "2", 1), "/spec/containers", json!({"ports": []})),
            "Pod x/b: spec.containers: invalid type: map",
        ),
        (
            with(
                pod("b", "2", 1),
                "/spec/containers",
                json!([{"name": "c", "ports": [{"containerPort": 0}]}]),
            ),
            "Pod x/b: spec.containers[0].ports[0].containerPort: 0 is not a port",
        ),
    ];
    for (object, problem) in wrong {
        followed.put(Kind::Pod, &object).put(Kind::Pod, &pod("a", "1", 1));
        assert_eq!(followed.pods(), [("x/a".to_owned(), 1)], "{object}");
        assert!(followed.problems[0].contains(problem), "{object}: {:?}", followed.problems);
        followed.event(Kind::Pod, Event::Absent).tell();
        assert_eq!((followed.problems.len(), followed.cluster.pods.len()), (0, 0));
    }

    // Values that are not known, and none at all.
    let strange =
        with(pod("a", "1", 1), "/status", json!({"phase": "Evaporated", "podIPs": null, "new": [1]}));
    let strange = with(strange, "/spec", json!({"restartPolicy": "Perhaps", "hostNetwork": null}));
    followed.put(Kind::Pod, &strange).tell();
    let pod = &followed.cluster.pods[&Name::new("x", "a")];
    assert_eq!(
        (&*followed.problems, pod.finished, pod.is_endpoint(), &*pod.node),
        (&[][..], false, false, "")
    );
}

#[test]
fn a_policy_under_two_forms_of_its_name_is_one() {
    let kind = Kind::Policy(PolicyKind::CalicoNetworkPolicy);
    let policy = |name: &str, selector: &str| {
        json!({
            "apiVersion": "crd.projectcalico.org/v1",
            "metadata": {"name": name, "namespace": "x", "uid": name},
            "spec": {"selector": selector},
        })
    };
    let mut followed = Followed::new();
    followed.put(kind, &policy("default.web", "all()")).put(kind, &policy("web", "all()")).tell();
    assert_eq!((followed.cluster.policies.len(), followed.problems.len()), (1, 0));

    followed.put(kind, &policy("web", "has(a)")).tell();
    assert_eq!(
        followed.problems,
        [
            "CalicoNetworkPolicy x/web: is the same policy as CalicoNetworkPolicy x/default.web, which stands: remove one of them"
        ]
    );
    followed.delete(kind, &policy("default.web", "")).tell();
    assert_eq!((followed.cluster.policies.len(), followed.problems.len()), (1, 0));
    followed.delete(kind, &policy("web", "")).tell();
    assert_eq!(followed.cluster.policies.len(), 0);
}

#[test]
fn a_kind_that_the_cluster_does_not_have_any_more_has_no_objects() {
    let pool = json!({"metadata": {"name": "p", "uid": "1"}, "spec": {"cidr": "10.0.0.0/16"}});
    let mut followed = Followed::new();
    followed.put(Kind::IpPool, &pool).tell();
    assert_eq!(followed.cluster.ip_pools.len(), 1);
    followed.event(Kind::IpPool, Event::Absent).tell();
    assert_eq!(followed.cluster.ip_pools.len(), 0);
}

/// What happens to the objects of a server, or to the watch on them.
#[derive(Clone, Debug)]
enum Step {
    Put(usize, i64),
    /// The same name, and another UID.
    Recreate(usize, i64),
    Delete(usize),
    /// What the watch has not told is told.
    Watch,
    /// The watch has lost its place: all is listed anew, and the list breaks off after so many objects, or does not.
    List(Option<usize>),
}

const NAMES: usize = 6;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..NAMES, 0..4i64).prop_map(|(name, version)| Step::Put(name, version)),
        1 => (0..NAMES, 0..4i64).prop_map(|(name, version)| Step::Recreate(name, version)),
        2 => (0..NAMES).prop_map(Step::Delete),
        2 => Just(Step::Watch),
        2 => proptest::option::of(0..NAMES).prop_map(Step::List),
    ]
}

/// A server's pods, and what a watch on them has still to tell.
#[derive(Default)]
struct Server {
    pods: BTreeMap<usize, Value>,
    uids: usize,
    untold: Vec<Event>,
}

impl Server {
    fn put(&mut self, name: usize, version: i64, is_other: bool) {
        if (is_other || !self.pods.contains_key(&name)) && version > 0 {
            self.delete(name);
            self.uids += 1;
        }
        let uid = match self.pods.get(&name) {
            Some(pod) => pod["metadata"]["uid"].as_str().unwrap().to_owned(),
            None => self.uids.to_string(),
        };
        let pod = pod(&format!("p{name}"), &uid, version);
        self.untold.push(Event::Put(read(Kind::Pod, &pod)));
        self.pods.insert(name, pod);
    }

    fn delete(&mut self, name: usize) {
        if let Some(pod) = self.pods.remove(&name) {
            self.untold.push(Event::Deleted(read(Kind::Pod, &pod)));
        }
    }

    fn created(&self) -> Vec<(String, i64)> {
        let created = |pod: &Value| {
            let time: jiff::Timestamp =
                pod["metadata"]["creationTimestamp"].as_str().unwrap().parse().unwrap();
            time.as_second()
        };
        self.pods.iter().map(|(name, pod)| (format!("x/p{name}"), created(pod))).collect()
    }
}

proptest! {
    #[test]
    fn whatever_befalls_the_watch_the_end_is_the_server_s_and_what_is_there_throughout_never_goes(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let (mut server, mut followed) = (Server::default(), Followed::new());
        server.put(NAMES, 1, false);
        followed.event(Kind::Pod, server.untold.remove(0)).tell();
        for step in steps.into_iter().chain([Step::List(None)]) {
            match step {
                Step::Put(name, version) => server.put(name, version, false),
                Step::Recreate(name, version) => server.put(name, version, true),
                Step::Delete(name) => server.delete(name),
                Step::Watch => server.untold.drain(..).for_each(|event| followed.store.take(Kind::Pod, event)),
                Step::List(end) => {
                    server.untold.clear();
                    followed.event(Kind::Pod, Event::Listing);
                    for pod in server.pods.values().rev().take(end.unwrap_or(usize::MAX)) {
                        followed.put(Kind::Pod, pod);
                    }
                    // A list that breaks off tells nothing, and is tried again till it comes to its end.
                    if end.is_some() {
                        prop_assert_eq!(followed.tell(), None);
                        followed.event(Kind::Pod, Event::Listing);
                        for pod in server.pods.values() {
                            followed.put(Kind::Pod, pod);
                        }
                    }
                    followed.event(Kind::Pod, Event::Listed);
                }
            }
            for change in followed.tell().unwrap_or_default() {
                let Change::Pod(edit) = change else { panic!("{change:?}") };
                prop_assert!(edit.new.is_some() || edit.key.name != format!("p{NAMES}"), "{edit:?}");
            }
            if server.untold.is_empty() {
                prop_assert_eq!(followed.pods(), server.created());
            }
        }
    }
}
