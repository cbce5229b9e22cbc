//! The objects of a world as an API server prints them, with all that Margay does not read.

mod node;
mod pod;
mod policy;
#[cfg(test)]
mod tests;

use margay_control::state::Name;
use serde_json::{Value, json};

use super::template::Template;
use crate::world::{self, APPS, GATEWAY_ADDRESS, Size, TEAMS};

/// Label of everything that is made here.
pub(super) const MADE_HERE: &str = "margay.dev/perf-world";

/// Kinds that a world has objects of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Namespace,
    Node,
    ServiceAccount,
    NetworkPolicy,
    Pod,
}

impl Kind {
    /// In the order in which a server takes them.
    pub(super) const ALL: [Self; 5] =
        [Self::Namespace, Self::Node, Self::ServiceAccount, Self::NetworkPolicy, Self::Pod];

    pub(super) fn api_version(self) -> &'static str {
        if self == Self::NetworkPolicy { "networking.k8s.io/v1" } else { "v1" }
    }

    /// As URLs have it.
    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::Namespace => "namespaces",
            Self::Node => "nodes",
            Self::ServiceAccount => "serviceaccounts",
            Self::NetworkPolicy => "networkpolicies",
            Self::Pod => "pods",
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::ServiceAccount => "ServiceAccount",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::Pod => "Pod",
        }
    }

    pub(super) fn is_namespaced(self) -> bool {
        !matches!(self, Self::Namespace | Self::Node)
    }

    /// How many a world of this size has. Nodes are one more: the gateway.
    pub(super) fn count(self, size: Size) -> u32 {
        match self {
            Self::Namespace | Self::ServiceAccount => size.namespaces,
            Self::Node => size.nodes + 1,
            Self::NetworkPolicy => size.policies,
            Self::Pod => size.pods,
        }
    }
}

/// What changes about a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PodState {
    pub(super) app: u32,
    /// How many pods had its name before.
    pub(super) incarnation: u32,
}

impl PodState {
    pub(super) fn initial(number: u32) -> Self {
        Self { app: number % APPS, incarnation: 0 }
    }
}

/// Writes the objects of one world.
#[derive(Debug)]
pub(super) struct Objects {
    pub(super) size: Size,
    namespaces: Template,
    nodes: Template,
    service_accounts: Template,
    policies: Template,
    /// By app.
    pods: Vec<Template>,
}

impl Objects {
    pub(super) fn new(size: Size) -> Self {
        Self {
            size,
            namespaces: Template::new(&namespace(), &["name", "uid", "version", "team", "stage"]),
            nodes: Template::new(&node::node(), node::VARIABLES),
            service_accounts: Template::new(&service_account(), &["namespace", "uid", "version"]),
            policies: Template::new(&policy::policy(), policy::VARIABLES),
            pods: (0..APPS).map(|app| Template::new(&pod::pod(app), pod::VARIABLES)).collect(),
        }
    }

    /// Namespace, empty where there is none, and name of the object of this number.
    pub(super) fn key(&self, kind: Kind, number: u32) -> (String, String) {
        match kind {
            Kind::Namespace => (String::new(), world::namespace(number)),
            Kind::Node if number == self.size.nodes => (String::new(), world::GATEWAY.to_owned()),
            Kind::Node => (String::new(), world::node_name(number)),
            Kind::ServiceAccount => (world::namespace(number), "default".to_owned()),
            Kind::NetworkPolicy => {
                (world::namespace(number % self.size.namespaces), format!("policy-{number}"))
            }
            Kind::Pod => {
                let Name { namespace, name } = self.size.pod_name(number);
                (namespace, name)
            }
        }
    }

    /// Appends the object of this number, as it is at first.
    pub(super) fn write(&self, kind: Kind, number: u32, version: u64, out: &mut Vec<u8>) {
        let (uid, version) = (uid(kind, number, 0), version.to_string());
        match kind {
            Kind::Namespace => {
                let object = world::namespace_object(number, number % TEAMS);
                let name = world::namespace(number);
                let values = [&name, &uid, &version, &object.labels["team"], &object.labels["stage"]];
                self.namespaces.write(&values.map(String::as_str), out);
            }
            Kind::Node if number == self.size.nodes => {
                let (address, name) = (GATEWAY_ADDRESS.to_string(), world::GATEWAY);
                self.nodes.write(&[name, &uid, &version, &address, "10.255.255.0/24", ""], out);
            }
            Kind::Node => {
                let (name, address) = (world::node_name(number), world::node_address(number).to_string());
                let block = format!("{}/24", world::block_of(number));
                self.nodes.write(&[&name, &uid, &version, &address, &block, world::GATEWAY], out);
            }
            Kind::ServiceAccount => {
                self.service_accounts.write(&[&world::namespace(number), &uid, &version], out);
            }
            Kind::NetworkPolicy => {
                let values = policy::values(number, self.size, uid, version);
                self.policies.write(&values.each_ref().map(String::as_str), out);
            }
            Kind::Pod => self.write_pod(number, PodState::initial(number), version.as_str(), out),
        }
    }

    /// Appends the pod of this number in this state.
    pub(super) fn write_pod(&self, number: u32, state: PodState, version: &str, out: &mut Vec<u8>) {
        let uid = uid(Kind::Pod, number, state.incarnation);
        let values = pod::values(number, self.size, uid, version.to_owned());
        self.pods[state.app as usize].write(&values.each_ref().map(String::as_str), out);
    }
}

fn uid(kind: Kind, number: u32, incarnation: u32) -> String {
    format!("{number:08x}-{:04x}-4000-8000-{incarnation:012x}", kind as u16)
}

fn namespace() -> Value {
    json!({
        "metadata": {
            "name": "<name>",
            "uid": "<uid>",
            "resourceVersion": "<version>",
            "creationTimestamp": CREATED,
            "labels": {
                "kubernetes.io/metadata.name": "<name>",
                "team": "<team>",
                "stage": "<stage>",
                MADE_HERE: "true"
            },
            "managedFields": [managed("kubectl-client-side-apply", "", &json!({
                "f:metadata": {"f:labels": {".": {}, "f:kubernetes.io/metadata.name": {}, "f:stage": {}, "f:team": {}}}
            }))]
        },
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"}
    })
}

fn service_account() -> Value {
    json!({
        "metadata": {
            "name": "default",
            "namespace": "<namespace>",
            "uid": "<uid>",
            "resourceVersion": "<version>",
            "creationTimestamp": CREATED,
            "labels": {MADE_HERE: "true"}
        }
    })
}

const CREATED: &str = "2026-01-05T07:30:00Z";

/// An entry of `managedFields`.
fn managed(manager: &str, subresource: &str, fields: &Value) -> Value {
    let mut entry = json!({
        "manager": manager,
        "operation": "Update",
        "apiVersion": "v1",
        "time": CREATED,
        "fieldsType": "FieldsV1",
        "fieldsV1": fields
    });
    if !subresource.is_empty() {
        entry["subresource"] = subresource.into();
    }
    entry
}

/// A condition of a pod's or a node's status.
fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({
        "type": kind,
        "status": status,
        "lastHeartbeatTime": CREATED,
        "lastTransitionTime": CREATED,
        "reason": reason,
        "message": message
    })
}
