//! What each condition of a rule says, one at a time.

use super::*;
use crate::{IcmpMatch, IpVersion, PortSet, PortSetId};

const PEER: IdentityId = IdentityId(7);

/// Set 0 holds the peer by identity, 1 its address by a range, 2 everybody in IPv4, 3 nobody; port set 0 is TCP 80 and
/// all UDP of the peer's identity.
fn policies() -> Policies {
    let all = [(v4(0), v4(u32::MAX))];
    let peer = [(v4(0x0a00_0100), v4(0x0a00_01ff))];
    let sets = [
        AddressSet::new([PEER], []),
        AddressSet::new([], peer),
        AddressSet::new([], all),
        AddressSet::default(),
    ];
    let named = [((6, Some(80)), AddressSet::new([PEER], [])), ((17, None), AddressSet::new([PEER], []))];
    let port_sets = [Arc::new(PortSet::new(named))];
    Policies {
        sets: sets.into_iter().map(Arc::new).collect(),
        port_sets: port_sets.into_iter().collect(),
        ..Policies::default()
    }
}

fn packet(protocol: u8, sport: u16, dport: u16) -> Tuple {
    let icmp = [1, 58].contains(&protocol).then_some((8, 0));
    Tuple { src: v4(0x0a00_0105), dst: v4(0x0a00_0205), protocol, sport, dport, icmp }
}

/// Whether the packet matches where the peer sends it, and where the peer receives it.
#[track_caller]
fn matches(rule: &Rule, tuple: Tuple) -> [bool; 2] {
    let policies = policies();
    let end = |address, identity| End { address, identity };
    let ends = [(Some(PEER), None), (None, Some(PEER))];
    ends.map(|(source, destination)| {
        let (source, destination) = (end(tuple.src, source), end(tuple.dst, destination));
        let packet = Packet { policies: &policies, tuple: &tuple, source, destination };
        let matches = packet.matches(rule);
        for policy_type in [PolicyType::Ingress, PolicyType::Egress] {
            let few = segment(&policies, policy_type, std::slice::from_ref(rule), 8);
            let many = segment(&policies, policy_type, &vec![rule.clone(); 100], 8);
            for segment in [few, many] {
                let found = first_match(&segment, &packet, &mut |_| {});
                assert_eq!(found.is_some(), matches, "{policy_type:?} {rule:?}");
            }
        }
        matches
    })
}

fn of(change: impl FnOnce(&mut Rule)) -> Rule {
    let mut rule = Rule::default();
    change(&mut rule);
    rule
}

#[test]
fn rule_without_conditions_matches_everything() {
    for protocol in [1, 6, 17, 47] {
        assert_eq!(matches(&Rule::default(), packet(protocol, 1, 1)), [true; 2]);
    }
}

#[test]
fn protocols() {
    let only = of(|rule| rule.protocol = Some(6));
    let but = of(|rule| rule.not_protocol = Some(6));
    for (protocol, is_it) in [(6, true), (17, false), (1, false), (0, false)] {
        assert_eq!(matches(&only, packet(protocol, 1, 1)), [is_it; 2]);
        assert_eq!(matches(&but, packet(protocol, 1, 1)), [!is_it; 2]);
    }
}

#[test]
fn ip_versions() {
    let of_version = |version| of(|rule| rule.ip_version = Some(version));
    let v6_packet = Tuple { src: v6(1), dst: v6(2), ..packet(6, 1, 1) };
    assert_eq!(matches(&of_version(IpVersion::V4), packet(6, 1, 1)), [true; 2]);
    assert_eq!(matches(&of_version(IpVersion::V4), v6_packet), [false; 2]);
    assert_eq!(matches(&of_version(IpVersion::V6), packet(6, 1, 1)), [false; 2]);
    assert_eq!(matches(&of_version(IpVersion::V6), v6_packet), [true; 2]);
}

