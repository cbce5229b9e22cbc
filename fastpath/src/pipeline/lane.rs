//! What is known of each packet of a burst on its way through the passes.

use margay_encap::{Headers, protocol};
use margay_flowtable::table::Query;
use margay_flowtable::{Interface, NextHopId};

use crate::drop::DropReason;

/// Where a packet goes, by number, or why it ends here: a `Result` in one word, which is written and read as one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Way(u32);

impl Way {
    const END: u32 = 1 << 31;
    /// Of a packet that nothing has stopped yet.
    pub(super) const UNDECIDED: Self = Self(Self::END - 1);
    /// The same of what came in IP-in-IP, and in VXLAN.
    const UNDECIDED_IPIP: Self = Self(Self::END - 2);
    const UNDECIDED_VXLAN: Self = Self(Self::END - 3);
    /// The same of an ICMP error, however it came.
    pub(super) const RELATED: Self = Self(Self::END - 4);
    const RELATED_IPIP: Self = Self(Self::END - 5);
    const RELATED_VXLAN: Self = Self(Self::END - 6);
    /// That of no packet.
    pub(super) const NONE: Self = Self(u32::MAX);

    #[inline]
    pub(super) fn to(number: u32) -> Self {
        debug_assert!(number < Self::END);
        Self(number)
    }

    /// Whether nothing has stopped the packet yet, and it may be a flow's own.
    #[inline]
    pub(super) fn is_undecided(self) -> bool {
        (Self::UNDECIDED_VXLAN.0..=Self::UNDECIDED.0).contains(&self.0)
    }

    /// Whether nothing has stopped the ICMP error yet.
    #[inline]
    pub(super) fn is_related(self) -> bool {
        (Self::RELATED_VXLAN.0..=Self::RELATED.0).contains(&self.0)
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

    /// Notes of a packet that nothing has stopped that it came in a tunnel of this protocol.
    #[inline(always)]
    pub(super) fn came_in(&mut self, tunnel: u8) {
        let is_ipip = tunnel == protocol::IPIP;
        self.next_hop = match self.next_hop {
            Way::UNDECIDED if is_ipip => Way::UNDECIDED_IPIP,
            Way::UNDECIDED => Way::UNDECIDED_VXLAN,
            Way::RELATED if is_ipip => Way::RELATED_IPIP,
            Way::RELATED => Way::RELATED_VXLAN,
            decided => decided,
        };
    }

    /// The tunnel that a packet came in which nothing has stopped yet.
    pub(super) fn tunnel(&self) -> Option<Interface> {
        match self.next_hop {
            Way::UNDECIDED_IPIP | Way::RELATED_IPIP => Some(Interface::Ipip),
            Way::UNDECIDED_VXLAN | Way::RELATED_VXLAN => Some(Interface::Vxlan),
            _ => None,
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
