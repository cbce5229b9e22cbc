//! Whether the queues of devices suit the workers, and tunnels are spread over them.

use super::{At, Device, Facts, Finding};

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let uplinks = facts.uplinks.iter().filter_map(|(name, device)| Some((name, device.as_ref()?)));
    let mut findings: Vec<Finding> =
        uplinks.flat_map(|(name, device)| [queues(facts, name, device), rss(name, device)]).collect();
    findings.push(fill(facts));
    findings
}

fn queues(facts: &Facts, name: &str, device: &Device) -> Finding {
    let at = At { check: "queues", place: name };
    let (queues, workers) = (device.queues as usize, facts.workers());
    if queues < workers {
        return at.note(
            format!("{queues} queues for {workers} workers"),
            "a worker without a queue receives nothing there, and hands what it sends to another",
            format!("ethtool -L {name} combined {workers}"),
        );
    }
    if !queues.is_multiple_of(workers) {
        return at.note(
            format!("{queues} queues for {workers} workers"),
            "some workers have a queue more than others",
            format!("ethtool -L {name} combined {}", queues - queues % workers),
        );
    }
    at.ok(format!("{queues} queues, {workers} workers"))
}

fn rss(name: &str, device: &Device) -> Finding {
    let at = At { check: "rss", place: name };
    match device.hashes_ports {
        Some(false) if device.queues > 1 => at.warning(
            "UDP is spread over the queues by addresses alone",
            "all VXLAN packets of one node come to one queue, and so to one worker",
            format!("ethtool -N {name} rx-flow-hash udp4 sdfn"),
        ),
        Some(true) => at.ok("UDP is spread over the queues by its ports"),
        _ => at.ok("the driver says nothing of how it spreads packets, or has one queue"),
    }
}

/// Whether the frames are enough for the FILL rings of all ports.
fn fill(facts: &Facts) -> Finding {
    let at = At { check: "umem", place: super::MACHINE };
    let config = &facts.config;
    let of = |devices: u64, ring: u32| devices * u64::from(ring);
    let count = |device: &Device| u64::from(device.queues);
    let uplinks = facts.uplinks.values().flatten().map(count).sum();
    let pods = facts.pods.values().map(count).sum();
    let needed = of(uplinks, config.xdp.uplink_rx) + of(pods, config.xdp.pod_rx);
    if needed > u64::from(config.umem.frames) {
        return at.error(
            format!(
                "the FILL rings of all ports would hold {needed} frames, and the UMEM has {}",
                config.umem.frames
            ),
            "ports that come last are not opened",
            format!(
                "umem.frames = {}, or smaller xdp.uplink_rx and xdp.pod_rx",
                needed.next_power_of_two() * 2
            ),
        );
    }
    at.ok(format!("{} frames, of which FILL rings hold {needed}", config.umem.frames))
}
