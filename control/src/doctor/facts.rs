//! What the checks are about: plain data, read once.

use std::collections::{BTreeMap, BTreeSet};

use margay_fastpath::Layout;
use margay_fastpath::xdp::largest_mtus;

use crate::admin::Status;
use crate::config::{self, Config};

#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub config: Config,
    /// As `uname -r` says, and its first two numbers.
    pub release: String,
    pub version: (u32, u32),
    /// `/sys/kernel/btf/vmlinux`.
    pub has_btf: bool,
    /// Whether a socket of `AF_XDP` can be made: the error where it cannot.
    pub xdp_socket: Option<String>,
    pub capabilities: BTreeSet<String>,
    pub locked: Locked,
    pub huge_pages: HugePages,
    /// Whether a bpffs is mounted at /sys/fs/bpf.
    pub has_bpffs: bool,
    /// Cores that this process may use.
    pub cores: Vec<usize>,
    /// Uplinks by device name, as they are; `None`: there is no such device.
    pub uplinks: BTreeMap<String, Option<Device>>,
    /// Devices of pods.
    pub pods: BTreeMap<String, Device>,
    /// What the gateway says that runs; `None` where none answers.
    pub status: Option<Status>,
}

/// The limit of locked memory of this process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Locked {
    #[default]
    Unlimited,
    Bytes(u64),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HugePages {
    /// The word in brackets of `transparent_hugepage/enabled`; empty where the kernel has none.
    pub transparent: String,
    /// Free ones of 2 MiB.
    pub free: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    pub up: bool,
    pub driver: String,
    pub mtu: u32,
    pub queues: u32,
    pub gro: Option<bool>,
    pub lro: Option<bool>,
    pub rx_vlan: Option<bool>,
    /// Whether UDP ports choose the receiving queue.
    pub hashes_ports: Option<bool>,
    pub program: Option<Program>,
    /// Of a veth.
    pub peer: Option<Peer>,
}

/// An XDP program on a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    pub id: u32,
    /// `None` where the kernel does not tell us.
    pub name: Option<String>,
    pub is_ours: bool,
    /// `ip link set dev DEVICE` calls it so.
    pub ip_word: String,
}

/// The other end of a veth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// In another network namespace, where it is not looked at.
    Elsewhere,
    Here {
        name: String,
        gro: Option<bool>,
        has_program: bool,
    },
}

impl Facts {
    /// Uplinks that are there, and devices of pods.
    pub(super) fn devices(&self) -> impl Iterator<Item = (&str, &Device)> {
        let uplinks =
            self.uplinks.iter().filter_map(|(name, device)| Some((name.as_str(), device.as_ref()?)));
        uplinks.chain(self.pods.iter().map(|(name, device)| (name.as_str(), device)))
    }

    /// The largest MTU that a port can have, and the same where a packet has to lie in one chunk.
    pub(super) fn largest_mtus(&self) -> [u32; 2] {
        let config::Umem { frame_size, frames } = self.config.umem;
        largest_mtus(Layout { chunk_size: frame_size, chunks: frames })
    }

    pub(super) fn workers(&self) -> usize {
        self.config.workers.cores.len().max(1)
    }
}
