//! Which flows the step from one snapshot to the next can affect: what `succeed` stamps.
//!
//! Compared are the programs of endpoints, rule by rule. Where two differ only in the members of address sets, the
//! flows that can change are those between the endpoint and the addresses that joined or left; where they differ in
//! anything else, all flows of the endpoint.

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::Snapshot;
use crate::policy::{Program, Rule};
use crate::{AddressSet, Endpoint};

type Range = (IpAddr, IpAddr);

/// Pairs of endpoint and address that one change stamps at most; where there are more, it stamps the endpoints.
const MOST_PAIRS: u128 = 4096;

pub(super) fn stamp(next: &mut Snapshot, previous: &Snapshot) {
    let (old, new) = (&previous.endpoints, &next.endpoints);
    let (epochs, generation) = (&mut next.epochs, next.generation);
    for (address, _) in old.iter().filter(|(address, _)| new.get(*address).is_none()) {
        epochs.stamp(address, generation);
    }
    let mut members = Members::default();
    let mut pairs: Vec<(IpAddr, Arc<[Range]>)> = Vec::new();
    for (address, endpoint) in new.iter() {
        match old.get(address).and_then(|before| members.that_changed(before, endpoint)) {
            Some(ranges) if ranges.is_empty() => {}
            Some(ranges) => pairs.push((address, ranges)),
            None => epochs.stamp(address, generation),
        }
    }
    let count = pairs
        .iter()
        .flat_map(|(_, ranges)| ranges.iter())
        .fold(0, |sum: u128, range| sum.saturating_add(size(range)));
    for (endpoint, ranges) in pairs {
        if count > MOST_PAIRS {
            epochs.stamp(endpoint, generation);
            continue;
        }
        for peer in ranges.iter().flat_map(addresses) {
            epochs.stamp_pair(endpoint, peer, generation);
        }
    }
}

/// Changes of set members, each program and set compared once however many endpoints share it.
#[derive(Default)]
struct Members {
    programs: HashMap<(usize, usize), Option<Arc<[Range]>>>,
}

impl Members {
    /// The addresses that joined or left a set that either direction's program asks; `None` where more has changed.
    fn that_changed(&mut self, old: &Arc<Endpoint>, new: &Arc<Endpoint>) -> Option<Arc<[Range]>> {
        if Arc::ptr_eq(old, new) {
            return Some(Arc::default());
        }
        if old.name != new.name || old.node_addresses != new.node_addresses {
            return None;
        }
        let egress = self.of_programs(&old.egress, &new.egress)?;
        let ingress = self.of_programs(&old.ingress, &new.ingress)?;
        Some(match (egress.is_empty(), ingress.is_empty()) {
            (true, _) => ingress,
            (_, true) => egress,
            _ => egress.iter().chain(ingress.iter()).copied().collect(),
        })
    }

    fn of_programs(&mut self, old: &Arc<Program>, new: &Arc<Program>) -> Option<Arc<[Range]>> {
        let identity = (Arc::as_ptr(old).addr(), Arc::as_ptr(new).addr());
        self.programs.entry(identity).or_insert_with(|| compare(old, new)).clone()
    }
}

fn compare(old: &Arc<Program>, new: &Arc<Program>) -> Option<Arc<[Range]>> {
    let mut pairs = Vec::new();
    if !Arc::ptr_eq(old, new) && !same_shape(old, new, &mut pairs) {
        return None;
    }
    let mut compared = HashSet::new();
    let changed = pairs.into_iter().filter(|(old, new)| !Arc::ptr_eq(old, new));
    let once =
        changed.filter(|(old, new)| compared.insert((Arc::as_ptr(old).addr(), Arc::as_ptr(new).addr())));
    Some(once.flat_map(|(old, new)| old.difference_ranges(new)).collect())
}

type SetPairs<'a> = Vec<(&'a Arc<AddressSet>, &'a Arc<AddressSet>)>;

/// Whether both programs ask the same in the same order, sets' members aside; `pairs` gets the sets to compare.
fn same_shape<'a>(old: &'a Program, new: &'a Program, pairs: &mut SetPairs<'a>) -> bool {
    same_length_and(old.tiers(), new.tiers(), |old, new| {
        old.name == new.name
            && old.end == new.end
            && same_length_and(&old.policies, &new.policies, |old, new| {
                old.name == new.name
                    && same_length_and(&old.rules, &new.rules, |old, new| same_rule(old, new, pairs))
            })
    })
}

fn same_rule<'a>(old: &'a Rule, new: &'a Rule, pairs: &mut SetPairs<'a>) -> bool {
    pairs.extend(old.peers.iter().zip(&new.peers));
    old.peers.len() == new.peers.len()
        && (old.action, old.index, old.protocol) == (new.action, new.index, new.protocol)
        && old.ports == new.ports
        && old.named_ports == new.named_ports
}

