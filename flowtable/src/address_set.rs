//! Sets of packet ends that policy rules refer to: identities, and ranges of addresses.

mod identities;
mod ports;
mod ranges;

use std::net::IpAddr;

pub use self::identities::IdentitySet;
pub use self::ports::{PortSet, ProtocolPort};
pub(crate) use self::ranges::Family;
use self::ranges::Ranges;
use crate::IdentityId;

/// One end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    pub address: IpAddr,
    /// Of who holds the address, if it is one whom selectors can select.
    pub identity: Option<IdentityId>,
}

/// Holds an end by its identity or by its address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressSet {
    identities: IdentitySet,
    /// Apart, for most sets have none.
    ranges: Option<Box<Ranges>>,
}

impl AddressSet {
    /// Takes inclusive ranges in any order; both ends of a range are of one family and ascending.
    pub fn new(
        identities: impl IntoIterator<Item = IdentityId>,
        ranges: impl IntoIterator<Item = (IpAddr, IpAddr)>,
    ) -> Self {
        let ranges = Ranges::new(ranges);
        Self {
            identities: identities.into_iter().collect(),
            ranges: (!ranges.is_empty()).then(|| Box::new(ranges)),
        }
    }

    #[inline]
    pub fn contains(&self, end: &End) -> bool {
        end.identity.is_some_and(|identity| self.identities.contains(identity))
            || self.ranges.as_ref().is_some_and(|ranges| ranges.contains(end.address))
    }

    /// Whether one of its ranges holds the address.
    pub fn contains_address(&self, address: IpAddr) -> bool {
        self.ranges.as_ref().is_some_and(|ranges| ranges.contains(address))
    }

    pub fn is_empty(&self) -> bool {
        self.identities.is_empty() && self.ranges.is_none()
    }

    pub fn identities(&self) -> &IdentitySet {
        &self.identities
    }

    /// Its ranges, sorted and disjoint: IPv4's, then IPv6's.
    pub fn ranges(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> {
        self.ranges.iter().flat_map(|ranges| ranges.iter())
    }

    /// The ranges of one family.
    pub(crate) fn ranges_of<T: Family>(&self) -> &[(T, T)] {
        self.ranges.as_ref().map_or(&[], |ranges| T::ranges(ranges))
    }

    #[must_use]
    pub fn with_identity(&self, identity: IdentityId) -> Self {
        Self { identities: self.identities.with(identity), ranges: self.ranges.clone() }
    }

    #[must_use]
    pub fn without_identity(&self, identity: IdentityId) -> Self {
        Self { identities: self.identities.without(identity), ranges: self.ranges.clone() }
    }

    /// The same identities with other ranges.
    #[must_use]
    pub fn with_ranges(&self, ranges: impl IntoIterator<Item = (IpAddr, IpAddr)>) -> Self {
        Self { identities: self.identities.clone(), ..Self::new([], ranges) }
    }
}

#[cfg(test)]
mod tests;
