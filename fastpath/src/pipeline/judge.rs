//! What policy says of a flow, and who is told: the rules' counters, and control of what was dropped.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use margay_encap::protocol;
use margay_flowtable::key::FlowKey;
use margay_flowtable::{
    Classification, HostClassification, Interface, PolicyType, RuleId, Snapshot, Staged, Tuple, Verdict,
    classify, classify_to_node, classify_untracked, classify_with_staged,
};

use super::flows::{is_host, route_word};
use super::host;
use super::ingress::Input;
use crate::counters::{Counters, PolicyDrop};
use crate::drop::DropReason;

/// What becomes of a flow that policy would no longer allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Established {
    /// It ends.
    #[default]
    Reevaluate,
    /// It goes on, and no rule counts it any more. Flows that begin are judged as policy stands then.
    Keep,
}

#[derive(Debug)]
pub(super) struct Judge {
    pub(super) counters: Arc<Counters>,
    pub(super) established: Established,
}

impl Judge {
    /// The rules by which a first packet may pass, which has this type and code if it is ICMP. Where it may not, that is
    /// counted and recorded. It came in by `entry` (`None`: its host endpoint has spoken already), for this next hop.
    ///
    /// Rules that match and decide nothing (Log, Pass) and staged rules that would decide count here, and so first packets
    /// alone.
    pub(super) fn first(
        &self,
        snapshot: &Snapshot,
        entry: Option<Interface>,
        key: &FlowKey,
        next_hop: u32,
        icmp: (u8, u8),
        bytes: u16,
    ) -> Result<[RuleId; 2], DropReason> {
        let tuple = tuple(key, icmp);
        let rules = &self.counters.rules;
        let mut log = |rule| {
            rules.count([rule, RuleId::NONE], bytes);
            rules.count_flow(rule);
        };
        let host = host::ask(snapshot, entry, &tuple, &mut |rule| log(rule));
        let (decided, staged) = if is_host(snapshot, next_hop) {
            // Staged policies are not asked on that way.
            (classify_to_node(&snapshot.policies, &tuple, &mut log), Staged::default())
        } else {
            classify_with_staged(&snapshot.policies, &tuple, &mut log)
        };
        self.count_staged(staged, bytes);
        self.count_staged(host::ask_staged(snapshot, entry, &tuple), bytes);
        match denial(host.as_ref(), &decided) {
            None => {
                let (both, others) = admitting(host.as_ref(), &decided);
                others.into_iter().flatten().for_each(log);
                Ok(self.counted(both))
            }
            Some(denial) => {
                let rule = self.deny(snapshot, &tuple, denial);
                rules.count([rule, RuleId::NONE], bytes);
                Err(DropReason::PolicyDeny)
            }
        }
    }

    /// The same for a flow that an older snapshot has judged. Where it may go on no longer, the rule that denies it is in
    /// its direction's place.
    pub(super) fn again(
        &self,
        snapshot: &Snapshot,
        entry: Interface,
        key: &FlowKey,
        icmp: (u8, u8),
        was_denied: bool,
    ) -> (Verdict, [RuleId; 2]) {
        let tuple = tuple(key, icmp);
        let decided = decide(snapshot, key, &tuple);
        let host = host::ask(snapshot, Some(entry), &tuple, &mut |_| {});
        match denial(host.as_ref(), &decided) {
            None => (Verdict::Allow, self.counted(admitting(host.as_ref(), &decided).0)),
            Some(_) if self.established == Established::Keep && !was_denied => {
                (Verdict::Allow, [RuleId::NONE; 2])
            }
            Some(denial) => {
                if !was_denied {
                    self.deny(snapshot, &tuple, denial);
                }
                let of = |way| if way == denial.direction { denial.rule } else { RuleId::NONE };
                (Verdict::Deny, self.counted([of(PolicyType::Egress), of(PolicyType::Ingress)]))
            }
        }
    }

    /// Counts a packet of a flow with these rules.
    pub(super) fn count(&self, rules: [RuleId; 2], bytes: u16) {
        self.counters.rules.count(rules, bytes);
    }

    /// Counts a flow by those of its rules that have not admitted it before.
    pub(super) fn count_flow(&self, rules: [RuleId; 2], before: [RuleId; 2]) {
        for (rule, before) in rules.into_iter().zip(before) {
            if rule != before {
                self.counters.rules.count_flow(rule);
            }
        }
    }

    fn counted(&self, rules: [RuleId; 2]) -> [RuleId; 2] {
        rules.map(|rule| self.counters.rules.counted(rule))
    }

    fn count_staged(&self, staged: Staged, bytes: u16) {
        let rules = &self.counters.rules;
        for decision in staged.egress.into_iter().chain(staged.ingress) {
            rules.count([decision.rule, RuleId::NONE], bytes);
            match decision.verdict {
                Verdict::Allow => rules.count_flow(decision.rule),
                Verdict::Deny => rules.count_denied(decision.rule),
            }
        }
    }

