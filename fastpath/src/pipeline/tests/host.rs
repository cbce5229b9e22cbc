//! What host endpoints have to say of packets that are forwarded, by interface.

use margay_flowtable::{HostObeys, HostPolicies, Interface};

use super::*;

/// A second uplink, and a network behind it.
const SECOND: PortId = PortId(3);
const SECOND_IP: [u8; 4] = [10, 70, 11, 5];
const SECOND_HOP: NextHopId = NextHopId(8);
const FIRST: Interface = Interface::Uplink(UPLINK);

fn gateway() -> Gateway {
    let mut gateway = Gateway::new();
    gateway.egress.open(SECOND);
    gateway.publish(|snapshot| {
        let adjacency = Adjacency { port: SECOND, dst_mac: ROUTER_MAC, src_mac: OUR_MAC, mtu: 1500 };
        let hops = snapshot.next_hops.iter().cloned();
        snapshot.next_hops =
            hops.chain([NextHop::Forward { adjacency, tunnel: None }]).collect::<Vec<_>>().into();
        snapshot.fib.apply([(ip(SECOND_IP).into(), 32, Some(SECOND_HOP))]);
        let second = PortState {
            name: "uplink1".into(),
            kind: PortKind::Uplink,
            mac: OUR_MAC,
            mtu: 1500,
            takes_checksums: Checksums::None,
        };
        snapshot.ports.push(Some(second));
    });
    gateway
}

/// Makes these the programs of the host endpoints, all of whose flows it touches.
fn set_host(gateway: &mut Gateway, obeys: impl FnOnce(&mut Snapshot) -> Vec<(Interface, HostObeys)>) {
    gateway.publish(|snapshot| {
        let old = snapshot.policies.host.clone();
        let new = HostPolicies::new(obeys(snapshot), []);
        for (interface, _) in old.iter().chain(new.iter()) {
            snapshot.epochs.touch_interface(interface);
        }
        snapshot.policies.host = new;
    });
}

/// Allows this (rule 7) or denies it (rule 17), and nothing else; `end` (rule 8) decides about the rest.
fn program(
    snapshot: &mut Snapshot,
    way: PolicyType,
    action: Action,
    match_udp: u16,
    end: TierEnd,
) -> ProgramId {
    let policies = &mut snapshot.policies;
    let destination = Side { ports: vec![match_udp..=match_udp], ..Side::default() };
    let id = RuleId(if action == Action::Deny { 17 } else { 7 });
    let rule = Rule { id, action, protocol: Some(17), destination, ..Rule::default() };
    let policy = Arc::new(Policy { name: "host".into(), rules: vec![rule], end: RuleId(8) });
    let segment = Segment::new(way, vec![policy], &policies.sets, &policies.port_sets, IdentityId(256));
    let (id, program) = (policies.segments.len() as u32, ProgramId(policies.programs.len() as u32));
    policies.segments.set(id, Arc::new(segment));
    let tier = Tier { name: "default".into(), segments: vec![SegmentId(id)], end, end_rule: RuleId(8) };
    policies.programs.set(program.0, Arc::new(Program::new(vec![tier])));
    program
}

fn allow_53(snapshot: &mut Snapshot, way: PolicyType) -> ProgramId {
    program(snapshot, way, Action::Allow, 53, TierEnd::Deny)
}

fn ingress_53(interface: Interface) -> impl FnOnce(&mut Snapshot) -> Vec<(Interface, HostObeys)> {
    move |snapshot| {
        let ingress = allow_53(snapshot, PolicyType::Ingress);
        vec![(interface, HostObeys { ingress, ..HostObeys::default() })]
    }
}

fn egress_53(interface: Interface) -> impl FnOnce(&mut Snapshot) -> Vec<(Interface, HostObeys)> {
    move |snapshot| {
        let egress = allow_53(snapshot, PolicyType::Egress);
        vec![(interface, HostObeys { egress, ..HostObeys::default() })]
    }
}

fn to(port: u16, src: [u8; 4], dst: [u8; 4]) -> Vec<u8> {
    udp(src, dst, (1000, port), b"query")
}

