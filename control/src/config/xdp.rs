//! `[umem]` and `[xdp]`: the memory of packets, and how ports are opened.

use serde::Deserialize;

use super::read;

/// `[umem]`: the packet memory that every port shares, on huge pages where there are any.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Umem {
    /// Bytes of a frame: 2048 or 4096. A frame holds a packet of 256 bytes less, Ethernet header included; a longer one is
    /// copied into a large buffer. The largest MTU is 32,750 with 2048 and 65,518 with 4096.
    #[serde(deserialize_with = "read::frame_size")]
    pub frame_size: u32,
    /// Number of frames. Default: 65,536 (128 MiB at 2048 bytes). Beside them lie large buffers of 72 KiB: one for 64 frames,
    /// 128 (9 MiB) at most.
    #[serde(deserialize_with = "read::positive")]
    pub frames: u32,
}

impl Default for Umem {
    fn default() -> Self {
        Self { frame_size: 2048, frames: 1 << 16 }
    }
}

/// `[xdp]`: how ports are opened.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Xdp {
    pub mode: XdpMode,
    pub zero_copy: ZeroCopy,
    pub tx_checksum: TxChecksum,
    /// Descriptors of each FILL and RX ring of an uplink, a power of two: as many packets wait there while Margay
    /// restarts. Default 8192.
    #[serde(deserialize_with = "read::ring")]
    pub uplink_rx: u32,
    /// Descriptors of each TX and COMPLETION ring of an uplink, a power of two. Default 2048.
    #[serde(deserialize_with = "read::ring")]
    pub uplink_tx: u32,
    /// As `uplink_rx`, of a pod's port. Default 512.
    #[serde(deserialize_with = "read::ring")]
    pub pod_rx: u32,
    /// As `uplink_tx`, of a pod's port. Default 512.
    #[serde(deserialize_with = "read::ring")]
    pub pod_tx: u32,
}

impl Default for Xdp {
    fn default() -> Self {
        Self {
            mode: XdpMode::default(),
            zero_copy: ZeroCopy::default(),
            tx_checksum: TxChecksum::default(),
            uplink_rx: 8192,
            uplink_tx: 2048,
            pod_rx: 512,
            pod_tx: 512,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// Native, else skb.
    #[default]
    Auto,
    /// In the driver, or not at all.
    Native,
    /// In the kernel's generic path. Packets that pods leave to their device to cut come whole there, and are cut here: of UDP from Linux 6.2 on.
    Skb,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ZeroCopy {
    /// Where every port can.
    #[default]
    Auto,
    Off,
}

/// Who completes a checksum that a local sender has left to its device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TxChecksum {
    /// Whoever needs it, where the packet leaves by a veth (Linux 6.11), in no tunnel or in VXLAN over IPv4; a NIC in zero-copy
    /// mode whose driver takes it, where in no tunnel; else a worker.
    /// A capture on the way shows the sum incomplete, as it does between pods that the kernel connects.
    #[default]
    Auto,
    /// A worker.
    Off,
}
