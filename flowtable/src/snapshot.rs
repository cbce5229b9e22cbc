//! The immutable state that workers read: one `Snapshot` is whole and consistent; a change is a new one.

mod epochs;
mod way_out;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hashbrown::HashSet;
use margay_encap::pull::ZeroChecksum;

pub use self::epochs::Epochs;
pub use self::way_out::WayOut;
use crate::{Fib, InnerSources, NextHops, Policies, PortId, Rewrite, TrailEra};

/// Everything that decides what becomes of a packet, as of one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Number of this snapshot: set by [`Snapshot::succeed`], compared by flows as serial numbers (RFC 1982).
    pub generation: u32,
    pub fib: Fib,
    /// What [`NextHopId`](crate::NextHopId)s of `fib` mean.
    pub next_hops: NextHops,
    pub policies: Policies,
    /// Ports by [`PortId`]; `None` where no port has that number now.
    pub ports: Vec<Option<PortState>>,
    pub local: Local,
    pub entrance: Entrance,
    /// Underlay addresses of the nodes that may send us tunnel packets.
    pub tunnel_sources: HashSet<IpAddr>,
    /// And from which addresses each may send what is inside.
    pub inner_sources: InnerSources,
    pub epochs: Epochs,
    /// Where flows that this snapshot judges have their trails: [`Snapshot::begin_trails`].
    pub trails: TrailEra,
}

/// The addresses and numbers of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Addresses of this node that tunnel packets may be sent to.
    pub tunnel_ends: Vec<IpAddr>,
    /// Every other address of this node: what goes there is the kernel's.
    pub addresses: HashSet<IpAddr>,
    /// Addresses of the pods of this node: packets from them come in by the pods' ports alone.
    pub pods: HashSet<IpAddr>,
    /// Source of ICMP errors that we send.
    pub icmp_source: Option<Ipv4Addr>,
    /// The same of `ICMPv6` errors.
    pub icmp6_source: Option<Ipv6Addr>,
    /// Source of those that leave inside a tunnel, where our end of it has an address of its own.
    pub icmp_source_in_ipip: Option<Ipv4Addr>,
    pub icmp_source_in_vxlan: Option<Ipv4Addr>,
    /// Whether packets without a route are answered.
    pub answers_unreachable: bool,
    /// Whether the MSS of TCP is lowered to what the ways there and back take.
    pub clamps_mss: bool,
    /// Whether pods may send tunnel packets to other nodes.
    pub tunnels_from_pods: bool,
    pub vni: u32,
    pub vxlan_port: u16,
    /// Of our VTEP over IPv4, and of that over IPv6.
    pub vtep_mac: [u8; 6],
    pub vtep_mac6: [u8; 6],
    /// What becomes of tunnel packets over IPv6 without a UDP checksum.
    pub zero_checksum6: ZeroChecksum,
}

impl Default for Local {
    fn default() -> Self {
        Self {
            tunnel_ends: Vec::new(),
            addresses: HashSet::new(),
            pods: HashSet::new(),
            icmp_source: None,
            icmp6_source: None,
            icmp_source_in_ipip: None,
            icmp_source_in_vxlan: None,
            answers_unreachable: false,
            clamps_mss: false,
            tunnels_from_pods: false,
            vni: 4096,
            vxlan_port: 4789,
            vtep_mac: [0; 6],
            vtep_mac6: [0; 6],
            zero_checksum6: ZeroChecksum::Refused,
        }
    }
}

/// How packets of this node's pods to the node itself reach its kernel, where policy lets them.
#[derive(Clone, Debug, Default)]
pub enum Entrance {
    /// Not at all: there is no port for them.
    #[default]
    None,
    /// Not at all: so it is configured.
    Closed,
    /// By a port whose other end is the kernel's.
    Open(Rewrite),
}

/// What a worker must know of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortState {
    pub name: Arc<str>,
    pub kind: PortKind,
    pub mac: [u8; 6],
    pub mtu: u16,
    pub takes_checksums: Checksums,
}

/// Which checksums frames may leave to a port (`Frame::csum_start`); of those, also what comes before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Checksums {
    #[default]
    None,
    /// Of packets in no tunnel: the device looks for the header itself, and takes the first.
    Outermost,
    /// Wherever they are.
    Any,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortKind {
    /// Toward other nodes.
    Uplink,
    /// Toward one pod, which sends only from these addresses.
    Pod { addresses: Vec<IpAddr> },
}

impl Snapshot {
    pub fn port(&self, id: PortId) -> Option<&PortState> {
        self.ports.get(usize::from(id.0))?.as_ref()
    }

    /// Makes this snapshot the successor of `previous`: takes the next generation, and what was touched up to now. What
    /// the change itself touches is for who made it to say: [`Epochs::touch`].
    pub fn succeed(&mut self, previous: &Self) {
        self.generation = previous.generation.wrapping_add(1);
        self.epochs = previous.epochs.succeed(self.generation);
        self.trails = previous.trails;
    }

    /// Has the next era of trails begin with this snapshot, for which room has been made.
    pub fn begin_trails(&mut self) {
        self.trails = self.trails.next(self.generation);
    }
}
