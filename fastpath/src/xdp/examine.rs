//! What a device says of itself to who looks whether it will do as a port. Nothing is changed.

use std::io;

use libbpf_rs::libbpf_sys;
use libbpf_rs::query::ProgInfoIter;

use super::device::{Device, ask, control, request};
use super::program::{PROGRAM, UNSTEERED};
use super::{Mode, SetupError};

const ETHTOOL_GGRO: u32 = 0x2b;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_GRXFH: u32 = 0x29;
/// `ETH_FLAG_LRO` and `ETH_FLAG_RXVLAN`.
const LRO: u32 = 1 << 15;
const RX_VLAN: u32 = 1 << 8;
/// `UDP_V4_FLOW`.
const UDP4: u32 = 0x02;
/// `RXH_L4_B_0_1` and `RXH_L4_B_2_3`: the ports.
const PORTS: u64 = 1 << 6 | 1 << 7;

/// `struct ethtool_value` (include/uapi/linux/ethtool.h).
#[repr(C)]
struct Value {
    cmd: u32,
    data: u32,
}

/// `struct ethtool_rxnfc`, of which the rest is rules that are not asked for.
#[repr(C)]
struct Hash {
    cmd: u32,
    flow_type: u32,
    data: u64,
    rest: [u8; 176],
}

/// An XDP program on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    pub mode: Mode,
    pub id: u32,
    /// `None` where the kernel does not tell us its name, which takes `CAP_SYS_ADMIN`.
    pub name: Option<String>,
}

impl Attached {
    /// Whether it has the name of Margay's.
    pub fn is_ours(&self) -> bool {
        self.name.as_deref().is_some_and(|name| [PROGRAM, UNSTEERED].contains(&name))
    }
}

/// A device, as far as a port depends on it. What the driver does not say is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    pub driver: String,
    pub mtu: u32,
    pub queues: u32,
    pub gro: Option<bool>,
    pub lro: Option<bool>,
    /// Whether it takes VLAN tags off frames.
    pub rx_vlan: Option<bool>,
    /// Whether the ports of UDP over IPv4 choose the queue.
    pub hashes_ports: Option<bool>,
    pub program: Option<Attached>,
}

/// Looks at the device of this index in the network namespace of the thread.
pub fn examine(ifindex: u32) -> Result<Examined, SetupError> {
    let device = Device::read(ifindex)?;
    let value = |command| value(&device.name, command).ok();
    let flags = value(ETHTOOL_GFLAGS);
    Ok(Examined {
        driver: device.driver().to_owned(),
        mtu: device.mtu,
        queues: device.queues,
        gro: value(ETHTOOL_GGRO).map(|on| on != 0),
        lro: flags.map(|flags| flags & LRO != 0),
        rx_vlan: flags.map(|flags| flags & RX_VLAN != 0),
        hashes_ports: hash(&device.name).ok().map(|fields| fields & PORTS == PORTS),
        program: attached(ifindex),
    })
}

fn attached(ifindex: u32) -> Option<Attached> {
    let mut info = libbpf_sys::bpf_xdp_query_opts {
        sz: size_of::<libbpf_sys::bpf_xdp_query_opts>() as libbpf_sys::size_t,
        ..Default::default()
    };
    // SAFETY: `info` is live, and as long as it says.
    let result = unsafe { libbpf_sys::bpf_xdp_query(ifindex.cast_signed(), 0, &raw mut info) };
    let by_mode =
        [(Mode::Native, info.drv_prog_id), (Mode::Skb, info.skb_prog_id), (Mode::Offloaded, info.hw_prog_id)];
    let (mode, id) = by_mode.into_iter().find(|&(_, id)| result == 0 && id != 0)?;
    let program = ProgInfoIter::default().find(|program| program.id == id);
    Some(Attached { mode, id, name: program.map(|program| program.name.to_string_lossy().into_owned()) })
}

fn value(name: &str, cmd: u32) -> io::Result<u32> {
    let mut value = Value { cmd, data: 0 };
    let fd = control()?;
    let mut request = request(name);
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: these commands read and write one `Value` at `ifru_data`, which lives until after the call.
    unsafe { ask(&fd, libc::SIOCETHTOOL, &mut request) }.map(|()| value.data)
}

/// Fields by which UDP over IPv4 is spread over the queues.
fn hash(name: &str) -> io::Result<u64> {
    let mut hash = Hash { cmd: ETHTOOL_GRXFH, flow_type: UDP4, data: 0, rest: [0; 176] };
    let fd = control()?;
    let mut request = request(name);
    request.ifr_ifru.ifru_data = (&raw mut hash).cast();
    // SAFETY: ETHTOOL_GRXFH reads and writes one `Hash` at `ifru_data`, which lives until after the call.
    unsafe { ask(&fd, libc::SIOCETHTOOL, &mut request) }.map(|()| hash.data)
}
