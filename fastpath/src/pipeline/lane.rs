//! What is known of each packet of a burst on its way through the passes.

use margay_encap::{Headers, protocol};
use margay_flowtable::table::Query;
use margay_flowtable::{AnyKey, Interface, NextHopId};

use crate::drop::DropReason;

/// Where a packet goes, by number, or why it ends here: a `Result` in one word, which is written and read as one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Way(u32);

impl Way {
    const END: u32 = 1 << 31;
    /// Of a packet that nothing has stopped yet: of IPv4, and no ICMP error.
    pub(super) const UNDECIDED: Self = Self(Self::END - 1);
    /// What is below is such a packet too: so much lower where it came in IP-in-IP, and in VXLAN,
    const IPIP: u32 = 1;
    const VXLAN: u32 = 2;
    /// where it is an ICMP error,
    const RELATED: u32 = 3;
    /// and where it is of IPv6.
    const IPV6: u32 = 6;
    /// All of these are above.
    const LOWEST: u32 = Self::END - 13;
    /// That of no packet.
    pub(super) const NONE: Self = Self(u32::MAX);

    #[inline]
    pub(super) fn to(number: u32) -> Self {
        debug_assert!(number <= Self::LOWEST);
        Self(number)
    }

    /// Whether nothing has stopped the packet of IPv4 yet, and it may be a flow's own.
    #[inline]
    pub(super) fn is_undecided(self) -> bool {
        (Self::UNDECIDED.0 - Self::VXLAN..=Self::UNDECIDED.0).contains(&self.0)
    }

    /// Whether nothing has stopped the packet yet, of whatever kind.
    #[inline]
    pub(super) fn is_open(self) -> bool {
        self.0 > Self::LOWEST && self.0 < Self::END
    }

    /// How much lower it is than `UNDECIDED`, where nothing has stopped the packet.
    fn below(self) -> Option<u32> {
        self.is_open().then(|| Self::UNDECIDED.0 - self.0)
    }

    fn is_related(self) -> bool {
        self.below().is_some_and(|below| below % Self::IPV6 >= Self::RELATED)
    }

    #[inline]
    pub(super) fn end(reason: DropReason) -> Self {
        Self(Self::END | reason as u32)
    }

    #[inline]
    pub(super) fn get(self) -> Result<u32, DropReason> {
        if self.0 < Self::END { Ok(self.0) } else { Err(DropReason::ALL[(self.0 & !Self::END) as usize]) }
    }
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.get().fmt(f)
    }
}

/// The keys of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Keys<K = AnyKey> {
    pub(super) own: K,
    /// That of the flow that it belongs to: another where it is an ICMP error.
    pub(super) flow: K,
}

/// What is known of a packet on its way through the passes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lane {
    pub(super) query: Query,
    pub(super) headers: Headers,
    /// The next hop, once that is known.
    pub(super) next_hop: Way,
    /// The port by which it leaves.
    pub(super) port: Way,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            query: Query::default(),
            headers: Headers::default(),
            next_hop: Way::UNDECIDED,
            port: Way::UNDECIDED,
        }
    }
}

impl AsMut<Query> for Lane {
    #[inline]
    fn as_mut(&mut self) -> &mut Query {
        &mut self.query
    }
}

impl Lane {
    /// The key of its query is that of the flow that an ICMP error quotes.
    pub(super) fn is_related(&self) -> bool {
        self.next_hop.is_related()
    }

    /// Notes of a packet of IPv4 that nothing has stopped yet, or of one of IPv6.
    pub(super) fn open(&mut self, is_ipv6: bool, is_related: bool) {
        let below = if is_ipv6 { Way::IPV6 } else { 0 } + if is_related { Way::RELATED } else { 0 };
        self.next_hop = Way(Way::UNDECIDED.0 - below);
    }

    /// Notes of a packet that nothing has stopped that it is of an ICMP error.
    pub(super) fn relate(&mut self) {
        if self.next_hop.is_open() && !self.is_related() {
            self.next_hop.0 -= Way::RELATED;
        }
    }

    /// Notes of a packet that nothing has stopped that it came in a tunnel: in IP-in-IP, or in VXLAN.
    #[inline(always)]
    pub(super) fn came_in(&mut self, tunnel: u8) {
        let below = if tunnel == protocol::IPIP { Way::IPIP } else { Way::VXLAN };
        if self.next_hop.is_open() {
            self.next_hop.0 -= below;
        }
    }

    /// The tunnel that a packet came in which nothing has stopped yet.
    pub(super) fn tunnel(&self) -> Option<Interface> {
        match self.next_hop.below()? % Way::RELATED {
            0 => None,
            Way::IPIP => Some(Interface::Ipip),
            _ => Some(Interface::Vxlan),
        }
    }

    /// The packet goes there, or ends here.
    #[inline(always)]
    pub(super) fn decide(&mut self, decided: Result<NextHopId, DropReason>) {
        match decided {
            Ok(NextHopId(id)) => self.next_hop = Way::to(id),
            Err(reason) => self.end(reason),
        }
    }

    /// The packet ends here.
    #[cold]
    pub(super) fn end(&mut self, reason: DropReason) {
        (self.next_hop, self.port) = (Way::end(reason), Way::end(reason));
    }
}
