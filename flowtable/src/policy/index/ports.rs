//! The dimension of protocol and destination port: for each protocol that rules name, the ports in classes, each with
//! the rules that its ports can match.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;
use margay_encap::protocol;

use super::intervals::{Intervals, Number, Ranged};
use super::rows::{Interner, Row, Signature, insert, positions};
use crate::policy::Rule;
use crate::{Paged, PortSet};

/// Classes of ports of one index at most, besides one for each protocol. Where ranges make more, neighbours share one,
/// and it has the rules of both.
const MOST_CLASSES: usize = 2048;

/// The port ranges of one rule that are told apart at most; a rule with more can match any port.
const MOST_RANGES: usize = 64;

/// High and low bytes of ports.
const PAGES: usize = 256;
const PAGE: usize = 256;

impl Number for u16 {
    const FIRST: Self = Self::MIN;

    fn successor(self) -> Option<Self> {
        self.checked_add(1)
    }
}

#[derive(Clone, Debug)]
pub(super) struct PortIndex {
    protocols: Box<[Protocol]>,
    /// Of the protocols that no rule names.
    others: Class,
}

#[derive(Clone, Debug)]
struct Protocol {
    number: u8,
    /// By the high byte of a port which of `pages` it is in.
    directory: Box<[u8; PAGES]>,
    /// By the low byte which of `classes` it is of. Equal pages are one.
    pages: Box<[[u16; PAGE]]>,
    classes: Box<[Class]>,
}

/// The rules that packets to certain ports can match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Class {
    /// Those that peers tell apart.
    pub(super) told: Row,
    /// Those that anybody can match.
    pub(super) for_anybody: Row,
    /// The signature of `told`.
    pub(super) signature: Signature,
    /// Whether `told` are all rules that peers tell apart, so that it need not be read.
    pub(super) is_whole: bool,
}

/// What classes are made of.
pub(super) struct Source<'a> {
    pub(super) rules: &'a [&'a Rule],
    pub(super) port_sets: &'a Paged<Arc<PortSet>>,
    /// The rules that peers do not tell apart.
    pub(super) for_anybody: &'a [u64],
}

impl PortIndex {
    pub(super) fn of(source: &Source<'_>, rows: &mut Interner) -> Self {
        let rules = source.rules;
        let numbers: BTreeSet<u8> = rules.iter().filter_map(|rule| rule.protocol).collect();
        let most = (MOST_CLASSES / numbers.len().max(1)).max(1);
        let protocols = numbers.iter().map(|number| Protocol::of(*number, source, most, rows)).collect();
        let mut others = rows.empty();
        for (position, _) in (0..).zip(rules).filter(|(_, rule)| rule.protocol.is_none()) {
            insert(&mut others, position);
        }
        Self { protocols, others: Class::of(&others, source.for_anybody, rows) }
    }

    /// Of rules that are so few that ports are not worth it.
    pub(super) fn of_any_port(source: &Source<'_>, rows: &mut Interner) -> Self {
        let mut all = rows.empty();
        (0..).zip(source.rules).for_each(|(position, _)| insert(&mut all, position));
        Self { protocols: [].into(), others: Class::of(&all, source.for_anybody, rows) }
    }

