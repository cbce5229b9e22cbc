//! Offloads of uplinks that go badly with packets in user space.

use super::{At, Facts, Finding};

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for uplink in &facts.config.uplink {
        let Some(Some(device)) = facts.uplinks.get(&uplink.device) else { continue };
        let (name, before) = (&uplink.device, findings.len());
        let at = At { check: "offloads", place: name };
        if device.lro == Some(true) {
            findings.push(at.error(
                "large receive offload is on",
                "the driver puts packets together that others are to get apart, and refuses XDP in native mode",
                format!("ethtool -K {name} lro off"),
            ));
        }
        if device.rx_vlan == Some(true) && device.driver != "veth" {
            findings.push(at.note(
                "VLAN tags are taken off received frames",
                "frames of VLANs would pass for untagged; Margay turns this off when it opens the port",
                format!("ethtool -K {name} rxvlan off"),
            ));
        }
        if findings.len() == before {
            findings.push(at.ok("nothing that is in the way"));
        }
    }
    findings
}
