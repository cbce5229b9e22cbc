//! Why a rule does not match a packet: which of its conditions, each asked by itself, do not hold.

use margay_flowtable::{Policies, Rule, Side, Tuple, matches};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A condition of a rule, as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    IpVersion,
    Protocol,
    Icmp,
    Source,
    SourcePort,
    Destination,
    DestinationPort,
}

impl Condition {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::IpVersion => "IP version",
            Self::Protocol => "protocol",
            Self::Icmp => "ICMP type",
            Self::Source => "source",
            Self::SourcePort => "source port",
            Self::Destination => "destination",
            Self::DestinationPort => "destination port",
        }
    }
}

/// Those of the rule's conditions that do not hold; none where it matches.
pub(super) fn unmet(policies: &Policies, tuple: &Tuple, rule: &Rule) -> Vec<Condition> {
    if matches(policies, tuple, rule) {
        return Vec::new();
    }
    let fails = |(_, alone): &(Condition, Rule)| !matches(policies, tuple, alone);
    alone(rule).into_iter().filter(fails).map(|(condition, _)| condition).collect()
}

/// For each condition a rule that has it alone.
fn alone(rule: &Rule) -> [(Condition, Rule); 7] {
    let any = Rule::default;
    let ends =
        |side: &Side| Side { all_of: side.all_of.clone(), none_of: side.none_of.clone(), ..Side::default() };
    let ports = |side: &Side| Side { all_of: Vec::new(), none_of: Vec::new(), ..side.clone() };
    let protocol = Rule { protocol: rule.protocol, not_protocol: rule.not_protocol, ..any() };
    [
        (Condition::IpVersion, Rule { ip_version: rule.ip_version, ..any() }),
        (Condition::Protocol, protocol),
        (Condition::Icmp, Rule { icmp: rule.icmp, not_icmp: rule.not_icmp, ..any() }),
        (Condition::Source, Rule { source: ends(&rule.source), ..any() }),
        (Condition::SourcePort, Rule { source: ports(&rule.source), ..any() }),
        (Condition::Destination, Rule { destination: ends(&rule.destination), ..any() }),
        (Condition::DestinationPort, Rule { destination: ports(&rule.destination), ..any() }),
    ]
}
