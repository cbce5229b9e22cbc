//! Random small worlds: everything that a user can write, in words so few that selectors hit.

mod admin;
mod calico;
mod cluster;
mod hosts;
mod kubernetes;
mod pods;
mod words;

use proptest::prelude::*;
use proptest::strategy::Union;
use serde_json::{Map, Value, json};

/// A kind of policies that a world may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// NetworkPolicy of networking.k8s.io.
    Kubernetes,
    /// Those of policy.networking.k8s.io.
    ClusterNetworkPolicy,
    AdminNetworkPolicy,
    BaselineAdminNetworkPolicy,
    /// Those of projectcalico.org.
    NetworkPolicy,
    GlobalNetworkPolicy,
    Staged,
}

impl Kind {
    pub(crate) const ALL: [Self; 7] = [
        Self::Kubernetes,
        Self::ClusterNetworkPolicy,
        Self::AdminNetworkPolicy,
        Self::BaselineAdminNetworkPolicy,
        Self::NetworkPolicy,
        Self::GlobalNetworkPolicy,
        Self::Staged,
    ];
}

/// The objects of a world, and probes of it.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) objects: Vec<Value>,
    ends: Vec<End>,
    /// Which of all probes are asked.
    offset: usize,
}

/// One end of probes, and the families that it has addresses of.
#[derive(Clone, Debug)]
struct End {
    name: String,
    families: Vec<u8>,
}

impl World {
    /// `count` of all probes that can be asked, spread evenly; all where there are no more.
    pub(crate) fn probes(&self, count: usize) -> Vec<Value> {
        // Coprime to any number of probes that a world of this size has.
        const STRIDE: usize = 1_000_003;
        let all = self.all_probes();
        (0..all.len().min(count)).map(|i| all[(self.offset + i * STRIDE) % all.len()].clone()).collect()
    }

    pub(crate) fn has_ends_of(&self, probe: &Value) -> bool {
        let of_family = |end: &End| end.families.iter().any(|family| probe["family"] == *family);
        let is_there = |key| self.ends.iter().any(|end| probe[key] == end.name && of_family(end));
        is_there("from") && is_there("to")
    }

    fn all_probes(&self) -> Vec<Value> {
        let mut probes = Vec::new();
        for from in self.ends.iter().filter(|end| !end.name.starts_with("svc:")) {
            for to in &self.ends {
                for family in from.families.iter().filter(|family| to.families.contains(family)) {
                    let messages = messages(*family).into_iter().map(|mut probe| {
                        probe["from"] = json!(from.name);
                        probe["to"] = json!(to.name);
                        probe["family"] = json!(family);
                        probe
                    });
                    probes.extend(messages);
                }
            }
        }
        probes
    }
}

fn messages(family: u8) -> Vec<Value> {
    let mut messages = vec![
        json!({"proto": "TCP", "port": 80}),
        json!({"proto": "TCP", "port": 81, "sport": 81}),
        json!({"proto": "TCP", "port": 90}),
        json!({"proto": "TCP", "port": 8080, "sport": 80}),
        json!({"proto": "UDP", "port": 53}),
        json!({"proto": "UDP", "port": 80, "sport": 53}),
        json!({"proto": "UDP", "port": 85}),
        json!({"proto": "SCTP", "port": 80}),
        json!({"proto": 47}),
    ];
    messages.extend(match family {
        4 => [json!({"proto": "ICMP"}), json!({"proto": "ICMP", "icmp_type": 3, "icmp_code": 1})],
        _ => [json!({"proto": "ICMPv6"}), json!({"proto": "ICMPv6", "icmp_type": 3, "icmp_code": 1})],
    });
    messages
}

