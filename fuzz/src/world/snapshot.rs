//! The snapshot of a [`World`](super::World).

use std::cell::LazyCell;
use std::net::IpAddr;
use std::sync::Arc;

use margay_encap::pull::ZeroChecksum;
use margay_flowtable::snapshot::Local;
use margay_flowtable::{
    Action, AddressSet, Checksums, Endpoint, EndpointId, Entrance, Fib, Holder, IdentityId, InnerSources,
    NextHop, NextHopId, Obeys, Policies, Policy, PolicyType, PortKind, PortState, Program, ProgramId,
    Rewrite, Rule, RuleId, Segment, SegmentId, SetId, Side, Snapshot, Tier, TierEnd,
};

use super::ends::{self, End};
use super::{
    COMPLETING, Config, HOST, Hop, MAC, NODE, NODE_IN_TUNNELS, NODE6, PEERS, PEERS6, PODS, PORTS, UPLINKS,
    VNI, VTEP, VTEP6, VXLAN_PORT,
};

thread_local! {
    // A table of routes has a large root, which clones share.
    static BEFORE: LazyCell<Snapshot> = const { LazyCell::new(before) };
}

/// At the beginning.
pub(super) fn of(config: &Config) -> Snapshot {
    let mut snapshot = BEFORE.with(|before| Snapshot::clone(before));
    follow(&mut snapshot, config, &[true; PORTS.len()]);
    snapshot
}

/// What every gateway has.
fn before() -> Snapshot {
    let routes = ends::routes();
    let fib = routes.iter().map(|route| (route.network, route.length, NextHopId(route.hop as u32)));
    let homes = ends::homes().map(|route| (route.network, route.length, NextHopId(0)));
    let senders = vec![PEERS[0].into(), PEERS6[0].into()];
    let mut snapshot = Snapshot {
        fib: Fib::build(fib),
        local: Local {
            tunnel_ends: vec![NODE.into(), NODE6.into()],
            pods: PODS.into_iter().flat_map(addresses).collect(),
            vni: VNI,
            vxlan_port: VXLAN_PORT,
            vtep_mac: VTEP,
            vtep_mac6: VTEP6,
            ..Local::default()
        },
        tunnel_sources: PEERS.map(IpAddr::from).into_iter().chain(PEERS6.map(IpAddr::from)).collect(),
        inner_sources: InnerSources {
            homes: Fib::build(homes),
            senders: [senders].into(),
            ..InnerSources::default()
        },
        ..Snapshot::default()
    };
    set_policies(&mut snapshot.policies);
    snapshot
}

/// Has the snapshot say what the configuration says.
pub(super) fn follow(snapshot: &mut Snapshot, config: &Config, open: &[bool; PORTS.len()]) {
    let next_hops: Vec<NextHop> = Hop::ALL.iter().map(|hop| hop.next_hop(config)).collect();
    snapshot.next_hops = next_hops.into();
    snapshot.ports = PORTS
        .into_iter()
        .map(|port| {
            let kind = if UPLINKS.contains(&port) {
                PortKind::Uplink
            } else {
                PortKind::Pod { addresses: addresses(port) }
            };
            let number = usize::from(port.0);
            // Nothing comes in by the host's.
            (open[number] && port != HOST).then(|| PortState {
                name: "port".into(),
                kind,
                mac: MAC,
                mtu: config.mtus[number],
                takes_checksums: if COMPLETING.contains(&port) { Checksums::Any } else { Checksums::None },
            })
        })
        .collect();
    snapshot.entrance = match (config.has_entrance, config.refuses_host) {
        (_, true) => Entrance::Closed,
        (true, false) => Entrance::Open(Rewrite::to(&config.adjacency(HOST))),
        (false, false) => Entrance::None,
    };
    let in_tunnels = config.has_icmp_source_in_tunnels.then_some(NODE_IN_TUNNELS);
    snapshot.local = Local {
        icmp_source: config.has_icmp_source.then_some(NODE),
        icmp6_source: config.has_icmp_source.then_some(NODE6),
        icmp_source_in_ipip: in_tunnels,
        icmp_source_in_vxlan: in_tunnels,
        answers_unreachable: config.answers_unreachable,
        clamps_mss: config.clamps_mss,
        tunnels_from_pods: config.tunnels_from_pods,
        zero_checksum6: if config.takes_zero_checksum {
            ZeroChecksum::Accepted
        } else {
            ZeroChecksum::Refused
        },
        ..snapshot.local.clone()
    };
    snapshot.inner_sources.check = config.inner_source;
    let ingress = if config.is_policed { ProgramId(0) } else { ProgramId::NONE };
    let obeys = snapshot.policies.obeys.get(1).copied().unwrap_or_default();
    if obeys.ingress != ingress {
        snapshot.policies.obeys.set(1, Obeys { ingress, ..obeys });
        addresses(PODS[0]).into_iter().for_each(|address| snapshot.epochs.touch(address));
    }
}

/// Those of a pod's port.
pub(super) fn addresses(port: margay_flowtable::PortId) -> Vec<IpAddr> {
    let end = End::Net(port.0 as u8);
    if PODS.contains(&port) { [false, true].map(|is_ipv6| end.address(is_ipv6)).into() } else { Vec::new() }
}

/// Both pods are served here. The first may have a policy: it takes UDP to port 53 and all from one net.
fn set_policies(policies: &mut Policies) {
    let peers = [false, true].map(|is_ipv6| End::Net(64).address(is_ipv6));
    policies.sets.set(0, Arc::new(AddressSet::new([], peers.map(|peer| (peer, peer)))));
    let from_peers = Side { all_of: vec![vec![SetId(0)]], ..Side::default() };
    let to_dns = Side { ports: vec![53..=53], ..Side::default() };
    let rules = vec![
        Rule { action: Action::Allow, source: from_peers, ..Rule::default() },
        Rule { action: Action::Allow, protocol: Some(17), destination: to_dns, ..Rule::default() },
    ];
    let policy = Arc::new(Policy { name: "ns/policy".into(), rules, end: RuleId::NONE });
    let known = IdentityId(256);
    let segment = Segment::new(PolicyType::Ingress, vec![policy], &policies.sets, &policies.port_sets, known);
    policies.segments.set(0, Arc::new(segment));
    let segments = vec![SegmentId(0)];
    let tier = Tier { name: "default".into(), segments, end: TierEnd::Deny, end_rule: RuleId::NONE };
    policies.programs.set(0, Arc::new(Program::new(vec![tier])));
    for port in PODS {
        let number = u32::from(port.0);
        let node_addresses = [NODE.into(), NODE6.into()].into();
        policies.endpoints.set(number, Arc::new(Endpoint { name: "ns/pod".into(), node_addresses }));
        policies.obeys.set(number, Obeys::default());
        let holder = Holder { identity: IdentityId(number), endpoint: Some(EndpointId(number)) };
        for address in addresses(port) {
            policies.addresses.insert(address, holder);
        }
    }
    policies.nodes = Arc::new([NODE.into(), NODE6.into()].into_iter().collect());
}
