//! Explanations by manifests alone. They do not say which uplinks a node has: one is assumed, and its name.

use std::collections::BTreeSet;

use margay_flowtable::{Policies, Tuple, WayOut};

use super::host::Crossing;
use super::{Error, Explained, Explanation, Route, World, explained, route};
use crate::compile::interfaces::{ALL, TUNNELS, of_object};
use crate::compile::policy::{self, PolicyCompiler, Serves};
use crate::compile::routes::{self, RoutingTable, UnknownNode};
use crate::probe::Probe;
use crate::state::Cluster;

/// Where to look from.
#[derive(Clone, Copy, Debug, Default)]
pub struct At<'a> {
    /// Whose routes to show, and whose host endpoints to ask. Where none is named, of the node that would handle the packet:
    /// the gateway of the sender's node, else that node, else those of the receiver.
    pub node: Option<&'a str>,
    /// What that node's uplink is called. Where that is not said, as host endpoints of the node call it, if all by one name.
    pub uplink: Option<&'a str>,
}

/// Explains by manifests alone, with every pod taken as served.
pub fn explain(cluster: &Cluster, probe: &Probe, at: At<'_>) -> Result<Explanation, Error> {
    let packets = probe.packets(cluster)?;
    let (policies, compiler) = policy::compile(cluster, Serves::All);
    let mut manifests = Manifests { cluster, uplink: at.uplink, policies, compiler };
    let given =
        at.node.map(|node| Ok::<_, UnknownNode>((node, routes::table(cluster, node)?))).transpose()?;
    let mut explain = |tuple: &Tuple| {
        if let Some((node, table)) = &given {
            return manifests.explain(tuple, node, table);
        }
        match route::handler(cluster, tuple.src, tuple.dst) {
            None => manifests.explain_nowhere(tuple, Route::unknown()),
            Some(node) => match routes::table(cluster, &node) {
                Ok(table) => manifests.explain(tuple, &node, &table),
                Err(error) => manifests.explain_nowhere(tuple, Route::none(&node, error.to_string())),
            },
        }
    };
    let tuples = packets.iter().map(|packet| probe.tuple(packet));
    Ok(Explanation::of(probe, tuples.map(|tuple| explain(&tuple)).collect(), Vec::new()))
}

struct Manifests<'a> {
    cluster: &'a Cluster,
    uplink: Option<&'a str>,
    policies: Policies,
    compiler: PolicyCompiler,
}

impl Manifests<'_> {
    fn explain(&mut self, tuple: &Tuple, node: &str, table: &RoutingTable) -> Explained {
        let (uplink, assumed) = self.uplink_of(node);
        if let Some(object) = self.cluster.nodes.get(node) {
            self.compiler.set_host(node, of_object(object, uplink));
            self.policies = self.compiler.finish(self.cluster).0;
        }
        let way_out = |address| route::way_out(self.cluster, node, table, address);
        let crossing = Crossing { entry: way_out(tuple.src), exit: way_out(tuple.dst), assumed };
        let route = route::of_table(self.cluster, node, table, tuple.dst);
        explained(&self.world(), tuple, route, &crossing)
    }

    fn explain_nowhere(&self, tuple: &Tuple, route: Route) -> Explained {
        let crossing = Crossing { entry: WayOut::Unknown, exit: WayOut::Unknown, assumed: None };
        explained(&self.world(), tuple, route, &crossing)
    }

    fn world(&self) -> World<'_> {
        World { cluster: self.cluster, policies: &self.policies, compiler: &self.compiler }
    }

    /// What the node's uplink is taken to be called, and why.
    fn uplink_of(&self, node: &str) -> (Option<String>, Option<String>) {
        if let Some(name) = self.uplink {
            return (Some(name.to_owned()), None);
        }
        let endpoints = self.cluster.host_endpoints.values().filter(|endpoint| endpoint.node == node);
        let named = endpoints.filter_map(|endpoint| endpoint.interface.as_deref());
        let names: BTreeSet<&str> = named.filter(|name| *name != ALL && !TUNNELS.contains(name)).collect();
        let mut all = names.iter().copied();
        match (all.next(), all.next()) {
            (None, _) => (None, None),
            (Some(name), None) => {
                let why =
                    format!("the uplink is taken to be {name}, which a HostEndpoint names: --uplink NAME");
                (Some(name.to_owned()), Some(why))
            }
            (Some(first), Some(second)) => {
                let all: Vec<&str> = [first, second].into_iter().chain(all).collect();
                let why = format!(
                    "which of {} the packet passes manifests do not say, and it is taken to be none of them: --uplink NAME",
                    all.join(", ")
                );
                (None, Some(why))
            }
        }
    }
}
