//! Many rules: the index decides, and logs, as the rules in turn.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::{IcmpMatch, IpVersion, PortSet, PortSetId};

/// The first identity that sets do not hold when segments are made.
const KNOWN: u32 = 48;
const SETS: u32 = 24;
const PORT_SETS: u32 = 4;

/// Mostly neighbours, so that blocks overlap; sometimes an end of the address space.
fn addresses() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        8 => (0u32..4096).prop_map(|low| v4(0x0a00_0000 | low)),
        4 => (0u128..4096).prop_map(|low| v6(0xfd00 << 112 | low)),
        1 => select(vec![v4(0), v4(1), v4(u32::MAX - 1), v4(u32::MAX)]),
        1 => select(vec![v6(0), v6(1), v6(u128::MAX - 1), v6(u128::MAX)]),
    ]
}

/// Single addresses, blocks of many sizes, whole families.
fn range() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    let size = prop_oneof![4 => Just(0u32), 3 => 0u32..12, 1 => 12u32..=32];
    (addresses(), size).prop_map(|(start, size)| match start {
        _ if size == 0 => (start, start),
        IpAddr::V4(_) if size == 32 => (v4(0), v4(u32::MAX)),
        IpAddr::V6(_) if size == 32 => (v6(0), v6(u128::MAX)),
        IpAddr::V4(first) => (start, v4(first.to_bits().saturating_add((1 << size) - 1))),
        IpAddr::V6(first) => (start, v6(first.to_bits().saturating_add((1 << size) - 1))),
    })
}

fn address_set() -> impl Strategy<Value = Arc<AddressSet>> {
    let identities = prop_oneof![
        4 => prop::collection::vec(0..KNOWN, 0..6),
        1 => prop::collection::vec(0..KNOWN, 0..200),
    ];
    let ranges = prop_oneof![3 => Just(vec![]), 2 => prop::collection::vec(range(), 0..10)];
    (identities, ranges).prop_map(|(identities, ranges)| {
        Arc::new(AddressSet::new(identities.into_iter().map(IdentityId), ranges))
    })
}

fn protocols() -> impl Strategy<Value = u8> {
    select(vec![6, 6, 6, 17, 132, 1, 58, 47])
}

fn ports() -> impl Strategy<Value = u16> {
    prop_oneof![6 => 0u16..24, 1 => (u16::MAX - 2)..=u16::MAX, 1 => any::<u16>()]
}

fn port_set() -> impl Strategy<Value = Arc<PortSet>> {
    let port = prop_oneof![5 => ports().prop_map(Some), 1 => Just(None)];
    let part = ((protocols(), port), address_set()).prop_map(|(port, set)| (port, (*set).clone()));
    prop::collection::vec(part, 0..6).prop_map(|parts| Arc::new(PortSet::new(parts)))
}

/// A few of them, mostly none.
fn rarely<T: Clone + std::fmt::Debug>(of: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
    prop_oneof![6 => Just(Vec::new()), 1 => prop::collection::vec(of, 1..3)]
}

fn side() -> impl Strategy<Value = Side> {
    let range = || {
        let range = (ports(), prop_oneof![3 => Just(0u16), 1 => 0u16..1000]);
        range.prop_map(|(start, size)| start..=start.saturating_add(size))
    };
    let set = || (0..SETS).prop_map(SetId);
    let list = prop_oneof![5 => prop::collection::vec(set(), 1..3), 1 => prop::collection::vec(set(), 0..8)];
    let port_set = || (0..PORT_SETS).prop_map(PortSetId);
    (
        prop_oneof![2 => Just(vec![]), 3 => prop::collection::vec(list, 1..3)],
        rarely(set()),
        prop_oneof![1 => Just(vec![]), 1 => prop::collection::vec(range(), 0..3)],
        rarely(port_set()),
        rarely(range()),
        rarely(port_set()),
    )
        .prop_map(|(all_of, none_of, ports, named_ports, not_ports, not_named_ports)| Side {
            all_of,
            none_of,
            ports,
            named_ports,
            not_ports,
            not_named_ports,
        })
}

fn sometimes<T: Clone + std::fmt::Debug>(of: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
    prop::option::weighted(0.1, of)
}

