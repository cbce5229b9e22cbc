//! Which ports there should be: the configured uplinks, the pods of this node, and one for the node's own kernel.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use margay_fastpath::steer::Kind;
use sha1::{Digest, Sha1};

use crate::compile::Routing;
use crate::config::{Config, OnFailure, Pods, Uplink};
use crate::state::{Kernel, Name, Vlan};

/// Hex digits of the hash in the name of a pod's device.
const HASH_DIGITS: usize = 11;

/// A port that there should be, whether or not its device is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Name shown to people.
    pub name: String,
    /// The device's name: where there is none, the name that is looked for.
    pub device: String,
    /// `None` while the kernel has no such device.
    pub ifindex: Option<u32>,
    /// Of an uplink on a VLAN.
    pub vlan: Option<Tagged>,
    pub kind: Kind,
    /// Of a pod's port.
    pub pod: Option<Name>,
    pub on_failure: OnFailure,
    /// What may be sent there at most, beside the device's own MTU.
    pub mtu: Option<u16>,
}

/// What a port on a VLAN of its device has besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tagged {
    pub id: u16,
    /// The interface that has the port's addresses, by its name where the configuration has one.
    pub name: Option<String>,
    /// `None` while the kernel has none.
    pub interface: Option<u32>,
}

impl Wanted {
    /// The interface that has the port's addresses, routes and neighbours.
    pub(super) fn interface(&self) -> Option<u32> {
        match &self.vlan {
            Some(vlan) => vlan.interface,
            None => self.ifindex,
        }
    }
}

/// All of them, as of the kernel and the pods that were last looked at.
#[derive(Debug, Default)]
pub(super) struct WantedPorts {
    /// The kernel, the routing's revision of the pods of this node, and whether there is to be a port for the kernel.
    seen: Option<(Arc<Kernel>, u64, bool)>,
    pub ports: Vec<Wanted>,
    /// The kernel with the limits of the configuration and of ports.
    pub limited: Arc<Kernel>,
}

impl WantedPorts {
    /// The configuration may be another than at the last look.
    pub(super) fn look_again(&mut self) {
        self.seen = None;
    }

    /// Looks again, where the kernel or the pods of this node have changed, or the port for the kernel has come, whose
    /// device is `host`. Says whether it did.
    pub(super) fn refresh(
        &mut self,
        config: &Config,
        routing: &Routing,
        kernel: &Arc<Kernel>,
        host: Option<&str>,
        largest_mtu: impl Fn(u32) -> u32,
    ) -> bool {
        let state = (routing.pods_revision(), host.is_some());
        let is_seen = |(seen, pods, host): &(_, _, _)| Arc::ptr_eq(seen, kernel) && (*pods, *host) == state;
        if self.seen.as_ref().is_some_and(is_seen) {
            return false;
        }
        self.seen = Some((Arc::clone(kernel), state.0, state.1));
        self.ports = wanted(config, routing, kernel);
        self.ports.extend(host.map(|device| of_host(device, kernel)));
        let limited = limited(kernel, &self.ports, largest_mtu);
        // While it is the same allocation nothing is made anew of it.
        if self.limited != limited {
            self.limited = limited;
        }
        true
    }
}

/// The kernel with the limits that the configuration sets, and with that of what a port can send: the MTU of its device may
/// be raised while it is open.
fn limited(kernel: &Arc<Kernel>, wanted: &[Wanted], largest_mtu: impl Fn(u32) -> u32) -> Arc<Kernel> {
    let mut limited = Arc::clone(kernel);
    for (ifindex, mtu) in wanted.iter().filter_map(|port| Some((port.interface()?, port.mtu))) {
        let largest_mtu = largest_mtu(ifindex);
        let limit = mtu.map_or(largest_mtu, |mtu| largest_mtu.min(mtu.into()));
        if kernel.links.get(&ifindex).is_some_and(|link| link.mtu > limit) {
            Arc::make_mut(&mut limited).limits.insert(ifindex, limit);
        }
    }
    limited
}

