//! Who holds an address: a persistent map of both families. Clones share everything; a change copies one page.

mod table;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use self::table::Table;
use crate::{EndpointId, IdentityId};

/// What is known of who holds an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    pub identity: IdentityId,
    /// Only of pods that are served here.
    pub endpoint: Option<EndpointId>,
}

/// Holders by address. Two pods may claim one address for a moment; then the one that the compiler chose stands here.
#[derive(Clone, Default)]
pub struct Addresses {
    // Apart, for four bytes hash and compare in a fraction of the time of an `IpAddr`, and pack.
    v4: Table<u32, 256>,
    v6: Table<u128, 128>,
}

impl Addresses {
    #[inline]
    pub fn get(&self, address: IpAddr) -> Option<Holder> {
        match address {
            IpAddr::V4(address) => self.v4.get(address.to_bits()),
            IpAddr::V6(address) => self.v6.get(address.to_bits()),
        }
    }

    /// Sets who holds the address and returns who held it.
    pub fn insert(&mut self, address: IpAddr, holder: Holder) -> Option<Holder> {
        match address {
            IpAddr::V4(address) => self.v4.insert(address.to_bits(), holder),
            IpAddr::V6(address) => self.v6.insert(address.to_bits(), holder),
        }
    }

    pub fn remove(&mut self, address: IpAddr) -> Option<Holder> {
        match address {
            IpAddr::V4(address) => self.v4.remove(address.to_bits()),
            IpAddr::V6(address) => self.v6.remove(address.to_bits()),
        }
    }

    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In no order.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, Holder)> {
        let v4 = self.v4.iter().map(|(address, holder)| (Ipv4Addr::from_bits(address).into(), holder));
        let v6 = self.v6.iter().map(|(address, holder)| (Ipv6Addr::from_bits(address).into(), holder));
        v4.chain(v6)
    }
}

impl fmt::Debug for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl PartialEq for Addresses {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().all(|(address, holder)| other.get(address) == Some(holder))
    }
}

impl Eq for Addresses {}