fn same_length_and<'a, T>(old: &'a [T], new: &'a [T], mut same: impl FnMut(&'a T, &'a T) -> bool) -> bool {
    old.len() == new.len() && old.iter().zip(new).all(|(old, new)| same(old, new))
}

fn size(range: &Range) -> u128 {
    match *range {
        (IpAddr::V4(a), IpAddr::V4(b)) => u128::from(b.to_bits() - a.to_bits()) + 1,
        (IpAddr::V6(a), IpAddr::V6(b)) => (b.to_bits() - a.to_bits()).saturating_add(1),
        _ => 0,
    }
}

fn addresses(range: &Range) -> Box<dyn Iterator<Item = IpAddr>> {
    match *range {
        (IpAddr::V4(a), IpAddr::V4(b)) => Box::new((a.to_bits()..=b.to_bits()).map(|a| IpAddr::V4(a.into()))),
        (IpAddr::V6(a), IpAddr::V6(b)) => Box::new((a.to_bits()..=b.to_bits()).map(|a| IpAddr::V6(a.into()))),
        _ => Box::new(std::iter::empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Action, Policy, Tier};

    const ENDPOINT: [u8; 4] = [10, 0, 0, 1];

    fn bits(address: [u8; 4]) -> u32 {
        u32::from_be_bytes(address)
    }

    fn snapshot(peers: &[[u8; 4]], port: u16) -> Snapshot {
        let set = AddressSet::from_addresses(peers.iter().map(|a| IpAddr::from(*a)));
        ranges(set, port)
    }

    fn ranges(set: AddressSet, port: u16) -> Snapshot {
        let rule = Rule {
            action: Action::Allow,
            index: 0,
            protocol: Some(6),
            peers: vec![Arc::new(set)],
            ports: vec![port..=port],
            named_ports: vec![],
        };
        let policy = Arc::new(Policy { name: "ns/p".into(), rules: vec![rule] });
        let tier = Tier { name: "default".into(), policies: vec![policy], end: Action::Deny };
        let endpoint = Endpoint {
            name: "ns/pod".into(),
            egress: Arc::default(),
            ingress: Arc::new(Program::new(vec![tier])),
            node_addresses: [].into(),
        };
        let mut snapshot = Snapshot::default();
        snapshot.endpoints.insert(ENDPOINT.into(), Arc::new(endpoint));
        snapshot
    }

    /// For each peer, whether its flow with the endpoint, and with a bystander, is still current after the step.
    fn current(before: &Snapshot, mut after: Snapshot, peer: [u8; 4]) -> (bool, bool) {
        after.succeed(before);
        let bystander = [10, 9, 9, 9];
        (
            after.epochs.current4(bits(peer), bits(ENDPOINT), before.generation),
            after.epochs.current4(bits(peer), bits(bystander), before.generation),
        )
    }

    #[test]
    fn joining_and_leaving_a_set_touches_the_pair_alone() {
        let before = snapshot(&[[10, 0, 0, 2], [10, 0, 0, 3]], 80);
        let after = || snapshot(&[[10, 0, 0, 3], [10, 0, 0, 4]], 80);
        assert_eq!(current(&before, after(), [10, 0, 0, 2]), (false, true), "left");
        assert_eq!(current(&before, after(), [10, 0, 0, 4]), (false, true), "joined");
        assert_eq!(current(&before, after(), [10, 0, 0, 3]), (true, true), "stayed");
        assert_eq!(current(&before, after(), [10, 0, 0, 5]), (true, true), "never a member");
    }

    #[test]
    fn another_rule_touches_the_endpoint() {
        let before = snapshot(&[[10, 0, 0, 2]], 80);
        assert_eq!(current(&before, snapshot(&[[10, 0, 0, 2]], 81), [10, 7, 7, 7]), (false, true));
        assert_eq!(current(&before, Snapshot::default(), [10, 7, 7, 7]), (false, true), "endpoint gone");
        assert_eq!(current(&Snapshot::default(), before, [10, 7, 7, 7]), (false, true), "endpoint new");
    }

    #[test]
    fn large_block_touches_the_endpoint() {
        let before = snapshot(&[[10, 0, 0, 2]], 80);
        let all = AddressSet::from_ranges([(IpAddr::from([0; 4]), IpAddr::from([255; 4]))]);
        assert_eq!(current(&before, ranges(all, 80), [1, 2, 3, 4]), (false, true));
    }

    #[test]
    fn nothing_changed_touches_nothing() {
        let before = snapshot(&[[10, 0, 0, 2]], 80);
        assert_eq!(current(&before, snapshot(&[[10, 0, 0, 2]], 80), [10, 0, 0, 2]), (true, true));
    }
}
