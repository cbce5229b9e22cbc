//! Which rules of a segment a packet has to be held against: an index over its rules.
//!
//! Two dimensions each give a set of rules: protocol and destination port one, the peer's identity and address the other.
//! What is in both is a candidate, and candidates come in the order of the segment. The index may name too many rules,
//! never too few: whoever asks holds each candidate against the packet. So a condition that no dimension knows, or that
//! one knows only roughly, costs time and never a verdict.

mod identities;
mod intervals;
mod peers;
mod ports;
mod ranges;
mod rows;

use std::net::IpAddr;
use std::sync::Arc;

use self::identities::Identities;
use self::peers::Peers;
use self::ports::{PortIndex, Source};
use self::ranges::RangeIndex;
use self::rows::{Interner, Row, Rows, insert};
use super::{IdentityId, PolicyType, Rule};
use crate::address_set::End;
use crate::{AddressSet, Paged, PortSet};

/// Rules that one index holds at most: a bitmap of them is four cache lines.
pub(super) const MOST_RULES: usize = 2048;

/// Rules up to which ports are not worth a dimension.
pub(super) const FEW_FOR_PORTS: usize = 16;

/// The index of some rules that follow each other; positions count from the first of them.
#[derive(Clone, Debug)]
// In this order, and at the start of a cache line, lies together what every packet reads.
#[repr(C, align(64))]
pub(crate) struct Index {
    ports: PortIndex,
    identities: Identities,
    /// Identities from this on were not there yet.
    known: IdentityId,
    /// Whether it finds rules sooner than asking each.
    pub(super) pays: bool,
    v4: Option<Box<RangeIndex<u32>>>,
    v6: Option<Box<RangeIndex<u128>>>,
    rows: Rows,
}

impl Index {
    pub(super) fn of(
        policy_type: PolicyType,
        rules: &[&Rule],
        sets: &Paged<Arc<AddressSet>>,
        port_sets: &Paged<Arc<PortSet>>,
        known: IdentityId,
    ) -> Self {
        let peers = Peers::of(policy_type, rules, sets, known);
        let are_few = rules.len() <= FEW_FOR_PORTS;
        let mut rows = Interner::new(rules.len());
        let mut for_anybody = rows.empty();
        peers.anybody.iter().for_each(|position| insert(&mut for_anybody, *position));
        let source = Source { rules, port_sets, for_anybody: &for_anybody };
        let ports = if are_few {
            PortIndex::of_any_port(&source, &mut rows)
        } else {
            PortIndex::of(&source, &mut rows)
        };
        let identities = Identities::of(&peers, known, &mut rows);
        let v4 = RangeIndex::of(&peers, &mut rows);
        let v6 = RangeIndex::of(&peers, &mut rows);
        let pays = !are_few || peers.tell_any();
        Self { ports, identities, known, pays, v4, v6, rows: rows.finish() }
    }

    /// Gives the rules that a packet from or to `peer` may match, in order, until something comes of one.
    // Nothing is asked for ahead: the processor runs on into the next index while it waits for this one.
    #[inline]
    pub(crate) fn find<T>(
        &self,
        (protocol, port): (u8, u16),
        peer: &End,
        ask: impl FnMut(usize) -> Option<T>,
    ) -> Option<T> {
        let class = self.ports.find(protocol, port);
        let rows = &self.rows;
        if class.told.is_empty() {
            return rows.find(&class.for_anybody, ask);
        }
        let by_identity = match peer.identity {
            Some(identity) if identity < self.known => self.identities.find(identity),
            Some(_) => return rows.find_in_any(&class.for_anybody, &class.told, [&class.told; 2], ask),
            None => Row::default(),
        };
        let by_address = match peer.address {
            IpAddr::V4(address) => self.v4.as_ref().map(|v4| v4.find(address.to_bits())),
            IpAddr::V6(address) => self.v6.as_ref().map(|v6| v6.find(address.to_bits())),
        };
        let by_address = by_address.unwrap_or_default();
        let may_meet = |row: &Row| !row.is_empty() && row.may_meet(class.signature);
        match (class.for_anybody.is_empty(), may_meet(&by_identity), may_meet(&by_address)) {
            (true, false, false) => None,
            (true, true, false) if class.is_whole => rows.find(&by_identity, ask),
            (true, false, true) if class.is_whole => rows.find(&by_address, ask),
            (true, true, false) => rows.find_in_both(&class.told, &by_identity, ask),
            (true, false, true) => rows.find_in_both(&class.told, &by_address, ask),
            (false, false, false) => rows.find(&class.for_anybody, ask),
            _ => rows.find_in_any(&class.for_anybody, &class.told, [&by_identity, &by_address], ask),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let v4 = self.v4.as_ref().map_or(0, |v4| v4.bytes());
        let v6 = self.v6.as_ref().map_or(0, |v6| v6.bytes());
        size_of::<Self>() + self.identities.bytes() + v4 + v6 + self.ports.bytes() + self.rows.bytes()
    }
}