fn rule() -> impl Strategy<Value = Rule> {
    let actions = vec![Action::Allow, Action::Deny, Action::Pass, Action::Log, Action::Log];
    let icmp = || (sometimes(0u8..3), sometimes(0u8..2)).prop_map(|(kind, code)| IcmpMatch { kind, code });
    // The other side is rarely asked, and its source port less.
    let other = prop_oneof![4 => Just(Side::default()), 1 => side()];
    (
        (select(actions), prop::option::weighted(0.8, protocols()), sometimes(protocols())),
        sometimes(select(vec![IpVersion::V4, IpVersion::V6])),
        (sometimes(icmp()), sometimes(icmp())),
        (side(), other, any::<bool>()),
    )
        .prop_map(
            |((action, protocol, not_protocol), ip_version, (icmp, not_icmp), (one, other, way))| {
                let (source, destination) = if way { (one, other) } else { (other, one) };
                let id = RuleId::NONE; // Numbered once they stand in a segment.
                Rule { id, action, ip_version, protocol, not_protocol, icmp, not_icmp, source, destination }
            },
        )
}

/// A packet and who its ends are.
fn probe() -> impl Strategy<Value = (Tuple, [Option<u32>; 2])> {
    let end = || (addresses(), prop::option::weighted(0.7, 0..KNOWN + 4));
    (end(), end(), protocols(), ports(), ports(), (0u8..3, 0u8..2)).prop_map(
        |((src, source), (dst, destination), protocol, sport, dport, icmp)| {
            let icmp = [1, 58].contains(&protocol).then_some(icmp);
            (Tuple { src, dst, protocol, sport, dport, icmp }, [source, destination])
        },
    )
}

fn assert_same(segment: &Segment, policies: &Policies, tuple: &Tuple, ends: [Option<u32>; 2]) -> bool {
    let [source, destination] = ends.map(|identity| identity.map(IdentityId));
    let packet = Packet {
        policies,
        tuple,
        source: End { address: tuple.src, identity: source },
        destination: End { address: tuple.dst, identity: destination },
    };
    let (mut logged, mut expected) = (Vec::new(), Vec::new());
    let found = first_match(segment, &packet, &mut |rule| logged.push(rule));
    let in_turn = in_turn(segment, &packet, &mut |rule| expected.push(rule));
    assert_eq!((found, logged), (in_turn, expected), "{tuple:?} {ends:?}");
    found.is_some()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn index_decides_as_the_rules_in_turn(
        sets in prop::collection::vec(address_set(), SETS as usize),
        port_sets in prop::collection::vec(port_set(), PORT_SETS as usize),
        rules in prop::collection::vec(rule(), 1..120),
        policy_type in select(vec![PolicyType::Ingress, PolicyType::Egress]),
        later in prop::collection::vec((0..SETS, KNOWN..KNOWN + 4), 0..20),
        gone in prop::collection::vec((0..SETS, 0..KNOWN), 0..20),
        probes in prop::collection::vec(probe(), 64),
    ) {
        let rules = (0..).zip(rules).map(|(id, rule)| Rule { id: RuleId(id), ..rule });
        let rules: Vec<Rule> = rules.collect();
        let sets = sets.into_iter().collect();
        let mut policies = Policies { sets, port_sets: port_sets.into_iter().collect(), ..Policies::default() };
        let segment = segment(&policies, policy_type, &rules, KNOWN);
        // Members come and go without the segment being told.
        for (set, identity) in later {
            let changed = policies.sets[set].with_identity(IdentityId(identity));
            policies.sets.set(set, Arc::new(changed));
        }
        for (set, identity) in gone {
            let changed = policies.sets[set].without_identity(IdentityId(identity));
            policies.sets.set(set, Arc::new(changed));
        }
        for (tuple, ends) in probes {
            assert_same(&segment, &policies, &tuple, ends);
        }
    }
}