fn from(port: u16, src: [u8; 4], dst: [u8; 4]) -> Vec<u8> {
    udp(src, dst, (port, 1000), b"answer")
}

fn vxlan(packet: &[u8]) -> Vec<u8> {
    vxlan_from(REMOTE_NODE_IP, 4096, packet)
}

const DENIED: Option<DropReason> = Some(DropReason::PolicyDeny);

#[test]
fn each_interface_asks_what_comes_in_and_what_leaves_by_it() {
    let plain = || to(54, DIRECT_IP, OPEN_IP);
    let in_vxlan = || vxlan(&to(54, PEER_IP, OPEN_IP));
    let in_ipip = || ipip_from(REMOTE_NODE_IP, &to(54, IPIP_IP, OPEN_IP));
    let across = || to(54, DIRECT_IP, SECOND_IP);
    let second = Interface::Uplink(SECOND);
    // Where packets come in and leave, and the interfaces that they pass.
    let ways = [
        (UPLINK, plain(), FIRST, Interface::Pod),
        (UPLINK, in_vxlan(), Interface::Vxlan, Interface::Pod),
        (UPLINK, in_ipip(), Interface::Ipip, Interface::Pod),
        (UPLINK, across(), FIRST, second),
        (SECOND, to(54, SECOND_IP, DIRECT_IP), second, FIRST),
        (OPEN, to(54, OPEN_IP, DIRECT_IP), Interface::Pod, FIRST),
        (OPEN, to(54, OPEN_IP, PEER_IP), Interface::Pod, Interface::Vxlan),
        (OPEN, to(54, OPEN_IP, IPIP_IP), Interface::Pod, Interface::Ipip),
    ];
    for (port, packet, entry, exit) in ways {
        for interface in [Interface::Pod, Interface::Ipip, Interface::Vxlan, FIRST, second] {
            let dropped = |obeys: &dyn Fn(&mut Snapshot) -> Vec<(Interface, HostObeys)>| {
                let mut gateway = gateway();
                set_host(&mut gateway, |snapshot| obeys(snapshot));
                gateway.run(port, &packet).dropped
            };
            let by_ingress = dropped(&|snapshot| ingress_53(interface)(snapshot));
            assert_eq!(by_ingress, DENIED.filter(|_| interface == entry), "{interface:?} from {entry:?}");
            let by_egress = dropped(&|snapshot| egress_53(interface)(snapshot));
            assert_eq!(by_egress, DENIED.filter(|_| interface == exit), "{interface:?} to {exit:?}");
        }
    }
}

#[test]
fn allowed_flow_passes_and_its_replies_need_no_rule() {
    let mut gateway = gateway();
    set_host(&mut gateway, ingress_53(FIRST));
    let (query, answer) = (to(53, DIRECT_IP, SECOND_IP), from(53, SECOND_IP, DIRECT_IP));
    assert_eq!(gateway.run(UPLINK, &query).only().0, SECOND);
    assert_eq!(gateway.run(SECOND, &answer).only().0, UPLINK);
    assert_eq!(gateway.run(UPLINK, &to(54, DIRECT_IP, SECOND_IP)).dropped, DENIED);
    assert_eq!(
        gateway.run(UPLINK, &from(53, DIRECT_IP, SECOND_IP)).dropped,
        DENIED,
        "to a query of nobody's"
    );
}

#[test]
fn change_cuts_the_flows_through_its_interface_and_no_others() {
    for by_reply in [false, true] {
        let mut gateway = gateway();
        let (query, answer) = (to(54, DIRECT_IP, SECOND_IP), from(54, SECOND_IP, DIRECT_IP));
        let bystander = to(54, OPEN_IP, PEER_IP);
        gateway.run(UPLINK, &query).only();
        gateway.run(SECOND, &answer).only();
        gateway.run(OPEN, &bystander).only();
        set_host(&mut gateway, ingress_53(FIRST));
        gateway.run(OPEN, &bystander).only();
        assert_eq!(gateway.counters.flows_reclassified.get(), 0);
        let (port, packet) = if by_reply { (SECOND, &answer) } else { (UPLINK, &query) };
        assert_eq!(gateway.run(port, packet).dropped, DENIED);
        assert_eq!(gateway.run(UPLINK, &query).dropped, DENIED);
        set_host(&mut gateway, |_| Vec::new());
        gateway.run(port, packet).only();
        set_host(&mut gateway, egress_53(Interface::Uplink(SECOND)));
        assert_eq!(gateway.run(port, packet).dropped, DENIED);
        gateway.run(OPEN, &bystander).only();
        assert_eq!(gateway.counters.flows_reclassified.get(), 3);
    }
}

