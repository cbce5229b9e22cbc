//! Persistent maps against those of the standard library, while clones are held: a clone never changes.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use margay_flowtable::{Addresses, EndpointId, Holder, IdentityId, Paged};
use proptest::prelude::*;

fn address(number: u32, is_v6: bool) -> IpAddr {
    if is_v6 {
        Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(number)).into()
    } else {
        Ipv4Addr::from_bits(number).into()
    }
}

fn holder(number: u32) -> Holder {
    Holder { identity: IdentityId(number), endpoint: number.is_multiple_of(3).then_some(EndpointId(number)) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn paged_is_a_map(changes in prop::collection::vec((0u32..20_000, any::<Option<u16>>(), 0..50), 1..400)) {
        let (mut paged, mut model) = (Paged::default(), BTreeMap::new());
        let mut clones = Vec::new();
        for (index, value, clone) in changes {
            if clone == 0 {
                clones.push((paged.clone(), model.clone()));
            }
            let (before, expected) = if let Some(value) = value {
                (paged.set(index, value), model.insert(index, value))
            } else {
                (paged.remove(index), model.remove(&index))
            };
            prop_assert_eq!(before, expected);
        }
        clones.push((paged, model));
        for (paged, model) in clones {
            prop_assert_eq!(paged.len(), model.len());
            prop_assert!(paged.iter().map(|(index, value)| (index, *value)).eq(model.clone()));
            prop_assert!((0..20_000).all(|index| paged.get(index) == model.get(&index)));
        }
    }

    #[test]
    fn addresses_are_a_map(
        changes in prop::collection::vec((0u32..3000, any::<bool>(), any::<Option<u16>>(), 0..500), 1..4000),
    ) {
        let (mut addresses, mut model) = (Addresses::default(), HashMap::new());
        let mut clones = Vec::new();
        for (number, is_v6, value, clone) in changes {
            if clone == 0 {
                clones.push((addresses.clone(), model.clone()));
            }
            let address = address(number, is_v6);
            let (before, expected) = if let Some(value) = value {
                let holder = holder(value.into());
                (addresses.insert(address, holder), model.insert(address, holder))
            } else {
                (addresses.remove(address), model.remove(&address))
            };
            prop_assert_eq!(before, expected);
        }
        clones.push((addresses, model));
        for (addresses, model) in clones {
            prop_assert_eq!(addresses.len(), model.len());
            prop_assert_eq!(addresses.iter().collect::<HashMap<_, _>>(), model.clone());
            for number in 0..3000 {
                for address in [address(number, false), address(number, true)] {
                    prop_assert_eq!(addresses.get(address), model.get(&address).copied());
                }
            }
        }
    }
}

#[test]
fn many_addresses_come_and_go() {
    let mut addresses = Addresses::default();
    for number in 0..60_000 {
        for is_v6 in [false, true] {
            assert_eq!(addresses.insert(address(number, is_v6), holder(number)), None);
        }
    }
    let full = addresses.clone();
    for number in (0..60_000).filter(|number| number % 7 != 0) {
        for is_v6 in [false, true] {
            assert_eq!(addresses.remove(address(number, is_v6)), Some(holder(number)));
        }
    }
    for number in 0..60_000 {
        for is_v6 in [false, true] {
            let address = address(number, is_v6);
            assert_eq!(full.get(address), Some(holder(number)));
            assert_eq!(addresses.get(address), (number % 7 == 0).then(|| holder(number)));
        }
    }
    assert_ne!(full, addresses);
    for number in (0..60_000).rev().filter(|number| number % 7 != 0) {
        for is_v6 in [true, false] {
            addresses.insert(address(number, is_v6), holder(number));
        }
    }
    assert_eq!(full, addresses, "equal by content, whatever the order of changes");
}
