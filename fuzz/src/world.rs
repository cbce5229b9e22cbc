//! A gateway small enough that a fuzzer finds its way about: what is where, and the snapshot that says so to the packet path.

mod ends;
mod snapshot;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arbitrary::{Arbitrary, Result, Unstructured};
use margay_flowtable::{
    Adjacency, DontFragment, Dscp, InnerSource, NextHop, NextHopId, Outer, PortId, Snapshot, Ttl, Tunnel,
};

pub use ends::{Around, End, way_in};

/// Ports by number: two uplinks, two pods, and the one that leads into the node's own kernel.
pub const PORTS: [PortId; 5] = [PortId(0), PortId(1), PortId(2), PortId(3), PortId(4)];
pub const UPLINKS: [PortId; 2] = [PORTS[0], PORTS[3]];
pub const PODS: [PortId; 2] = [PORTS[1], PORTS[2]];
pub const HOST: PortId = PORTS[4];

/// Those whose device completes checksums that are left to it.
pub const COMPLETING: [PortId; 2] = [UPLINKS[1], PODS[1]];

pub const NODE: Ipv4Addr = Ipv4Addr::new(1, 1, 1, 1);
pub const NODE6: Ipv6Addr = Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 1);
/// Where ICMP errors come from that leave inside a tunnel.
pub const NODE_IN_TUNNELS: Ipv4Addr = Ipv4Addr::new(1, 1, 1, 2);
/// The nodes that others' packets come from: the first sends for all nets but those behind plain routes, the second for none.
pub const PEERS: [Ipv4Addr; 2] = [Ipv4Addr::new(2, 2, 2, 2), Ipv4Addr::new(2, 2, 2, 3)];
pub const PEERS6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd02, 0, 0, 0, 0, 0, 0, 2), Ipv6Addr::new(0xfd02, 0, 0, 0, 0, 0, 0, 3)];

pub const VNI: u32 = 4096;
pub const VXLAN_PORT: u16 = 4789;
pub const MAC: [u8; 6] = [4; 6];
pub const NEIGHBOUR: [u8; 6] = [2; 6];
pub const VTEP: [u8; 6] = [6; 6];
pub const VTEP6: [u8; 6] = [0x16; 6];
pub const PEER_VTEP: [u8; 6] = [8; 6];

/// What differs from gateway to gateway.
#[derive(Arbitrary, Clone, Debug)]
pub struct Config {
    /// Of each port's link.
    #[arbitrary(with = mtus)]
    pub mtus: [u16; PORTS.len()],
    #[arbitrary(with = outer)]
    pub vxlan: Outer,
    #[arbitrary(with = outer)]
    pub ipip: Outer,
    pub has_udp_checksum: bool,
    pub takes_zero_checksum: bool,
    #[arbitrary(with = inner_source)]
    pub inner_source: InnerSource,
    pub clamps_mss: bool,
    pub answers_unreachable: bool,
    pub tunnels_from_pods: bool,
    pub has_icmp_source: bool,
    pub has_icmp_source_in_tunnels: bool,
    pub has_entrance: bool,
    pub refuses_host: bool,
    pub is_policed: bool,
}

fn mtus(u: &mut Unstructured<'_>) -> Result<[u16; PORTS.len()]> {
    let mut mtus = [0; PORTS.len()];
    for mtu in &mut mtus {
        *mtu = *u.choose(&[300, 1500, 1280, 1330, 576, 9000, 68])?;
    }
    Ok(mtus)
}

fn outer(u: &mut Unstructured<'_>) -> Result<Outer> {
    Ok(Outer {
        dscp: *u.choose(&[Dscp::Fixed(0), Dscp::Copy, Dscp::Fixed(46)])?,
        ttl: *u.choose(&[Ttl::Fixed(64), Ttl::Inherit, Ttl::Fixed(1)])?,
        dont_fragment: *u.choose(&[DontFragment::Clear, DontFragment::Copy, DontFragment::Set])?,
    })
}

fn inner_source(u: &mut Unstructured<'_>) -> Result<InnerSource> {
    u.choose(&[InnerSource::Strict, InnerSource::Loose, InnerSource::Off]).copied()
}

/// What routes may lead to, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Hop {
    Host,
    FirstPod,
    SecondPod,
    Vxlan,
    Ipip,
    Uplink,
    Blackhole,
    Unresolved,
    /// By the second uplink.
    VxlanOverIpv6,
    SecondUplink,
}

impl Hop {
    pub const ALL: [Self; 10] = [
        Self::Host,
        Self::FirstPod,
        Self::SecondPod,
        Self::Vxlan,
        Self::Ipip,
        Self::Uplink,
        Self::Blackhole,
        Self::Unresolved,
        Self::VxlanOverIpv6,
        Self::SecondUplink,
    ];

