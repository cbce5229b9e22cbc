//! Compiled policy against a plain evaluator: random small worlds, written as manifests, and every pair of addresses.
//!
//! The evaluator reads the JSON of the objects and is written from the API's documents, not from the compiler: no
//! sets, no sharing, no state of ours.

use std::fs;
use std::net::IpAddr;

use ipnet::IpNet;
use margay_control::check::check;
use margay_control::manifest::load_dir;
use margay_control::probe::{self, Expect};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

/// Objects of a world, as JSON.
#[derive(Clone, Debug)]
struct World {
    namespaces: Vec<Value>,
    pods: Vec<Value>,
    policies: Vec<Value>,
}

const NODES: [&str; 2] = ["172.18.0.1", "172.18.0.2"];
const STRANGERS: [&str; 2] = ["192.0.2.7", "fd00:9::7"];

fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

/// The evaluator.
mod plain {
    use super::*;

    pub(super) struct Packet {
        pub(super) src: IpAddr,
        pub(super) dst: IpAddr,
        pub(super) protocol: &'static str,
        pub(super) port: u16,
    }

    fn selects(selector: &Value, labels: &Value) -> bool {
        let equal = selector["matchLabels"].as_object().into_iter().flatten().all(|(k, v)| &labels[k] == v);
        equal
            && items(selector, "matchExpressions").all(|expression| {
                let label = &labels[expression["key"].as_str().unwrap()];
                let listed = items(expression, "values").any(|value| value == label);
                match expression["operator"].as_str().unwrap() {
                    "In" => listed,
                    "NotIn" => !listed,
                    "Exists" => !label.is_null(),
                    "DoesNotExist" => label.is_null(),
                    other => panic!("{other}"),
                }
            })
    }

    fn pod_at(world: &World, address: IpAddr) -> Option<&Value> {
        world.pods.iter().find(|pod| {
            pod["spec"]["hostNetwork"] != json!(true)
                && pod["status"]["phase"] != "Succeeded"
                && items(&pod["status"], "podIPs").any(|ip| ip["ip"] == address.to_string())
        })
    }

    fn namespace_labels(world: &World, name: &Value) -> Value {
        let written = world.namespaces.iter().find(|namespace| &namespace["metadata"]["name"] == name);
        let mut labels = written.map_or(json!({}), |namespace| namespace["metadata"]["labels"].clone());
        labels["kubernetes.io/metadata.name"] = name.clone();
        labels
    }

    fn is_peer(world: &World, policy: &Value, peer: &Value, address: IpAddr) -> bool {
        if let Some(block) = peer["ipBlock"].as_object() {
            let inside = |cidr: &Value| cidr.as_str().unwrap().parse::<IpNet>().unwrap().contains(&address);
            let excepted =
                block.get("except").and_then(Value::as_array).is_some_and(|e| e.iter().any(inside));
            return inside(&block["cidr"]) && !excepted;
        }
        let Some(pod) = pod_at(world, address) else { return false };
        let namespace = &pod["metadata"]["namespace"];
        let right_namespace = match &peer["namespaceSelector"] {
            Value::Null => namespace == &policy["metadata"]["namespace"],
            selector => selects(selector, &namespace_labels(world, namespace)),
        };
        right_namespace && selects(&peer["podSelector"], &pod["metadata"]["labels"])
    }

    fn is_port(world: &World, port: &Value, packet: &Packet) -> bool {
        if port["protocol"].as_str().unwrap_or("TCP") != packet.protocol {
            return false;
        }
        match &port["port"] {
            Value::Null => true,
            Value::Number(start) => {
                let start = start.as_u64().unwrap();
                (start..=port["endPort"].as_u64().unwrap_or(start)).contains(&u64::from(packet.port))
            }
            name => pod_at(world, packet.dst).is_some_and(|pod| {
                items(&pod["spec"], "containers").flat_map(|c| items(c, "ports")).any(|declared| {
                    &declared["name"] == name
                        && declared["protocol"].as_str().unwrap_or("TCP") == packet.protocol
                        && declared["containerPort"] == packet.port
                })
            }),
        }
    }

    /// Whether policies let the packet leave (or enter) the pod at `own`.
    fn lets(world: &World, packet: &Packet, own: IpAddr, peer: IpAddr, section: &str, peers: &str) -> bool {
        let Some(pod) = pod_at(world, own) else { return true };
        let node = NODES[usize::from(pod["spec"]["nodeName"] == "n1")];
        if own == peer || peer.to_string() == node {
            return true;
        }
        let isolates = |policy: &&Value| {
            let spec = &policy["spec"];
            let types: Vec<_> = items(spec, "policyTypes").filter_map(Value::as_str).collect();
            let wanted = if section == "ingress" { "Ingress" } else { "Egress" };
            let typed = if types.is_empty() {
                wanted == "Ingress" || items(spec, "egress").next().is_some()
            } else {
                types.contains(&wanted)
            };
            typed
                && policy["metadata"]["namespace"] == pod["metadata"]["namespace"]
                && selects(&spec["podSelector"], &pod["metadata"]["labels"])
        };
        let isolating: Vec<_> = world.policies.iter().filter(isolates).collect();
        let allows = |policy: &&Value| {
            items(&policy["spec"], section).any(|rule| {
                let anyone = items(rule, peers).next().is_none();
                let any_port = items(rule, "ports").next().is_none();
                (anyone || items(rule, peers).any(|p| is_peer(world, policy, p, peer)))
                    && (any_port || items(rule, "ports").any(|port| is_port(world, port, packet)))
            })
        };
        isolating.is_empty() || isolating.iter().any(allows)
    }

