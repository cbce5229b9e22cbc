//! What is asked of the kernel for a port, and what is said where it cannot be.

use margay_fastpath::steer::Kind;
use margay_fastpath::xdp::{self, ModeChoice, PortSpec, RingSizes, Tags, Vlan};
use margay_flowtable::PortId;

use crate::config::{self, OnFailure, TxChecksum, XdpMode, ZeroCopy};
use crate::run::wanted::{Tagged, Wanted};

/// Whether what is open will do, or the port has to be opened anew.
pub(super) fn is_same_port(wanted: &Wanted, open: &Wanted) -> bool {
    let tag = |port: &Wanted| port.vlan.as_ref().map(|vlan| vlan.id);
    wanted.kind == open.kind && tag(wanted) == tag(open)
}

pub(super) fn fate(on_failure: OnFailure) -> xdp::OnFailure {
    match on_failure {
        OnFailure::Pass => xdp::OnFailure::Pass,
        OnFailure::Drop => xdp::OnFailure::Drop,
    }
}

/// Why a port on a VLAN cannot be opened yet.
pub(super) fn without_interface(Wanted { device, vlan, .. }: &Wanted) -> String {
    match vlan {
        Some(Tagged { id, name: Some(name), .. }) => {
            format!(
                "VLAN {id} of {device} is to have its addresses on {name}, and there is no such interface"
            )
        }
        Some(Tagged { id, .. }) => format!(
            "the kernel has no interface of VLAN {id} on {device}, where the port's addresses and routes are to be: \
             `ip link add link {device} name {device}.{id} type vlan id {id}` makes one"
        ),
        None => format!("{device} is gone"),
    }
}

/// Says what goes to the kernel, or to the wrong network, where tags are not in the frames.
pub(super) fn warn_of_hidden_tags(wanted: &Wanted, tags: Option<Tags>) {
    let (port, device) = (&wanted.name, &wanted.device);
    match (&wanted.vlan, tags) {
        (Some(Tagged { id, .. }), Some(Tags::AsPeerLeaves)) => tracing::warn!(
            port,
            device,
            "what reaches this veth with the tag of VLAN {id} beside the frame goes to the kernel: its other end needs \
             `ethtool -K PEER tx-vlan-offload off`"
        ),
        (Some(Tagged { id, .. }), Some(Tags::TakenOff)) => tracing::warn!(
            port,
            device,
            "the device takes tags off and cannot be told not to (rx-vlan-offload): VLAN {id} goes to the kernel"
        ),
        (None, Some(Tags::TakenOff)) => tracing::warn!(
            port,
            device,
            "the device takes tags off and cannot be told not to (rx-vlan-offload): frames of VLANs pass for untagged"
        ),
        _ => {}
    }
}

pub(super) fn spec(
    id: PortId,
    ifindex: u32,
    wanted: &Wanted,
    mac: [u8; 6],
    config: &config::Xdp,
) -> PortSpec {
    PortSpec {
        id,
        ifindex,
        kind: wanted.kind,
        vlan: wanted.vlan.as_ref().map(|vlan| Vlan { id: vlan.id, mac }),
        on_failure: fate(wanted.on_failure),
        mode: match config.mode {
            XdpMode::Auto => ModeChoice::Best,
            XdpMode::Native => ModeChoice::Native,
            XdpMode::Skb => ModeChoice::Skb,
        },
        zero_copy: config.zero_copy == ZeroCopy::Auto,
        tx_checksum: config.tx_checksum == TxChecksum::Auto,
        rings: rings(config, wanted),
    }
}

pub(super) fn rings(config: &config::Xdp, wanted: &Wanted) -> RingSizes {
    let (rx, tx) = match wanted.kind {
        Kind::Uplink => (config.uplink_rx, config.uplink_tx),
        Kind::Pod => (config.pod_rx, config.pod_tx),
        // Nothing is received there, and every pod sends there.
        Kind::Host => (1, config.uplink_tx),
    };
    RingSizes { fill: rx, rx, tx, completion: tx }
}
