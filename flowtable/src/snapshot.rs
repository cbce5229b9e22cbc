//! The immutable state that workers read: one `Snapshot` is whole and consistent; a change is a new one.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use hashbrown::HashSet;

use crate::policy::Program;
use crate::{AddressSet, Endpoints, Fib, NextHop, PortId};

/// Everything that decides what becomes of a packet, as of one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Number of this snapshot: set by [`Snapshot::succeed`], compared by flows as serial numbers (RFC 1982).
    pub generation: u32,
    pub fib: Fib,
    /// What [`NextHopId`](crate::NextHopId)s of `fib` mean.
    pub next_hops: Vec<NextHop>,
    pub endpoints: Endpoints,
    /// Ports by [`PortId`]; `None` where no port has that number now.
    pub ports: Vec<Option<PortState>>,
    pub local: Local,
    /// Underlay addresses of the nodes that may send us tunnel packets.
    pub tunnel_sources: HashSet<Ipv4Addr>,
    pub epochs: Epochs,
}

/// The addresses and numbers of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Addresses of this node that tunnel packets may be sent to.
    pub tunnel_ends: Vec<Ipv4Addr>,
    /// Every other address of this node: what goes there is the kernel's.
    pub addresses: HashSet<IpAddr>,
    /// Source of ICMP errors that we send.
    pub icmp_source: Option<Ipv4Addr>,
    pub vni: u32,
    pub vxlan_port: u16,
    pub vtep_mac: [u8; 6],
}

impl Default for Local {
    fn default() -> Self {
        Self {
            tunnel_ends: Vec::new(),
            addresses: HashSet::new(),
            icmp_source: None,
            vni: 4096,
            vxlan_port: 4789,
            vtep_mac: [0; 6],
        }
    }
}

/// What a worker must know of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortState {
    pub name: Arc<str>,
    pub kind: PortKind,
    pub mac: [u8; 6],
    pub mtu: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortKind {
    /// Toward other nodes.
    Uplink,
    /// Toward one pod, which sends only from these addresses.
    Pod { addresses: Vec<IpAddr> },
}

impl Snapshot {
    pub fn port(&self, id: PortId) -> Option<&PortState> {
        self.ports.get(usize::from(id.0))?.as_ref()
    }

    /// Makes this snapshot the successor of `previous`: takes the next generation, and stamps the addresses whose
    /// flows the change can affect.
    pub fn succeed(&mut self, previous: &Self) {
        self.generation = previous.generation.wrapping_add(1);
        self.epochs = previous.epochs.clone();
        for address in self.affected_by_change_from(previous) {
            match address {
                Affected::Address(address) => self.epochs.stamp(address, self.generation),
                Affected::Range(start, end) => self.epochs.stamp_range(start, end, self.generation),
            }
        }
    }

    fn affected_by_change_from(&self, previous: &Self) -> Vec<Affected> {
        let mut affected = Vec::new();
        let (old, new) = (&previous.endpoints.by_address, &self.endpoints.by_address);
        for address in old.keys().filter(|address| !new.contains_key(*address)) {
            affected.push(Affected::Address(*address));
        }
        let mut sets = SetChanges::default();
        for (address, endpoint) in new {
            match old.get(address) {
                Some(before) if Arc::ptr_eq(before, endpoint) => {}
                Some(before)
                    if before.name == endpoint.name
                        && before.node_addresses == endpoint.node_addresses
                        && sets.same_but_for_members(&before.egress, &endpoint.egress)
                        && sets.same_but_for_members(&before.ingress, &endpoint.ingress) => {}
                _ => affected.push(Affected::Address(*address)),
            }
        }
        affected.extend(sets.ranges.into_iter().map(|(start, end)| Affected::Range(start, end)));
        affected
    }
}

enum Affected {
    Address(IpAddr),
    Range(IpAddr, IpAddr),
}

/// Compares programs rule by rule. Where two differ only in the members of their address sets, the flows that can
/// change are those of the addresses that joined or left: these are collected here instead of stamping the endpoint.
#[derive(Default)]
struct SetChanges {
    ranges: Vec<(IpAddr, IpAddr)>,
    /// Pairs (old, new) already compared: sets are shared between many programs.
    compared: HashSet<(usize, usize)>,
    programs: HashSet<(usize, usize)>,
}