    #[inline]
    pub(super) fn find(&self, protocol: u8, port: u16) -> &Class {
        match self.protocols.iter().find(|known| known.number == protocol) {
            Some(known) => known.find(port),
            None => &self.others,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let of_protocol = |protocol: &Protocol| {
            size_of_val(&*protocol.pages)
                + size_of_val(&*protocol.classes)
                + size_of_val(&*protocol.directory)
        };
        size_of_val(&*self.protocols) + self.protocols.iter().map(of_protocol).sum::<usize>()
    }
}

impl Protocol {
    fn of(number: u8, source: &Source<'_>, most: usize, rows: &mut Interner) -> Self {
        let mut ranges: Vec<Ranged<u16>> = Vec::new();
        let mut of_all_ports = rows.empty();
        for (position, rule) in (0..).zip(source.rules) {
            if !can_match(rule, number) {
                continue;
            }
            let before = ranges.len();
            let mut add = |first, last| ranges.push((first, last, position));
            if !add_ports(rule, number, source.port_sets, &mut add) || ranges.len() - before > MOST_RANGES {
                ranges.truncate(before);
                insert(&mut of_all_ports, position);
            }
        }
        let intervals = Intervals::of(&ranges, most);
        let mut classes = Vec::new();
        let mut numbers: HashMap<Class, u16> = HashMap::new();
        let mut of_intervals: Vec<u16> = Vec::new();
        let mut with_all = of_all_ports.clone();
        intervals.sweep(&ranges, &mut rows.empty(), |rules| {
            for ((word, of_all), rules) in with_all.iter_mut().zip(&of_all_ports).zip(rules) {
                *word = of_all | rules;
            }
            let class = Class::of(&with_all, source.for_anybody, rows);
            of_intervals.push(*numbers.entry(class).or_insert_with(|| {
                classes.push(class);
                (classes.len() - 1) as u16
            }));
        });
        let (directory, pages) = paged(intervals.starts().zip(of_intervals));
        Self { number, directory, pages, classes: classes.into() }
    }

    #[inline]
    fn find(&self, port: u16) -> &Class {
        let page = &self.pages[usize::from(self.directory[usize::from(port >> 8)])];
        &self.classes[usize::from(page[usize::from(port as u8)])]
    }
}

/// The classes of all ports, from the first port of each run of ports that have one class.
fn paged(runs: impl Iterator<Item = (u16, u16)>) -> (Box<[u8; PAGES]>, Box<[[u16; PAGE]]>) {
    let mut of_ports = vec![0; PAGES * PAGE];
    let mut runs = runs.peekable();
    while let Some((first, class)) = runs.next() {
        let end = runs.peek().map_or(PAGES * PAGE, |(next, _)| usize::from(*next));
        of_ports[usize::from(first)..end].fill(class);
    }
    let (mut directory, mut pages) = (Box::new([0; PAGES]), Vec::new());
    let mut numbers: HashMap<&[u16; PAGE], u8> = HashMap::new();
    for (entry, page) in directory.iter_mut().zip(of_ports.as_chunks().0) {
        *entry = *numbers.entry(page).or_insert_with(|| {
            pages.push(*page);
            (pages.len() - 1) as u8
        });
    }
    (directory, pages.into())
}

impl Class {
    fn of(rules: &[u64], for_anybody: &[u64], rows: &mut Interner) -> Self {
        let both = || rules.iter().zip(for_anybody);
        let told: Vec<u64> = both().map(|(rules, for_anybody)| rules & !for_anybody).collect();
        let common: Vec<u64> = both().map(|(rules, for_anybody)| rules & for_anybody).collect();
        let told_count: u32 = told.iter().map(|word| word.count_ones()).sum();
        let for_anybody_count: u32 = for_anybody.iter().map(|word| word.count_ones()).sum();
        Self {
            told: rows.row(&told),
            for_anybody: rows.row(&common),
            signature: Signature::of(positions(&told)),
            is_whole: told_count + for_anybody_count == rows.count() as u32,
        }
    }
}

/// Whether packets of this protocol can match.
fn can_match(rule: &Rule, number: u8) -> bool {
    let asks_port = rule.source.asks_port() || rule.destination.asks_port();
    rule.protocol.is_none_or(|only| only == number)
        && rule.not_protocol != Some(number)
        && (protocol::has_ports(number) || !asks_port)
}

/// Gives the destination ports of the protocol that the rule can match, if it does not match all: then false.
fn add_ports(
    rule: &Rule,
    number: u8,
    port_sets: &Paged<Arc<PortSet>>,
    add: &mut impl FnMut(u16, u16),
) -> bool {
    let side = &rule.destination;
    if side.ports.is_empty() && side.named_ports.is_empty() {
        return false;
    }
    for range in side.ports.iter().filter(|range| !range.is_empty()) {
        add(*range.start(), *range.end());
    }
    let sets = side.named_ports.iter().filter_map(|id| port_sets.get(id.0));
    for ((protocol, port), _) in sets.flat_map(|set| set.iter()) {
        match port {
            _ if protocol != number => {}
            Some(port) => add(port, port),
            None => return false,
        }
    }
    true
}
