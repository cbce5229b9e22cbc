//! Ends that policy cannot tell apart in either world.
//!
//! Compared are pods that are in both worlds by their names (whatever their addresses are), addresses of nodes that are
//! in both, and addresses that nobody holds in either.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use margay_flowtable::IdentityId;

use super::Kind;
use super::cells::{Cells, Sets, each_set, next};
use super::world::{Programs, World};
use crate::state::{Name, Pod};

/// One of a class: who it is, and its address in both worlds.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) name: Arc<str>,
    pub(super) addresses: [IpAddr; 2],
}

#[derive(Debug)]
pub(super) struct Class {
    pub(super) kind: Kind,
    pub(super) is_v4: bool,
    pub(super) programs: [Programs; 2],
    /// Pods that are selected otherwise than before, or have another address or node.
    pub(super) has_moved: bool,
    pub(super) members: Vec<Member>,
    /// Of pods: for each place that some run at in the two worlds, one of them.
    pub(super) homes: BTreeMap<[String; 2], usize>,
    /// Of addresses of nodes: their members.
    nodes: HashMap<IpAddr, usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    kind: Kind,
    is_v4: bool,
    programs: [Programs; 2],
    has_moved: bool,
    sets: Sets,
}

/// All classes, and which pods stay as they are.
#[derive(Debug, Default)]
pub(super) struct Classes {
    pub(super) all: Vec<Class>,
    /// Sums over the pods of an identity that have not moved: equal sums, equal pods.
    pub(super) stable: [HashMap<IdentityId, u64>; 2],
    /// Pods that are in one world alone.
    pub(super) alone: [usize; 2],
}

struct Builder<'a> {
    worlds: &'a [World<'a>; 2],
    hasher: &'a RandomState,
    cells: Cells,
    /// Hashes of the sets that each identity is in.
    held: [HashMap<IdentityId, u64>; 2],
    numbers: HashMap<Key, usize>,
    out: Classes,
}

