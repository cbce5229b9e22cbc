//! The flows of Open vSwitch's bridges, and what its programs say of their counters.

use std::fmt::Write as _;

use crate::lab::case::{Case, Job};
use crate::lab::dataplane::cluster::{self, Allowed, pod_side};
use crate::lab::site::lladdr;
use crate::lab::world::{self, Beyond, GATEWAY_MAC, GATEWAY_NAME, MAC, POD, Side, vtep_mac};

/// The zone of connection tracking.
const ZONE: u16 = 1;

/// Of the bridge between the sides: connection tracking (table 0), policy (table 1), routes (table 2).
pub(super) fn overlay(case: &Case) -> String {
    let mut text = routes(case.job);
    // Writing to a String cannot fail.
    if case.policies == 0 {
        text.push_str("table=0,priority=100,ip,actions=goto_table:2\n");
        return text;
    }
    let _ = write!(
        text,
        "table=0,priority=100,ip,actions=ct(table=1,zone={ZONE})\n\
         table=1,priority=60000,ct_state=+trk+est,ip,actions=goto_table:2\n\
         table=1,priority=60000,ct_state=+trk+rel,ip,actions=goto_table:2\n\
         table=1,priority=50000,ct_state=+trk+inv,ip,actions=drop\n"
    );
    let (pod, peer) = match case.job.way() {
        Job::VxlanDecap => ("nw_dst", "nw_src"),
        _ => ("nw_src", "nw_dst"),
    };
    let commit = format!("ct(commit,zone={ZONE}),goto_table:2");
    for Allowed { peer: net, port } in cluster::allowed(case.policies) {
        for protocol in ["udp", "tcp"] {
            let _ = writeln!(
                text,
                "table=1,priority=1000,ct_state=+trk+new,{protocol},{pod}={POD},{peer}={net},tp_dst={port},actions={commit}"
            );
        }
    }
    // What is neither to nor from the pod, as policy sees it, passes.
    let _ = write!(
        text,
        "table=1,priority=500,ct_state=+trk+new,ip,{pod}={POD},actions=drop\n\
         table=1,priority=100,ct_state=+trk+new,ip,actions={commit}\n"
    );
    text
}

/// To each side, by its port, what is to its block.
fn routes(job: Job) -> String {
    let mut text = String::new();
    for side in [Side::Source, Side::Sink] {
        let node = cluster::nodes(job).into_iter().find(|node| node.side == side);
        let (own, next) = match (world::beyond(job, side), node) {
            (Beyond::Vxlan, Some(node)) => (vtep_mac(GATEWAY_NAME), vtep_mac(node.name)),
            _ => (GATEWAY_MAC[side as usize], MAC[side as usize]),
        };
        let block = if side == pod_side(job) { cluster::pod_block() } else { cluster::remote_block() };
        let _ = writeln!(
            text,
            "table=2,priority=100,ip,nw_dst={block},actions=dec_ttl,mod_dl_src:{},mod_dl_dst:{},output:{}",
            lladdr(own),
            lladdr(next),
            side as u32 + 1
        );
    }
    text
}

/// Of a bridge that tunnels leave by: between the device and the bridge's own port, where the tunnels end.
pub(super) fn underlay() -> String {
    "in_port=1,actions=LOCAL\nin_port=LOCAL,actions=output:1\n".to_owned()
}

/// Frames that a port has sent, as `ovs-ofctl dump-ports` says it.
pub(super) fn sent(ports: &str) -> Option<u64> {
    let (_, rest) = ports.split_once("tx pkts=")?;
    rest.split(',').next()?.trim().parse().ok()
}

/// Drops of the datapath and of the `AF_XDP` ports, of what `ovs-appctl coverage/show` lists.
pub(super) fn drops(coverage: &str) -> Vec<(String, u64)> {
    const DROPS: [&str; 3] = ["datapath_drop_", "drop_action_", "afxdp_tx_full"];
    let count = |line: &str| {
        let name = line.split_whitespace().next()?;
        let total = line.split_once("total:")?.1.trim().parse().ok()?;
        let is_drop = total > 0 && DROPS.iter().any(|drop| name.starts_with(drop));
        is_drop.then(|| (name.to_owned(), total))
    };
    coverage.lines().filter_map(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_as_the_programs_print_them() {
        let ports = "OFPST_PORT reply (xid=0x2): 1 ports\n  port uplink1: rx pkts=5, bytes=1, drop=0, errs=0, frame=0, over=0, crc=0\n\
                     \x20          tx pkts=3, bytes=330, drop=0, errs=0, coll=0\n";
        assert_eq!(sent(ports), Some(3));
        assert_eq!(sent("OFPST_PORT reply (xid=0x2): 0 ports"), None);
        let coverage = "Event coverage, avg rate over last: 5 seconds, last minute, last hour,  hash=c0ffee:\n\
                        datapath_drop_upcall_error   0.0/sec     0.000/sec        0.0000/sec   total: 4\n\
                        datapath_drop_meter        0.0/sec     0.000/sec        0.0000/sec   total: 0\n\
                        netlink_sent               0.4/sec     0.400/sec        0.1111/sec   total: 900\n";
        assert_eq!(drops(coverage), [("datapath_drop_upcall_error".to_owned(), 4)]);
    }
}
