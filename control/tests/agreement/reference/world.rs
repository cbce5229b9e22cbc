//! The objects other than policies: who holds which address, and which labels it has.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use super::selector::Subject;
use super::tiers::{Policy, Tier};
use super::{items, text, transport};

pub(crate) type Labels = BTreeMap<String, String>;

const CALICO: [&str; 2] = ["projectcalico.org/v3", "crd.projectcalico.org/v1"];

#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) namespaces: BTreeMap<String, Labels>,
    pub(crate) nodes: BTreeMap<String, Node>,
    pub(crate) items: Vec<Item>,
    pub(crate) pods: Vec<Pod>,
    pub(crate) services: Vec<Value>,
    pub(crate) slices: Vec<Value>,
    pub(crate) tiers: BTreeMap<String, Tier>,
    pub(crate) policies: Vec<Policy>,
    pub(crate) host_endpoints: Vec<Value>,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) labels: Labels,
    pub(crate) addresses: Vec<IpAddr>,
}

/// A pod as it is written.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) node: String,
    pub(crate) labels: Labels,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) is_finished: bool,
    pub(crate) is_host_network: bool,
    is_terminating: bool,
    created: String,
    /// Name, protocol and number of each declared port.
    pub(crate) ports: Vec<(String, u8, u16)>,
}

/// What a selector can select: a pod, a network set or a host endpoint.
#[derive(Debug)]
pub(crate) struct Item {
    /// Its own labels, and what it has from its namespace and its service account.
    pub(crate) labels: Labels,
    nets: Vec<IpNet>,
    /// Position in `World::pods`.
    pod: Option<usize>,
}

impl World {
    pub(crate) fn new(objects: &[Value]) -> Self {
        let of = |groups: &[&str], kind: &str| {
            let is_wanted =
                |object: &&Value| groups.contains(&text(object, "apiVersion")) && object["kind"] == kind;
            objects.iter().filter(is_wanted).collect::<Vec<_>>()
        };
        let mut world = Self {
            namespaces: of(&["v1"], "Namespace").into_iter().map(named_labels).collect(),
            nodes: of(&["v1"], "Node").into_iter().map(node).collect(),
            pods: of(&["v1"], "Pod").into_iter().map(pod).collect(),
            services: of(&["v1"], "Service").into_iter().cloned().collect(),
            slices: of(&["discovery.k8s.io/v1"], "EndpointSlice").into_iter().cloned().collect(),
            tiers: Tier::all(of(&CALICO, "Tier").into_iter()),
            policies: objects.iter().filter_map(Policy::of).collect(),
            host_endpoints: of(&CALICO, "HostEndpoint").into_iter().cloned().collect(),
            ..Self::default()
        };
        let accounts: BTreeMap<(String, String), Labels> = of(&["v1"], "ServiceAccount")
            .into_iter()
            .map(|account| {
                let (name, labels) = named_labels(account);
                ((text(&account["metadata"], "namespace").to_owned(), name), labels)
            })
            .collect();
        let pods = of(&["v1"], "Pod").into_iter().enumerate();
        world.items = pods.map(|(i, object)| world.pod_item(i, object, &accounts)).collect();
        let sets = of(&CALICO, "NetworkSet").into_iter().chain(of(&CALICO, "GlobalNetworkSet"));
        let sets: Vec<_> = sets.map(|object| world.set_item(object)).collect();
        world.items.extend(sets);
        world.items.extend(of(&CALICO, "HostEndpoint").into_iter().map(Item::of_host_endpoint));
        world
    }

    /// Labels of a namespace, with the one that each has, whether its object is known or not.
    pub(crate) fn namespace_labels(&self, name: &str) -> Labels {
        let mut labels = self.namespaces.get(name).cloned().unwrap_or_default();
        labels.insert("kubernetes.io/metadata.name".into(), name.into());
        labels
    }

    fn pod_item(&self, i: usize, object: &Value, accounts: &BTreeMap<(String, String), Labels>) -> Item {
        let pod = &self.pods[i];
        // What the API server writes where nothing is.
        let account = object["spec"]["serviceAccountName"].as_str().unwrap_or("default");
        let mut labels = pod.labels.clone();
        labels.insert("projectcalico.org/namespace".into(), pod.namespace.clone());
        labels.insert("projectcalico.org/orchestrator".into(), "k8s".into());
        labels.insert("projectcalico.org/serviceaccount".into(), account.into());
        inherit(&mut labels, "pcns.", self.namespace_labels(&pod.namespace), &pod.namespace);
        let of_account = accounts.get(&(pod.namespace.clone(), account.to_owned())).cloned();
        inherit(&mut labels, "pcsa.", of_account.unwrap_or_default(), account);
        Item { labels, nets: Vec::new(), pod: Some(i) }
    }

    fn set_item(&self, object: &Value) -> Item {
        let (_, mut labels) = named_labels(object);
        let namespace = text(&object["metadata"], "namespace");
        if object["kind"] == "NetworkSet" {
            labels.insert("projectcalico.org/namespace".into(), namespace.into());
            inherit(&mut labels, "pcns.", self.namespace_labels(namespace), namespace);
        }
        let nets =
            items(&object["spec"], "nets").map(|net| self::net(net.as_str().expect("a net"))).collect();
        Item { labels, nets, pod: None }
    }

