//! The world of a replay: the manifests' cluster, and a kernel made up around it: links, addresses and neighbours that
//! are the same for the same manifests and options.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use margay_fastpath::steer::SteerTables;
use margay_flowtable::{Adjacency, Checksums, Entrance, PortId, Rewrite, Snapshot};
use sha1::{Digest, Sha1};

use crate::compile::Compiler;
use crate::compile::routes::local_pods;
use crate::config::{Config, EndpointToHost};
use crate::identity::Identity;
use crate::state::{Cluster, Kernel, Link, Neighbour, PortBinding, Route, State};

/// IP MTU of a port unless configured.
const MTU: u16 = 1500;
/// Name of the uplink unless the configuration names others.
const UPLINK: &str = "uplink0";

/// `--neigh IP=MAC,PORT`: a neighbour of that address and MAC on that port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenNeighbour {
    pub address: IpAddr,
    pub mac: [u8; 6],
    pub port: String,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum WorldError {
    #[error("--neigh {0}: give IP=MAC,PORT, as in 172.20.1.11=02:00:00:00:00:11,uplink0")]
    Neighbour(String),
    #[error("--neigh {address}: no port {port} on this node; there are {known}")]
    NeighbourPort { address: IpAddr, port: String, known: String },
    #[error("no node {name} in the manifests; there are {known}")]
    Node { name: String, known: String },
}

impl FromStr for GivenNeighbour {
    type Err = WorldError;

    fn from_str(text: &str) -> Result<Self, WorldError> {
        let parse = || {
            let (address, rest) = text.split_once('=')?;
            let (mac, port) = rest.split_once(',')?;
            Some(Self { address: address.parse().ok()?, mac: parse_mac(mac)?, port: port.into() })
        };
        parse().ok_or_else(|| WorldError::Neighbour(text.into()))
    }
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Vec<u8> =
        text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect::<Option<_>>()?;
    bytes.try_into().ok()
}

/// A node, its ports and its kernel.
#[derive(Debug)]
pub struct World {
    state: State,
    identity: Identity,
    endpoint_to_host: EndpointToHost,
}

impl World {
    pub fn new(
        cluster: Cluster,
        node: &str,
        config: &Config,
        neighbours: &[GivenNeighbour],
    ) -> Result<Self, WorldError> {
        if !cluster.nodes.contains_key(node) {
            let known = cluster.nodes.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(WorldError::Node { name: node.into(), known });
        }
        let identity = Identity::configured(node, config);
        let endpoint_to_host = config.policy.endpoint_to_host;
        let state = State { cluster, ..State::default() };
        let mut world = Self { state, identity, endpoint_to_host };
        world.add_ports(config);
        world.add_addresses();
        world.make_up_neighbours();
        for neighbour in neighbours {
            world.give(neighbour)?;
        }
        Ok(world)
    }

    /// What workers would read, and what the XDP program would know.
    pub fn compile(&self) -> (Snapshot, SteerTables) {
        let mut compiler = Compiler::of(&self.state, self.identity.clone());
        let steering = SteerTables::new(compiler.routing().steering(), compiler.routing().local().vxlan_port);
        let mut snapshot = compiler.snapshot(&Snapshot::default());
        snapshot.entrance = self.entrance();
        (snapshot, steering)
    }

    fn entrance(&self) -> Entrance {
        let (dst_mac, src_mac) = (made_up_mac("kernel"), made_up_mac(&self.identity.node));
        let adjacency = Adjacency { port: self.host_port(), dst_mac, src_mac, mtu: u16::MAX };
        match self.endpoint_to_host {
            EndpointToHost::Accept => Entrance::Open(Rewrite::to(&adjacency)),
            EndpointToHost::Drop => Entrance::Closed,
        }
    }

    /// By which packets of pods would enter the node's own kernel. It has no name and no capture.
    pub fn host_port(&self) -> PortId {
        PortId(self.state.ports.len() as u16)
    }

    pub fn ports(&self) -> impl Iterator<Item = (PortId, &str)> {
        self.state.ports.iter().map(|port| (port.id, port.name.as_str()))
    }

    pub fn port(&self, name: &str) -> Option<PortId> {
        self.state.ports.iter().find(|port| port.name == name).map(|port| port.id)
    }

