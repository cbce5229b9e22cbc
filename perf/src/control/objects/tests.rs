//! That what is written is the world.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;

use margay_control::manifest::load_dir;
use margay_control::state::Pod;

use super::*;
use crate::world::{self, Spread};

#[test]
fn objects_say_what_the_world_is() {
    let size = Size { pods: 300, policies: 40, namespaces: 7, nodes: 3 };
    let objects = Objects::new(size);
    let directory = tempfile::tempdir().unwrap();
    for kind in Kind::ALL {
        let items = (0..kind.count(size)).map(|number| {
            let mut text = Vec::new();
            objects.write(kind, number, 7, &mut text);
            serde_json::from_slice::<Value>(&text).expect("JSON")
        });
        let list = json!({
            "apiVersion": kind.api_version(), "kind": format!("{}List", kind.name()), "items": items.collect::<Vec<_>>()
        });
        fs::write(directory.path().join(kind.plural().to_owned() + ".json"), list.to_string()).unwrap();
    }
    let (mut read, problems) = load_dir(directory.path()).unwrap();
    assert!(problems.is_empty(), "{problems:?}");
    let mut expected = world::cluster(size, Spread::Namespaces);

    assert_same(&read.policies, &expected.policies);
    assert!(read.nodes.keys().eq(expected.nodes.keys()));
    for (name, node) in &read.nodes {
        let expected = &expected.nodes[name];
        assert_eq!(node.addresses, expected.addresses);
        if name != world::GATEWAY {
            assert_eq!(node.pod_cidrs, expected.pod_cidrs);
            assert_eq!(node.labels["margay.dev/gateway"], world::GATEWAY);
        }
    }
    assert_eq!(read.service_accounts.len(), 7);
    // Beside what both say, objects have their label, pods a port and a date.
    let bare = |pod: &Pod| {
        let mut labels = (*pod.labels).clone();
        labels.remove(MADE_HERE);
        Pod { labels: labels.into(), ports: Vec::new(), created: 0, ..pod.clone() }
    };
    for pods in [&mut read.pods, &mut expected.pods] {
        for pod in pods.values_mut() {
            *pod = bare(pod).into();
        }
    }
    assert_same(&read.pods, &expected.pods);
    assert_eq!(read.namespaces.len(), expected.namespaces.len());
    for (name, namespace) in &read.namespaces {
        let mut labels = namespace.labels.clone();
        labels.remove(MADE_HERE);
        assert_eq!(labels, expected.namespaces[name].labels);
    }
}

/// Says what differs, and no more.
fn assert_same<K: Ord + Debug, V: PartialEq + Debug>(read: &BTreeMap<K, V>, expected: &BTreeMap<K, V>) {
    for (key, value) in read {
        assert_eq!(Some(value), expected.get(key), "{key:?}");
    }
    assert_eq!(read.len(), expected.len());
}

#[test]
fn a_pod_weighs_what_pods_weigh() {
    let objects = Objects::new(Size { pods: 300, policies: 40, namespaces: 7, nodes: 3 });
    let mut text = Vec::new();
    objects.write(Kind::Pod, 299, 123_456, &mut text);
    assert!((3500..6000).contains(&text.len()), "{}", text.len());
    let again = objects.size.pods;
    let state = PodState { app: 3, incarnation: 2 };
    let mut text = Vec::new();
    objects.write_pod(again - 1, state, "123457", &mut text);
    let pod: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(pod["metadata"]["labels"]["app"], "app-3");
    assert_eq!(pod["metadata"]["resourceVersion"], "123457");
}
