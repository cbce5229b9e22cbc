//! The verdict of a flow's first packet: the sender's egress policy, then the receiver's ingress policy.

mod host;
mod rule;

use std::net::IpAddr;

pub use self::host::{
    HostClassification, Passage, classify_host, classify_host_staged, classify_untracked, is_failsafe_in,
    is_failsafe_untracked,
};
use self::rule::Packet;
use crate::address_set::End;
use crate::policy::{Check, Step};
use crate::{Action, Holder, Obeys, Policies, PolicyType, ProgramId, Rule, RuleId, Segment, TierEnd};

/// What policy sees of a first packet, in the direction that it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub protocol: u8,
    pub sport: u16,
    pub dport: u16,
    /// Type and code, where the packet is ICMP or ICMPv6.
    pub icmp: Option<(u8, u8)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    Deny,
}

/// A verdict and the rule, or the end of a tier, that decided it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    pub verdict: Verdict,
    /// [`RuleId::NONE`] where no policy selects the end, all tiers passed, or a rule of the dataplane decided.
    pub rule: RuleId,
}

impl Decision {
    const ALLOW: Self = Self { verdict: Verdict::Allow, rule: RuleId::NONE };
    /// A part of policy is missing that another refers to.
    const BROKEN: Self = Self { verdict: Verdict::Deny, rule: RuleId::NONE };
}

/// Both halves of a verdict. The packet passes if both allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classification {
    pub egress: Decision,
    pub ingress: Decision,
}

impl Classification {
    pub fn verdict(&self) -> Verdict {
        if self.egress.verdict == Verdict::Allow && self.ingress.verdict == Verdict::Allow {
            Verdict::Allow
        } else {
            Verdict::Deny
        }
    }
}

/// What staged policies would do, on the sides where there are any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Staged {
    pub egress: Option<Decision>,
    pub ingress: Option<Decision>,
}

/// Asks both ends' programs. Who is not served here has no policy. A pod always reaches itself, and a node its own pods.
/// `log` is given what matches and decides nothing: rules of action Log, and those that pass to the next tier, and whose
/// policy they are of, the sender's (egress) or the receiver's.
pub fn classify(
    policies: &Policies,
    tuple: &Tuple,
    log: &mut dyn FnMut(PolicyType, RuleId),
) -> Classification {
    enforced(&Ends::of(policies, tuple), log)
}

/// As [`classify`], of a packet to an address of the sender's own node, be it one that the cluster knows or not.
pub fn classify_to_node(
    policies: &Policies,
    tuple: &Tuple,
    log: &mut dyn FnMut(PolicyType, RuleId),
) -> Classification {
    let ends = Ends { is_to_node: true, ..Ends::of(policies, tuple) };
    enforced(&ends, log)
}

/// As [`classify`], if staged policies were enforced.
pub fn classify_staged(policies: &Policies, tuple: &Tuple) -> Staged {
    staged(&Ends::of(policies, tuple), &mut |_, _| {})
}

/// Both, for the price of one where nothing is staged. `log` is given what matches in what is enforced, then what would
/// match if staged policies were, some of it again.
pub fn classify_with_staged(
    policies: &Policies,
    tuple: &Tuple,
    log: &mut dyn FnMut(PolicyType, RuleId),
) -> (Classification, Staged) {
    let ends = Ends::of(policies, tuple);
    (enforced(&ends, log), staged(&ends, log))
}

fn enforced(ends: &Ends<'_>, log: &mut dyn FnMut(PolicyType, RuleId)) -> Classification {
    let sends = |obeys: &Obeys| if ends.is_to_node { obeys.to_node } else { obeys.egress };
    let egress = ends.sender.map_or(ProgramId::NONE, sends);
    let ingress = ends.receiver.map_or(ProgramId::NONE, |obeys| obeys.ingress);
    Classification {
        egress: evaluate(&ends.packet, egress, PolicyType::Egress, log),
        ingress: evaluate(&ends.packet, ingress, PolicyType::Ingress, log),
    }
}

fn staged(ends: &Ends<'_>, log: &mut dyn FnMut(PolicyType, RuleId)) -> Staged {
    let sender = ends.sender.filter(|_| !ends.is_to_node);
    let egress = sender.and_then(|obeys| obeys.staged_egress);
    let ingress = ends.receiver.and_then(|obeys| obeys.staged_ingress);
    Staged {
        egress: egress.map(|program| evaluate(&ends.packet, program, PolicyType::Egress, log)),
        ingress: ingress.map(|program| evaluate(&ends.packet, program, PolicyType::Ingress, log)),
    }
}

