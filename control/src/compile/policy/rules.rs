//! One rule to its compiled form, with the sets that it refers to.

use margay_flowtable::{RuleId, policy as compiled};

use super::sets::{PortSetKey, SetKey, Sets};
use crate::state::policy::{Icmp, Peer, PortMatch, Rule, RuleAction, Side};
use crate::state::{Family, Protocol};

/// The sets that rules hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Uses {
    pub(super) sets: Vec<margay_flowtable::SetId>,
    pub(super) port_sets: Vec<margay_flowtable::PortSetId>,
}

pub(super) fn compile(rule: &Rule, id: RuleId, sets: &mut Sets, uses: &mut Uses) -> compiled::Rule {
    let mut side = |side: &Side| compile_side(side, rule.protocol, sets, uses);
    compiled::Rule {
        id,
        action: match rule.action {
            RuleAction::Allow => compiled::Action::Allow,
            RuleAction::Deny => compiled::Action::Deny,
            RuleAction::Pass => compiled::Action::Pass,
            RuleAction::Log => compiled::Action::Log,
        },
        ip_version: rule.ip_version.map(|family| match family {
            Family::V4 => compiled::IpVersion::V4,
            Family::V6 => compiled::IpVersion::V6,
        }),
        protocol: rule.protocol.map(|protocol| protocol.0),
        not_protocol: rule.not_protocol.map(|protocol| protocol.0),
        icmp: rule.icmp.map(icmp),
        not_icmp: rule.not_icmp.map(icmp),
        source: side(&rule.source),
        destination: side(&rule.destination),
    }
}

fn icmp(icmp: Icmp) -> compiled::IcmpMatch {
    compiled::IcmpMatch { kind: icmp.kind, code: icmp.code }
}

fn compile_side(side: &Side, protocol: Option<Protocol>, sets: &mut Sets, uses: &mut Uses) -> compiled::Side {
    let mut list = |peers: &[Peer]| {
        let keys = SetKey::of(peers).into_iter();
        let held = keys.map(|key| sets.hold(key)).inspect(|id| uses.sets.push(*id));
        held.collect::<Vec<_>>()
    };
    let all_of = side.all_of.iter().map(|peers| list(peers)).collect();
    let none_of = list(&side.none_of);
    let (ports, named_ports) = compile_ports(&side.ports, protocol, sets, uses);
    let (not_ports, not_named_ports) = compile_ports(&side.not_ports, protocol, sets, uses);
    compiled::Side { all_of, none_of, ports, named_ports, not_ports, not_named_ports }
}

type Ports = (Vec<std::ops::RangeInclusive<u16>>, Vec<margay_flowtable::PortSetId>);

fn compile_ports(ports: &[PortMatch], protocol: Option<Protocol>, sets: &mut Sets, uses: &mut Uses) -> Ports {
    let (mut ranges, mut named) = (Vec::new(), Vec::new());
    let mut hold = |key| {
        let id = sets.hold_ports(key);
        uses.port_sets.push(id);
        named.push(id);
    };
    for port in ports {
        match port {
            PortMatch::Range(range) => ranges.push(range.clone()),
            PortMatch::Service(name) => hold(PortSetKey::Service(name.clone())),
            PortMatch::Name(name) => {
                // A name without a protocol is the port of that name for whichever protocol the end declares it.
                let any = [Protocol::TCP, Protocol::UDP, Protocol::SCTP];
                let protocols = protocol.as_ref().map_or(&any[..], std::slice::from_ref);
                for protocol in protocols {
                    hold(PortSetKey::Named(*protocol, name.clone()));
                }
            }
        }
    }
    (ranges, named)
}