impl SetChanges {
    fn same_but_for_members(&mut self, old: &Arc<Program>, new: &Arc<Program>) -> bool {
        if Arc::ptr_eq(old, new) || self.programs.contains(&identity(old, new)) {
            return true;
        }
        let mut pairs = Vec::new();
        if !same_shape(old, new, &mut pairs) {
            return false;
        }
        for (old, new) in pairs {
            if self.compared.insert(identity(old, new)) {
                self.ranges.extend(old.difference_ranges(new));
            }
        }
        self.programs.insert(identity(old, new));
        true
    }
}

fn identity<T>(old: &Arc<T>, new: &Arc<T>) -> (usize, usize) {
    (Arc::as_ptr(old).addr(), Arc::as_ptr(new).addr())
}

/// Whether both programs ask the same in the same order, sets' members aside; `pairs` gets the sets to compare.
fn same_shape<'a>(
    old: &'a Program,
    new: &'a Program,
    pairs: &mut Vec<(&'a Arc<AddressSet>, &'a Arc<AddressSet>)>,
) -> bool {
    old.tiers.len() == new.tiers.len()
        && old.tiers.iter().zip(&new.tiers).all(|(a, b)| {
            a.name == b.name
                && a.end == b.end
                && a.policies.len() == b.policies.len()
                && a.policies.iter().zip(&b.policies).all(|(a, b)| {
                    a.name == b.name
                        && a.rules.len() == b.rules.len()
                        && a.rules.iter().zip(&b.rules).all(|(a, b)| {
                            pairs.extend(a.peers.iter().zip(&b.peers));
                            a.peers.len() == b.peers.len()
                                && (a.action, a.index, a.protocol) == (b.action, b.index, b.protocol)
                                && a.ports == b.ports
                                && a.named_ports == b.named_ports
                        })
                })
        })
}

/// When each address was last touched by a change, by hash of the address: the generation of the snapshot that the
/// change made.
///
/// A flow remembers the generation that it was last judged or confirmed at. It is still right if neither of its ends
/// was touched after that. So a change costs a re-evaluation only to the flows of the addresses that it touches (and,
/// one in 65,536, to those of another address that shares the slot), however many snapshots lie between.
#[derive(Clone, Debug)]
pub struct Epochs {
    slots: Box<[u32]>,
}

const SLOT_BITS: u32 = 16;

impl Default for Epochs {
    fn default() -> Self {
        Self { slots: vec![0; 1 << SLOT_BITS].into_boxed_slice() }
    }
}

impl Epochs {
    /// Whether no change touched either address after `generation`.
    #[inline]
    pub fn current4(&self, src: u32, dst: u32, generation: u32) -> bool {
        let not_after = |slot: usize| generation.wrapping_sub(self.slots[slot]) as i32 >= 0;
        not_after(slot4(src)) && not_after(slot4(dst))
    }

    fn stamp(&mut self, address: IpAddr, generation: u32) {
        let slot = match address {
            IpAddr::V4(a) => slot4(a.to_bits()),
            IpAddr::V6(a) => slot6(a.to_bits()),
        };
        self.slots[slot] = generation;
    }

    /// Stamps every address of the range; a range with more addresses than there are slots stamps all.
    fn stamp_range(&mut self, start: IpAddr, end: IpAddr, generation: u32) {
        let most = 1u128 << SLOT_BITS;
        match (start, end) {
            (IpAddr::V4(a), IpAddr::V4(b)) if u128::from(b.to_bits() - a.to_bits()) < most => {
                (a.to_bits()..=b.to_bits()).for_each(|a| self.slots[slot4(a)] = generation);
            }
            (IpAddr::V6(a), IpAddr::V6(b)) if b.to_bits() - a.to_bits() < most => {
                (a.to_bits()..=b.to_bits()).for_each(|a| self.slots[slot6(a)] = generation);
            }
            _ => self.slots.fill(generation),
        }
    }
}

/// Fibonacci hashing: spreads consecutive addresses.
fn slot4(address: u32) -> usize {
    (address.wrapping_mul(0x9e37_79b1) >> (32 - SLOT_BITS)) as usize
}

fn slot6(address: u128) -> usize {
    let folded = (address >> 64) as u64 ^ address as u64;
    (folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - SLOT_BITS)) as usize
}