/// Whether the packet matches the rule, as [`classify`] finds it.
pub fn matches(policies: &Policies, tuple: &Tuple, rule: &Rule) -> bool {
    Ends::of(policies, tuple).packet.matches(rule)
}

/// Who sends, who receives, and what those obey who are served here.
struct Ends<'a> {
    packet: Packet<'a>,
    sender: Option<&'a Obeys>,
    /// The packet is for the sender's own node.
    is_to_node: bool,
    receiver: Option<&'a Obeys>,
}

impl<'a> Ends<'a> {
    fn of(policies: &'a Policies, tuple: &'a Tuple) -> Self {
        let (sender, receiver) = (policies.addresses.get(tuple.src), policies.addresses.get(tuple.dst));
        let end = |address, holder: Option<Holder>| End { address, identity: holder.map(|h| h.identity) };
        let packet =
            Packet { policies, tuple, source: end(tuple.src, sender), destination: end(tuple.dst, receiver) };
        if tuple.src == tuple.dst {
            return Self { packet, sender: None, is_to_node: false, receiver: None };
        }
        let served = |holder: Option<Holder>, peer: &IpAddr| {
            let holder = holder?;
            let endpoint = holder.endpoint?;
            let obeys = policies.obeys.get(holder.identity.0)?;
            // Who has an endpoint is found without reading it: there are many, and they lie far apart.
            let is_own_node = policies.nodes.contains(peer)
                && policies.endpoints.get(endpoint.0).is_some_and(|e| e.node_addresses.contains(peer));
            Some((obeys, is_own_node))
        };
        let (sender, receiver) = (served(sender, &tuple.dst), served(receiver, &tuple.src));
        Self {
            packet,
            sender: sender.map(|(obeys, _)| obeys),
            is_to_node: sender.is_some_and(|(_, is_own_node)| is_own_node),
            receiver: receiver.filter(|(_, is_own_node)| !is_own_node).map(|(obeys, _)| obeys),
        }
    }
}

/// What a program of this direction says of the packet.
#[inline]
fn evaluate(
    packet: &Packet<'_>,
    program: ProgramId,
    way: PolicyType,
    log: &mut dyn FnMut(PolicyType, RuleId),
) -> Decision {
    if program == ProgramId::NONE { Decision::ALLOW } else { run(packet, program, way, log) }
}

/// Asks the tiers in turn.
// One copy for all who ask, whatever they log: few packets meet such a rule.
fn run(
    packet: &Packet<'_>,
    program: ProgramId,
    way: PolicyType,
    log: &mut dyn FnMut(PolicyType, RuleId),
) -> Decision {
    let policies = packet.policies;
    let Some(program) = policies.programs.get(program.0) else { return Decision::BROKEN };
    let mut log = |rule| log(way, rule);
    let mut steps = program.steps().iter();
    while let Some(step) = steps.next() {
        let (end, rule, is_asked) = match *step {
            Step::End(end, rule) => (end, rule, false),
            Step::Ask(id) => {
                let Some(segment) = policies.segments.get(id.0) else { return Decision::BROKEN };
                let Some((end, rule)) = first_match(segment, packet, &mut log) else { continue };
                (end, rule, true)
            }
        };
        match end {
            TierEnd::Allow => return Decision { verdict: Verdict::Allow, rule },
            TierEnd::Deny => return Decision { verdict: Verdict::Deny, rule },
            TierEnd::Pass => {
                log(rule);
                if is_asked {
                    // To the step after the tier's end.
                    steps.find(|step| matches!(step, Step::End(..)));
                }
            }
        }
    }
    Decision::ALLOW
}

/// What the first rule that matches and decides does.
fn first_match(
    segment: &Segment,
    packet: &Packet<'_>,
    log: &mut impl FnMut(RuleId),
) -> Option<(TierEnd, RuleId)> {
    let peer = packet.peer(segment.policy_type());
    let mut hold = |check: &Check| {
        let matches = packet.passes(check, segment.policies(), peer);
        if matches { decide(check, log) } else { None }
    };
    if segment.is_linear() {
        return segment.checks().iter().find_map(hold);
    }
    let port = (packet.tuple.protocol, packet.tuple.dport);
    segment.indexes().find_map(|(index, checks)| index.find(port, peer, |position| hold(&checks[position])))
}

fn decide(check: &Check, log: &mut impl FnMut(RuleId)) -> Option<(TierEnd, RuleId)> {
    match check.action {
        Action::Allow => Some((TierEnd::Allow, check.id)),
        Action::Deny => Some((TierEnd::Deny, check.id)),
        Action::Pass => Some((TierEnd::Pass, check.id)),
        Action::Log => {
            log(check.id);
            None
        }
    }
}

#[cfg(test)]
mod tests;
