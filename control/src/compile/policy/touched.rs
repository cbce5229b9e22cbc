//! Which flows a change can affect.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use margay_flowtable::Interface;
use margay_flowtable::snapshot::Epochs;

/// Pairs that one change touches at most; where there would be more, it touches the endpoints.
const MOST_PAIRS: usize = 4096;

/// Addresses whose flows, pairs of addresses between whom the flows, and interfaces through which the flows have to be
/// judged again.
#[derive(Clone, Debug, Default)]
pub struct Touched {
    addresses: HashSet<IpAddr>,
    pairs: HashSet<(IpAddr, IpAddr)>,
    interfaces: BTreeSet<Interface>,
}

impl Touched {
    pub(super) fn address(&mut self, address: IpAddr) {
        self.addresses.insert(address);
    }

    pub(super) fn interface(&mut self, interface: Interface) {
        self.interfaces.insert(interface);
    }

    /// Touches the flows through the interface that have an end in the ranges.
    pub(super) fn through(&mut self, interface: Interface, ranges: &[(IpAddr, IpAddr)]) {
        if ranges.iter().map(size).fold(0, usize::saturating_add) > MOST_PAIRS {
            return self.interface(interface);
        }
        self.addresses.extend(ranges.iter().copied().flat_map(addresses));
    }

    /// Touches what changes where the ranges join or leave a set that the endpoints' rules name: flows between each of
    /// the endpoints and each address of the ranges, and all flows of an endpoint that is itself in the ranges, for rules
    /// name their own end too.
    pub(super) fn between(&mut self, endpoints: &[IpAddr], ranges: &[(IpAddr, IpAddr)]) {
        let is_in = |endpoint: &&IpAddr| ranges.iter().any(|(first, last)| (first..=last).contains(endpoint));
        self.addresses.extend(endpoints.iter().filter(is_in));
        if endpoints.is_empty() {
            return;
        }
        let peers = ranges.iter().map(size).fold(0, usize::saturating_add);
        if endpoints.len().saturating_mul(peers) > MOST_PAIRS {
            return self.addresses.extend(endpoints);
        }
        for peer in ranges.iter().copied().flat_map(addresses) {
            self.pairs.extend(endpoints.iter().map(|endpoint| (*endpoint, peer)));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.pairs.is_empty() && self.interfaces.is_empty()
    }

    /// Marks all of it.
    pub fn mark(&self, epochs: &mut Epochs) {
        self.addresses.iter().for_each(|address| epochs.touch(*address));
        self.pairs.iter().for_each(|&(a, b)| epochs.touch_pair(a, b));
        self.interfaces.iter().for_each(|interface| epochs.touch_interface(*interface));
    }
}

fn size(range: &(IpAddr, IpAddr)) -> usize {
    let last = match *range {
        (IpAddr::V4(a), IpAddr::V4(b)) => u128::from(b.to_bits() - a.to_bits()),
        (IpAddr::V6(a), IpAddr::V6(b)) => b.to_bits() - a.to_bits(),
        _ => return 0,
    };
    usize::try_from(last).unwrap_or(usize::MAX).saturating_add(1)
}

fn addresses(range: (IpAddr, IpAddr)) -> Box<dyn Iterator<Item = IpAddr>> {
    match range {
        (IpAddr::V4(a), IpAddr::V4(b)) => Box::new((a.to_bits()..=b.to_bits()).map(|a| IpAddr::V4(a.into()))),
        (IpAddr::V6(a), IpAddr::V6(b)) => Box::new((a.to_bits()..=b.to_bits()).map(|a| IpAddr::V6(a.into()))),
        _ => Box::new(std::iter::empty()),
    }
}
