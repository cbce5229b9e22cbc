//! The vocabulary: labels, label selectors, Calico's expressions, networks.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::{maybe, object};

const VALUES: [&str; 3] = ["a", "ab", "b"];
pub(super) const NAMESPACES: [&str; 3] = ["x", "y", "z"];
pub(super) const ACCOUNTS: [&str; 2] = ["default", "robot"];
const NETS4: [&str; 8] = [
    "10.65.1.0/24",
    "10.65.0.0/16",
    "10.65.1.1/32",
    "10.65.0.0/30",
    "0.0.0.0/0",
    "192.0.2.7",
    "192.0.2.0/24",
    "172.18.0.0/24",
];
const NETS6: [&str; 6] =
    ["fd00:65:1::/64", "fd00:65::/32", "fd00:65::1", "::/0", "fd00:9::/64", "fd00:18::/120"];

pub(super) fn labels() -> BoxedStrategy<Value> {
    (maybe(0.8, select(&VALUES[..])), maybe(0.4, select(&VALUES[..])), maybe(0.1, select(&VALUES[..])))
        .prop_map(|(app, role, all)| object([("app", app), ("role", role), ("all", all)]))
        .boxed()
}

/// A Kubernetes label selector, mostly of one requirement at most.
pub(super) fn label_selector() -> BoxedStrategy<Value> {
    let one = (select(vec!["app", "app", "role"]), select(&VALUES[..]));
    let one = one.prop_map(|(key, value)| json!({"matchLabels": {key: value}}));
    let expressions = prop::collection::vec(requirement(), 0..3).prop_map(Value::from).boxed();
    let several = (labels(), maybe(0.5, expressions)).prop_map(|(labels, expressions)| {
        object([("matchLabels", Some(labels)), ("matchExpressions", expressions)])
    });
    prop_oneof![
        3 => Just(json!({})),
        3 => one,
        3 => requirement().prop_map(|requirement| json!({"matchExpressions": [requirement]})),
        1 => several,
    ]
    .boxed()
}

fn requirement() -> BoxedStrategy<Value> {
    let operator = select(vec!["In", "NotIn", "Exists", "DoesNotExist"]);
    (select(vec!["app", "role"]), operator, prop::collection::vec(select(&VALUES[..]), 1..3))
        .prop_map(|(key, operator, values)| match operator {
            "In" | "NotIn" => json!({"key": key, "operator": operator, "values": values}),
            _ => json!({"key": key, "operator": operator}),
        })
        .boxed()
}

/// In selectors of namespaces also the label that these need not be written with.
pub(super) fn namespace_selector() -> BoxedStrategy<Value> {
    let named = select(&NAMESPACES[..])
        .prop_map(|name| json!({"matchLabels": {"kubernetes.io/metadata.name": name}}));
    prop_oneof![3 => label_selector(), 1 => named].boxed()
}

/// Whose labels an expression speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Items,
    Namespaces,
    Accounts,
}

/// An expression of Calico's whole grammar.
pub(super) fn expression(of: Of) -> BoxedStrategy<String> {
    let leaf = prop_oneof![8 => comparison(of), 1 => Just("all()".to_owned())];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} && {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} || {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}||{b})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            inner.prop_map(|a| format!("( {a} )")),
        ]
    })
    .boxed()
}

fn comparison(of: Of) -> BoxedStrategy<String> {
    (subject(of), any::<prop::sample::Index>(), 0..12u8)
        .prop_map(|((key, values), index, operator)| {
            let value = *index.get(&values);
            match operator {
                0 | 1 => format!("{key} == '{value}'"),
                2 => format!("{key}==\"{value}\""),
                3 => format!("{key} != '{value}'"),
                4 => format!("has({key})"),
                5 => format!("!has({key})"),
                6 => format!("{key} in {{'{value}', 'b'}}"),
                7 => format!("{key} not in {{ '{value}' }}"),
                8 => format!("{key} contains '{}'", &value[value.len() - 1..]),
                9 => format!("{key} starts with '{}'", &value[..1]),
                10 => format!("{key} ends with \"{}\"", &value[value.len() - 1..]),
                _ => format!("!!{key} in {{\"{value}\",}}"),
            }
        })
        .boxed()
}

/// A label's key, and values that it may have.
fn subject(of: Of) -> BoxedStrategy<(&'static str, Vec<&'static str>)> {
    let common =
        select(vec!["app", "app", "app", "role", "role", "all"]).prop_map(|key| (key, VALUES.to_vec()));
    let special = match of {
        Of::Items => select(vec![
            ("projectcalico.org/namespace", NAMESPACES.to_vec()),
            ("projectcalico.org/orchestrator", vec!["k8s"]),
            ("projectcalico.org/serviceaccount", ACCOUNTS.to_vec()),
            ("pcns.app", VALUES.to_vec()),
            ("pcsa.app", VALUES.to_vec()),
        ]),
        Of::Namespaces => select(vec![
            ("projectcalico.org/name", NAMESPACES.to_vec()),
            ("kubernetes.io/metadata.name", NAMESPACES.to_vec()),
        ]),
        Of::Accounts => select(vec![("projectcalico.org/name", ACCOUNTS.to_vec())]),
    };
    prop_oneof![4 => common, 1 => special].boxed()
}

/// A few networks of one family.
pub(super) fn nets(family: u8) -> BoxedStrategy<Value> {
    let pool: &'static [&'static str] = if family == 4 { &NETS4 } else { &NETS6 };
    prop::sample::subsequence(pool, 1..3).prop_map(|nets| json!(nets)).boxed()
}

/// Networks with a prefix length, as Kubernetes wants them.
pub(super) fn cidrs(family: u8) -> BoxedStrategy<Value> {
    let pool = if family == 4 { &NETS4[..] } else { &NETS6[..] };
    let pool: Vec<_> = pool.iter().copied().filter(|net| net.contains('/')).collect();
    prop::sample::subsequence(pool, 1..3).prop_map(|nets| json!(nets)).boxed()
}
