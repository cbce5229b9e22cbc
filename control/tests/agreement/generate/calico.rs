//! Policies of projectcalico.org/v3: namespaced, global and staged.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::words::{ACCOUNTS, NAMESPACES, Of, expression, nets};
use super::{kubernetes, list, maybe, object};

/// Of which a world has some; a policy may name one that it does not have.
pub(super) const TIERS: [&str; 3] = ["aa", "t0", "t1"];

pub(super) fn network_policy() -> BoxedStrategy<Value> {
    (select(&NAMESPACES[..]), spec(false))
        .prop_map(|(namespace, spec)| object_of("NetworkPolicy", &json!({"namespace": namespace}), &spec))
        .boxed()
}

pub(super) fn global_network_policy() -> BoxedStrategy<Value> {
    let hosts = prop_oneof![
        12 => Just(json!({})),
        1 => Just(json!({"applyOnForward": true})),
        1 => Just(json!({"applyOnForward": true, "doNotTrack": true})),
        1 => Just(json!({"applyOnForward": true, "preDNAT": true})),
    ];
    (maybe(0.4, expression(Of::Namespaces)), spec(true), hosts)
        .prop_map(|(namespaces, mut spec, hosts)| {
            let fields = spec.as_object_mut().expect("a spec");
            if hosts["preDNAT"] == true {
                fields.retain(|key, _| key != "egress" && key != "types");
            }
            fields.extend(namespaces.map(|selector| ("namespaceSelector".to_owned(), selector)));
            fields.extend(hosts.as_object().expect("fields").clone());
            object_of("GlobalNetworkPolicy", &json!({}), &spec)
        })
        .boxed()
}

/// A policy that is not in force, whatever it says.
pub(super) fn staged() -> BoxedStrategy<Value> {
    let kubernetes = (select(&NAMESPACES[..]), kubernetes::spec()).prop_map(|(namespace, spec)| {
        object_of("KubernetesNetworkPolicy", &json!({"namespace": namespace}), &spec)
    });
    let action = maybe(0.7, select(vec!["Set", "Delete", "Learn", "Ignore"]));
    (prop_oneof![network_policy(), global_network_policy(), kubernetes], action)
        .prop_map(|(mut policy, action)| {
            policy["kind"] = json!(format!("Staged{}", policy["kind"].as_str().expect("a kind")));
            let fields = policy["spec"].as_object_mut().expect("a spec");
            fields.extend(action.map(|action| ("stagedAction".to_owned(), action)));
            policy
        })
        .boxed()
}

fn object_of(kind: &str, metadata: &Value, spec: &Value) -> Value {
    json!({"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": metadata, "spec": spec})
}

fn spec(is_global: bool) -> BoxedStrategy<Value> {
    let orders = vec![json!(100), json!(100.0), json!(1000), json!(-1.5), json!(0.5), json!(2000)];
    let order = maybe(0.7, select(orders));
    let types = select(vec![
        None,
        None,
        Some(json!([])),
        Some(json!(["Ingress"])),
        Some(json!(["Egress"])),
        Some(json!(["Ingress", "Egress"])),
    ]);
    let selector = prop_oneof![1 => Just(String::new()), 5 => expression(Of::Items)];
    let tier = maybe(0.5, select(TIERS.iter().copied().chain(["default"]).collect::<Vec<_>>()));
    let subject = (maybe(0.8, selector), maybe(0.2, expression(Of::Accounts)));
    (subject, tier, order, types, list(rule(true, is_global)), list(rule(false, is_global)))
        .prop_map(|((selector, accounts), tier, order, types, ingress, egress)| {
            object([
                ("selector", selector),
                ("serviceAccountSelector", accounts),
                ("tier", tier),
                ("order", order),
                ("types", types),
                ("ingress", ingress),
                ("egress", egress),
            ])
        })
        .boxed()
}

