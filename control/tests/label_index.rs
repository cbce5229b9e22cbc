//! Effective labels as Calico gives them, and `LabelIndex` against a double loop over all items and selectors.

use std::collections::BTreeMap;
use std::sync::Arc;

use margay_control::selector::{EffectiveLabels, Inherited, LabelIndex, LabelSource, Selector};
use margay_control::state::Labels;
use proptest::prelude::*;
use proptest::sample::select;

fn labels(pairs: &[(&str, &str)]) -> Arc<Labels> {
    Arc::new(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
}

fn inherited(name: &str, pairs: &[(&str, &str)]) -> Arc<Inherited> {
    Arc::new(Inherited { name: name.to_owned(), labels: Arc::unwrap_or_clone(labels(pairs)) })
}

/// Labels that claim to be of a namespace, a service account, a pod.
const CLAIMS: [(&str, &str); 6] = [
    ("app", "web"),
    ("pcns.team", "claimed"),
    ("pcsa.role", "claimed"),
    ("projectcalico.org/namespace", "claimed"),
    ("projectcalico.org/orchestrator", "k8s"),
    ("projectcalico.org/serviceaccount", "claimed"),
];

#[test]
fn labels_come_from_the_item_its_namespace_and_its_service_account() {
    let own = labels(&CLAIMS);
    let namespace = inherited("shop", &[("team", "blue"), ("projectcalico.org/name", "claimed")]);
    let account = inherited("clerk", &[("role", "sales"), ("pcns.team", "red")]);
    let pod = EffectiveLabels::pod(own.clone(), namespace.clone(), Some(account));
    let bare = EffectiveLabels::pod(own.clone(), namespace.clone(), None);
    let set = EffectiveLabels::network_set(own.clone(), Some(namespace));
    let global = EffectiveLabels::network_set(own.clone(), None);
    assert_eq!(global, EffectiveLabels::host_endpoint(own.clone()));
    assert_eq!(global, EffectiveLabels::node(own));
    let none = None;
    for (key, expected) in [
        ("app", [Some("web"), Some("web"), Some("web"), Some("web")]),
        ("team", [none; 4]),
        ("pcns.team", [Some("blue"), Some("blue"), Some("blue"), Some("claimed")]),
        ("pcns.app", [none; 4]),
        ("pcns.projectcalico.org/name", [Some("shop"), Some("shop"), Some("shop"), none]),
        ("pcsa.role", [Some("sales"), none, none, Some("claimed")]),
        ("pcsa.pcns.team", [Some("red"), none, none, none]),
        ("pcsa.projectcalico.org/name", [Some("clerk"), none, none, none]),
        ("projectcalico.org/name", [none; 4]),
        ("projectcalico.org/namespace", [Some("shop"), Some("shop"), Some("shop"), Some("claimed")]),
        ("projectcalico.org/orchestrator", [Some("k8s"), Some("k8s"), none, Some("k8s")]),
        ("projectcalico.org/serviceaccount", [Some("clerk"), none, none, Some("claimed")]),
    ] {
        let found = [&pod, &bare, &set, &global].map(|item| item.label(key));
        assert_eq!(found, expected, "{key}");
        // The index reads labels by another way.
        for (item, expected) in [&pod, &bare, &set, &global].into_iter().zip(expected) {
            let mut index = LabelIndex::new();
            index.insert_selector(0, Selector::has(key));
            index.insert_selector(1, Selector::is_in(key, ["other", expected.unwrap_or("none")]));
            let selectors = index.insert_item((), item.clone());
            assert_eq!(selectors.len(), if expected.is_some() { 2 } else { 0 }, "{key} of {item:?}");
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Item(u8, EffectiveLabels),
    RemoveItem(u8),
    Selector(u16, String),
    RemoveSelector(u16),
}

fn own_labels() -> impl Strategy<Value = Arc<Labels>> {
    let key = select(vec!["a", "b", "c", "pcns.a", "projectcalico.org/namespace"]);
    let labels = prop::collection::btree_map(key, select(vec!["", "x", "y", "z"]), 0..4);
    labels
        .prop_map(|labels| Arc::new(labels.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()))
}

fn parent() -> impl Strategy<Value = Arc<Inherited>> {
    select(vec!["x", "y"]).prop_flat_map(|name| {
        own_labels().prop_map(move |labels| {
            Arc::new(Inherited { name: name.to_owned(), labels: Arc::unwrap_or_clone(labels) })
        })
    })
}

fn item() -> impl Strategy<Value = EffectiveLabels> {
    prop_oneof![
        4 => (own_labels(), parent(), prop::option::of(parent()))
            .prop_map(|(own, namespace, account)| EffectiveLabels::pod(own, namespace, account)),
        1 => (own_labels(), prop::option::of(parent()))
            .prop_map(|(own, namespace)| EffectiveLabels::network_set(own, namespace)),
    ]
}

fn selector() -> impl Strategy<Value = String> {
    let key = || {
        select(vec![
            "a",
            "b",
            "c",
            "pcns.a",
            "pcsa.b",
            "pcns.projectcalico.org/name",
            "pcsa.projectcalico.org/name",
            "projectcalico.org/namespace",
            "projectcalico.org/orchestrator",
        ])
    };
    let form = select(vec![
        "has(K)",
        "!has(K)",
        "K == 'x'",
        "K != 'y'",
        "K in {'x','z'}",
        "K contains 'x'",
        "all()",
    ]);
    let term = (form, key()).prop_map(|(form, key)| form.replace('K', key));
    term.prop_recursive(3, 12, 3, |inner| {
        (prop::collection::vec(inner, 1..4), select(vec![" && ", " || "]), select(vec!["(", "!("]))
            .prop_map(|(parts, operator, open)| format!("{open}{})", parts.join(operator)))
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..12_u8, item()).prop_map(|(id, labels)| Step::Item(id, labels)),
        2 => (0..12_u8).prop_map(Step::RemoveItem),
        4 => (0..12_u16, selector()).prop_map(|(id, text)| Step::Selector(id, text)),
        2 => (0..12_u16).prop_map(Step::RemoveSelector),
    ]
}

fn selectors_of(selectors: &BTreeMap<u16, Selector>, labels: Option<&EffectiveLabels>) -> Vec<u16> {
    let Some(labels) = labels else { return Vec::new() };
    selectors.iter().filter(|(_, selector)| selector.matches(labels)).map(|(id, _)| *id).collect()
}

fn items_of(items: &BTreeMap<u8, EffectiveLabels>, selector: Option<&Selector>) -> Vec<u8> {
    let Some(selector) = selector else { return Vec::new() };
    items.iter().filter(|(_, labels)| selector.matches(*labels)).map(|(id, _)| *id).collect()
}

proptest! {
    #[test]
    fn it_gives_what_a_double_loop_gives(steps in prop::collection::vec(step(), 1..60)) {
        let mut index = LabelIndex::<u8, u16>::default();
        let (mut items, mut selectors) = (BTreeMap::new(), BTreeMap::new());
        for step in steps {
            match step {
                Step::Item(id, labels) => {
                    let expected = selectors_of(&selectors, Some(&labels));
                    prop_assert_eq!(index.insert_item(id, labels.clone()), expected);
                    items.insert(id, labels);
                }
                Step::RemoveItem(id) => {
                    let expected = selectors_of(&selectors, items.remove(&id).as_ref());
                    prop_assert_eq!(index.remove_item(&id), expected);
                }
                Step::Selector(id, text) => {
                    let selector = Selector::parse(&text).unwrap();
                    let expected = items_of(&items, Some(&selector));
                    prop_assert_eq!(index.insert_selector(id, selector.clone()), expected);
                    selectors.insert(id, selector);
                }
                Step::RemoveSelector(id) => {
                    let expected = items_of(&items, selectors.remove(&id).as_ref());
                    prop_assert_eq!(index.remove_selector(&id), expected);
                }
            }
        }
        for id in 0..12 {
            prop_assert_eq!(index.items_of(&id), items_of(&items, selectors.get(&id)));
        }
        for id in 0..12 {
            prop_assert_eq!(index.selectors_of(&id), selectors_of(&selectors, items.get(&id)));
        }
    }
}

/// Thousands of both, as a cluster has them: applications of a few names in many namespaces.
#[test]
fn many_items_meet_many_selectors() {
    const MANY: usize = 5_000;
    let namespaces: Vec<_> = (0..500).map(|i| inherited(&format!("n{i}"), &[("team", "blue")])).collect();
    let pod = |i: usize| {
        let own = labels(&[("app", ["web", "db"][i % 2]), ("index", &(i / 500).to_string())]);
        EffectiveLabels::pod(own, namespaces[i % 500].clone(), None)
    };
    let selector = |i: usize| {
        let namespace = Selector::label_is("projectcalico.org/namespace", format!("n{}", i % 500));
        let of_namespace =
            Selector::parse("projectcalico.org/orchestrator == 'k8s' && app in {'web', 'db'}").unwrap();
        of_namespace.and(namespace).and(Selector::label_is("index", (i / 500).to_string()))
    };
    let mut index = LabelIndex::new();
    for i in 0..MANY / 2 {
        assert!(index.insert_item(i, pod(i)).is_empty());
    }
    for i in 0..MANY {
        let selected = if i < MANY / 2 { vec![i] } else { vec![] };
        assert_eq!(index.insert_selector(i, selector(i)), selected);
    }
    for i in MANY / 2..MANY {
        assert_eq!(index.insert_item(i, pod(i)), [i]);
    }
    // A selector over all of everything is one list, and one of many labels that all items have not many.
    assert_eq!(index.insert_selector(MANY, Selector::parse("team != 'blue'").unwrap()).len(), MANY);
    let wide =
        (0..1000).map(|i| Selector::has(["app", "index"][i % 2]).and(Selector::has(format!("a{i}")).not()));
    assert_eq!(index.insert_selector(MANY + 1, Selector::any_of(wide)).len(), MANY);
    for i in 0..MANY {
        assert_eq!(index.remove_item(&i), [i, MANY, MANY + 1]);
    }
}
