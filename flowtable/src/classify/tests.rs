//! Indexed against linear classification: one decision, by the same policy and rule.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::{AddressSet, PortSet};

fn v4(bits: u32) -> IpAddr {
    Ipv4Addr::from_bits(bits).into()
}

fn v6(bits: u128) -> IpAddr {
    Ipv6Addr::from_bits(bits).into()
}

/// Mostly neighbours, so that blocks overlap; sometimes an end of the address space.
fn addresses() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        8 => (0u32..4096).prop_map(|low| v4(0x0a00_0000 | low)),
        4 => (0u128..4096).prop_map(|low| v6(0xfd00 << 112 | low)),
        1 => select(vec![v4(0), v4(1), v4(u32::MAX - 1), v4(u32::MAX)]),
        1 => select(vec![v6(0), v6(1), v6(u128::MAX - 1), v6(u128::MAX)]),
    ]
}

/// Single addresses, blocks of many sizes, whole families; sometimes nobody.
fn address_set() -> impl Strategy<Value = Arc<AddressSet>> {
    let size = prop_oneof![4 => Just(0u32), 3 => 0u32..12, 1 => 12u32..=32];
    let range = (addresses(), size).prop_map(|(start, size)| match start {
        _ if size == 0 => (start, start),
        IpAddr::V4(_) if size == 32 => (v4(0), v4(u32::MAX)),
        IpAddr::V6(_) if size == 32 => (v6(0), v6(u128::MAX)),
        IpAddr::V4(first) => (start, v4(first.to_bits().saturating_add((1 << size) - 1))),
        IpAddr::V6(first) => (start, v6(first.to_bits().saturating_add((1 << size) - 1))),
    });
    prop::collection::vec(range, 0..16).prop_map(|ranges| Arc::new(AddressSet::from_ranges(ranges)))
}

fn protocols() -> impl Strategy<Value = u8> {
    select(vec![6, 6, 6, 17, 132, 1, 47])
}

fn ports() -> impl Strategy<Value = u16> {
    prop_oneof![6 => 0u16..24, 1 => (u16::MAX - 2)..=u16::MAX, 1 => any::<u16>()]
}

fn port_set() -> impl Strategy<Value = Arc<PortSet>> {
    let triples = prop::collection::vec((addresses(), protocols(), ports()), 0..12);
    triples.prop_map(|triples| Arc::new(PortSet::from_iter(triples)))
}

fn action() -> impl Strategy<Value = Action> {
    select(vec![Action::Allow, Action::Deny, Action::Pass])
}

/// Rules that share what the pools hold.
fn rule(sets: Vec<Arc<AddressSet>>, named: Vec<Arc<PortSet>>) -> impl Strategy<Value = Rule> {
    let range = (ports(), prop_oneof![3 => Just(0u16), 1 => 0u16..1000]);
    let range = range.prop_map(|(start, size)| start..=start.saturating_add(size));
    (
        action(),
        prop::option::weighted(0.8, protocols()),
        prop::collection::vec(select(sets), 0..3),
        prop::collection::vec(range, 0..3),
        prop_oneof![3 => Just(vec![]), 1 => prop::collection::vec(select(named), 1..3)],
    )
        .prop_map(|(action, protocol, peers, ports, named_ports)| {
            let index = 0; // Numbered once they stand in their policy.
            Rule { action, index, protocol, peers, ports, named_ports }
        })
}

fn policy(rules: Vec<Rule>) -> Arc<Policy> {
    let rules = (0..).zip(rules).map(|(index, rule)| Rule { index, ..rule }).collect();
    Arc::new(Policy { name: "ns/policy".into(), rules })
}

fn tiers() -> impl Strategy<Value = Vec<Tier>> {
    let pools = (prop::collection::vec(address_set(), 1..24), prop::collection::vec(port_set(), 1..4));
    let policies = pools.prop_flat_map(|(sets, named)| {
        let rules = prop::collection::vec(rule(sets, named), 0..12);
        let policies = prop::collection::vec(rules.prop_map(policy), 1..20);
        prop::collection::vec((policies, select(vec![Action::Deny, Action::Pass])), 0..4)
    });
    let tier = |(policies, end)| Tier { name: "tier".into(), policies, end };
    policies.prop_map(move |tiers| tiers.into_iter().map(tier).collect())
}

fn tuple(peer: IpAddr, own: IpAddr, protocol: u8, dport: u16) -> Tuple {
    Tuple { src: peer, dst: own, protocol, sport: 40_000, dport }
}

fn assert_same(program: &Program, index: &Index, tuple: &Tuple, peer: IpAddr) {
    let told =
        |decision: Decision<'_>| (decision.verdict, decision.policy.map(std::ptr::from_ref), decision.rule);
    let linear = told(evaluate_linear(program, tuple, peer));
    assert_eq!(told(evaluate_indexed(program, index, tuple, peer)), linear, "{tuple:?}");
}

proptest! {
    #[test]
    fn index_decides_as_the_rules_in_turn(
        tiers in tiers(),
        probes in prop::collection::vec((addresses(), addresses(), protocols(), ports()), 64),
    ) {
        let index = Index::of(&tiers);
        let program = Program::new(tiers);
        for (src, dst, protocol, dport) in probes {
            let tuple = tuple(src, dst, protocol, dport);
            assert_same(&program, &index, &tuple, src);
            assert_same(&program, &index, &tuple, dst);
        }
    }
}