    /// The pod that an address leads to. Of several that name it, one that is not being deleted goes first, then the
    /// newest, then the first by name.
    pub(crate) fn pod_at(&self, address: IpAddr) -> Option<&Pod> {
        self.holder(address).map(|i| &self.pods[i])
    }

    fn holder(&self, address: IpAddr) -> Option<usize> {
        let claims = |pod: &Pod| !pod.is_finished && !pod.is_host_network && pod.addresses.contains(&address);
        let claimants = (0..self.pods.len()).filter(|i| claims(&self.pods[*i]));
        claimants.min_by_key(|i| {
            let pod = &self.pods[*i];
            (pod.is_terminating, Reverse(&pod.created), &pod.namespace, &pod.name)
        })
    }

    /// Pods and network sets that an address belongs to.
    pub(crate) fn items_at(&self, address: IpAddr) -> impl Iterator<Item = &Item> {
        let holder = self.holder(address);
        self.items.iter().filter(move |item| match item.pod {
            Some(pod) => holder == Some(pod),
            None => item.nets.iter().any(|net| net.contains(&address)),
        })
    }

    /// The item of the pod that an address leads to.
    pub(crate) fn pod_item_at(&self, address: IpAddr) -> Option<&Item> {
        self.items_at(address).find(|item| item.pod.is_some())
    }

    /// Whether the address is one of the node's that the pod runs on.
    pub(crate) fn is_node_of(&self, pod: &Pod, address: IpAddr) -> bool {
        self.nodes.get(&pod.node).is_some_and(|node| node.addresses.contains(&address))
    }

    /// Whether the pod at the address declares this port under this name.
    pub(crate) fn has_named_port(&self, address: IpAddr, name: &str, protocol: u8, port: u16) -> bool {
        let declared = |pod: &Pod| {
            pod.ports.iter().any(|(n, proto, number)| n == name && *proto == protocol && *number == port)
        };
        self.pod_at(address).is_some_and(declared)
    }
}

impl Item {
    pub(crate) fn of_host_endpoint(object: &Value) -> Self {
        let expected = items(&object["spec"], "expectedIPs").filter_map(Value::as_str);
        Self { labels: labels(object), nets: expected.map(net).collect(), pod: None }
    }
}

/// Adds what an item has from its namespace or service account; its own labels win.
fn inherit(labels: &mut Labels, prefix: &str, mut inherited: Labels, name: &str) {
    inherited.insert("projectcalico.org/name".into(), name.into());
    for (key, value) in inherited {
        labels.entry(format!("{prefix}{key}")).or_insert(value);
    }
}

impl Subject for Item {
    fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str)
    }

    fn is_any(&self) -> bool {
        true
    }

    fn is_global(&self) -> bool {
        !self.labels.contains_key("projectcalico.org/namespace")
    }
}

/// An item as a selector for namespaces or service accounts sees it: by what it has from these.
pub(crate) struct Inherited<'a> {
    pub(crate) item: &'a Item,
    pub(crate) prefix: &'static str,
    /// The label that items have which `all()` selects; empty: each item.
    pub(crate) all: &'static str,
}

impl Subject for Inherited<'_> {
    fn label(&self, key: &str) -> Option<&str> {
        self.item.label(&format!("{}{key}", self.prefix))
    }

    fn is_any(&self) -> bool {
        self.all.is_empty() || self.item.label(self.all).is_some()
    }

    fn is_global(&self) -> bool {
        self.item.is_global()
    }
}

fn labels(object: &Value) -> Labels {
    let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
    labels.map(|(key, value)| (key.clone(), value.as_str().unwrap_or("").to_owned())).collect()
}

fn named_labels(object: &Value) -> (String, Labels) {
    (text(&object["metadata"], "name").to_owned(), labels(object))
}

fn node(object: &Value) -> (String, Node) {
    let (name, labels) = named_labels(object);
    let addresses =
        items(&object["status"], "addresses").filter_map(|entry| text(entry, "address").parse().ok());
    (name, Node { labels, addresses: addresses.collect() })
}

fn pod(object: &Value) -> Pod {
    let (metadata, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    let listed = items(status, "podIPs").map(|entry| text(entry, "ip"));
    let mut addresses: Vec<IpAddr> = listed.map(|ip| ip.parse().expect("an address")).collect();
    if addresses.is_empty() {
        addresses.extend(text(status, "podIP").parse::<IpAddr>());
    }
    let sidecars = items(spec, "initContainers").filter(|container| container["restartPolicy"] == "Always");
    let declared = items(spec, "containers").chain(sidecars).flat_map(|container| items(container, "ports"));
    let ports = declared.map(|port| {
        let number = port["containerPort"].as_u64().expect("a port") as u16;
        (text(port, "name").to_owned(), transport(port), number)
    });
    Pod {
        namespace: text(metadata, "namespace").to_owned(),
        name: text(metadata, "name").to_owned(),
        node: text(spec, "nodeName").to_owned(),
        labels: labels(object),
        addresses,
        is_finished: matches!(text(status, "phase"), "Succeeded" | "Failed"),
        is_host_network: spec["hostNetwork"] == true,
        is_terminating: !metadata["deletionTimestamp"].is_null(),
        created: text(metadata, "creationTimestamp").to_owned(),
        ports: ports.collect(),
    }
}

/// A network, or a single address.
pub(crate) fn net(text: &str) -> IpNet {
    text.parse().unwrap_or_else(|_| text.parse::<IpAddr>().expect("a network or an address").into())
}
