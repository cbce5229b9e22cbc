//! The gateway that the traffic is for: one pod behind it, the routes of all paths, and policies for the pod.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use margay_encap::{Outer, protocol};
use margay_flowtable::snapshot::Local;
use margay_flowtable::{
    Action, AddressSet, Adjacency, Checksums, Endpoint, EndpointId, Fib, Holder, IdentityId, InnerSources,
    NextHop, NextHopId, Obeys, Policies, Policy, PolicyType, PortId, PortKind, PortState, Program, ProgramId,
    Rule, RuleId, Segment, SegmentId, SetId, Side, Snapshot, Tier, TierEnd, Tunnel,
};

use crate::traffic::{
    MAC, NODE, PEER_NODE, POD, POD_ADDRESS, Path, REMOTE_BITS, UPLINK, VNI, VTEP, VXLAN_PORT,
};

/// Prefix length of a Calico IPAM block.
const BLOCK: u8 = 26;

/// Identities that a policy lets in.
const GROUP: u32 = 4;
/// Policies of a segment.
const SEGMENT: usize = 1024;

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
        outer: Outer::VXLAN,
    };
    let ipip = Tunnel::Ipip { src: NODE, dst: PEER_NODE, outer: Outer::IPIP };
    let port = |name: &str, kind| {
        Some(PortState { name: name.into(), kind, mac: MAC, mtu: 1500, takes_checksums: Checksums::None })
    };
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
            tunnel_ends: vec![NODE.into()],
            vtep_mac: VTEP,
            pods: [POD_ADDRESS.into()].into_iter().collect(),
            ..Local::default()
        },
        tunnel_sources: [PEER_NODE.into()].into_iter().collect(),
        inner_sources: InnerSources {
            homes: Fib::build(routes().into_iter().map(|(net, length, _)| (net, length, NextHopId(0)))),
            senders: [vec![PEER_NODE.into()]].into(),
            ..InnerSources::default()
        },
        ..Snapshot::default()
    };
    snapshot.policies = self::policies(policies);
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
fn policies(count: u32) -> Policies {
    let mut policies = Policies::default();
    let endpoint = Endpoint { name: "ns/pod".into(), node_addresses: [NODE.into()].into() };
    policies.endpoints.set(0, endpoint.into());
    policies.nodes = Arc::new([NODE.into()].into_iter().collect());
    let holder = Holder { identity: IdentityId(0), endpoint: Some(EndpointId(0)) };
    policies.addresses.insert(POD_ADDRESS.into(), holder);
    let Some(last) = count.checked_sub(1) else { return policies };
    for number in 0..last {
        let members = (number * GROUP + 1..).take(GROUP as usize).map(IdentityId);
        for member in members.clone() {
            let address = Ipv4Addr::from_bits(0x0aa0_0000 + member.0);
            policies.addresses.insert(address.into(), Holder { identity: member, endpoint: None });
        }
        policies.sets.set(number, Arc::new(AddressSet::new(members, [])));
    }
    let everyone = [Path::L3, Path::VxlanEncap, Path::IpipEncap].map(|path| {
        let first = path.remotes().to_bits();
        let bounds = [first, first | ((1 << REMOTE_BITS) - 1)];
        let [start, end] = bounds.map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)));
        (start, end)
    });
    policies.sets.set(last, Arc::new(AddressSet::new([], everyone)));
    let egress = add_program(&mut policies, PolicyType::Egress, count);
    let ingress = add_program(&mut policies, PolicyType::Ingress, count);
    policies.obeys.set(0, Obeys { egress, ingress, to_node: egress, ..Obeys::default() });
    policies
}

fn add_program(policies: &mut Policies, policy_type: PolicyType, count: u32) -> ProgramId {
    let all: Vec<Arc<Policy>> = (0..count).map(|number| policy(policy_type, number, count).into()).collect();
    let known = IdentityId(count * GROUP + 1);
    let mut segments = Vec::new();
    for run in all.chunks(SEGMENT) {
        let (sets, port_sets) = (&policies.sets, &policies.port_sets);
        let segment = Segment::new(policy_type, run.to_vec(), sets, port_sets, known);
        segments.push(SegmentId(policies.segments.len() as u32));
        policies.segments.set(policies.segments.len() as u32, segment.into());
    }
    let tier = Tier { name: "default".into(), segments, end: TierEnd::Deny, end_rule: RuleId::NONE };
    let program = policies.programs.len() as u32;
    policies.programs.set(program, Program::new(vec![tier]).into());
    ProgramId(program)
}

/// Policy `number` of so many. Its only rule has the same number.
fn policy(policy_type: PolicyType, number: u32, count: u32) -> Policy {
    let port = 10_000 + (number % 50_000) as u16;
    let ports = if number + 1 == count { 1..=u16::MAX } else { port..=port };
    let peer = Side { all_of: vec![vec![SetId(number)]], ..Side::default() };
    let (source, destination) = match policy_type {
        PolicyType::Ingress => (peer, Side { ports: vec![ports], ..Side::default() }),
        PolicyType::Egress => (Side::default(), Side { ports: vec![ports], ..peer }),
    };
    let (id, protocol) = (RuleId(number), Some(protocol::UDP));
    let rule = Rule { id, action: Action::Allow, protocol, source, destination, ..Rule::default() };
    Policy { name: format!("ns/policy-{number:05}").into(), rules: vec![rule], end: RuleId::NONE }
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
                    icmp: None,
                };
                let decided = classify(&snapshot.policies, &tuple, &mut |_, _| {});
                assert_eq!(decided.verdict(), Verdict::Allow);
                let half = if path.input() == POD { decided.egress } else { decided.ingress };
                assert_eq!(half.rule, policies.checked_sub(1).map_or(RuleId::NONE, RuleId));
            }
        }
    }
}