pub(super) fn classes(worlds: &[World<'_>; 2], hasher: &RandomState) -> Classes {
    let held = [0, 1].map(|world: usize| {
        let mut held: HashMap<IdentityId, u64> = HashMap::new();
        each_set(&worlds[world].policies, hasher, |hash, set| {
            set.identities().iter().for_each(|identity| *held.entry(identity).or_default() ^= hash);
        });
        held
    });
    let cells = Cells::of([&worlds[0].policies, &worlds[1].policies], hasher);
    let (numbers, out) = (HashMap::new(), Classes::default());
    let mut builder = Builder { worlds, hasher, cells, held, numbers, out };
    builder.pods();
    builder.nodes();
    builder.addresses();
    builder.out
}

impl Builder<'_> {
    fn pods(&mut self) {
        let [old, new] = [0, 1].map(|world: usize| self.worlds[world].cluster);
        let is_end = |pod: &&Arc<Pod>| pod.is_endpoint();
        for (name, pod) in old.pods.iter().filter(|(_, pod)| pod.is_endpoint()) {
            match new.pods.get(name).filter(is_end) {
                Some(after) => {
                    for is_v4 in [true, false] {
                        self.pod(name, [pod, after], is_v4);
                    }
                }
                None => self.out.alone[0] += 1,
            }
        }
        let is_old = |name: &Name| old.pods.get(name).is_some_and(|pod| pod.is_endpoint());
        let news = new.pods.iter().filter(|(name, pod)| pod.is_endpoint() && !is_old(name));
        self.out.alone[1] = news.count();
    }

    fn pod(&mut self, name: &Name, pods: [&Arc<Pod>; 2], is_v4: bool) {
        let first = |pod: &Pod| pod.addresses.iter().copied().find(|address| address.is_ipv4() == is_v4);
        let [Some(before), Some(after)] = pods.map(|pod| first(pod)) else { return };
        let addresses = [before, after];
        let ids = [0, 1].map(|world: usize| self.worlds[world].identity(name, addresses[world]));
        let [Some(old), Some(new)] = ids else { return };
        let [was, is] = &self.worlds;
        let node_addresses = |world: usize| {
            self.worlds[world].policies.endpoint(addresses[world]).map(|endpoint| &endpoint.node_addresses)
        };
        let has_moved = before != after
            || node_addresses(0) != node_addresses(1)
            || pods[0].node != pods[1].node
            || !same(was, old, is, new);
        if !has_moved {
            let hash = self.hasher.hash_one((name, is_v4));
            for (world, identity) in [old, new].into_iter().enumerate() {
                let sum = self.out.stable[world].entry(identity).or_default();
                *sum = sum.wrapping_add(hash);
            }
        }
        let key = Key {
            kind: Kind::Pods,
            is_v4,
            programs: [was.programs(old), is.programs(new)],
            has_moved,
            sets: [0, 1].map(|world: usize| {
                let by_identity = self.held[world].get(&[old, new][world]).copied().unwrap_or_default();
                by_identity ^ self.cells.at(addresses[world])[world].rotate_left(1)
            }),
        };
        let member = Member { name: name.to_string().into(), addresses };
        self.add(key, member, Some(pods.map(|pod| pod.node.clone())));
    }

    fn nodes(&mut self) {
        for (name, node) in &self.worlds[0].cluster.nodes {
            let Some(after) = self.worlds[1].cluster.nodes.get(name) else { continue };
            let in_both = node.addresses.iter().copied().filter(|address| after.addresses.contains(address));
            for address in in_both.collect::<BTreeSet<_>>() {
                if self.is_held(address) {
                    continue;
                }
                let key = self.free_key(Kind::Nodes, address);
                let name = format!("node:{name} ({address})").into();
                self.add(key, Member { name, addresses: [address; 2] }, None);
            }
        }
    }

    fn addresses(&mut self) {
        let nodes = self.worlds.iter().flat_map(|world| world.cluster.nodes.values());
        let taken: BTreeSet<IpAddr> = nodes.flat_map(|node| node.addresses.iter().copied()).collect();
        for is_v4 in [true, false] {
            let cells: Vec<_> = self.cells.iter(is_v4).collect();
            for (first, last, _) in cells {
                let up = std::iter::successors(Some(first), |address| next(*address));
                let mut up = up.take_while(|address| *address <= last);
                let Some(free) = up.find(|address| !taken.contains(address) && !self.is_held(*address))
                else {
                    continue;
                };
                let name = if first == last { first.to_string() } else { format!("{first}-{last}") };
                let member = Member { name: name.into(), addresses: [free; 2] };
                self.add(self.free_key(Kind::Addresses, free), member, None);
            }
        }
    }

    fn is_held(&self, address: IpAddr) -> bool {
        self.worlds.iter().any(|world| world.policies.addresses.get(address).is_some())
    }

    fn free_key(&self, kind: Kind, address: IpAddr) -> Key {
        let programs = [Programs::default(); 2];
        let sets = self.cells.at(address).map(|sets| sets.rotate_left(1));
        Key { kind, is_v4: address.is_ipv4(), programs, has_moved: false, sets }
    }

    fn add(&mut self, key: Key, member: Member, home: Option<[String; 2]>) {
        let number = *self.numbers.entry(key).or_insert_with(|| {
            let Key { kind, is_v4, programs, has_moved, .. } = key;
            let (members, homes, nodes) = (Vec::new(), BTreeMap::new(), HashMap::new());
            self.out.all.push(Class { kind, is_v4, programs, has_moved, members, homes, nodes });
            self.out.all.len() - 1
        });
        let class = &mut self.out.all[number];
        if let Some(home) = home {
            class.homes.entry(home).or_insert(class.members.len());
        }
        if class.kind == Kind::Nodes {
            class.nodes.insert(member.addresses[0], class.members.len());
        }
        class.members.push(member);
    }
}

/// Whether selectors and port names see the same of both.
fn same(was: &World<'_>, old: IdentityId, is: &World<'_>, new: IdentityId) -> bool {
    was.seen(old) == is.seen(new)
}

impl Class {
    /// The member with this node's address.
    pub(super) fn node_at(&self, address: IpAddr) -> Option<usize> {
        self.nodes.get(&address).copied()
    }
}
