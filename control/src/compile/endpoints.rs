//! Served pods to endpoints, each with the programs that it obeys.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use margay_flowtable::{Action, Endpoint, Endpoints, Policy, Program, Tier};

use super::pods::{NamespacePods, Pods};
use super::policy::{Direction, PolicyCompiler};
use crate::state::{Cluster, Name, NetworkPolicy, NetworkPolicyRule, Pod};

/// Compiles the endpoints whose policy is enforced here: the pods that `served` picks, of those that hold an address
/// of their own. Where two pods claim an address, the one that is not being deleted holds it, else the newest, else the
/// first by name.
pub fn endpoints(cluster: &Cluster, served: impl Fn(&Name, &Pod) -> bool) -> Endpoints {
    let pods = Pods::of(cluster);
    let mut compiler = PolicyCompiler::new(&pods);
    let mut node_addresses: HashMap<&str, Arc<[IpAddr]>> = HashMap::new();
    let mut endpoints = Endpoints::default();
    for (name, namespace) in pods.namespaces() {
        let mut programs = Programs::new(policies_of(cluster, name));
        let selecting = programs.selecting(namespace);
        for (group, selecting) in namespace.groups().iter().zip(selecting) {
            let mut members = group.members.iter().filter(|m| served(m.name, m.pod)).peekable();
            if members.peek().is_none() {
                continue;
            }
            let egress = programs.program(&mut compiler, &selecting, Direction::Egress);
            let ingress = programs.program(&mut compiler, &selecting, Direction::Ingress);
            for member in members {
                let addresses_of_node = || {
                    let node = cluster.nodes.get(&member.pod.node);
                    node.map(|node| node.addresses.clone().into()).unwrap_or_default()
                };
                let node = node_addresses.entry(&member.pod.node).or_insert_with(addresses_of_node);
                let endpoint = Arc::new(Endpoint {
                    name: member.name.to_string().into(),
                    egress: egress.clone(),
                    ingress: ingress.clone(),
                    node_addresses: node.clone(),
                });
                for address in &member.addresses {
                    endpoints.insert(*address, endpoint.clone());
                }
            }
        }
    }
    endpoints
}

fn policies_of<'a>(cluster: &'a Cluster, namespace: &str) -> Vec<(&'a Name, &'a NetworkPolicy)> {
    let policies = cluster.network_policies.range(Name::new(namespace, "")..);
    let in_namespace = policies.take_while(|(name, _)| name.namespace == namespace);
    in_namespace.map(|(name, policy)| (name, &**policy)).collect()
}

/// A namespace's policies and the programs made of them: each policy is compiled once for a direction, and one list of
/// policies is one program.
struct Programs<'a> {
    policies: Vec<(&'a Name, &'a NetworkPolicy)>,
    /// By position in `policies`.
    compiled: HashMap<(usize, Direction), Arc<Policy>>,
    of_positions: HashMap<(Vec<usize>, Direction), Arc<Program>>,
}

impl<'a> Programs<'a> {
    fn new(policies: Vec<(&'a Name, &'a NetworkPolicy)>) -> Self {
        Self { policies, compiled: HashMap::new(), of_positions: HashMap::new() }
    }

    /// For each group of the namespace, the positions of the policies that select it.
    fn selecting(&self, namespace: &NamespacePods<'_>) -> Vec<Vec<usize>> {
        let mut selecting = vec![Vec::new(); namespace.groups().len()];
        for (position, (_, policy)) in self.policies.iter().enumerate() {
            for group in namespace.select(&policy.pods) {
                selecting[group].push(position);
            }
        }
        selecting
    }

    /// What the policies at these positions say together of one direction.
    fn program(
        &mut self,
        compiler: &mut PolicyCompiler<'_>,
        positions: &[usize],
        direction: Direction,
    ) -> Arc<Program> {
        let isolates = |position: &usize| rules_of(self.policies[*position].1, direction).is_some();
        let isolating: Vec<usize> = positions.iter().copied().filter(isolates).collect();
        let key = (isolating, direction);
        if let Some(program) = self.of_positions.get(&key) {
            return program.clone();
        }
        let policies: Vec<_> =
            key.0.iter().filter_map(|position| self.policy(compiler, *position, direction)).collect();
        let tier = Tier { name: "default".into(), policies, end: Action::Deny };
        let tiers = if tier.policies.is_empty() { Vec::new() } else { vec![tier] };
        self.of_positions.entry(key).or_insert(Program::new(tiers).into()).clone()
    }

    /// `None` where the policy leaves the direction alone.
    fn policy(
        &mut self,
        compiler: &mut PolicyCompiler<'_>,
        position: usize,
        direction: Direction,
    ) -> Option<Arc<Policy>> {
        let (name, policy) = self.policies[position];
        let rules = rules_of(policy, direction)?;
        let compile = || compiler.compile(name, policy, rules, direction).into();
        Some(self.compiled.entry((position, direction)).or_insert_with(compile).clone())
    }
}

fn rules_of(policy: &NetworkPolicy, direction: Direction) -> Option<&[NetworkPolicyRule]> {
    match direction {
        Direction::Ingress => policy.ingress.as_deref(),
        Direction::Egress => policy.egress.as_deref(),
    }
}
