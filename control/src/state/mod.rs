//! The state of the world as sources and the kernel report it: what `compile` reads, and nothing else.
//!
//! Each type keeps the fields that the compiler reads, in the compiler's terms; external formats end in `manifest`.

mod change;
mod cluster;
mod kernel;
pub mod policy;

pub use change::{Change, Edit};
pub use cluster::{
    BlockAffinity, Cluster, EndpointSlice, Family, FelixConfiguration, IpPool, IpamBlock, Labels, Name,
    Namespace, Node, Pod, PodPort, Protocol, Service, ServiceAccount, ServicePort, SliceEndpoint, TunnelMode,
};
pub use kernel::{Kernel, Link, Neighbour, Route, Vlan};

use margay_flowtable::{Checksums, PortId};

/// Everything that `compile` reads.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub cluster: Cluster,
    pub kernel: Kernel,
    /// Ports that are open, with the kernel's link behind each.
    pub ports: Vec<PortBinding>,
}

/// A port that is open and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortBinding {
    pub id: PortId,
    /// Name shown to people: the device, or `NS/POD` in a replay.
    pub name: String,
    /// Index of the link in `Kernel::links`.
    pub ifindex: u32,
    /// The pod at the other end; `None` for an uplink.
    pub pod: Option<Name>,
    pub takes_checksums: Checksums,
}
