//! Tiers: which policies an end of a packet meets, in which order, and what becomes of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

use super::world::Pod;
use super::{Direction, Packet, Verdict, World, admin, calico, kubernetes, text};

#[derive(Clone, Debug)]
pub(crate) struct Tier {
    order: f64,
    pub(crate) denies: bool,
}

impl Tier {
    /// The tiers that are always there, and those that are written.
    pub(crate) fn all<'a>(written: impl Iterator<Item = &'a Value>) -> BTreeMap<String, Self> {
        let builtin = [
            ("adminnetworkpolicy", 1_000.0, false),
            ("kube-admin", 1_000.0, false),
            ("default", 1_000_000.0, true),
            ("baselineadminnetworkpolicy", 10_000_000.0, false),
            ("kube-baseline", 10_000_000.0, false),
        ];
        let builtin = builtin.map(|(name, order, denies)| (name.to_owned(), Self { order, denies }));
        let written = written.map(|object| {
            let spec = &object["spec"];
            let tier = Self { order: order(spec), denies: spec["defaultAction"] != "Pass" };
            (text(&object["metadata"], "name").to_owned(), tier)
        });
        builtin.into_iter().chain(written).collect()
    }
}

/// Without an order something is last.
fn order(spec: &Value) -> f64 {
    spec["order"].as_f64().unwrap_or(f64::INFINITY)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Of networking.k8s.io.
    Kubernetes,
    /// Cluster, admin and baseline policies of policy.networking.k8s.io.
    Admin,
    /// Namespaced or global, of projectcalico.org.
    Calico,
}

#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) spec: Value,
    tier: String,
    /// Where it stands in its tier.
    order: f64,
    tie: [String; 3],
}

impl Policy {
    /// The object as a policy that is enforced, if it is one.
    pub(crate) fn of(object: &Value) -> Option<Self> {
        let (group, _) = text(object, "apiVersion").split_once('/')?;
        let spec = &object["spec"];
        let priority = spec["priority"].as_f64().unwrap_or(0.0);
        let calico_tier = match text(spec, "tier") {
            "" => "default",
            tier => tier,
        };
        let (kind, tier, order) = match (group, text(object, "kind")) {
            ("networking.k8s.io", "NetworkPolicy") => (Kind::Kubernetes, "default", 1_000.0),
            ("policy.networking.k8s.io", "ClusterNetworkPolicy") if spec["tier"] == "Baseline" => {
                (Kind::Admin, "kube-baseline", priority)
            }
            ("policy.networking.k8s.io", "ClusterNetworkPolicy") => (Kind::Admin, "kube-admin", priority),
            ("policy.networking.k8s.io", "AdminNetworkPolicy") => {
                (Kind::Admin, "adminnetworkpolicy", priority)
            }
            ("policy.networking.k8s.io", "BaselineAdminNetworkPolicy") => {
                (Kind::Admin, "baselineadminnetworkpolicy", priority)
            }
            ("projectcalico.org" | "crd.projectcalico.org", "NetworkPolicy" | "GlobalNetworkPolicy") => {
                (Kind::Calico, calico_tier, order(spec))
            }
            _ => return None,
        };
        let metadata = &object["metadata"];
        let namespace = text(metadata, "namespace").to_owned();
        // Calico calls Kubernetes' own kind by this name where it breaks ties.
        let kind_name =
            if kind == Kind::Kubernetes { "KubernetesNetworkPolicy" } else { text(object, "kind") };
        let tie = [text(metadata, "name").to_owned(), namespace.clone(), kind_name.to_owned()];
        Some(Self { kind, namespace, spec: spec.clone(), tier: tier.to_owned(), order, tie })
    }

    /// Whether the policy has a say about the pod's packets in this direction.
    fn applies(&self, world: &World, pod: &Pod, address: IpAddr, direction: Direction) -> bool {
        match self.kind {
            Kind::Kubernetes => kubernetes::applies(self, pod, direction),
            Kind::Admin => admin::applies(self, world, pod, direction),
            Kind::Calico => calico::applies(self, world, address, direction),
        }
    }

    /// What the first rule that matches does, if one does; Log is none.
    pub(crate) fn decide(&self, world: &World, packet: &Packet, direction: Direction) -> Option<Action> {
        match self.kind {
            Kind::Kubernetes => kubernetes::decide(self, world, packet, direction),
            Kind::Admin => admin::decide(self, world, packet, direction),
            Kind::Calico => calico::decide(self, world, packet, direction),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Allow,
    Deny,
    Pass,
}

impl World {
    pub(crate) fn verdict(&self, packet: &Packet) -> Verdict {
        Verdict {
            egress: self.allows(packet, Direction::Egress),
            ingress: self.allows(packet, Direction::Ingress),
        }
    }

    /// Whether the policies of the sender (egress) or the receiver (ingress) let the packet pass.
    fn allows(&self, packet: &Packet, direction: Direction) -> bool {
        let (own, peer) = match direction {
            Direction::Egress => (packet.src, packet.dst),
            Direction::Ingress => (packet.dst, packet.src),
        };
        let Some(pod) = self.pod_at(own) else { return true };
        if own == peer {
            return true;
        }
        let with_its_node = self.is_node_of(pod, peer);
        if with_its_node && direction == Direction::Ingress {
            return true;
        }
        for (tier, mut policies) in self.in_tiers(|policy| policy.applies(self, pod, own, direction)) {
            // NetworkPolicy does not come between a pod and its node, and leaves nothing to the tiers behind it.
            let is_spared = with_its_node && policies.iter().any(|policy| policy.kind == Kind::Kubernetes);
            policies.retain(|policy| !(with_its_node && policy.kind == Kind::Kubernetes));
            let decided = policies.iter().find_map(|policy| policy.decide(self, packet, direction));
            match decided {
                Some(Action::Allow) => return true,
                Some(Action::Pass) => {}
                None if policies.is_empty() || !tier.denies => {}
                Some(Action::Deny) | None => return false,
            }
            if is_spared {
                return true;
            }
        }
        // The profile of the pod's namespace allows what no tier decided.
        true
    }

    /// The tiers in their order, each with those of its policies that are asked in theirs. A policy of a tier that there is
    /// not is in force nowhere.
    pub(crate) fn in_tiers(&self, is_asked: impl Fn(&&Policy) -> bool) -> Vec<(&Tier, Vec<&Policy>)> {
        let mut tiers: Vec<_> = self.tiers.iter().collect();
        tiers.sort_by(|a, b| a.1.order.total_cmp(&b.1.order).then_with(|| a.0.cmp(b.0)));
        let policies = |name: &str| {
            let is_in = |policy: &&Policy| policy.tier == name && is_asked(policy);
            let mut policies: Vec<_> = self.policies.iter().filter(is_in).collect();
            policies.sort_by(|a, b| a.order.total_cmp(&b.order).then_with(|| a.tie.cmp(&b.tie)));
            policies
        };
        tiers.into_iter().map(|(name, tier)| (tier, policies(name))).collect()
    }
}
