//! The gateway that the traffic is for: one pod behind it, the routes of all paths, and policies for the pod.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use margay_encap::protocol;
use margay_flowtable::snapshot::Local;
use margay_flowtable::{
    Action, AddressSet, Adjacency, Endpoint, Fib, NextHop, NextHopId, Policy, PortId, PortKind, PortState,
    Program, Rule, Snapshot, Tier, Tunnel,
};

use crate::traffic::{
    MAC, NODE, PEER_NODE, POD, POD_ADDRESS, Path, REMOTE_BITS, UPLINK, VNI, VTEP, VXLAN_PORT,
};

/// Prefix length of a Calico IPAM block.
const BLOCK: u8 = 26;

/// A gateway whose pod is selected by so many policies in either direction. Packets match the last one; none of them,
/// and the pod may do everything.
pub fn snapshot(policies: u32) -> Snapshot {
    let forward = |port, tunnel| NextHop::Forward { adjacency: adjacency(port), tunnel };
    let vxlan = Tunnel::Vxlan {
        src: NODE,
        dst: PEER_NODE,
        vni: VNI,
        udp_port: VXLAN_PORT,
        inner_src_mac: VTEP,
        inner_dst_mac: VTEP,
    };
    let ipip = Tunnel::Ipip { src: NODE, dst: PEER_NODE };
    let port = |name: &str, kind| Some(PortState { name: name.into(), kind, mac: MAC, mtu: 1500 });
    let mut snapshot = Snapshot {
        fib: Fib::build(routes()),
        next_hops: vec![
            forward(POD, None),
            forward(UPLINK, None),
            forward(UPLINK, Some(vxlan)),
            forward(UPLINK, Some(ipip)),
        ]
        .into(),
        ports: vec![
            port("uplink0", PortKind::Uplink),
            port("ns/pod", PortKind::Pod { addresses: vec![POD_ADDRESS.into()] }),
        ],
        local: Local {
            tunnel_ends: vec![NODE],
            vtep_mac: VTEP,
            pods: [POD_ADDRESS].into_iter().collect(),
            ..Local::default()
        },
        tunnel_sources: [PEER_NODE].into_iter().collect(),
        ..Snapshot::default()
    };
    let program = Arc::new(program(policies));
    let endpoint = Endpoint {
        name: "ns/pod".into(),
        egress: Arc::clone(&program),
        ingress: program,
        node_addresses: [NODE.into()].into(),
    };
    snapshot.endpoints.insert(POD_ADDRESS.into(), endpoint.into());
    snapshot
}

fn adjacency(port: PortId) -> Adjacency {
    Adjacency { port, dst_mac: MAC, src_mac: MAC, mtu: 1500 }
}

/// The pod's own, and for each kind of next hop the blocks of its far ends.
fn routes() -> Vec<(IpAddr, u8, NextHopId)> {
    let blocks = 1 << (u32::from(BLOCK) - (32 - REMOTE_BITS));
    let remotes =
        [(Path::L3, NextHopId(1)), (Path::VxlanEncap, NextHopId(2)), (Path::IpipEncap, NextHopId(3))];
    let mut routes = vec![(POD_ADDRESS.into(), 32, NextHopId(0))];
    for (path, next_hop) in remotes {
        let network = path.remotes().to_bits();
        routes.extend((0..blocks).map(|block: u32| {
            let address = Ipv4Addr::from_bits(network + (block << (32 - BLOCK)));
            (address.into(), BLOCK, next_hop)
        }));
    }
    routes
}

/// Policies as they are written in clusters: each lets the members of a group of its own in to a port of its own. The
/// last one's group is the far ends of every path, and its ports are all.
pub fn program(policies: u32) -> Program {
    let Some(last) = policies.checked_sub(1) else { return Program::default() };
    let others = (0..last).map(|number| {
        let member = |host| IpAddr::V4(Ipv4Addr::from_bits(0x0aa0_0000 + (number << 4) + host));
        let port = 10_000 + (number % 50_000) as u16;
        policy(number, AddressSet::from_addresses((0..4).map(member)), vec![port..=port])
    });
    let everyone = [Path::L3, Path::VxlanEncap, Path::IpipEncap].map(|path| {
        let first = path.remotes().to_bits();
        let bounds = [first, first | ((1 << REMOTE_BITS) - 1)];
        let [start, end] = bounds.map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)));
        (start, end)
    });
    let policies = others
        .chain([policy(last, AddressSet::from_ranges(everyone), vec![1..=u16::MAX])])
        .map(Arc::new)
        .collect();
    Program::new(vec![Tier { name: "default".into(), policies, end: Action::Deny }])
}

fn policy(number: u32, peers: AddressSet, ports: Vec<std::ops::RangeInclusive<u16>>) -> Policy {
    let rule = Rule {
        action: Action::Allow,
        index: 0,
        protocol: Some(protocol::UDP),
        peers: vec![Arc::new(peers)],
        ports,
        named_ports: Vec::new(),
    };
    Policy { name: format!("ns/policy-{number:05}").into(), rules: vec![rule] }
}

#[cfg(test)]
mod tests {
    use margay_flowtable::{Tuple, Verdict, classify};

    use super::*;

    #[test]
    fn packets_match_the_last_policy() {
        for policies in [0, 1, 2, 1000] {
            let snapshot = snapshot(policies);
            for path in Path::ALL {
                let key = path.key(4321);
                let tuple = Tuple {
                    src: Ipv4Addr::from_bits(key.src).into(),
                    dst: Ipv4Addr::from_bits(key.dst).into(),
                    protocol: key.protocol,
                    sport: key.sport,
                    dport: key.dport,
                };
                let decided = classify(&snapshot.endpoints, &tuple);
                assert_eq!(decided.verdict(), Verdict::Allow);
                let half = if path.input() == POD { decided.egress } else { decided.ingress };
                let name = half.policy.map(|policy| policy.name.to_string());
                assert_eq!(name, policies.checked_sub(1).map(|last| format!("ns/policy-{last:05}")));
            }
        }
    }
}