/// Rule `n` allows its own port from its own addresses, every seventh the same from anywhere, the last all.
fn large(rules: u32, peers: impl Fn(u32) -> AddressSet) -> Program {
    let rule = |n: u32| Rule {
        action: if n.is_multiple_of(5) { Action::Deny } else { Action::Allow },
        index: 0,
        protocol: (!n.is_multiple_of(11)).then_some(if n.is_multiple_of(3) { 17 } else { 6 }),
        peers: if n.is_multiple_of(7) { vec![] } else { vec![Arc::new(peers(n))] },
        ports: vec![port_of(n)..=port_of(n) + (n % 2) as u16 * 50],
        named_ports: vec![],
    };
    let policies = (0..rules / 4).map(|p| policy((4 * p..4 * p + 4).map(rule).collect())).collect();
    let tier = Tier { name: "default".into(), policies, end: Action::Deny };
    Program::new(vec![tier])
}

fn port_of(n: u32) -> u16 {
    (n * 37 % 9973) as u16
}

/// How many rules the index names for a TCP packet that none of them ends.
fn candidates(program: &Program, peer: IpAddr, dport: u16) -> usize {
    let index = program.index().unwrap();
    let mut candidates = index.candidates(6, dport, peer);
    let mut positions = index.tier(0);
    let next = || {
        let position = candidates.first_in(positions.clone())?;
        positions.start = position + 1;
        Some(position)
    };
    std::iter::from_fn(next).count()
}

fn assert_same_on_large(program: &Program, rules: u32, peer: impl Fn(u32) -> IpAddr) {
    let index = program.index().expect("a large program has an index");
    let mut allowed = 0;
    for n in 0..rules {
        for (protocol, dport) in [(6, port_of(n)), (17, port_of(n)), (6, port_of(n) + 1), (132, port_of(n))] {
            let tuple = tuple(peer(n), v4(0x0a01_0001), protocol, dport);
            assert_same(program, index, &tuple, tuple.src);
            let allows = evaluate(program, &tuple, tuple.src).verdict == Verdict::Allow;
            allowed += u32::from(allows);
        }
    }
    assert!(
        allowed > rules / 2 && allowed < 3 * rules,
        "{allowed} of {rules} rules: probes that prove little"
    );
}

#[test]
fn more_ports_than_classes_and_more_addresses_than_a_node_holds() {
    let rules = 2400;
    let scattered = |n: u32, i: u32| {
        let random = n.wrapping_mul(2_654_435_761) >> 7;
        v4(0x0a00_0000 + random.wrapping_add(i * 97) % 60_000)
    };
    let peers = |n| AddressSet::from_addresses((0..20).map(|i| scattered(n, i)));
    let program = large(rules, peers);
    assert_same_on_large(&program, rules, |n| scattered(n, n % 20));
    let candidates: usize = (0..rules).map(|n| candidates(&program, scattered(n, n % 20), port_of(n))).sum();
    assert!(candidates < 4 * rules as usize, "{candidates} rules asked for {rules} packets");
    let bytes_a_rule = program.index_bytes() / rules as usize;
    assert!(bytes_a_rule < 600, "{bytes_a_rule} bytes a rule of 20 addresses");
}

#[test]
fn blocks_in_blocks() {
    let rules = 1200;
    let block = |n: u32| {
        let (start, bits) = (0x0a00_0000 + n * 16, n % 20);
        let (start, last) = (start >> bits << bits, start | ((1 << bits) - 1));
        (v4(start), v4(last))
    };
    let program = large(rules, |n| AddressSet::from_ranges([block(n)]));
    assert_same_on_large(&program, rules, |n| block(n).1);
    assert_same_on_large(&program, rules, |n| block(n).0);
}

#[test]
fn more_blocks_than_the_tree_has_nodes_for() {
    let rules = 96;
    let block = |n: u32, i: u32| {
        let random = (n * 200 + i).wrapping_mul(2_654_435_761) >> 8;
        let (start, bits) = (0x0a00_0000 | random, 1 + random % 9);
        let (first, last) = (start >> bits << bits, start | ((1 << bits) - 1));
        (first, last)
    };
    let peers = |n| AddressSet::from_ranges((0..200).map(|i| block(n, i)).map(|(a, b)| (v4(a), v4(b))));
    let program = large(rules, peers);
    for of in [|(first, _): (u32, u32)| first, |(_, last)| last, |(first, _)| first - 1, |(_, last)| last + 1]
    {
        let index = program.index().unwrap();
        for n in 0..rules {
            for i in 0..200 {
                let tuple = tuple(v4(of(block(n, i))), v4(0x0b00_0001), 6, port_of(n));
                assert_same(&program, index, &tuple, tuple.src);
            }
        }
    }
    assert!(program.index_bytes() < 96 * (256 * 16 + 200 * 2 * 9), "{}", program.index_bytes());
}

#[test]
fn largest_peer_lists_are_left_out_of_the_index() {
    let rules = 96;
    let scattered = |n: u32, i: u32| v4(0x0a00_0000 | (n << 18) | (3 * i));
    let program = large(rules, |n| AddressSet::from_addresses((0..n * 40).map(|i| scattered(n, i))));
    assert_same_on_large(&program, rules, |n| scattered(n, n / 2));
    let small = large(rules, |n| AddressSet::from_addresses((0..256).map(|i| scattered(n, i))));
    assert!(program.index_bytes() < 2 * small.index_bytes());
}

#[test]
fn small_program_has_no_index_and_equality_does_not_ask_it() {
    let of = |rules| large(rules, |n| AddressSet::from_addresses([v4(n)]));
    assert_eq!((of(8).index_bytes(), of(8)), (0, of(8)));
    assert_ne!(of(400).index_bytes(), 0);
    assert_eq!(of(400), of(400));
    assert_ne!(of(400), of(404));
}
