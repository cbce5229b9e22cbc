//! VLAN tags that a device takes off received frames before the XDP program sees them: such a frame looks untagged. A
//! NIC does where its `rx-vlan-offload` is on, and stops when that is turned off. On a veth the sender's
//! `tx-vlan-offload` decides, at the other end: the tag travels beside the frame. (A program could ask for it by
//! `bpf_xdp_metadata_rx_vlan_tag`, which the kernel grants to GPL programs alone, and in native mode.)

use std::os::fd::OwnedFd;

use super::device::{Device, ask, control, request};

const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_SFLAGS: u32 = 0x26;
/// `ETH_FLAG_RXVLAN`, the name of `rx-vlan-offload` here.
const RX_VLAN: u32 = 1 << 8;

/// `struct ethtool_value` (include/uapi/linux/ethtool.h).
#[repr(C)]
struct Value {
    cmd: u32,
    data: u32,
}

/// Where the tags of received frames are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tags {
    /// In the frames.
    InFrames,
    /// Where the other end of a veth leaves them.
    AsPeerLeaves,
    /// Nowhere: the device takes them off, and cannot be told not to.
    TakenOff,
}

/// Has the device leave tags in the frames. Says besides whether it took them off before.
pub(super) fn leave_in_frames(device: &Device) -> (Tags, bool) {
    let Ok(fd) = control() else {
        return (Tags::TakenOff, false);
    };
    // A device that knows no such flags has nothing that takes tags off.
    let flags = |fd| value(fd, &device.name, ETHTOOL_GFLAGS, 0).unwrap_or_default();
    let before = flags(&fd);
    if before & RX_VLAN != 0 {
        // Whether it did is seen in the flags.
        let _ = value(&fd, &device.name, ETHTOOL_SFLAGS, before & !RX_VLAN);
    }
    let after = flags(&fd);
    let tags = if device.is_veth() {
        Tags::AsPeerLeaves
    } else if after & RX_VLAN != 0 {
        Tags::TakenOff
    } else {
        Tags::InFrames
    };
    (tags, before & !after & RX_VLAN != 0)
}

/// Has it take them off as before. Where the device is gone there is nothing to do.
pub(super) fn take_off(device: &str) {
    let Ok(fd) = control() else { return };
    if let Ok(before) = value(&fd, device, ETHTOOL_GFLAGS, 0) {
        let _ = value(&fd, device, ETHTOOL_SFLAGS, before | RX_VLAN);
    }
}

fn value(fd: &OwnedFd, name: &str, cmd: u32, data: u32) -> std::io::Result<u32> {
    let mut value = Value { cmd, data };
    let mut request = request(name);
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: these commands read and write one `Value` at `ifru_data`, which lives until after the call.
    unsafe { ask(fd, libc::SIOCETHTOOL, &mut request) }.map(|()| value.data)
}