/// The uplinks in the order of the configuration, then the pods by name.
fn wanted(config: &Config, routing: &Routing, kernel: &Kernel) -> Vec<Wanted> {
    let by_name: BTreeMap<&str, u32> =
        kernel.links.iter().map(|(index, link)| (link.name.as_str(), *index)).collect();
    let uplinks: Vec<Wanted> =
        config.uplink.iter().map(|uplink| of_uplink(uplink, &by_name, kernel)).collect();
    let is_uplink =
        |index: u32| uplinks.iter().any(|uplink| [uplink.ifindex, uplink.interface()].contains(&Some(index)));
    let pods: Vec<Wanted> = routing
        .pods()
        .map(|(name, addresses)| {
            let device = device_name(&config.pods.interface_prefix, name);
            let named = by_name.get(device.as_str()).copied();
            let ifindex = named.or_else(|| routed(addresses, kernel).filter(|index| !is_uplink(*index)));
            of_pod(name, device, ifindex, &config.pods, kernel)
        })
        .collect();
    uplinks.into_iter().chain(pods).collect()
}

/// Calico's name of the host end of a pod's veth: the prefix and the start of SHA-1 of `NAMESPACE.POD` in hex.
pub fn device_name(prefix: &str, pod: &Name) -> String {
    let digest = Sha1::digest(format!("{}.{}", pod.namespace, pod.name));
    let mut name = prefix.to_owned();
    for byte in digest.iter().take(HASH_DIGITS.div_ceil(2)) {
        // Writing to a String does not fail.
        let _ = write!(name, "{byte:02x}");
    }
    name.truncate(prefix.len() + HASH_DIGITS);
    name
}

fn of_host(device: &str, kernel: &Kernel) -> Wanted {
    Wanted {
        name: device.to_owned(),
        device: device.to_owned(),
        ifindex: kernel.links.iter().find(|(_, link)| link.name == device).map(|(index, _)| *index),
        vlan: None,
        kind: Kind::Host,
        pod: None,
        on_failure: OnFailure::Pass,
        mtu: None,
    }
}

fn of_uplink(uplink: &Uplink, by_name: &BTreeMap<&str, u32>, kernel: &Kernel) -> Wanted {
    let ifindex = by_name.get(uplink.device.as_str()).copied();
    let of_vlan = |id: u16| {
        let vlan = Some(Vlan { device: ifindex?, id });
        kernel.links.iter().find(|(_, link)| link.vlan == vlan).map(|(index, _)| *index)
    };
    let tagged = |id: u16| Tagged {
        id,
        name: uplink.interface.clone(),
        interface: match &uplink.interface {
            Some(name) => by_name.get(name.as_str()).copied(),
            None => of_vlan(id),
        },
    };
    Wanted {
        name: uplink.name().to_owned(),
        device: uplink.device.clone(),
        ifindex,
        vlan: uplink.vlan.map(tagged),
        kind: Kind::Uplink,
        pod: None,
        on_failure: uplink.on_failure,
        mtu: uplink.mtu,
    }
}

fn of_pod(name: &Name, device: String, ifindex: Option<u32>, pods: &Pods, kernel: &Kernel) -> Wanted {
    let device = ifindex.map_or(device, |index| kernel.links[&index].name.clone());
    Wanted {
        name: device.clone(),
        device,
        ifindex,
        vlan: None,
        kind: Kind::Pod,
        pod: Some(name.clone()),
        on_failure: pods.on_failure,
        mtu: pods.mtu,
    }
}

