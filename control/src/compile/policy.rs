//! Objects of kind NetworkPolicy to compiled policies, and the address and port sets that their rules share.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use margay_flowtable::{Action, AddressSet, Policy, PortSet, Rule};

use super::pods::{Pods, Scope};
use crate::selector::Selector;
use crate::state::{Name, NetworkPolicy, NetworkPolicyRule, Peer, PolicyPort, PortMatch, Protocol};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Direction {
    Ingress,
    Egress,
}

/// Compiles policies of one cluster. Rules that name the same peers share one set.
#[derive(Debug)]
pub(super) struct PolicyCompiler<'a> {
    pods: &'a Pods<'a>,
    address_sets: HashMap<PeerKey, Arc<AddressSet>>,
    port_sets: HashMap<(PeerKey, Protocol, String), Arc<PortSet>>,
}

/// What a set is made of: equal keys, equal sets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum PeerKey {
    Pods(Scope, Selector),
    Block(IpNet, Vec<IpNet>),
}

impl PeerKey {
    fn of(peer: &Peer, namespace: &str) -> Self {
        match peer {
            Peer::Pods { namespaces, pods } => {
                let scope = match namespaces {
                    Some(namespaces) => Scope::Selected(namespaces.clone()),
                    None => Scope::Namespace(namespace.to_owned()),
                };
                Self::Pods(scope, pods.clone())
            }
            Peer::Block { cidr, except } => Self::Block(*cidr, except.clone()),
        }
    }
}

impl<'a> PolicyCompiler<'a> {
    pub(super) fn new(pods: &'a Pods<'a>) -> Self {
        Self { pods, address_sets: HashMap::new(), port_sets: HashMap::new() }
    }

    /// One direction of a policy that isolates in that direction.
    pub(super) fn compile(
        &mut self,
        name: &Name,
        policy: &NetworkPolicy,
        rules: &[NetworkPolicyRule],
        direction: Direction,
    ) -> Policy {
        let mut compiled = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            let peers: Vec<PeerKey> =
                rule.peers.iter().map(|peer| PeerKey::of(peer, &name.namespace)).collect();
            // Whose named ports count: those of the pods that the packet can be for.
            let receivers = match direction {
                Direction::Ingress => {
                    vec![PeerKey::Pods(Scope::Namespace(name.namespace.clone()), policy.pods.clone())]
                }
                Direction::Egress if peers.is_empty() => {
                    vec![PeerKey::Pods(Scope::Selected(Selector::default()), Selector::default())]
                }
                Direction::Egress => peers.clone(),
            };
            let peers = peers.into_iter().map(|key| self.address_set(key)).collect();
            self.rules(index as u32, peers, &rule.ports, &receivers, &mut compiled);
        }
        Policy { name: name.to_string().into(), rules: compiled }
    }

    /// One rule without ports, or one for each protocol that its ports name.
    fn rules(
        &mut self,
        index: u32,
        peers: Vec<Arc<AddressSet>>,
        ports: &[PolicyPort],
        receivers: &[PeerKey],
        rules: &mut Vec<Rule>,
    ) {
        let all_ports = Rule {
            action: Action::Allow,
            index,
            protocol: None,
            peers,
            ports: Vec::new(),
            named_ports: Vec::new(),
        };
        if ports.is_empty() {
            return rules.push(all_ports);
        }
        let mut by_protocol: BTreeMap<Protocol, Vec<&PortMatch>> = BTreeMap::new();
        for port in ports {
            by_protocol.entry(port.protocol).or_default().push(&port.port);
        }
        for (protocol, matches) in by_protocol {
            let mut rule = Rule { protocol: Some(protocol.0), ..all_ports.clone() };
            if !matches.contains(&&PortMatch::Any) {
                for port in matches {
                    match port {
                        PortMatch::Any => {}
                        PortMatch::Range(range) => rule.ports.push(range.clone()),
                        PortMatch::Name(name) => rule
                            .named_ports
                            .extend(receivers.iter().map(|key| self.port_set(key, protocol, name))),
                    }
                }
            }
            rules.push(rule);
        }
    }

    fn address_set(&mut self, key: PeerKey) -> Arc<AddressSet> {
        let pods = self.pods;
        let entry = self.address_sets.entry(key);
        let build = |key: &PeerKey| match key {
            PeerKey::Pods(scope, selector) => {
                let members = pods.select(scope, selector);
                AddressSet::from_addresses(members.into_iter().flat_map(|m| m.addresses.iter().copied()))
            }
            PeerKey::Block(cidr, except) => AddressSet::from_ranges(block_ranges(*cidr, except)),
        };
        entry.or_insert_with_key(|key| build(key).into()).clone()
    }

    /// What the port name means on each of the receivers.
    fn port_set(&mut self, receivers: &PeerKey, protocol: Protocol, name: &str) -> Arc<PortSet> {
        let key = (receivers.clone(), protocol, name.to_owned());
        if let Some(set) = self.port_sets.get(&key) {
            return set.clone();
        }
        let everyone = (Scope::Selected(Selector::default()), Selector::default());
        let (scope, selector) = match receivers {
            PeerKey::Pods(scope, selector) => (scope, selector),
            PeerKey::Block(..) => (&everyone.0, &everyone.1),
        };
        let in_block = |address: &IpAddr| match receivers {
            PeerKey::Pods(..) => true,
            PeerKey::Block(cidr, except) => {
                cidr.contains(address) && !except.iter().any(|inner| inner.contains(address))
            }
        };
        let mut triples = Vec::new();
        for member in self.pods.select(scope, selector) {
            let named = member.pod.ports.iter().filter(|port| port.protocol == protocol && port.name == name);
            for port in named {
                let addresses = member.addresses.iter().filter(|address| in_block(address));
                triples.extend(addresses.map(|address| (*address, protocol.0, port.port)));
            }
        }
        let set = PortSet::from_iter(triples);
        self.port_sets.entry(key).or_insert(set.into()).clone()
    }
}