    /// Whether a packet, which its port's host endpoint is asked about before it is tracked, is not to be.
    pub(super) fn untracked(
        &self,
        snapshot: &Snapshot,
        input: &Input<'_>,
        key: &FlowKey,
        icmp: (u8, u8),
        bytes: u16,
    ) -> Result<bool, DropReason> {
        let (tuple, entry) = (tuple(key, icmp), Interface::Uplink(input.port));
        let mut count = |rule| self.count([rule, RuleId::NONE], bytes);
        let Some(decision) = classify_untracked(&snapshot.policies, entry, &tuple, &mut count) else {
            return Ok(false);
        };
        count(decision.rule);
        // Where it leaves is asked with the rest.
        let staged = Staged { egress: None, ..host::ask_staged(snapshot, Some(entry), &tuple) };
        self.count_staged(staged, bytes);
        if decision.verdict == Verdict::Allow {
            return Ok(true);
        }
        let denial = Denial { direction: PolicyType::Ingress, rule: decision.rule, is_of_host: true };
        self.deny(snapshot, &tuple, denial);
        Err(DropReason::PolicyDeny)
    }

    /// Counts and records it. Returns the rule.
    #[cold]
    fn deny(&self, snapshot: &Snapshot, tuple: &Tuple, denial: Denial) -> RuleId {
        let Denial { direction, rule, is_of_host } = denial;
        self.counters.rules.count_denied(rule);
        let end = match direction {
            PolicyType::Egress => tuple.src,
            PolicyType::Ingress => tuple.dst,
        };
        let holder = snapshot.policies.addresses.get(end).filter(|_| !is_of_host);
        let endpoint = holder.and_then(|holder| holder.endpoint);
        self.counters.policy_drops.record(PolicyDrop { rule, direction, endpoint, tuple: *tuple });
        rule
    }
}

/// Whether a first packet of TCP may pass; nobody is told.
pub(super) fn allows(snapshot: &Snapshot, entry: Interface, key: &FlowKey) -> bool {
    let tuple = tuple(key, (0, 0));
    let host = host::ask(snapshot, Some(entry), &tuple, &mut |_| {});
    denial(host.as_ref(), &decide(snapshot, key, &tuple)).is_none()
}

fn decide(snapshot: &Snapshot, key: &FlowKey, tuple: &Tuple) -> Classification {
    if is_host(snapshot, route_word(snapshot, key.dst)) {
        classify_to_node(&snapshot.policies, tuple, &mut |_| {})
    } else {
        classify(&snapshot.policies, tuple, &mut |_| {})
    }
}

/// What denies a packet.
#[derive(Clone, Copy)]
struct Denial {
    direction: PolicyType,
    rule: RuleId,
    /// It is a host endpoint's, and no pod's.
    is_of_host: bool,
}

/// The first of those who are asked that denies.
#[inline]
fn denial(host: Option<&HostClassification>, decided: &Classification) -> Option<Denial> {
    let does_host_allow = host.is_none_or(|host| host.verdict() == Verdict::Allow);
    if does_host_allow && decided.verdict() == Verdict::Allow {
        return None;
    }
    first_denial(host.unwrap_or(&HostClassification::ALLOW), decided)
}

#[cold]
fn first_denial(host: &HostClassification, decided: &Classification) -> Option<Denial> {
    let asked = [
        (PolicyType::Ingress, host.ingress, true),
        (PolicyType::Egress, decided.egress, false),
        (PolicyType::Ingress, decided.ingress, false),
        (PolicyType::Egress, host.egress, true),
    ];
    let denies = asked.into_iter().find(|(_, decision, _)| decision.verdict == Verdict::Deny);
    denies.map(|(direction, decision, is_of_host)| Denial { direction, rule: decision.rule, is_of_host })
}

/// The rules that let a flow pass: the two that it remembers, and those that it has no room for. Where a side is no pod's
/// the rule of the host endpoint there takes its place.
#[inline]
fn admitting(
    host: Option<&HostClassification>,
    decided: &Classification,
) -> ([RuleId; 2], Option<[RuleId; 2]>) {
    let Some(host) = host else { return ([decided.egress.rule, decided.ingress.rule], None) };
    let sides = [(decided.egress, host.ingress), (decided.ingress, host.egress)];
    let rules = sides.map(|(pod, host)| match pod.rule {
        RuleId::NONE => (host.rule, RuleId::NONE),
        rule => (rule, host.rule),
    });
    (rules.map(|(kept, _)| kept), Some(rules.map(|(_, other)| other)))
}

fn tuple(key: &FlowKey, icmp: (u8, u8)) -> Tuple {
    Tuple {
        src: IpAddr::V4(Ipv4Addr::from_bits(key.src)),
        dst: IpAddr::V4(Ipv4Addr::from_bits(key.dst)),
        protocol: key.protocol,
        sport: key.sport,
        dport: key.dport,
        icmp: (key.protocol == protocol::ICMP).then_some(icmp),
    }
}
