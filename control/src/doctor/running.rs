//! What a gateway that runs says of itself.

use super::{At, Facts, Finding, GATEWAY};
use crate::admin::{PortState, Status};

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let at = At { check: "gateway", place: GATEWAY };
    let Some(status) = &facts.status else {
        return vec![at.ok("none answers: this is what a start would find")];
    };
    let mut findings = vec![if status.ready {
        at.ok("ready")
    } else {
        at.error(
            "it is not ready",
            "packets are not forwarded as its source says",
            "see the findings below, and `margay status`",
        )
    }];
    findings.extend(ports(status));
    findings.extend(workers(status));
    findings.extend(memory(status));
    findings
}

fn ports(status: &Status) -> Vec<Finding> {
    let mut findings = Vec::new();
    for port in &status.ports {
        let at = At { check: "port", place: &port.name };
        if let (PortState::Failed, Some(error)) = (port.state, &port.error) {
            findings.push(at.error(
                error.as_str(),
                "it is tried again every five seconds; its packets go to the kernel, or are dropped, by on_failure",
                "the error says how; see the other findings about the device",
            ));
        }
        let traffic = port.traffic.clone().unwrap_or_default();
        if traffic.tx_lost * 1000 > traffic.tx.max(1000) {
            findings.push(at.warning(
                format!("{} of {} frames were lost on their way out", traffic.tx_lost, traffic.tx),
                "the ring of the port, or the way to the worker that has it, was full",
                "larger xdp.uplink_tx or xdp.pod_tx, or more queues and workers",
            ));
        }
        if port.mode.as_deref() == Some("skb") && port.pod.is_none() {
            findings.push(at.note(
                "the uplink is in skb mode",
                "the kernel makes an skb of each packet before Margay sees it, at about half the rate",
                "a driver with native XDP, or see why native mode is refused with xdp.mode = \"native\"",
            ));
        }
    }
    findings
}

fn workers(status: &Status) -> Vec<Finding> {
    let starved = status.workers.iter().filter(|worker| worker.starved > 0);
    let finding = |worker: &crate::admin::Worker| {
        At { check: "worker", place: GATEWAY }.warning(
            format!("worker {} got no processor for 800 ms, {} times", worker.index, worker.starved),
            "others use its core, and packets wait meanwhile",
            format!(
                "keep others off core {}: isolcpus=, AllowedCPUs=, or another core in workers.cores",
                worker.core
            ),
        )
    };
    starved.map(finding).collect()
}

fn memory(status: &Status) -> Vec<Finding> {
    let (table, umem) = (&status.flow_table, &status.umem);
    let mut findings = Vec::new();
    if table.connections * 10 > table.capacity * 9 {
        findings.push(At { check: "flow table", place: GATEWAY }.warning(
            format!("{} of {} connections", table.connections, table.capacity),
            "new connections take the place of such that are not assured, or are refused",
            "a larger flow_table.connections, or shorter times in [conntrack]",
        ));
    }
    if !umem.huge_pages {
        findings.push(At { check: "huge pages", place: GATEWAY }.note(
            "packet memory is not on huge pages",
            "more misses of the TLB",
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled, and start Margay anew",
        ));
    }
    findings
}