/// The addresses of `cidr` that are in none of `except`, as inclusive ranges.
fn block_ranges(cidr: IpNet, except: &[IpNet]) -> Vec<(IpAddr, IpAddr)> {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    let address = |bits: u128| match cidr {
        IpNet::V4(_) => IpAddr::V4((bits as u32).into()),
        IpNet::V6(_) => IpAddr::V6(bits.into()),
    };
    let mut holes: Vec<_> = except.iter().map(|net| (bits(net.network()), bits(net.broadcast()))).collect();
    holes.sort_unstable();
    let mut ranges = Vec::new();
    // First address that no hole has swallowed yet; none once a hole ends at the top of the address space.
    let mut next = Some(bits(cidr.network()));
    for (start, end) in holes {
        let Some(from) = next else { break };
        if start > from {
            ranges.push((address(from), address(start - 1)));
        }
        next = if end >= from { end.checked_add(1) } else { next };
    }
    let last = bits(cidr.broadcast());
    if let Some(from) = next.filter(|from| *from <= last) {
        ranges.push((address(from), address(last)));
    }
    ranges
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn holes_at_the_edges_of_the_address_space() {
        for (cidr, except, expected) in [
            ("0.0.0.0/0", vec!["128.0.0.0/1"], vec![("0.0.0.0", "127.255.255.255")]),
            ("0.0.0.0/0", vec!["0.0.0.0/1"], vec![("128.0.0.0", "255.255.255.255")]),
            ("::/0", vec!["8000::/1"], vec![("::", "7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")]),
            ("0.0.0.0/0", vec!["0.0.0.0/1", "128.0.0.0/1"], vec![]),
            ("::/0", vec!["::/1", "8000::/1"], vec![]),
            (
                "10.0.0.0/30",
                vec!["10.0.0.1/32", "10.0.0.1/32"],
                vec![("10.0.0.0", "10.0.0.0"), ("10.0.0.2", "10.0.0.3")],
            ),
        ] {
            let except: Vec<IpNet> = except.iter().map(|net| net.parse().unwrap()).collect();
            let expected: Vec<(IpAddr, IpAddr)> =
                expected.iter().map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap())).collect();
            assert_eq!(block_ranges(cidr.parse().unwrap(), &except), expected, "{cidr} {except:?}");
        }
    }

    fn net4(min: u8) -> impl Strategy<Value = IpNet> {
        // Few bits vary, so that blocks nest.
        (0u32..64, min..=32u8).prop_map(|(low, length)| {
            IpNet::new(IpAddr::V4((0x0a00_0000 | low).into()), length).unwrap().trunc()
        })
    }

    proptest! {
        #[test]
        fn ranges_hold_what_the_block_holds_without_its_holes(
            cidr in net4(26),
            except in prop::collection::vec(net4(27), 0..6),
        ) {
            let except: Vec<_> = except.into_iter().filter(|net| cidr.contains(net) && *net != cidr).collect();
            let set = AddressSet::from_ranges(block_ranges(cidr, &except));
            for low in 0u32..80 {
                let address = IpAddr::V4((0x0a00_0000 | low).into());
                let inside = cidr.contains(&address) && !except.iter().any(|net| net.contains(&address));
                prop_assert_eq!(set.contains(address), inside, "{}", address);
            }
        }
    }
}
