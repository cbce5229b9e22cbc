//! What the XDP program must know of destinations: which prefixes come to Margay, and which stay the kernel's.

use std::collections::BTreeMap;
use std::mem;
use std::net::IpAddr;

use ipnet::IpNet;
use margay_fastpath::steer::{Destination, RouteChanges, Routes};

/// The blocks and addresses that the cluster routes, and the addresses of this node: never a default or connected
/// route, by which the kernel's own traffic would come to Margay.
#[derive(Debug, Default)]
pub(super) struct Steering {
    routes: Routes,
    /// Since they were last taken.
    changes: RouteChanges,
}

impl Steering {
    pub(super) fn routes(&self) -> &Routes {
        &self.routes
    }

    pub(super) fn set(&mut self, net: IpNet, destination: Option<Destination>) {
        let prefix = (net.network(), net.prefix_len());
        let before = match destination {
            Some(destination) => self.routes.insert(prefix, destination),
            None => self.routes.remove(&prefix),
        };
        if before != destination {
            self.changes.insert(prefix, destination);
        }
    }

    /// Makes these all there are.
    pub(super) fn replace(&mut self, nets: BTreeMap<IpNet, Destination>) {
        let is_there = |&(address, length): &(IpAddr, u8)| {
            IpNet::new(address, length).is_ok_and(|net| nets.contains_key(&net))
        };
        let gone: Vec<_> = self.routes.keys().filter(|prefix| !is_there(prefix)).copied().collect();
        for prefix in gone {
            self.routes.remove(&prefix);
            self.changes.insert(prefix, None);
        }
        for (net, destination) in nets {
            self.set(net, Some(destination));
        }
    }

    pub(super) fn take_changes(&mut self) -> RouteChanges {
        mem::take(&mut self.changes)
    }
}
