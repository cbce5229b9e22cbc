//! The dimension of protocol and destination port: for each protocol that rules name, the ports in classes, each with
//! the rules that its ports can match.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::rule_sets::{Interner, SetId, insert};
use crate::policy::Rule;

/// Classes of ports of one program at most, besides one for each protocol. Where ranges make more, neighbours share
/// one, and it has the rules of both.
pub(super) const MOST_CLASSES: usize = 2048;

#[derive(Clone)]
pub(super) struct PortIndex {
    /// Ascending by number.
    protocols: Box<[Protocol]>,
    /// The rules of protocols that no rule names.
    others: SetId,
}

#[derive(Clone)]
struct Protocol {
    number: u8,
    /// The first port of each class, ascending from 0.
    starts: Box<[u16]>,
    sets: Box<[SetId]>,
}

impl PortIndex {
    pub(super) fn of(rules: &[&Rule], sets: &mut Interner) -> Self {
        let numbers: BTreeSet<u8> = rules.iter().filter_map(|rule| rule.protocol).collect();
        let most = MOST_CLASSES / numbers.len().max(1);
        let protocols = numbers.into_iter().map(|number| Protocol::of(number, rules, most, sets)).collect();
        let mut others = sets.empty_bitmap();
        for (position, _) in (0..).zip(rules).filter(|(_, rule)| rule.protocol.is_none()) {
            insert(&mut others, position);
        }
        Self { protocols, others: sets.bitmap(&others) }
    }

    pub(super) fn find(&self, protocol: u8, port: u16) -> SetId {
        match self.protocols.iter().find(|known| known.number == protocol) {
            Some(known) => known.sets[known.class(port)],
            None => self.others,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let of_protocol = |p: &Protocol| size_of_val(&*p.starts) + size_of_val(&*p.sets);
        size_of_val(&*self.protocols) + self.protocols.iter().map(of_protocol).sum::<usize>()
    }
}

impl Protocol {
    fn of(number: u8, rules: &[&Rule], most: usize, sets: &mut Interner) -> Self {
        let mut ranges = Vec::new();
        for (position, rule) in (0..).zip(rules) {
            ranges.extend(ports(rule, number).into_iter().map(|ports| (position, ports)));
        }
        let ends = ranges.iter().flat_map(|(_, r)| [Some(*r.start()), r.end().checked_add(1)]).flatten();
        let starts: BTreeSet<u16> = ends.chain([0]).collect();
        let shared = starts.len().div_ceil(most);
        let starts: Box<[u16]> = starts.into_iter().step_by(shared).collect();
        let mut protocol = Self { number, sets: Box::default(), starts };
        let mut bitmaps = vec![sets.empty_bitmap(); protocol.starts.len()];
        for (position, ports) in ranges {
            let classes = protocol.class(*ports.start())..=protocol.class(*ports.end());
            bitmaps[classes].iter_mut().for_each(|bitmap| insert(bitmap, position));
        }
        protocol.sets = bitmaps.iter().map(|bitmap| sets.bitmap(bitmap)).collect();
        protocol
    }

    fn class(&self, port: u16) -> usize {
        self.starts.partition_point(|start| *start <= port) - 1
    }
}

/// The destination ports of a protocol that a rule can match.
fn ports(rule: &Rule, protocol: u8) -> Vec<RangeInclusive<u16>> {
    if rule.protocol.is_some_and(|only| only != protocol) {
        return Vec::new();
    }
    if rule.ports.is_empty() && rule.named_ports.is_empty() {
        return vec![0..=u16::MAX];
    }
    let services = rule.named_ports.iter().flat_map(|set| set.services());
    let named = services.filter(|service| service.0 == protocol).map(|(_, port)| port..=port);
    rule.ports.iter().filter(|range| !range.is_empty()).cloned().chain(named).collect()
}
