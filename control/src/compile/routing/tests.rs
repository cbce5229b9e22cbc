//! Small worlds to which anything may happen: after each step the routing is what a plain computation from nothing says.

mod plain;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use margay_flowtable::{NextHop, PortState};
use proptest::prelude::*;

use super::Routing;
use crate::compile::owners::Owners;
use crate::compile::routes::{ClusterRoute, RoutingTable, table};
use crate::identity::Identity;
use crate::state::{Change, State};
use world::{Event, HERE};

/// A routing that has followed every step.
struct Followed {
    state: State,
    owners: Owners,
    routing: Routing,
    /// Steering as those know it who hear of changes alone.
    steered: margay_fastpath::steer::Routes,
}

impl Followed {
    fn new() -> Self {
        let routing = Routing::new(Identity::new(HERE));
        Self { state: State::default(), owners: Owners::default(), routing, steered: BTreeMap::new() }
    }

    fn take(&mut self, event: Event) {
        let (pods, neighbours) = (self.routing.pods_revision(), self.routing.neighbours_revision());
        let before = (self.pods(), self.neighbours());
        match event {
            Event::Changes(changes) => self.apply(changes),
            Event::Kernel(kernel) => {
                self.state.kernel = *kernel;
                self.set_underlay();
            }
            Event::Ports(ports) => {
                self.state.ports = ports;
                self.set_underlay();
            }
        }
        for (prefix, destination) in self.routing.take_steering_changes() {
            match destination {
                Some(destination) => self.steered.insert(prefix, destination),
                None => self.steered.remove(&prefix),
            };
        }
        assert!(self.pods() == before.0 || self.routing.pods_revision() != pods);
        assert!(self.neighbours() == before.1 || self.routing.neighbours_revision() != neighbours);
    }

    fn apply(&mut self, mut changes: Vec<Change>) {
        self.state.cluster.apply_all(&mut changes);
        let mut moved = Vec::new();
        for change in &changes {
            if let Change::Pod(pod) = change {
                moved.extend(self.owners.apply(&pod.key, pod.old.as_ref(), pod.new.as_ref()));
            }
        }
        self.routing.apply(&self.state.cluster, &self.owners, &changes, &moved);
    }

    fn set_underlay(&mut self) {
        let kernel = Arc::new(self.state.kernel.clone());
        self.routing.set_underlay(&self.state.cluster, &kernel, &self.state.ports.as_slice().into());
    }

    fn pods(&self) -> BTreeMap<String, Vec<IpAddr>> {
        self.routing.pods().map(|(name, addresses)| (name.to_string(), addresses.collect())).collect()
    }

    fn neighbours(&self) -> BTreeSet<(u32, IpAddr)> {
        self.routing.wanted_neighbours().collect()
    }

    fn fate(&self, address: IpAddr) -> Option<NextHop> {
        let id = self.routing.fib().lookup(address)?;
        Some(self.routing.next_hops()[id.0 as usize].clone())
    }

    fn table(&self) -> RoutingTable {
        let routes: Vec<ClusterRoute> = self.routing.routes().cloned().collect();
        let missing = self.routing.missing().map(|(dst, node, why)| (*dst, node.to_owned(), why.clone()));
        RoutingTable { routes, missing: missing.collect() }
    }
}

fn ports(states: &[Option<PortState>]) -> Vec<(usize, PortState)> {
    states.iter().enumerate().filter_map(|(id, port)| Some((id, port.clone()?))).collect()
}

fn check(followed: &Followed) {
    let Followed { state, routing, .. } = followed;
    assert_eq!(followed.table(), table(&state.cluster, HERE).unwrap_or_default());
    let plain = plain::Plain::of(state, &Identity::new(HERE));
    assert_eq!(routing.local(), &plain.local);
    assert_eq!(routing.steering(), &plain.steering);
    assert_eq!(followed.steered, plain.steering);
    assert_eq!(followed.neighbours(), plain.neighbours);
    assert_eq!(followed.pods(), plain.pods);
    assert_eq!(ports(routing.ports()), plain.ports);
    assert_eq!(routing.tunnel_sources(), &plain.tunnel_sources);
    let nodes = state.cluster.nodes.values().flat_map(|node| [node.ipv4, node.ipv6]);
    let nodes: Vec<_> = nodes.flatten().map(|net| net.addr()).collect();
    for address in world::addresses() {
        for node in &nodes {
            let admits = routing.inner_sources().admits(address, *node);
            assert_eq!(admits, plain.admits(address, *node), "{address} by {node}");
        }
        assert_eq!(followed.fate(address), plain.fate(address), "{address}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn routing_follows_whatever_happens(
        nodes in world::nodes(),
        overlay in world::overlay(),
        start in prop::collection::vec(world::change(), 15),
        kernel in world::kernel(),
        ports in world::ports(),
        events in prop::collection::vec(world::event(), 1..25),
    ) {
        let mut followed = Followed::new();
        check(&followed);
        let start = [nodes, overlay, start].map(Event::Changes).into_iter();
        let start = start.chain([Event::Kernel(Box::new(kernel)), Event::Ports(ports)]);
        for event in start.chain(events) {
            followed.take(event);
            check(&followed);
        }
    }
}