/// The replies of a flow come in where its first packet leaves: what is asked there is not about it.
#[test]
fn a_flow_is_judged_again_by_where_it_came_in() {
    let mut gateway = gateway();
    let (query, answer) = (to(54, SECOND_IP, DIRECT_IP), from(54, DIRECT_IP, SECOND_IP));
    gateway.run(SECOND, &query).only();
    set_host(&mut gateway, ingress_53(FIRST));
    gateway.run(UPLINK, &answer).only();
    assert_eq!(gateway.counters.flows_reclassified.get(), 1);
    gateway.run(SECOND, &query).only();
}

#[test]
fn flow_without_a_way_out_waits_for_its_verdict() {
    let mut gateway = gateway();
    let (query, answer) = (to(54, DIRECT_IP, SECOND_IP), from(54, SECOND_IP, DIRECT_IP));
    gateway.run(UPLINK, &query).only();
    gateway.publish(|snapshot| snapshot.fib.apply([(ip(SECOND_IP).into(), 32, Some(NextHopId(2)))]));
    set_host(&mut gateway, egress_53(Interface::Uplink(SECOND)));
    for (port, packet) in [(UPLINK, &query), (SECOND, &answer)] {
        assert_eq!(gateway.run(port, packet).dropped, Some(DropReason::NeighbourUnresolved));
    }
    gateway.publish(|snapshot| snapshot.fib.apply([(ip(SECOND_IP).into(), 32, Some(SECOND_HOP))]));
    assert_eq!(gateway.run(SECOND, &answer).dropped, DENIED);
}

#[test]
fn pre_dnat_comes_first_and_leaves_failsafe_ports_alone() {
    let mut gateway = gateway();
    set_host(&mut gateway, |snapshot| {
        let pre_dnat = program(snapshot, PolicyType::Ingress, Action::Allow, 53, TierEnd::Pass);
        let ingress = program(snapshot, PolicyType::Ingress, Action::Allow, 54, TierEnd::Deny);
        vec![(FIRST, HostObeys { pre_dnat, ingress, ..HostObeys::default() })]
    });
    for (port, passes) in [(53, true), (54, true), (55, false)] {
        let packet = to(port, DIRECT_IP, SECOND_IP);
        assert_eq!(gateway.run(UPLINK, &packet).dropped, DENIED.filter(|_| !passes), "{port}");
    }
    for (port, passes) in [(68, true), (69, false)] {
        set_host(&mut gateway, |snapshot| {
            let pre_dnat = program(snapshot, PolicyType::Ingress, Action::Deny, port, TierEnd::Pass);
            vec![(FIRST, HostObeys { pre_dnat, ..HostObeys::default() })]
        });
        let packet = to(port, DIRECT_IP, SECOND_IP);
        assert_eq!(gateway.run(UPLINK, &packet).dropped, DENIED.filter(|_| !passes), "{port}");
    }
}

fn untracked(gateway: &mut Gateway, action: Action, port: u16) {
    set_host(gateway, |snapshot| {
        let untracked = program(snapshot, PolicyType::Ingress, action, port, TierEnd::Pass);
        let ingress = allow_53(snapshot, PolicyType::Ingress);
        vec![(FIRST, HostObeys { untracked, ingress, ..HostObeys::default() })]
    });
}