#[test]
fn icmp_and_its_negation_ask_for_icmp() {
    for (kind, code, is_it) in [
        (None, None, true),
        (Some(8), None, true),
        (Some(8), Some(0), true),
        (Some(8), Some(1), false),
        (Some(0), None, false),
    ] {
        let icmp = IcmpMatch { kind, code };
        let (only, but) = (of(|rule| rule.icmp = Some(icmp)), of(|rule| rule.not_icmp = Some(icmp)));
        for protocol in [1, 58] {
            assert_eq!(matches(&only, packet(protocol, 1, 1)), [is_it; 2], "{icmp:?}");
            assert_eq!(matches(&but, packet(protocol, 1, 1)), [!is_it; 2], "{icmp:?}");
        }
        assert_eq!(matches(&only, packet(6, 1, 1)), [false; 2]);
        assert_eq!(matches(&but, packet(6, 1, 1)), [false; 2]);
    }
}

#[test]
fn ports_of_either_end() {
    let ports = || vec![80..=80, 443..=445];
    for (port, is_in) in [(80, true), (81, false), (443, true), (445, true), (446, false), (0, false)] {
        for (protocol, has_ports) in [(6, true), (17, true), (132, true), (1, false), (47, false)] {
            let to = packet(protocol, 9, port);
            let from = packet(protocol, port, 9);
            let rule = of(|rule| rule.destination.ports = ports());
            assert_eq!(matches(&rule, to), [is_in && has_ports; 2]);
            let rule = of(|rule| rule.source.ports = ports());
            assert_eq!(matches(&rule, from), [is_in && has_ports; 2]);
            let rule = of(|rule| rule.destination.not_ports = ports());
            assert_eq!(matches(&rule, to), [!is_in && has_ports; 2]);
            let rule = of(|rule| rule.source.not_ports = ports());
            assert_eq!(matches(&rule, from), [!is_in && has_ports; 2]);
        }
    }
}

#[test]
fn named_ports_are_those_of_their_end() {
    let named = vec![PortSetId(0)];
    let to = of(|rule| rule.destination.named_ports.clone_from(&named));
    let from = of(|rule| rule.source.named_ports.clone_from(&named));
    let not_to = of(|rule| rule.destination.not_named_ports.clone_from(&named));
    let with_number = of(|rule| {
        rule.destination.named_ports.clone_from(&named);
        rule.destination.ports = vec![81..=81];
    });
    for (protocol, port, has) in [(6, 80, true), (6, 81, false), (17, 81, true), (132, 80, false)] {
        assert_eq!(matches(&to, packet(protocol, 9, port)), [false, has]);
        assert_eq!(matches(&from, packet(protocol, port, 9)), [has, false]);
        assert_eq!(matches(&not_to, packet(protocol, 9, port)), [true, !has]);
        assert_eq!(matches(&with_number, packet(protocol, 9, port)), [port == 81, port == 81 || has]);
    }
    assert_eq!(matches(&to, packet(1, 80, 80)), [false; 2]);
    let of_no_set = of(|rule| rule.destination.named_ports = vec![PortSetId(99)]);
    assert_eq!(matches(&of_no_set, packet(6, 9, 80)), [false; 2]);
}

#[test]
fn sets_of_either_end() {
    let id = |number| vec![SetId(number)];
    for (all_of, none_of, as_source, as_destination) in [
        (vec![id(0)], vec![], [true, false], [false, true]),
        (vec![id(1)], vec![], [true, true], [false, false]),
        (vec![id(0), id(1)], vec![], [true, false], [false, false]),
        (vec![vec![SetId(3), SetId(0)], id(2)], vec![], [true, false], [false, true]),
        (vec![id(2)], id(0), [false, true], [true, false]),
        (vec![], id(1), [false, false], [true, true]),
        (vec![id(3)], vec![], [false; 2], [false; 2]),
        (vec![vec![]], vec![], [false; 2], [false; 2]),
        (vec![], id(3), [true; 2], [true; 2]),
    ] {
        let side = Side { all_of, none_of, ..Side::default() };
        let source = of(|rule| rule.source = side.clone());
        assert_eq!(matches(&source, packet(6, 1, 1)), as_source, "source {side:?}");
        let destination = of(|rule| rule.destination = side.clone());
        assert_eq!(matches(&destination, packet(6, 1, 1)), as_destination, "destination {side:?}");
    }
}
