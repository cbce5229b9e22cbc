//! What a port is to be: on which device, of which kind, in which mode.

use std::fmt;

use margay_flowtable::PortId;

use super::RingSizes;
use crate::steer::Kind;

/// What becomes of Margay's packets while no socket takes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// To the kernel.
    #[default]
    Pass,
    Drop,
}

/// Where in the receive path of a device the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver, before there is an skb.
    Native,
    /// After the driver, on the skb, with any device.
    Skb,
    /// On the NIC. Margay's own never does.
    Offloaded,
}

impl Mode {
    /// What `ip link set dev DEVICE` calls it.
    pub fn ip_word(self) -> &'static str {
        match self {
            Self::Native => "xdpdrv",
            Self::Skb => "xdpgeneric",
            Self::Offloaded => "xdpoffload",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Skb => "skb",
            Self::Offloaded => "offloaded",
        })
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ModeChoice {
    /// Native, and skb where the driver has no native mode.
    #[default]
    Best,
    Native,
    Skb,
}

impl ModeChoice {
    pub(super) fn modes(self) -> &'static [Mode] {
        match self {
            Self::Best => &[Mode::Native, Mode::Skb],
            Self::Native => &[Mode::Native],
            Self::Skb => &[Mode::Skb],
        }
    }
}

/// The VLAN that a port is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlan {
    pub id: u16,
    /// The address that frames come to: its interface may have another than the device below.
    pub mac: [u8; 6],
}

/// A port to open.
#[derive(Clone, Debug)]
pub struct PortSpec {
    pub id: PortId,
    pub ifindex: u32,
    pub kind: Kind,
    /// The VLAN whose frames are the port's; `None`: untagged ones are.
    pub vlan: Option<Vlan>,
    pub on_failure: OnFailure,
    pub mode: ModeChoice,
    /// Whether to have zero-copy mode where the driver has it.
    pub zero_copy: bool,
    /// Whether to have frames leave checksums to it where that can be.
    pub tx_checksum: bool,
    /// Of each queue.
    pub rings: RingSizes,
}

impl PortSpec {
    /// A port with the usual rings: an uplink's FILL ring holds what arrives while Margay restarts.
    pub fn new(id: PortId, ifindex: u32, kind: Kind) -> Self {
        let rings = match kind {
            Kind::Uplink => RingSizes { fill: 8192, rx: 8192, tx: 2048, completion: 2048 },
            Kind::Pod => RingSizes { fill: 512, rx: 512, tx: 512, completion: 512 },
            // Nothing is received there.
            Kind::Host => RingSizes { fill: 1, rx: 1, tx: 2048, completion: 2048 },
        };
        let (on_failure, mode) = (OnFailure::default(), ModeChoice::default());
        Self { id, ifindex, kind, vlan: None, on_failure, mode, zero_copy: true, tx_checksum: true, rings }
    }
}