#[test]
fn untracked_packets_make_no_flow_and_are_judged_each_by_itself() {
    let mut gateway = gateway();
    untracked(&mut gateway, Action::Allow, 54);
    let (query, answer) = (to(54, DIRECT_IP, SECOND_IP), from(54, SECOND_IP, DIRECT_IP));
    for _ in 0..2 {
        assert_eq!(gateway.run(UPLINK, &query).only().0, SECOND, "not asked for what is forwarded in");
    }
    assert_eq!(gateway.counters.flows_inserted.get(), 0);
    // The answer is a first packet of its own: nothing is asked where it comes in.
    assert_eq!(gateway.run(SECOND, &answer).only().0, UPLINK);
    assert_eq!(gateway.counters.flows_inserted.get(), 1);
    gateway.run(UPLINK, &query).only();
    assert_eq!(gateway.run(UPLINK, &to(55, DIRECT_IP, SECOND_IP)).dropped, DENIED, "tracked");
    gateway.run(UPLINK, &to(53, DIRECT_IP, SECOND_IP)).only();
    assert_eq!(gateway.counters.flows_inserted.get(), 2);

    untracked(&mut gateway, Action::Deny, 54);
    assert_eq!(gateway.run(UPLINK, &query).dropped, DENIED, "whatever flow it belongs to");
}

#[test]
fn both_ways_untracked_where_both_ends_say_so() {
    let mut gateway = gateway();
    set_host(&mut gateway, |snapshot| {
        let obeys = [(FIRST, 54), (Interface::Uplink(SECOND), 1000)].map(|(interface, port)| {
            let untracked = program(snapshot, PolicyType::Ingress, Action::Allow, port, TierEnd::Pass);
            (interface, HostObeys { untracked, ..HostObeys::default() })
        });
        obeys.into()
    });
    for _ in 0..2 {
        gateway.run(UPLINK, &to(54, DIRECT_IP, SECOND_IP)).only();
        gateway.run(SECOND, &from(54, SECOND_IP, DIRECT_IP)).only();
    }
    assert_eq!(gateway.counters.flows_inserted.get(), 0);
}

#[test]
fn untracked_packets_obey_pods_and_where_they_leave() {
    let mut gateway = gateway();
    untracked(&mut gateway, Action::Allow, 54);
    let spoofed = to(54, OPEN_IP, SECOND_IP);
    for (packet, dropped) in [
        (to(54, DIRECT_IP, OPEN_IP), None),
        (to(54, DIRECT_IP, WEB_IP), DENIED),
        (spoofed, Some(DropReason::SourceSpoofed)),
        (to(54, DIRECT_IP, [203, 0, 113, 1]), Some(DropReason::NoRoute)),
        (to(54, DIRECT_IP, [224, 0, 0, 1]), Some(DropReason::Multicast)),
        // By the tunnel, and not by the uplink under it.
        (vxlan(&to(55, PEER_IP, OPEN_IP)), None),
    ] {
        assert_eq!(gateway.run(UPLINK, &packet).dropped, dropped);
    }
    set_host(&mut gateway, |snapshot| {
        let untracked = program(snapshot, PolicyType::Ingress, Action::Allow, 54, TierEnd::Pass);
        let egress = allow_53(snapshot, PolicyType::Egress);
        let second = HostObeys { egress, ..HostObeys::default() };
        vec![(FIRST, HostObeys { untracked, ..HostObeys::default() }), (Interface::Uplink(SECOND), second)]
    });
    assert_eq!(gateway.run(UPLINK, &to(54, DIRECT_IP, SECOND_IP)).dropped, DENIED);
}

#[test]
fn what_comes_by_a_tunnel_is_asked_there_before_it_is_tracked() {
    for (action, dropped) in [(Action::Allow, None), (Action::Deny, DENIED)] {
        let mut gateway = gateway();
        set_host(&mut gateway, |snapshot| {
            let untracked = program(snapshot, PolicyType::Ingress, action, 54, TierEnd::Pass);
            vec![(Interface::Vxlan, HostObeys { untracked, ..HostObeys::default() })]
        });
        for _ in 0..2 {
            assert_eq!(gateway.run(UPLINK, &vxlan(&to(54, PEER_IP, OPEN_IP))).dropped, dropped);
        }
        assert_eq!(gateway.counters.flows_inserted.get(), 0);
        for tracked in [vxlan(&to(55, PEER_IP, OPEN_IP)), to(54, DIRECT_IP, OPEN_IP)] {
            gateway.run(UPLINK, &tracked).only();
        }
        assert_eq!(gateway.counters.flows_inserted.get(), 2, "not by the tunnel, or by another port");
    }
}

