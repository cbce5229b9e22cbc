//! Whether devices are there, up, and of an MTU that a port can have.

use super::{At, Device, Facts, Finding};

/// Linux from which on a packet may lie in several chunks.
const WITH_SEVERAL_CHUNKS: (u32, u32) = (6, 6);

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for uplink in &facts.config.uplink {
        let at = At { check: "link", place: &uplink.device };
        match facts.uplinks.get(&uplink.device) {
            Some(Some(device)) if !device.up => findings.push(at.error(
                "the device is down, or has no carrier",
                "its port waits until it is up, and the gateway is not ready until then",
                format!("ip link set dev {} up", uplink.device),
            )),
            Some(Some(_)) => {}
            _ => findings.push(at.error(
                "there is no such device in this network namespace",
                "its port waits for it, and the gateway is not ready until then",
                "name the device in [[uplink]] as `ip link` does, and run Margay where it is",
            )),
        }
    }
    findings.extend(facts.devices().map(|(name, device)| mtu(facts, name, device)));
    findings
}

fn mtu(facts: &Facts, name: &str, device: &Device) -> Finding {
    let at = At { check: "mtu", place: name };
    let [largest, in_one] = facts.largest_mtus();
    if device.mtu > largest {
        return at.error(
            format!("the MTU {} is more than the {largest} of a port", device.mtu),
            "the port is not opened: longer frames have no place in packet memory",
            format!("ip link set dev {name} mtu {largest}, or umem.frame_size = 4096"),
        );
    }
    if device.mtu > in_one && facts.version < WITH_SEVERAL_CHUNKS {
        return at.error(
            format!("the MTU {} is more than the {in_one} that Linux {} takes", device.mtu, facts.release),
            "the port is not opened: before Linux 6.6 a packet of AF_XDP lies in one chunk",
            format!("ip link set dev {name} mtu {in_one}, umem.frame_size = 4096, or Linux 6.6"),
        );
    }
    at.ok(format!("MTU {}", device.mtu))
}
