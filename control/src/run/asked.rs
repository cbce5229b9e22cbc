//! What the admin socket asks of everything that runs. What there may be many of is given in portions, so that the loop
//! goes on after a millisecond.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use margay_flowtable::Policies;

use super::dataplane::Dataplane;
use crate::admin::PortState;
use crate::admin::drops::{Known, OpenPort};
use crate::admin::endpoints::{EndpointRow, Portion};
use crate::admin::routes::{Kind, RouteRow, mac};
use crate::admin::tunnels::{OurEnds, Tunnels};
use crate::compile::routes::{ClusterRoute, RouteKind};
use crate::state::{Kernel, Name, Pod};

impl Dataplane {
    /// Our node, and how long we have run.
    pub(crate) fn identify(&self) -> (String, Duration) {
        (self.identity.node.clone(), self.started.elapsed())
    }

    pub(crate) fn kernel_now(&self) -> Arc<Kernel> {
        self.kernel.kernel()
    }

    /// What is enforced. A clone shares everything.
    pub(crate) fn policies_now(&self) -> Policies {
        self.publisher.current().policies.clone()
    }

    /// Up to so many of the cluster's destinations behind that one.
    pub(crate) fn routes_after(&self, after: Option<IpNet>, most: usize) -> Vec<RouteRow> {
        let entries = self.compiler.routing().entries(after).take(most);
        let row = |(dst, entry)| match entry {
            Ok(route) => self.route_row(route),
            Err((node, why)) => missing(dst, node, ToString::to_string(why)),
        };
        entries.map(row).collect()
    }

    fn route_row(&self, route: &ClusterRoute) -> RouteRow {
        let routing = self.compiler.routing();
        let adjacency = routing.adjacency(self.compiler.cluster(), route);
        let port = adjacency.as_ref().and_then(|to| routing.ports().get(usize::from(to.port.0))?.as_ref());
        let (kind, lacking) = match route.kind {
            RouteKind::Local => {
                (Kind::Local, "the pod's port is not open, or the kernel has not resolved the pod")
            }
            RouteKind::Direct => (Kind::Direct, UNRESOLVED),
            RouteKind::Ipip => (Kind::Ipip, UNRESOLVED),
            RouteKind::Vxlan => (Kind::Vxlan, UNRESOLVED),
            RouteKind::Blackhole => (Kind::Blackhole, "no pod holds the address"),
        };
        RouteRow {
            dst: route.dst,
            kind,
            node: Some(route.node.clone()),
            next_node: route.next_node.clone(),
            via: route.via,
            tunnel_dst: route.tunnel_dst,
            pool: route.pool.clone(),
            port: port.map(|port| port.name.to_string()),
            mac: adjacency.as_ref().map(|to| mac(to.dst_mac)),
            mtu: adjacency.as_ref().map(|to| to.mtu.into()),
            why: adjacency.is_none().then(|| lacking.to_owned()),
        }
    }

    pub(crate) fn our_tunnel_ends(&self) -> OurEnds {
        let local = self.compiler.routing().local();
        let common = Tunnels {
            vni: local.vni,
            vxlan_port: local.vxlan_port,
            vtep_mac: mac(local.vtep_mac),
            vtep_mac6: mac(local.vtep_mac6),
            tunnels: Vec::new(),
        };
        OurEnds { common, ends: local.tunnel_ends.clone() }
    }

    /// Of up to so many pods behind that one, those whose policy is enforced here.
    pub(crate) fn endpoints_after(&self, after: Option<&Name>, most: usize) -> Portion {
        let pods = &self.compiler.cluster().pods;
        let behind = after.map_or(Bound::Unbounded, Bound::Excluded);
        let portion = || pods.range::<Name, _>((behind, Bound::Unbounded)).take(most);
        let ports = self.pod_ports();
        let rows = portion().filter_map(|(name, pod)| self.endpoint_row(name, pod, &ports)).collect();
        let upto = portion().nth(most - 1).map(|(name, _)| name.clone());
        Portion { rows, upto }
    }

    /// `None` of a pod that is no endpoint here.
    fn endpoint_row(
        &self,
        name: &Name,
        pod: &Pod,
        ports: &HashMap<&Name, (&str, PortState)>,
    ) -> Option<EndpointRow> {
        let policies = &self.publisher.current().policies;
        let pod_name = name.to_string();
        let is_its = |address: &IpAddr| policies.endpoint(*address).is_some_and(|end| *end.name == *pod_name);
        let addresses: Vec<IpAddr> = pod.addresses.iter().copied().filter(is_its).collect();
        if addresses.is_empty() {
            return None;
        }
        let port = ports.get(name);
        Some(EndpointRow {
            pod: pod_name,
            node: pod.node.clone(),
            addresses,
            port: port.map(|(port, _)| (*port).to_owned()),
            port_state: port.map(|(_, state)| *state),
            ingress: Vec::new(),
            egress: Vec::new(),
        })
    }

    /// The ports of pods, by pod.
    fn pod_ports(&self) -> HashMap<&Name, (&str, PortState)> {
        let closed = self.wanted.ports.iter().filter_map(|wanted| {
            let has_failed = self.ports.failure(&wanted.name).is_some();
            let state = if has_failed { PortState::Failed } else { PortState::Missing };
            Some((wanted.pod.as_ref()?, (wanted.name.as_str(), state)))
        });
        let open = self.ports.open().map(|open| &open.wanted);
        let open =
            open.filter_map(|wanted| Some((wanted.pod.as_ref()?, (wanted.name.as_str(), PortState::Open))));
        closed.chain(open).collect()
    }

    pub(crate) fn drops(&self) -> Known {
        let workers: Vec<_> = self.workers.iter().map(|(_, handle)| Arc::clone(&handle.counters)).collect();
        let open = |open: &super::ports::Open| {
            (open.id, OpenPort { name: open.wanted.name.clone(), before: open.base.drops() })
        };
        let (policies, policies_lost) = self.policy_counts.drops(&self.workers, self.started.elapsed());
        Known { workers, ports: self.ports.open().map(open).collect(), policies, policies_lost }
    }
}

const UNRESOLVED: &str = "the kernel has not resolved the neighbour, or its routes lead by no uplink of ours";

fn missing(dst: IpNet, node: &str, why: String) -> RouteRow {
    RouteRow {
        dst,
        kind: Kind::Missing,
        node: Some(node.to_owned()),
        next_node: None,
        via: None,
        tunnel_dst: None,
        pool: None,
        port: None,
        mac: None,
        mtu: None,
        why: Some(why),
    }
}