/// Worlds with policies of these kinds.
pub(crate) fn world(kinds: &[Kind]) -> impl Strategy<Value = World> + use<> {
    // Objects that nothing but policies of these kinds refer to.
    let with_calico = kinds.iter().any(|kind| !matches!(kind, Kind::Kubernetes));
    // Few kinds at a time: where all are, one hides what another says.
    let policies = prop::sample::subsequence(kinds.to_vec(), 1..=kinds.len())
        .prop_flat_map(|kinds| prop::collection::vec(Union::new(kinds.into_iter().map(policy)), 1..10));
    (cluster::cluster(with_calico), policies, any::<usize>().no_shrink()).prop_map(
        |((mut objects, ends), mut policies, offset)| {
            let mut taken = Vec::new();
            for (i, policy) in policies.iter_mut().enumerate() {
                name(policy, i, &mut taken);
            }
            // There is one baseline policy, if any.
            let is_baseline = |policy: &Value| policy["kind"] == "BaselineAdminNetworkPolicy";
            let first = policies.iter().position(is_baseline);
            let mut position = 0..;
            policies.retain(|policy| {
                let position = position.next();
                !is_baseline(policy) || position == first
            });
            objects.extend(policies);
            if offset % 4 == 0 {
                objects.iter_mut().for_each(as_stored);
            }
            World { objects, ends, offset: offset % 1_000_000 }
        },
    )
}

/// Worlds with host endpoints of the node `n0`, and policies for them.
pub(crate) fn world_of_hosts() -> impl Strategy<Value = World> {
    let endpoints = prop::collection::vec(hosts::endpoint(), 1..4);
    let uses = prop::collection::vec(hosts::host_use(), 10);
    (world(&[Kind::GlobalNetworkPolicy]), endpoints, uses).prop_map(|(mut world, endpoints, uses)| {
        let policies = world.objects.iter_mut().filter(|object| object["kind"] == "GlobalNetworkPolicy");
        policies.zip(&uses).for_each(|(policy, host_use)| hosts::apply(policy, host_use));
        world.objects.extend(endpoints.iter().enumerate().map(|(i, endpoint)| hosts::named(i, endpoint)));
        world
    })
}

/// Puts an object of Calico's into the group that clusters hold it in.
fn as_stored(object: &mut Value) {
    if object["apiVersion"] == "projectcalico.org/v3" {
        object["apiVersion"] = json!("crd.projectcalico.org/v1");
    }
}

fn policy(kind: Kind) -> BoxedStrategy<Value> {
    match kind {
        Kind::Kubernetes => kubernetes::policy(),
        Kind::ClusterNetworkPolicy => admin::cluster_network_policy(),
        Kind::AdminNetworkPolicy => admin::admin_network_policy(),
        Kind::BaselineAdminNetworkPolicy => admin::baseline_admin_network_policy(),
        Kind::NetworkPolicy => calico::network_policy(),
        Kind::GlobalNetworkPolicy => calico::global_network_policy(),
        Kind::Staged => calico::staged(),
    }
}

/// Names a policy: often as one of another kind, so that ties are broken by more than the name.
fn name(policy: &mut Value, i: usize, taken: &mut Vec<[Value; 3]>) {
    if policy["kind"] == "BaselineAdminNetworkPolicy" {
        policy["metadata"]["name"] = json!("default");
        return;
    }
    let prefix = match policy["spec"]["tier"].as_str() {
        Some(tier) if policy["apiVersion"] == "projectcalico.org/v3" && tier != "default" => {
            format!("{tier}.")
        }
        _ => String::new(),
    };
    policy["metadata"]["name"] = json!(format!("{prefix}p{}", i % 2));
    if taken.contains(&identity(policy)) {
        policy["metadata"]["name"] = json!(format!("{prefix}q{i}"));
    }
    taken.push(identity(policy));
}

fn identity(policy: &Value) -> [Value; 3] {
    [policy["kind"].clone(), policy["metadata"]["namespace"].clone(), policy["metadata"]["name"].clone()]
}

/// An object of the fields that have a value.
fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let fields = fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    fields.collect::<Map<_, _>>().into()
}

/// A field that is there at times.
fn maybe<T: Into<Value> + 'static>(
    often: f64,
    strategy: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<Option<Value>> {
    prop::option::weighted(often, strategy.prop_map(Into::into)).boxed()
}

/// Missing, empty or some: an API may tell the first two apart.
fn list(item: BoxedStrategy<Value>) -> BoxedStrategy<Option<Value>> {
    prop_oneof![
        1 => Just(None),
        1 => Just(Some(json!([]))),
        5 => prop::collection::vec(item, 1..4).prop_map(|items| Some(items.into())),
    ]
    .boxed()
}