/// Rule `n` decides for its own port and its own set, every seventh the same for anybody.
fn large(rules: u32, set: impl Fn(u32) -> AddressSet, known: u32) -> (Policies, Segment) {
    let mut policies = Policies::default();
    for n in 0..rules {
        policies.sets.set(n, Arc::new(set(n)));
    }
    let rule = |n: u32| Rule {
        id: RuleId(n),
        action: if n.is_multiple_of(5) { Action::Deny } else { Action::Allow },
        protocol: (!n.is_multiple_of(11)).then_some(if n.is_multiple_of(3) { 17 } else { 6 }),
        source: Side {
            all_of: if n.is_multiple_of(7) { vec![] } else { vec![vec![SetId(n)]] },
            ..Side::default()
        },
        destination: Side { ports: vec![port_of(n)..=port_of(n) + (n % 2) as u16 * 50], ..Side::default() },
        ..Rule::default()
    };
    let segment = segment(&policies, PolicyType::Ingress, &(0..rules).map(rule).collect::<Vec<_>>(), known);
    (policies, segment)
}

fn port_of(n: u32) -> u16 {
    (n * 37 % 9973) as u16
}

fn assert_same_on_large(
    policies: &Policies,
    segment: &Segment,
    rules: u32,
    peer: impl Fn(u32) -> (IpAddr, Option<u32>),
) {
    assert!(!segment.is_linear(), "a large segment has an index");
    let mut decided = 0;
    for n in 0..rules {
        for (protocol, dport) in [(6, port_of(n)), (17, port_of(n)), (6, port_of(n) + 1), (132, port_of(n))] {
            let (src, identity) = peer(n);
            let tuple = Tuple { protocol, ..tuple(src, v4(0x0b00_0001), dport) };
            decided += u32::from(assert_same(segment, policies, &tuple, [identity, None]));
        }
    }
    assert!(
        decided > rules / 2 && decided < 3 * rules,
        "{decided} of {rules} rules: probes that prove little"
    );
}

/// How many rules the index names for a TCP packet.
fn candidates(segment: &Segment, peer: &End, dport: u16) -> usize {
    let of_index = |index: &crate::policy::Index| {
        let mut count = 0;
        let found: Option<()> = index.find((6, dport), peer, |_| {
            count += 1;
            None
        });
        assert_eq!(found, None);
        count
    };
    segment.indexes().map(|(index, _)| of_index(index)).sum()
}

#[test]
fn many_identities() {
    // More rules than one index takes, and identities that few and many rules name.
    let (rules, known) = (5000, 3000);
    let member = |n: u32, i: u32| (n.wrapping_mul(2_654_435_761) >> 7).wrapping_add(i * 97) % known;
    let set = |n| AddressSet::new((0..20).map(|i| IdentityId(member(n, i))), []);
    let (policies, segment) = large(rules, set, known);
    assert_same_on_large(&policies, &segment, rules, |n| (v4(n), Some(member(n, n % 20))));
    let end = |n: u32| End { address: v4(n), identity: Some(IdentityId(member(n, n % 20))) };
    let named: usize = (0..rules).map(|n| candidates(&segment, &end(n), port_of(n))).sum();
    assert!(named < 4 * rules as usize, "{named} rules asked for {rules} packets");
    let bytes_a_rule = segment.bytes() / rules as usize;
    assert!(bytes_a_rule < 1000, "{bytes_a_rule} bytes a rule of 20 identities");
}

#[test]
fn blocks_in_blocks() {
    let rules = 1200;
    let block = |n: u32| {
        let (start, bits) = (0x0a00_0000 + n * 16, n % 20);
        let (start, last) = (start >> bits << bits, start | ((1 << bits) - 1));
        (v4(start), v4(last))
    };
    let (policies, segment) = large(rules, |n| AddressSet::new([], [block(n)]), 0);
    assert_same_on_large(&policies, &segment, rules, |n| (block(n).1, None));
    assert_same_on_large(&policies, &segment, rules, |n| (block(n).0, None));
}

#[test]
fn largest_peer_lists_are_left_out_of_the_index() {
    let rules = 96;
    let scattered = |n: u32, i: u32| v4(0x0a00_0000 | (n << 18) | (3 * i));
    let ranges = |n: u32, count: u32| (0..count).map(move |i| (scattered(n, i), scattered(n, i)));
    let (policies, segment) = large(rules, |n| AddressSet::new([], ranges(n, n * 40)), 0);
    assert_same_on_large(&policies, &segment, rules, |n| (scattered(n, n / 2), None));
    let small = large(rules, |n| AddressSet::new([], ranges(n, 8)), 0).1;
    assert!(segment.bytes() < 8 * small.bytes(), "{} {}", segment.bytes(), small.bytes());
}