    pub(super) fn verdict(world: &World, packet: &Packet) -> (bool, bool) {
        (
            lets(world, packet, packet.src, packet.dst, "egress", "to"),
            lets(world, packet, packet.dst, packet.src, "ingress", "from"),
        )
    }
}

/// Missing, null, empty, or some: four spellings that the API tells apart or does not.
fn list_of(item: BoxedStrategy<Value>) -> BoxedStrategy<Option<Value>> {
    prop_oneof![
        1 => Just(None),
        1 => Just(Some(Value::Null)),
        1 => Just(Some(json!([]))),
        5 => prop::collection::vec(item, 1..3).prop_map(|items| Some(Value::Array(items))),
    ]
    .boxed()
}

fn object(fields: Vec<(&str, Option<Value>)>) -> Value {
    fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

fn labels() -> BoxedStrategy<Value> {
    let value = || prop::option::of(select(vec!["1", "2"]).prop_map(Value::from));
    (value(), value()).prop_map(|(a, b)| object(vec![("a", a), ("b", b)])).boxed()
}

fn selector() -> BoxedStrategy<Value> {
    let expression = (
        select(vec!["a", "b"]),
        select(vec!["In", "NotIn", "Exists", "DoesNotExist"]),
        select(vec!["1", "2"]),
    )
        .prop_map(|(key, operator, value)| match operator {
            "In" | "NotIn" => json!({"key": key, "operator": operator, "values": [value, "other"]}),
            _ => json!({"key": key, "operator": operator}),
        });
    let expressions = prop::option::of(prop::collection::vec(expression, 0..2).prop_map(Value::from));
    (prop::option::of(labels()), expressions)
        .prop_map(|(labels, expressions)| {
            object(vec![("matchLabels", labels), ("matchExpressions", expressions)])
        })
        .boxed()
}

/// In namespace selectors also the label that namespaces need not be written with.
fn namespace_selector() -> BoxedStrategy<Value> {
    let named =
        select(vec!["x", "y"]).prop_map(|name| json!({"matchLabels": {"kubernetes.io/metadata.name": name}}));
    prop_oneof![3 => selector(), 1 => named].boxed()
}

fn peer() -> BoxedStrategy<Value> {
    let pods = (prop::option::of(namespace_selector()), selector(), any::<bool>()).prop_map(
        |(namespaces, pods, both)| {
            let pods = (namespaces.is_none() || both).then_some(pods);
            object(vec![("namespaceSelector", namespaces), ("podSelector", pods)])
        },
    );
    let block = select(vec![
        json!({"cidr": "10.0.0.0/24"}),
        json!({"cidr": "10.0.0.0/24", "except": ["10.0.0.0/30", "10.0.0.5/32"]}),
        json!({"cidr": "10.0.0.2/32"}),
        json!({"cidr": "0.0.0.0/0", "except": ["192.0.2.0/24"]}),
        json!({"cidr": "::/0", "except": ["fd00:1::/127", "fd00:9::/64"]}),
        json!({"cidr": "172.18.0.1/32"}),
    ]);
    prop_oneof![3 => pods, 1 => block.prop_map(|block| json!({"ipBlock": block}))].boxed()
}

fn port() -> BoxedStrategy<Value> {
    let protocol = prop::option::of(select(vec!["TCP", "UDP", "SCTP"]).prop_map(Value::from));
    let port = select(vec![
        (None, None),
        (Some(json!(80)), None),
        (Some(json!(81)), None),
        (Some(json!(80)), Some(json!(90))),
        (Some(json!("web")), None),
        (Some(json!("dns")), None),
    ]);
    (protocol, port)
        .prop_map(|(protocol, (port, end))| {
            object(vec![("protocol", protocol), ("port", port), ("endPort", end)])
        })
        .boxed()
}

fn rules(peers: &'static str) -> BoxedStrategy<Option<Value>> {
    let rule = (list_of(peer()), list_of(port()))
        .prop_map(move |(p, ports)| object(vec![(peers, p), ("ports", ports)]));
    list_of(rule.boxed())
}

fn policy() -> BoxedStrategy<Value> {
    let types = select(vec![
        None,
        Some(json!([])),
        Some(json!(["Ingress"])),
        Some(json!(["Egress"])),
        Some(json!(["Egress", "Ingress"])),
    ]);
    (select(vec!["x", "y"]), prop::option::of(selector()), types, rules("from"), rules("to"))
        .prop_map(|(namespace, pods, types, ingress, egress)| {
            let spec = object(vec![
                ("podSelector", pods),
                ("policyTypes", types),
                ("ingress", ingress),
                ("egress", egress),
            ]);
            json!({"metadata": {"namespace": namespace}, "spec": spec})
        })
        .boxed()
}

fn pod() -> BoxedStrategy<Value> {
    let ports = select(vec![
        json!([{"name": "web", "containerPort": 80}]),
        json!([{"name": "web", "containerPort": 81}, {"name": "dns", "containerPort": 80, "protocol": "UDP"}]),
        Value::Null,
    ]);
    let fate = select(vec!["Running", "Running", "Running", "Running", "Running", "Succeeded"]);
    (select(vec!["x", "y", "z"]), labels(), select(vec!["n0", "n1"]), ports, fate, prop::bool::weighted(0.1))
        .prop_map(|(namespace, labels, node, ports, phase, host)| {
            json!({
                "metadata": {"namespace": namespace, "labels": labels},
                "spec": {"nodeName": node, "hostNetwork": host, "containers": [{"name": "c", "ports": ports}]},
                "status": {"phase": phase},
            })
        })
        .boxed()
}

fn world() -> impl Strategy<Value = World> {
    let namespaces = (labels(), labels());
    (namespaces, prop::collection::vec(pod(), 1..7), prop::collection::vec(policy(), 0..5)).prop_map(
        |((x, y), mut pods, mut policies)| {
            for (i, pod) in pods.iter_mut().enumerate() {
                pod["metadata"]["name"] = json!(format!("p{i}"));
                let node = NODES[usize::from(pod["spec"]["nodeName"] == "n1")];
                pod["status"]["podIPs"] = if pod["spec"]["hostNetwork"] == json!(true) {
                    json!([{"ip": node}])
                } else {
                    json!([{"ip": format!("10.0.0.{}", i + 1)}, {"ip": format!("fd00:1::{}", i + 1)}])
                };
            }
            for (i, policy) in policies.iter_mut().enumerate() {
                policy["metadata"]["name"] = json!(format!("np{i}"));
            }
            // Namespace z has pods, and no object.
            let namespaces = [("x", x), ("y", y)]
                .map(|(name, labels)| json!({"metadata": {"name": name, "labels": labels}}));
            World { namespaces: namespaces.into(), pods, policies }
        },
    )
}

/// The world as the manifests of a directory.
fn manifests(world: &World) -> Vec<Value> {
    let typed = |api: &str, kind: &str, objects: &[Value]| {
        let typed = objects.iter().map(|object| {
            let mut object = object.clone();
            object["apiVersion"] = json!(api);
            object["kind"] = json!(kind);
            object
        });
        typed.collect::<Vec<_>>()
    };
    let nodes: Vec<_> = NODES
        .iter()
        .enumerate()
        .map(|(i, ip)| {
            json!({"metadata": {"name": format!("n{i}")}, "status": {"addresses": [{"type": "InternalIP", "address": ip}]}})
        })
        .collect();
    [
        typed("v1", "Namespace", &world.namespaces),
        typed("v1", "Node", &nodes),
        typed("v1", "Pod", &world.pods),
        typed("networking.k8s.io/v1", "NetworkPolicy", &world.policies),
    ]
    .concat()
}

fn packets(world: &World) -> Vec<plain::Packet> {
    let pods =
        world.pods.iter().flat_map(|pod| items(&pod["status"], "podIPs")).filter_map(|ip| ip["ip"].as_str());
    let mut addresses: Vec<IpAddr> =
        pods.chain(NODES).chain(STRANGERS).map(|address| address.parse().unwrap()).collect();
    addresses.sort();
    addresses.dedup();
    let mut packets = Vec::new();
    for &src in &addresses {
        for &dst in addresses.iter().filter(|dst| dst.is_ipv4() == src.is_ipv4()) {
            for (protocol, port) in
                [("TCP", 80), ("TCP", 81), ("TCP", 85), ("UDP", 80), ("UDP", 91), ("SCTP", 80)]
            {
                packets.push(plain::Packet { src, dst, protocol, port });
            }
        }
    }
    packets
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn compiled_policy_says_what_a_plain_reading_says(world in world()) {
        let directory = tempfile::tempdir().unwrap();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": manifests(&world)});
        fs::write(directory.path().join("world.json"), list.to_string()).unwrap();
        let (cluster, problems) = load_dir(directory.path()).unwrap();
        prop_assert!(problems.is_empty(), "{:?}", problems);

        let packets = packets(&world);
        let probes: Vec<_> = packets
            .iter()
            .map(|p| json!({"from": p.src, "to": p.dst, "proto": p.protocol, "port": p.port}))
            .collect();
        let file = directory.path().join("probes");
        fs::write(&file, Value::Array(probes).to_string()).unwrap();
        let answers = check(&cluster, &probe::load(&file).unwrap()).unwrap();
        for (packet, answer) in packets.iter().zip(answers) {
            let seen = (answer.egress.verdict == Expect::Allow, answer.ingress.verdict == Expect::Allow);
            let name = format!("{} -> {} {} {}", packet.src, packet.dst, packet.protocol, packet.port);
            prop_assert_eq!(seen, plain::verdict(&world, packet), "{}", name);
        }
    }
}