    pub fn next_hop(self, config: &Config) -> NextHop {
        let (src, dst) = (NODE, PEERS[0]);
        let (vni, udp_port, inner_dst_mac) = (VNI, VXLAN_PORT, PEER_VTEP);
        let (port, tunnel) = match self {
            Self::Host => return NextHop::Host,
            Self::Blackhole => return NextHop::Blackhole,
            Self::Unresolved => return NextHop::Unresolved,
            Self::FirstPod => (PODS[0], None),
            Self::SecondPod => (PODS[1], None),
            Self::Uplink => (UPLINKS[0], None),
            Self::SecondUplink => (UPLINKS[1], None),
            Self::Ipip => (UPLINKS[0], Some(Tunnel::Ipip { src, dst, outer: config.ipip })),
            Self::Vxlan => {
                let (inner_src_mac, outer) = (VTEP, config.vxlan);
                let tunnel = Tunnel::Vxlan { src, dst, vni, udp_port, inner_src_mac, inner_dst_mac, outer };
                (UPLINKS[0], Some(tunnel))
            }
            Self::VxlanOverIpv6 => {
                let (src, dst, inner_src_mac, outer) = (NODE6, PEERS6[0], VTEP6, config.vxlan);
                let udp_checksum = config.has_udp_checksum;
                let tunnel = Tunnel::Vxlan6 {
                    src,
                    dst,
                    vni,
                    udp_port,
                    inner_src_mac,
                    inner_dst_mac,
                    outer,
                    udp_checksum,
                };
                (UPLINKS[1], Some(tunnel))
            }
        };
        NextHop::Forward { adjacency: config.adjacency(port), tunnel }
    }
}

impl Config {
    pub fn adjacency(&self, port: PortId) -> Adjacency {
        Adjacency { port, dst_mac: NEIGHBOUR, src_mac: MAC, mtu: self.mtus[usize::from(port.0)] }
    }
}

/// What changes while packets flow.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    Route {
        which: u8,
        to: Hop,
    },
    Mtu {
        port: PortId,
        mtu: u16,
    },
    Policy,
    ClampsMss,
    AnswersUnreachable,
    InnerSource(InnerSource),
    /// A port comes or goes.
    Port(PortId),
    /// Everything is judged again.
    Touch,
}

impl<'a> Arbitrary<'a> for Change {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let port = |u: &mut Unstructured<'a>| u.choose(&PORTS).copied();
        Ok(match u.int_in_range(0..=8)? {
            0 | 1 => Self::Route { which: u.arbitrary()?, to: *u.choose(&Hop::ALL)? },
            2 => Self::Mtu { port: port(u)?, mtu: *u.choose(&[300, 1500, 9000, 68])? },
            3 => Self::Policy,
            4 => Self::ClampsMss,
            5 => Self::AnswersUnreachable,
            6 => Self::InnerSource(inner_source(u)?),
            7 => Self::Port(port(u)?),
            _ => Self::Touch,
        })
    }
}

/// A network and where it leads.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    pub network: IpAddr,
    pub length: u8,
    pub hop: Hop,
}

/// What is in force, in plain words and as the packet path has it.
pub struct World {
    pub config: Config,
    pub routes: Vec<Route>,
    pub open: [bool; PORTS.len()],
    pub snapshot: Snapshot,
}

impl World {
    pub fn new(config: Config) -> Self {
        let routes = ends::routes();
        let snapshot = snapshot::of(&config);
        Self { config, routes, open: [true; PORTS.len()], snapshot }
    }

    pub fn is_open(&self, port: PortId) -> bool {
        self.open[usize::from(port.0)]
    }

    /// Puts a changed snapshot in force, as control does.
    pub fn change(&mut self, change: Change) {
        let mut next = self.snapshot.clone();
        next.succeed(&self.snapshot);
        match change {
            Change::Route { which, to } => {
                let which = usize::from(which) % self.routes.len();
                let Route { network, length, ref mut hop } = self.routes[which];
                *hop = to;
                next.fib.insert(network, length, NextHopId(to as u32));
            }
            Change::Mtu { port, mtu } => self.config.mtus[usize::from(port.0)] = mtu,
            Change::Policy => self.config.is_policed ^= true,
            Change::ClampsMss => self.config.clamps_mss ^= true,
            Change::AnswersUnreachable => self.config.answers_unreachable ^= true,
            Change::InnerSource(check) => self.config.inner_source = check,
            Change::Port(port) => self.open[usize::from(port.0)] ^= true,
            Change::Touch => {
                let addresses = End::all().flat_map(|end| [false, true].map(|is_ipv6| end.address(is_ipv6)));
                addresses.for_each(|address| next.epochs.touch(address));
            }
        }
        snapshot::follow(&mut next, &self.config, &self.open);
        self.snapshot = next;
    }

    /// The addresses of a pod's port.
    pub fn addresses(&self, port: PortId) -> Vec<IpAddr> {
        snapshot::addresses(port)
    }

    /// Whether packets from there come in tunnels, and the first peer sends them.
    pub fn is_behind_tunnels(&self, src: IpAddr) -> bool {
        ends::homes().any(|home| ends::prefix(src, home.length) == Some(home.network))
    }

    /// Whether packets may enter the node's own kernel.
    pub fn has_entrance(&self) -> bool {
        self.config.has_entrance && !self.config.refuses_host
    }

    /// Where packets to there are to go.
    pub fn next_hop(&self, dst: IpAddr) -> Option<NextHop> {
        let holds = |route: &&Route| ends::prefix(dst, route.length) == Some(route.network);
        let longest = self.routes.iter().filter(holds).max_by_key(|route| route.length)?;
        Some(longest.hop.next_hop(&self.config))
    }
}