#[test]
fn untracked_policy_leaves_failsafe_ports_and_answers_from_them_to_tracking() {
    for (port, is_source, passes) in
        [(68, false, true), (53, true, true), (69, false, false), (54, true, false)]
    {
        let mut gateway = gateway();
        set_host(&mut gateway, |snapshot| {
            let any = if is_source { 1000 } else { port };
            let untracked = program(snapshot, PolicyType::Ingress, Action::Deny, any, TierEnd::Pass);
            vec![(FIRST, HostObeys { untracked, ..HostObeys::default() })]
        });
        let packet =
            if is_source { from(port, DIRECT_IP, SECOND_IP) } else { to(port, DIRECT_IP, SECOND_IP) };
        assert_eq!(gateway.run(UPLINK, &packet).dropped, DENIED.filter(|_| !passes), "{port} {is_source}");
    }
}

/// What staged policies would do on both ways of the first uplink, and before connection tracking there.
fn stage(gateway: &mut Gateway, of: impl FnOnce(&mut Snapshot) -> HostObeys) {
    gateway.publish(|snapshot| {
        let staged = of(snapshot);
        let enforced: Vec<_> = snapshot.policies.host.iter().collect();
        snapshot.policies.host = HostPolicies::new(enforced, [(FIRST, staged)]);
    });
}

#[test]
fn staged_rules_count_what_they_would_decide_and_decide_nothing() {
    let mut gateway = gateway();
    stage(&mut gateway, |snapshot| {
        let ingress = allow_53(snapshot, PolicyType::Ingress);
        let egress = allow_53(snapshot, PolicyType::Egress);
        HostObeys { ingress, egress, ..HostObeys::default() }
    });
    let (query, other) = (to(53, DIRECT_IP, SECOND_IP), to(54, DIRECT_IP, SECOND_IP));
    for _ in 0..2 {
        gateway.run(UPLINK, &query).only();
        gateway.run(UPLINK, &other).only();
        gateway.run(SECOND, &from(53, SECOND_IP, DIRECT_IP)).only();
    }
    let (allows, denies) = (gateway.count(7), gateway.count(8));
    assert_eq!((allows.packets, allows.flows, allows.denied), (4, 1, 0));
    assert_eq!((denies.packets, denies.flows, denies.denied), (2, 0, 1));
    gateway.run(SECOND, &to(54, SECOND_IP, DIRECT_IP)).only();
    assert_eq!(gateway.count(8).denied, 2, "where it leaves");
    assert_eq!(gateway.counters.policy_drops.take().count(), 0);
}

#[test]
fn staged_rules_count_what_is_not_tracked() {
    let mut gateway = gateway();
    stage(&mut gateway, |snapshot| {
        let untracked = program(snapshot, PolicyType::Ingress, Action::Deny, 54, TierEnd::Pass);
        HostObeys { untracked, ..HostObeys::default() }
    });
    let denied = |gateway: &Gateway| gateway.count(17).denied;
    for _ in 0..2 {
        gateway.run(UPLINK, &to(54, DIRECT_IP, SECOND_IP)).only();
        gateway.run(UPLINK, &to(55, DIRECT_IP, SECOND_IP)).only();
    }
    assert_eq!((denied(&gateway), gateway.counters.flows_inserted.get()), (1, 2), "all is tracked");
    // What is enforced lets the packets past tracking, and what is staged would not: each is a first packet.
    untracked(&mut gateway, Action::Allow, 54);
    stage(&mut gateway, |snapshot| {
        let untracked = program(snapshot, PolicyType::Ingress, Action::Deny, 54, TierEnd::Pass);
        HostObeys { untracked, ..HostObeys::default() }
    });
    for _ in 0..2 {
        gateway.run(UPLINK, &to(54, DIRECT_IP, SECOND_IP)).only();
    }
    assert_eq!(denied(&gateway), 3);
}
