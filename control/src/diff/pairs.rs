//! Pairs of classes whose verdicts may differ between the worlds, and those that do.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::RandomState;
use std::net::IpAddr;
use std::rc::Rc;

use margay_flowtable::{Classification, ProgramId, Rule, Side, Tuple, Verdict, matches};

use super::Kind;
use super::classes::{Class, Classes};
use super::headers::{Headers, Named};
use super::signature::{Difference, Signatures, difference};
use super::world::World;

/// Source port of a packet whose source port no rule asks for: the first ephemeral one (IANA).
const EPHEMERAL: u16 = 49152;

/// A pair of classes, and whether these are pods and addresses of their own nodes, which reach each other by other rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Pair {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) is_own_node: bool,
}

/// Headers whose verdict differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Differing {
    pub(super) headers: Headers,
    pub(super) verdicts: [Classification; 2],
}

/// Which way a rule is asked: what it says of the other end.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Direction {
    Egress,
    Ingress,
}

pub(super) struct Pairs<'a> {
    worlds: &'a [World<'a>; 2],
    classes: &'a Classes,
    signatures: [Signatures<'a>; 2],
    /// The classes that the differing rules of two programs can hold as the other end.
    peers: HashMap<(Direction, [ProgramId; 2]), Rc<[usize]>>,
    named: [HashMap<ProgramId, Rc<Named>>; 2],
    headers: HashMap<(bool, [ProgramId; 6]), Rc<[Headers]>>,
}

impl<'a> Pairs<'a> {
    pub(super) fn new(worlds: &'a [World<'a>; 2], classes: &'a Classes, hasher: &'a RandomState) -> Self {
        let signatures =
            |world: usize| Signatures::of(&worlds[world].policies, &classes.stable[world], hasher);
        Self {
            worlds,
            classes,
            signatures: [0, 1].map(signatures),
            peers: HashMap::new(),
            named: [HashMap::new(), HashMap::new()],
            headers: HashMap::new(),
        }
    }

    /// Ordered pairs of classes between whom something may differ.
    pub(super) fn candidates(&mut self) -> BTreeSet<(usize, usize)> {
        let mut pairs = BTreeSet::new();
        for (number, class) in self.classes.all.iter().enumerate().filter(|(_, c)| c.kind == Kind::Pods) {
            let all = || 0..self.classes.all.len();
            let [old, new] = class.programs;
            if class.has_moved {
                pairs.extend(all().flat_map(|other| [(number, other), (other, number)]));
                continue;
            }
            for peer in &*self.peers(Direction::Egress, [old.egress, new.egress]) {
                pairs.insert((number, *peer));
            }
            for peer in &*self.peers(Direction::Ingress, [old.ingress, new.ingress]) {
                pairs.insert((*peer, number));
            }
            for peer in &*self.peers(Direction::Egress, [old.to_node, new.to_node]) {
                if self.classes.all[*peer].kind == Kind::Nodes {
                    pairs.insert((number, *peer));
                }
            }
        }
        let is_v4 = |class: usize| self.classes.all[class].is_v4;
        pairs.retain(|(from, to)| is_v4(*from) == is_v4(*to));
        pairs
    }

    fn peers(&mut self, direction: Direction, programs: [ProgramId; 2]) -> Rc<[usize]> {
        if let Some(known) = self.peers.get(&(direction, programs)) {
            return known.clone();
        }
        let rules = match difference(&self.signatures, programs) {
            Difference::Nothing => [Vec::new(), Vec::new()],
            Difference::Everything => [vec![Rule::default()], Vec::new()],
            Difference::Rules(rules) => {
                rules.map(|rules| rules.into_iter().map(|rule| peer_alone(direction, rule)).collect())
            }
        };
        let may_hold = |class: &Class| {
            (0..2).any(|world| {
                let address = class.members[0].addresses[world];
                let tuple = Tuple { src: address, dst: address, protocol: 0, sport: 0, dport: 0, icmp: None };
                rules[world].iter().any(|rule| matches(&self.worlds[world].policies, &tuple, rule))
            })
        };
        let classes = self.classes.all.iter().enumerate();
        let found: Rc<[usize]> =
            classes.filter(|(_, class)| may_hold(class)).map(|(number, _)| number).collect();
        self.peers.insert((direction, programs), found.clone());
        found
    }

    /// What differs between two classes.
    pub(super) fn differing(&mut self, from: usize, to: usize) -> Vec<(Pair, Vec<Differing>)> {
        let headers = self.headers(from, to);
        let mut found = Vec::new();
        for (is_own_node, addresses) in self.examples(from, to) {
            let differ = |headers: &Headers| {
                let verdicts = [0, 1].map(|world: usize| {
                    let (src, dst) = addresses[world];
                    self.worlds[world].classify(&tuple(headers, src, dst))
                });
                let allows = |verdict: &Classification| verdict.verdict() == Verdict::Allow;
                let is_same = allows(&verdicts[0]) == allows(&verdicts[1]);
                (!is_same).then(|| Differing { headers: headers.clone(), verdicts })
            };
            let differing: Vec<Differing> = headers.iter().filter_map(differ).collect();
            if !differing.is_empty() {
                found.push((Pair { from, to, is_own_node }, merged(differing)));
            }
        }
        found
    }

    /// Headers that the programs of a pair can tell apart.
    fn headers(&mut self, from: usize, to: usize) -> Rc<[Headers]> {
        let (from, to) = (&self.classes.all[from], &self.classes.all[to]);
        let [a, b] = from.programs;
        let [c, d] = to.programs;
        let programs = [a.egress, a.to_node, c.ingress, b.egress, b.to_node, d.ingress];
        if let Some(known) = self.headers.get(&(from.is_v4, programs)) {
            return known.clone();
        }
        let mut all = Named::default();
        for (place, program) in programs.into_iter().enumerate() {
            let world = place / 3;
            let policies = &self.worlds[world].policies;
            let named = self.named[world].entry(program);
            all.extend(named.or_insert_with(|| Rc::new(Named::by(policies, program))));
        }
        let headers: Rc<[Headers]> = all.headers(from.is_v4).into();
        self.headers.insert((from.is_v4, programs), headers.clone());
        headers
    }

    /// One pair of ends of the two classes for each way in which they can stand to each other: with their addresses in
    /// both worlds, from and to.
    fn examples(&self, from: usize, to: usize) -> Vec<(bool, [(IpAddr, IpAddr); 2])> {
        let (source, destination) = (&self.classes.all[from], &self.classes.all[to]);
        let ends = |a: usize, b: usize| {
            let (a, b) = (source.members[a].addresses, destination.members[b].addresses);
            [(a[0], b[0]), (a[1], b[1])]
        };
        match (source.kind, destination.kind) {
            (Kind::Pods, Kind::Nodes) => {
                let places = self.places(source, destination).into_iter();
                places.map(|(own, (pod, node))| (own != [false; 2], ends(pod, node))).collect()
            }
            (Kind::Nodes, Kind::Pods) => {
                let places = self.places(destination, source).into_iter();
                places.map(|(own, (pod, node))| (own != [false; 2], ends(node, pod))).collect()
            }
            // A pod reaches itself in any world.
            _ if from == to => (source.members.len() > 1).then(|| (false, ends(0, 1))).into_iter().collect(),
            _ => vec![(false, ends(0, 0))],
        }
    }

    /// A pod and a node's address for each way that the address can be, or not be, of the pod's own node in the worlds.
    fn places(&self, pods: &Class, nodes: &Class) -> BTreeMap<[bool; 2], (usize, usize)> {
        let mut places = BTreeMap::new();
        for pod in pods.homes.values().copied() {
            let own = [0, 1].map(|world: usize| {
                let endpoint = self.worlds[world].policies.endpoint(pods.members[pod].addresses[world]);
                endpoint.map_or(&[][..], |endpoint| &endpoint.node_addresses)
            });
            let is_own = |node: usize| own.map(|own| own.contains(&nodes.members[node].addresses[0]));
            let of_own = own.iter().flat_map(|own| own.iter()).filter_map(|address| nodes.node_at(*address));
            for node in of_own {
                places.entry(is_own(node)).or_insert((pod, node));
            }
            if !places.contains_key(&[false; 2])
                && let Some(node) = (0..nodes.members.len()).find(|node| is_own(*node) == [false; 2])
            {
                places.insert([false; 2], (pod, node));
            }
        }
        places
    }
}

