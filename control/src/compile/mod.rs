//! From the state of the world to the [`Snapshot`] that workers read: the same state, the same snapshot, by whatever
//! steps it came.

mod blocks;
pub mod gateways;
pub mod interfaces;
mod local;
mod next_hops;
pub mod owners;
mod policed;
pub mod policy;
mod prefixes;
pub mod routes;
pub mod routing;
pub mod tunnels;
mod view;

use std::net::IpAddr;
use std::sync::Arc;

use margay_fastpath::steer::RouteChanges;
use margay_flowtable::{RuleId, Snapshot};

pub use self::next_hops::NeighbourKey;
use self::owners::{Owner, Owners};
pub use self::policed::is_policed;
use self::policy::{NotInForce, PolicyCompiler, RuleIds, Serves};
pub use self::routes::routes;
pub use self::routing::Routing;
use crate::identity::Identity;
use crate::state::{Change, Cluster, Kernel, PortBinding, State};

/// Indexes of rules that are made anew in one go: each takes a millisecond or two at most.
const INDEXES: usize = 4;

/// The state as node `identity.node` sees it, and what is made of it, kept in step.
#[derive(Debug)]
pub struct Compiler {
    cluster: Cluster,
    owners: Owners,
    policy: PolicyCompiler,
    routing: Routing,
}

impl Compiler {
    /// Of an empty cluster, a kernel without links, and no ports.
    pub fn new(identity: Identity) -> Self {
        Self {
            cluster: Cluster::default(),
            owners: Owners::default(),
            policy: PolicyCompiler::new(Serves::Gateway(identity.node.clone())),
            routing: Routing::new(identity),
        }
    }

    /// From nothing to this state.
    pub fn of(state: &State, identity: Identity) -> Self {
        let mut compiler = Self::new(identity);
        compiler.apply(state.cluster.clone().into_changes());
        compiler.set_underlay(&Arc::new(state.kernel.clone()), &state.ports.as_slice().into());
        compiler
    }

    /// Takes in what the configuration says of tunnels and errors by now. The node stays the same.
    pub fn set_identity(&mut self, identity: Identity) {
        self.routing.set_identity(&self.cluster, &self.owners, identity);
        self.policy.set_interfaces(self.routing.interfaces(&self.cluster));
    }

    /// Takes in what became of the cluster's objects.
    pub fn apply(&mut self, mut changes: Vec<Change>) {
        self.cluster.apply_all(&mut changes);
        let mut moved = Vec::new();
        for change in &changes {
            if let Change::Pod(pod) = change {
                moved.extend(self.owners.apply(&pod.key, pod.old.as_ref(), pod.new.as_ref()));
            }
        }
        self.routing.apply(&self.cluster, &self.owners, &changes, &moved);
        if changes.iter().any(|change| matches!(change, Change::Node(_))) {
            self.policy.set_interfaces(self.routing.interfaces(&self.cluster));
        }
        self.policy.apply(&self.cluster, &self.owners, &changes, &moved);
    }

    /// Takes in the state of the kernel and the open ports. False where they are the same as before.
    pub fn set_underlay(&mut self, kernel: &Arc<Kernel>, ports: &Arc<[PortBinding]>) -> bool {
        let is_new = self.routing.set_underlay(&self.cluster, kernel, ports);
        if is_new {
            self.policy.set_interfaces(self.routing.interfaces(&self.cluster));
        }
        is_new
    }

    /// What has become of it all since `previous`, whose place it takes.
    pub fn snapshot(&mut self, previous: &Snapshot) -> Snapshot {
        let (policies, touched) = self.policy.finish(&self.cluster);
        let mut snapshot = Snapshot {
            fib: self.routing.fib().clone(),
            next_hops: self.routing.next_hops().clone(),
            policies,
            ports: self.routing.ports().to_vec(),
            tunnel_sources: self.routing.tunnel_sources().clone(),
            inner_sources: self.routing.inner_sources().clone(),
            local: self.routing.local().clone(),
            ..Snapshot::default()
        };
        snapshot.succeed(previous);
        touched.mark(&mut snapshot.epochs);
        snapshot
    }

    /// Policies that are valid and count for nobody, with the reason.
    pub fn not_in_force(&self) -> impl Iterator<Item = NotInForce<'_>> + '_ {
        self.policy.not_in_force(&self.cluster)
    }

    pub fn has_stale_indexes(&self) -> bool {
        self.policy.has_stale_indexes()
    }

    /// The snapshot with some indexes made anew that do not know the newest pods, which are held against more rules than
    /// need be till then. No verdict and no route changes, so its generation stays. `None` if there is no such index.
    pub fn refresh_indexes(&mut self, previous: &Snapshot) -> Option<Snapshot> {
        let policies = self.policy.refresh_indexes(INDEXES)?;
        Some(Snapshot { policies, ..previous.clone() })
    }

    /// What numbers of rules mean.
    pub fn rule_ids(&self) -> &RuleIds {
        self.policy.rule_ids()
    }

    /// Numbers that mean another rule in the last snapshot than they did when this was last asked.
    pub fn take_rules_given_again(&mut self) -> Vec<RuleId> {
        self.policy.take_rules_given_again()
    }

    pub fn policy(&self) -> &PolicyCompiler {
        &self.policy
    }

    /// The pod that holds the address, wherever it is.
    pub fn owner(&self, address: IpAddr) -> Option<&Owner> {
        self.owners.get(address)
    }

    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Whose each address is.
    pub fn owners(&self) -> &Owners {
        &self.owners
    }

    pub fn routing(&self) -> &Routing {
        &self.routing
    }

    pub fn take_steering_changes(&mut self) -> RouteChanges {
        self.routing.take_steering_changes()
    }
}