/// The API refuses networks of both families in one rule, those of another than `ipVersion` names, and ports beside
/// protocols that have none.
fn rule(is_ingress: bool, is_global: bool) -> BoxedStrategy<Value> {
    let action = select(vec!["Allow", "Allow", "Deny", "Deny", "Pass", "Log"]);
    let of_family =
        select(vec![4u8, 6]).prop_flat_map(|family| (protocols(family), side(family), side(family)));
    (action, of_family, prop::option::weighted(0.1, service(is_global)))
        .prop_map(move |(action, (mut rule, mut source, mut destination), service)| {
            let own = if is_ingress { &mut source } else { &mut destination };
            if let Some(service) = service {
                *own = json!({"services": service});
            }
            if !has_ports(&rule["protocol"]) {
                for side in [&mut source, &mut destination] {
                    let fields = side.as_object_mut().expect("a side");
                    fields.retain(|key, _| key != "ports" && key != "notPorts");
                }
            }
            rule["action"] = json!(action);
            for (key, side) in [("source", source), ("destination", destination)] {
                if side != json!({}) {
                    rule[key] = side;
                }
            }
            rule
        })
        .boxed()
}

fn has_ports(protocol: &Value) -> bool {
    ["TCP", "UDP", "SCTP"].iter().any(|name| protocol == name) || *protocol == 6 || *protocol == 17
}

fn protocols(family: u8) -> BoxedStrategy<Value> {
    let version = || prop::option::weighted(0.2, Just(json!(family)));
    let message = || {
        let fields = vec![json!({}), json!({"type": 8}), json!({"type": 128}), json!({"type": 3, "code": 1})];
        prop::option::weighted(0.4, select(fields))
    };
    let with_ports =
        select(vec![json!("TCP"), json!("TCP"), json!("UDP"), json!("SCTP"), json!(6), json!(17)]);
    let others = select(vec![json!("TCP"), json!("UDP"), json!("UDPLite"), json!(47)]);
    let icmp = if family == 4 { "ICMP" } else { "ICMPv6" };
    prop_oneof![
        4 => version().prop_map(|version| object([("ipVersion", version)])),
        6 => (with_ports, version()).prop_map(|(protocol, version)| {
            object([("protocol", Some(protocol)), ("ipVersion", version)])
        }),
        1 => others.clone().prop_map(|protocol| json!({"protocol": protocol})),
        1 => others.prop_map(|protocol| json!({"notProtocol": protocol})),
        2 => (message(), message()).prop_map(move |(is, is_not)| {
            object([("protocol", Some(json!(icmp))), ("icmp", is), ("notICMP", is_not)])
        }),
    ]
    .boxed()
}

fn side(family: u8) -> BoxedStrategy<Value> {
    let namespaces = prop_oneof![
        4 => expression(Of::Namespaces),
        1 => Just("all()".to_owned()),
        1 => Just("global()".to_owned()),
    ];
    let selectors = (
        maybe(0.25, expression(Of::Items)),
        maybe(0.1, expression(Of::Items)),
        maybe(0.2, namespaces),
        maybe(0.15, accounts()),
    );
    let addresses = (maybe(0.15, nets(family)), maybe(0.1, nets(family)));
    let ports = (maybe(0.3, ports()), maybe(0.15, ports()));
    (selectors, addresses, ports)
        .prop_map(|((is, is_not, namespaces, accounts), (nets, not_nets), (ports, not_ports))| {
            object([
                ("selector", is),
                ("notSelector", is_not),
                ("namespaceSelector", namespaces),
                ("serviceAccounts", accounts),
                ("nets", nets),
                ("notNets", not_nets),
                ("ports", ports),
                ("notPorts", not_ports),
            ])
        })
        .boxed()
}

fn accounts() -> BoxedStrategy<Value> {
    let names = prop::sample::subsequence(&ACCOUNTS[..], 0..3).prop_map(|names| json!(names));
    (maybe(0.6, names), maybe(0.5, expression(Of::Accounts)))
        .prop_map(|(names, selector)| object([("names", names), ("selector", selector)]))
        .boxed()
}

fn ports() -> BoxedStrategy<Value> {
    let port = select(vec![
        json!(80),
        json!(81),
        json!(53),
        json!("80:90"),
        json!("8000:9000"),
        json!("web"),
        json!("dns"),
    ]);
    prop::collection::vec(port, 1..3).prop_map(Value::from).boxed()
}

/// Also one that is not there. Without a namespace it is in the policy's own.
fn service(is_global: bool) -> BoxedStrategy<Value> {
    let other = (select(&NAMESPACES[..2]), prop::bool::weighted(0.6));
    (select(vec!["s0", "s0", "s1", "none"]), other)
        .prop_map(move |(name, (namespace, is_other))| {
            let namespace = (is_global || is_other).then(|| json!(namespace));
            object([("name", Some(json!(name))), ("namespace", namespace)])
        })
        .boxed()
}