/// What a rule says of the end that it is not asked for.
fn peer_alone(direction: Direction, rule: &Rule) -> Rule {
    let ends =
        |side: &Side| Side { all_of: side.all_of.clone(), none_of: side.none_of.clone(), ..Side::default() };
    let any = Rule { ip_version: rule.ip_version, ..Rule::default() };
    match direction {
        Direction::Egress => Rule { destination: ends(&rule.destination), ..any },
        Direction::Ingress => Rule { source: ends(&rule.source), ..any },
    }
}

fn tuple(headers: &Headers, src: IpAddr, dst: IpAddr) -> Tuple {
    let (protocol, icmp) = headers.example;
    let sport = |(first, last): (u16, u16)| EPHEMERAL.clamp(first, last);
    Tuple {
        src,
        dst,
        protocol,
        sport: headers.sports.map_or(0, sport),
        dport: headers.dports.map_or(0, |(first, _)| first),
        icmp: headers.icmp.map(|_| icmp),
    }
}

/// Ranges of ports beside each other that are decided alike, as one.
fn merged(differing: Vec<Differing>) -> Vec<Differing> {
    let mut merged: Vec<Differing> = Vec::new();
    for next in differing {
        if let Some(last) = merged.last_mut()
            && let (Some(before), Some(after)) = (last.headers.dports, next.headers.dports)
            && before.1.checked_add(1) == Some(after.0)
            && last.verdicts == next.verdicts
            && (last.headers.protocol, last.headers.sports) == (next.headers.protocol, next.headers.sports)
        {
            last.headers.dports = Some((before.0, after.1));
            continue;
        }
        merged.push(next);
    }
    merged
}