/// The device that the kernel routes one of a pod's addresses to, alone: a subnet on a bridge is no pod's.
fn routed(mut addresses: impl Iterator<Item = IpAddr>, kernel: &Kernel) -> Option<u32> {
    let device = |address: IpAddr| {
        let host = IpNet::from(address);
        let routes = kernel.routes.iter().filter(|route| route.dst == host && route.gateway.is_none());
        routes.min_by_key(|route| route.metric).map(|route| route.ifindex)
    };
    addresses.find_map(device).filter(|index| kernel.links.contains_key(index))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::Compiler;
    use crate::identity::Identity;
    use crate::state::{Cluster, Link, Pod, Route, State};

    fn link(name: &str) -> Link {
        Link { name: name.into(), mac: [2; 6], mtu: 1500, up: true, rx_queues: 1, tx_queues: 1, vlan: None }
    }

    fn pod(node: &str, address: &str) -> Arc<Pod> {
        Arc::new(Pod { node: node.into(), addresses: vec![address.parse().unwrap()], ..Pod::default() })
    }

    fn route(dst: &str, ifindex: u32) -> Route {
        Route { dst: dst.parse().unwrap(), gateway: None, ifindex, metric: 0 }
    }

    #[test]
    fn a_pod_s_device_has_the_name_that_calico_gives_it() {
        // printf default.nginx | sha1sum
        assert_eq!(device_name("cali", &Name::new("default", "nginx")), "calic440f455693");
    }

    #[test]
    fn an_uplink_on_a_vlan_waits_for_its_interface_whatever_that_is_called() {
        let config = Config {
            uplink: vec![
                toml::from_str("device = \"eth0\"\nvlan = 100\nmtu = 1400").unwrap(),
                toml::from_str("device = \"eth1\"\nvlan = 100\ninterface = \"br1\"").unwrap(),
            ],
            ..Config::default()
        };
        let mut kernel =
            Arc::new(Kernel { links: [(1, link("eth0")), (2, link("eth1"))].into(), ..Kernel::default() });
        let state = State::default();
        let add = |kernel: &mut Arc<Kernel>, index, name: &str, vlan| {
            Arc::make_mut(kernel).links.insert(index, Link { vlan, ..link(name) });
            let compiler = Compiler::of(&state, Identity::new("here"));
            let ports = wanted(&config, compiler.routing(), kernel);
            let limited = limited(kernel, &ports, |_| 9000);
            let mtu = |index: u32| limited.limits.get(&index).copied().unwrap_or(limited.links[&index].mtu);
            ports.iter().map(|port| port.interface().map(mtu)).collect::<Vec<_>>()
        };
        let tag = |device, id| Some(Vlan { device, id });
        assert_eq!(add(&mut kernel, 5, "eth0.200", tag(1, 200)), [None, None]);
        assert_eq!(
            add(&mut kernel, 6, "eth1.100", tag(2, 100)),
            [None, None],
            "a bridge is to have the addresses"
        );
        assert_eq!(add(&mut kernel, 7, "storage", tag(1, 100)), [Some(1400), None]);
        assert_eq!(add(&mut kernel, 8, "br1", None), [Some(1400), Some(1500)]);
    }

    #[test]
    fn ports_are_the_uplinks_and_the_pods_of_this_node() {
        let config = Config {
            uplink: vec![
                toml::from_str("device = \"eth0\"").unwrap(),
                toml::from_str("device = \"eth9\"\nname = \"later\"").unwrap(),
            ],
            ..Config::default()
        };
        let mut cluster = Cluster::default();
        cluster.pods.insert(Name::new("default", "nginx"), pod("here", "10.0.0.1"));
        cluster.pods.insert(Name::new("default", "routed"), pod("here", "10.0.0.2"));
        cluster.pods.insert(Name::new("default", "bridged"), pod("here", "10.0.0.3"));
        cluster.pods.insert(Name::new("default", "leaky"), pod("here", "10.0.0.4"));
        cluster.pods.insert(Name::new("default", "elsewhere"), pod("there", "10.0.1.1"));
        let leaving = Pod { terminating: true, ..(*pod("here", "10.0.0.2")).clone() };
        cluster.pods.insert(Name::new("default", "leaving"), Arc::new(leaving));
        let host = Pod { host_network: true, ..(*pod("here", "192.0.2.1")).clone() };
        cluster.pods.insert(Name::new("default", "host"), Arc::new(host));
        let kernel = Kernel {
            links: [(1, link("eth0")), (2, link("calic440f455693")), (3, link("veth7"))].into(),
            routes: vec![route("10.0.0.2/32", 3), route("10.0.0.0/24", 3), route("10.0.0.4/32", 1)],
            ..Kernel::default()
        };

        let state = State { cluster, ..State::default() };
        let compiler = Compiler::of(&state, Identity::new("here"));
        let ports = wanted(&config, compiler.routing(), &kernel);
        let found: Vec<_> = ports.iter().map(|port| (port.name.as_str(), port.ifindex)).collect();
        let missing = |pod: &str| device_name("cali", &Name::new("default", pod));
        assert_eq!(
            found,
            [
                ("eth0", Some(1)),
                ("later", None),
                (missing("bridged").as_str(), None),
                (missing("leaky").as_str(), None),
                (missing("leaving").as_str(), None),
                ("calic440f455693", Some(2)),
                ("veth7", Some(3)),
            ]
        );
    }
}
