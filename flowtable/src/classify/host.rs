//! What host endpoints say of a packet that this node forwards, in the order of Felix (`rules/static.go`).

use margay_encap::protocol;

use super::rule::Packet;
use super::{Decision, Staged, Tuple, Verdict, evaluate};
use crate::address_set::End;
use crate::policy::{HostObeys, Interface, PolicyType};
use crate::{Policies, RuleId};

/// What no policy closes on its way in before it is known whether it is for the node itself: Felix's defaults.
const FAILSAFE_IN: [(u8, u16); 9] = [
    (protocol::TCP, 22),
    (protocol::UDP, 68),
    (protocol::TCP, 179),
    (protocol::TCP, 2379),
    (protocol::TCP, 2380),
    (protocol::TCP, 5473),
    (protocol::TCP, 6443),
    (protocol::TCP, 6666),
    (protocol::TCP, 6667),
];
/// The same on the way out. Answers to it come in.
const FAILSAFE_OUT: [(u8, u16); 9] = [
    (protocol::UDP, 53),
    (protocol::UDP, 67),
    (protocol::TCP, 179),
    (protocol::TCP, 2379),
    (protocol::TCP, 2380),
    (protocol::TCP, 5473),
    (protocol::TCP, 6443),
    (protocol::TCP, 6666),
    (protocol::TCP, 6667),
];

/// Where a first packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passage {
    /// By what it came in; `None` if that need not be asked again.
    pub entry: Option<Interface>,
    /// By what it leaves; `None` if it is for this node.
    pub exit: Option<Interface>,
}

/// Both halves of what host endpoints say. The packet passes if both allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostClassification {
    /// Of the interface that it came in by.
    pub ingress: Decision,
    /// Of the interface that it leaves by.
    pub egress: Decision,
}

impl HostClassification {
    /// Of what no host endpoint is asked about.
    pub const ALLOW: Self = Self { ingress: Decision::ALLOW, egress: Decision::ALLOW };

    pub fn verdict(&self) -> Verdict {
        if self.ingress.verdict == Verdict::Allow { self.egress.verdict } else { Verdict::Deny }
    }
}

/// Asks the host endpoints about a first packet that is tracked. `log` is as for [`classify`](super::classify).
pub fn classify_host(
    policies: &Policies,
    passage: Passage,
    tuple: &Tuple,
    log: &mut dyn FnMut(PolicyType, RuleId),
) -> HostClassification {
    let packet = packet(policies, tuple);
    let is_forwarded = passage.exit.is_some();
    let at = |interface| policies.host.at(interface);
    let enter = |entry| ingress(&packet, &at(entry), is_forwarded, log);
    let ingress = passage.entry.map_or(Decision::ALLOW, enter);
    let leave = |exit| evaluate(&packet, at(exit).egress, PolicyType::Egress, log);
    let egress = passage.exit.map_or(Decision::ALLOW, leave);
    HostClassification { ingress, egress }
}

/// The same if staged policies were enforced, on the sides where something else is asked then. Those before connection
/// tracking are asked here too.
pub fn classify_host_staged(
    policies: &Policies,
    passage: Passage,
    tuple: &Tuple,
    log: &mut dyn FnMut(PolicyType, RuleId),
) -> Staged {
    let (host, packet) = (&policies.host, packet(policies, tuple));
    let ingress = passage.entry.and_then(|entry| {
        let obeys = host.staged_at(entry).filter(|obeys| obeys.on_entry() != host.at(entry).on_entry())?;
        let first = untracked(&packet, &obeys, log);
        Some(first.unwrap_or_else(|| ingress(&packet, &obeys, passage.exit.is_some(), log)))
    });
    let egress = passage.exit.and_then(|exit| {
        let obeys = host.staged_at(exit).filter(|obeys| obeys.egress != host.at(exit).egress)?;
        Some(evaluate(&packet, obeys.egress, PolicyType::Egress, log))
    });
    Staged { egress, ingress }
}

/// What comes before destination NAT, then what is forwarded. What the first allows, the second is not asked about.
fn ingress(
    packet: &Packet<'_>,
    obeys: &HostObeys,
    is_forwarded: bool,
    log: &mut dyn FnMut(PolicyType, RuleId),
) -> Decision {
    if !is_failsafe_in(packet.tuple) {
        let first = evaluate(packet, obeys.pre_dnat, PolicyType::Ingress, log);
        if is_decided(first) {
            return first;
        }
    }
    if is_forwarded { evaluate(packet, obeys.ingress, PolicyType::Ingress, log) } else { Decision::ALLOW }
}

/// Asks the host endpoint of an interface about a packet that came in there, before connection tracking; any packet, not
/// only a first one. `None`: it is to be tracked.
pub fn classify_untracked(
    policies: &Policies,
    entry: Interface,
    tuple: &Tuple,
    log: &mut impl FnMut(RuleId),
) -> Option<Decision> {
    untracked(&packet(policies, tuple), &policies.host.at(entry), &mut |_, rule| log(rule))
}

fn untracked(
    packet: &Packet<'_>,
    obeys: &HostObeys,
    log: &mut dyn FnMut(PolicyType, RuleId),
) -> Option<Decision> {
    if is_failsafe_untracked(packet.tuple) {
        return None;
    }
    let first = evaluate(packet, obeys.untracked, PolicyType::Ingress, log);
    Some(first).filter(|decision| is_decided(*decision))
}

/// Whether no policy before destination NAT is asked about the packet where it comes in.
pub fn is_failsafe_in(tuple: &Tuple) -> bool {
    FAILSAFE_IN.contains(&(tuple.protocol, tuple.dport))
}

/// The same of policies before connection tracking, for which an answer is a packet like any other.
pub fn is_failsafe_untracked(tuple: &Tuple) -> bool {
    is_failsafe_in(tuple) || FAILSAFE_OUT.contains(&(tuple.protocol, tuple.sport))
}

/// Whether a rule has spoken, and not the end of all tiers.
fn is_decided(decision: Decision) -> bool {
    decision != Decision::ALLOW
}

fn packet<'a>(policies: &'a Policies, tuple: &'a Tuple) -> Packet<'a> {
    let end = |address| {
        let holder = policies.addresses.get(address);
        End { address, identity: holder.map(|holder| holder.identity) }
    };
    Packet { policies, tuple, source: end(tuple.src), destination: end(tuple.dst) }
}