    pub fn port_name(&self, id: PortId) -> &str {
        &self.state.ports[usize::from(id.0)].name
    }

    pub fn port_names(&self) -> Vec<&str> {
        self.ports().map(|(_, name)| name).collect()
    }

    /// The uplinks of the configuration, then each pod of the node. Link and port numbers go together.
    fn add_ports(&mut self, config: &Config) {
        let uplinks: Vec<_> =
            config.uplink.iter().map(|uplink| (uplink.name().to_owned(), uplink.mtu)).collect();
        let uplinks = if uplinks.is_empty() { vec![(UPLINK.to_owned(), None)] } else { uplinks };
        for (name, mtu) in uplinks {
            self.add_port(name, mtu, None);
        }
        let mut pods: Vec<_> = local_pods(&self.state.cluster, &self.identity.node)
            .into_values()
            .map(|name| (*name).clone())
            .collect();
        pods.sort();
        pods.dedup();
        for pod in pods {
            self.add_port(pod.to_string(), config.pods.mtu, Some(pod));
        }
    }

    fn add_port(&mut self, name: String, mtu: Option<u16>, pod: Option<crate::state::Name>) {
        let id = PortId(self.state.ports.len() as u16);
        let ifindex = u32::from(id.0) + 1;
        let link = Link {
            name: name.clone(),
            mac: made_up_mac(&format!("{} {name}", self.identity.node)),
            mtu: u32::from(mtu.unwrap_or(MTU)),
            up: true,
            rx_queues: 1,
            tx_queues: 1,
            vlan: None,
        };
        self.state.kernel.links.insert(ifindex, link);
        self.state.ports.push(PortBinding { id, name, ifindex, pod, takes_checksums: Checksums::None });
    }

    /// The node's own addresses on its first uplink.
    fn add_addresses(&mut self) {
        let Some(node) = self.state.cluster.nodes.get(&self.identity.node) else { return };
        let own: Vec<IpNet> = node.ipv4.into_iter().chain(node.ipv6).collect();
        self.state.kernel.addresses.extend(own.into_iter().map(|net| (1, net)));
    }

    /// Every other node is a neighbour on the first uplink, and every pod of ours on its port.
    fn make_up_neighbours(&mut self) {
        let Self { state: State { cluster, kernel, ports }, identity, .. } = self;
        for (name, node) in cluster.nodes.iter().filter(|(name, _)| **name != identity.node) {
            for net in node.ipv4.iter().chain(&node.ipv6) {
                add_neighbour(kernel, 1, net.addr(), made_up_mac(name));
            }
        }
        for (address, pod) in local_pods(cluster, &identity.node) {
            if let Some(port) = ports.iter().find(|port| port.pod.as_ref() == Some(&*pod)) {
                add_neighbour(kernel, port.ifindex, address, made_up_mac(&pod.to_string()));
            }
        }
    }

    fn give(&mut self, given: &GivenNeighbour) -> Result<(), WorldError> {
        let Some(port) = self.port(&given.port) else {
            let known = self.port_names().join(", ");
            return Err(WorldError::NeighbourPort {
                address: given.address,
                port: given.port.clone(),
                known,
            });
        };
        let kernel = &mut self.state.kernel;
        kernel.neighbours.retain(|&(_, address), _| address != given.address);
        kernel.routes.retain(|route| route.dst != IpNet::from(given.address));
        add_neighbour(kernel, u32::from(port.0) + 1, given.address, given.mac);
        Ok(())
    }
}

/// A neighbour that is reached on the link itself, whatever subnet it is in.
fn add_neighbour(kernel: &mut Kernel, ifindex: u32, address: IpAddr, mac: [u8; 6]) {
    kernel.neighbours.insert((ifindex, address), Neighbour { mac, usable: true });
    kernel.routes.push(Route { dst: address.into(), gateway: None, ifindex, metric: 0 });
}

/// A locally administered unicast MAC that depends on the name alone.
fn made_up_mac(name: &str) -> [u8; 6] {
    let digest = Sha1::digest(name.as_bytes());
    [0x02, digest[0], digest[1], digest[2], digest[3], digest[4]]
}
