//! The kernel's links, addresses, routes and neighbours in our network namespace, as netlink reports them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    /// By interface index.
    pub links: BTreeMap<u32, Link>,
    /// (interface index, address with prefix length).
    pub addresses: Vec<(u32, IpNet)>,
    /// Unicast routes of the main table that name a device.
    pub routes: Vec<Route>,
    pub neighbours: BTreeMap<(u32, IpAddr), Neighbour>,
    /// By interface index: what may be sent there, where the MTU of the link would allow longer packets.
    pub limits: BTreeMap<u32, u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub name: String,
    pub mac: [u8; 6],
    pub mtu: u32,
    /// Administratively up with carrier.
    pub up: bool,
    /// RX queues (`IFLA_NUM_RX_QUEUES`) and TX queues.
    pub rx_queues: u32,
    pub tx_queues: u32,
    /// Of the kernel's interface of a VLAN.
    pub vlan: Option<Vlan>,
}

/// One 802.1Q tag on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// Interface index of the device whose frames have the tag.
    pub device: u32,
    pub id: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub dst: IpNet,
    /// Next hop; `None`: the destination is on the link.
    pub gateway: Option<IpAddr>,
    pub ifindex: u32,
    pub metric: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    pub mac: [u8; 6],
    /// The kernel considers the address usable (REACHABLE, STALE, DELAY, PROBE, PERMANENT, NOARP).
    pub usable: bool,
}
