//! Sets against sets of numbers.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn v4(a: u32, b: u32) -> (IpAddr, IpAddr) {
    (IpAddr::V4(a.into()), IpAddr::V4(b.into()))
}

#[test]
fn ranges_merge_and_contain() {
    let ranges = [v4(10, 20), v4(21, 30), v4(5, 5), v4(28, 40), v4(u32::MAX, u32::MAX)];
    let set = AddressSet::new([], ranges);
    assert!(set.ranges().eq([v4(5, 5), v4(10, 40), v4(u32::MAX, u32::MAX)]));
    for (value, inside) in
        [(4, false), (5, true), (6, false), (10, true), (40, true), (41, false), (u32::MAX, true)]
    {
        let end = End { address: IpAddr::V4(value.into()), identity: None };
        assert_eq!(set.contains(&end), inside, "{value}");
    }
}

#[test]
fn end_is_held_by_identity_or_address() {
    let set = AddressSet::new([IdentityId(3)], [v4(10, 20)]);
    for (address, identity, inside) in
        [(10, None, true), (9, None, false), (9, Some(3), true), (9, Some(4), false), (10, Some(4), true)]
    {
        let end = End { address: IpAddr::V4(address.into()), identity: identity.map(IdentityId) };
        assert_eq!(set.contains(&end), inside, "{end:?}");
    }
    assert!(AddressSet::new([], []).is_empty());
    assert!(!set.without_identity(IdentityId(3)).is_empty());
}

#[test]
fn port_set_forgets_ports_that_nobody_has() {
    let (one, two) = (IdentityId(1), IdentityId(2));
    let set = PortSet::default().with_identity((6, Some(80)), one).with_identity((6, Some(80)), two);
    let set = set.with_identity((17, None), one);
    let end = |identity| End { address: v4(1, 1).0, identity: Some(identity) };
    for (identity, protocol, port, has) in
        [(one, 6, 80, true), (two, 6, 80, true), (two, 6, 81, false), (one, 17, 9, true), (two, 17, 9, false)]
    {
        assert_eq!(set.contains(&end(identity), protocol, port), has, "{identity} {protocol} {port}");
    }
    let without = set.without_identity(one);
    assert!(without.iter().map(|(port, _)| port).eq([(6, Some(80))]));
    assert!(without.without_identity(two).is_empty());
}

/// Numbers close together, so that bitmaps pay, or far apart; bitmaps also where the first is large.
fn numbers() -> impl Strategy<Value = u32> {
    prop_oneof![6 => 0u32..300, 3 => 1_000_000u32..1_000_300, 1 => any::<u32>()]
}

proptest! {
    #[test]
    fn identity_set_is_a_set(
        first in prop::collection::vec(numbers(), 0..200),
        changes in prop::collection::vec((any::<bool>(), numbers()), 0..200),
    ) {
        let mut set: IdentitySet = first.iter().copied().map(IdentityId).collect();
        let mut model: BTreeSet<u32> = first.into_iter().collect();
        for (joins, number) in changes {
            let before = (set.clone(), model.clone());
            let id = IdentityId(number);
            if joins {
                set = set.with(id);
                model.insert(number);
            } else {
                set = set.without(id);
                model.remove(&number);
            }
            prop_assert!(before.0.iter().map(|id| id.0).eq(before.1));
            prop_assert_eq!(set.contains(id), joins);
            prop_assert_eq!(set.len(), model.len());
            prop_assert_eq!(&set, &model.iter().copied().map(IdentityId).collect::<IdentitySet>());
        }
        prop_assert!(set.iter().map(|id| id.0).eq(model.iter().copied()));
        for number in (0..310).chain(999_990..1_000_310).chain([u32::MAX]) {
            prop_assert_eq!(set.contains(IdentityId(number)), model.contains(&number));
        }
    }
}
