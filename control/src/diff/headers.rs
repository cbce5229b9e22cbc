//! Headers that the rules of some programs cannot tell apart, each kind once.

use std::collections::{BTreeMap, BTreeSet};

use margay_flowtable::{IcmpMatch, Policies, ProgramId, Rule, Side};

use crate::state::Protocol;

const DCCP: u8 = 33;
/// Asked about whether a rule names them or not.
const USUAL: [Protocol; 3] = [Protocol::TCP, Protocol::UDP, Protocol::SCTP];

/// Protocols, and bounds within them, that rules name.
#[derive(Clone, Debug, Default)]
pub(super) struct Named {
    protocols: BTreeSet<u8>,
    /// Ports at which something begins or has ended, by protocol; `None`: of any.
    sports: BTreeMap<Option<u8>, BTreeSet<u16>>,
    dports: BTreeMap<Option<u8>, BTreeSet<u16>>,
    /// Types, and codes of them.
    icmp: BTreeMap<u8, BTreeSet<u8>>,
}

/// Headers that are all treated alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Headers {
    /// `None`: all that no rule names.
    pub(super) protocol: Option<u8>,
    pub(super) sports: Option<(u16, u16)>,
    pub(super) dports: Option<(u16, u16)>,
    /// Type and code of an ICMP message; `None`: the others.
    pub(super) icmp: Option<(Option<u8>, Option<u8>)>,
    /// One of them: protocol, type and code.
    pub(super) example: (u8, (u8, u8)),
}

impl Named {
    pub(super) fn by(policies: &Policies, program: ProgramId) -> Self {
        let mut named = Self::default();
        let tiers = policies.programs.get(program.0).into_iter().flat_map(|program| program.tiers());
        let segments = tiers.flat_map(|tier| &tier.segments).filter_map(|id| policies.segments.get(id.0));
        for rule in segments.flat_map(|segment| segment.policies()).flat_map(|policy| &policy.rules) {
            named.rule(policies, rule);
        }
        named
    }

    fn rule(&mut self, policies: &Policies, rule: &Rule) {
        self.protocols.extend(rule.protocol);
        self.protocols.extend(rule.not_protocol);
        for IcmpMatch { kind, code } in [rule.icmp, rule.not_icmp].into_iter().flatten() {
            if let Some(kind) = kind {
                self.icmp.entry(kind).or_default().extend(code);
            }
        }
        let Self { protocols, sports, dports, .. } = self;
        for (side, bounds) in [(&rule.source, sports), (&rule.destination, dports)] {
            ports(policies, side, rule.protocol, protocols, bounds);
        }
    }

    pub(super) fn extend(&mut self, other: &Self) {
        self.protocols.extend(&other.protocols);
        for (mine, theirs) in [(&mut self.sports, &other.sports), (&mut self.dports, &other.dports)] {
            for (protocol, bounds) in theirs {
                mine.entry(*protocol).or_default().extend(bounds);
            }
        }
        for (kind, codes) in &other.icmp {
            self.icmp.entry(*kind).or_default().extend(codes);
        }
    }

    /// Every header once, of packets of one family.
    pub(super) fn headers(&self, is_v4: bool) -> Vec<Headers> {
        let icmp = if is_v4 { Protocol::ICMP } else { Protocol::ICMPV6 };
        let mut protocols = self.protocols.clone();
        protocols.extend(USUAL.map(|protocol| protocol.0));
        protocols.insert(icmp.0);
        if self.sports.contains_key(&None) || self.dports.contains_key(&None) {
            protocols.extend([DCCP, Protocol::UDP_LITE.0]);
        }
        let others =
            (0..=u8::MAX).rev().find(|protocol| !protocols.contains(protocol) && !has_ports(*protocol));
        let mut all = Vec::new();
        for protocol in protocols {
            self.of_protocol(protocol, &mut all);
        }
        let plain = |other| Headers {
            protocol: None,
            sports: None,
            dports: None,
            icmp: None,
            example: (other, (0, 0)),
        };
        all.extend(others.map(plain));
        all
    }

    fn of_protocol(&self, protocol: u8, all: &mut Vec<Headers>) {
        let plain = Headers {
            protocol: Some(protocol),
            sports: None,
            dports: None,
            icmp: None,
            example: (protocol, (0, 0)),
        };
        if has_ports(protocol) {
            let dports = ranges(&self.dports, protocol);
            for sports in ranges(&self.sports, protocol) {
                let both = dports.iter().map(|dports| (Some(sports), Some(*dports)));
                all.extend(both.map(|(sports, dports)| Headers { sports, dports, ..plain.clone() }));
            }
        } else if [Protocol::ICMP.0, Protocol::ICMPV6.0].contains(&protocol) {
            let with =
                |icmp, example| Headers { icmp: Some(icmp), example: (protocol, example), ..plain.clone() };
            for (kind, codes) in &self.icmp {
                all.extend(codes.iter().map(|code| with((Some(*kind), Some(*code)), (*kind, *code))));
                let other = (0..=u8::MAX).find(|code| !codes.contains(code));
                all.extend(other.map(|code| with((Some(*kind), None), (*kind, code))));
            }
            let other = (0..=u8::MAX).rev().find(|kind| !self.icmp.contains_key(kind));
            all.extend(other.map(|kind| with((None, None), (kind, 0))));
        } else {
            all.push(plain);
        }
    }
}

fn ports(
    policies: &Policies,
    side: &Side,
    protocol: Option<u8>,
    protocols: &mut BTreeSet<u8>,
    bounds: &mut BTreeMap<Option<u8>, BTreeSet<u16>>,
) {
    for range in side.ports.iter().chain(&side.not_ports) {
        let bounds = bounds.entry(protocol).or_default();
        bounds.insert(*range.start());
        bounds.extend(range.end().checked_add(1));
    }
    let named = side.named_ports.iter().chain(&side.not_named_ports);
    for ((protocol, port), _) in
        named.filter_map(|id| policies.port_sets.get(id.0)).flat_map(|set| set.iter())
    {
        protocols.insert(protocol);
        if let Some(port) = port {
            let bounds = bounds.entry(Some(protocol)).or_default();
            bounds.insert(port);
            bounds.extend(port.checked_add(1));
        }
    }
}

/// The ports of a protocol between the bounds.
fn ranges(bounds: &BTreeMap<Option<u8>, BTreeSet<u16>>, protocol: u8) -> Vec<(u16, u16)> {
    let named = [None, Some(protocol)].into_iter().filter_map(|of| bounds.get(&of)).flatten().copied();
    let starts: BTreeSet<u16> = named.chain([0]).collect();
    let ends = starts.iter().skip(1).map(|next| next - 1).chain([u16::MAX]);
    starts.iter().copied().zip(ends).collect()
}

fn has_ports(protocol: u8) -> bool {
    USUAL.contains(&Protocol(protocol)) || [DCCP, Protocol::UDP_LITE.0].contains(&protocol)
}
