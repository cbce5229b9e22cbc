//! What policy says of a flow, and who is told: the rules' counters, and control of what was dropped.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use margay_encap::protocol;
use margay_flowtable::{
    Classification, Decision, FlowRef, FlowTable, HostClassification, Interface, Key, PolicyType, RuleId,
    Snapshot, Staged, TrailId, Tuple, Verdict, classify, classify_to_node, classify_untracked,
    classify_with_staged,
};

use super::Turn;
use super::flows::seconds;
use super::host;
use super::passed::{End, Passed, admitting, pass_differing};
use super::routes::{is_host, route_word};
use crate::counters::{Counters, PolicyDrop};
use crate::drop::DropReason;
use crate::events::{Denials, Denied, Event};

/// What becomes of a flow that policy would no longer allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Established {
    /// It ends.
    #[default]
    Reevaluate,
    /// It goes on, and no rule counts it as admitted any more. Flows that begin are judged as policy stands then.
    Keep,
}

#[derive(Debug)]
pub(super) struct Judge {
    pub(super) counters: Arc<Counters>,
    pub(super) table: Arc<FlowTable>,
    pub(super) established: Established,
    denials: RefCell<Denials>,
    /// What was last denied, for taps.
    pub(super) denied: Cell<Option<Denial>>,
}

/// By what a first packet may pass.
#[derive(Clone, Copy)]
pub(super) struct Admitted {
    /// The rules that decided, of both ends: what counts the first packet, beside what has counted it already.
    pub(super) rules: [RuleId; 2],
    /// What counts all later ones.
    pub(super) trails: [TrailId; 2],
}

impl Judge {
    pub(super) fn new(table: Arc<FlowTable>, counters: Arc<Counters>) -> Self {
        Self {
            counters,
            table,
            established: Established::default(),
            denials: RefCell::default(),
            denied: Cell::default(),
        }
    }

    /// By what a first packet may pass, which has this type and code if it is ICMP. Where it may not, that is counted and
    /// recorded. It came in by `entry` (`None`: its host endpoint has spoken already), for this next hop.
    ///
    /// What it passes on the way counts here: rules that match and decide nothing (Log, Pass), and staged rules that would
    /// decide.
    pub(super) fn first(
        &self,
        turn: &Turn<'_>,
        entry: Option<Interface>,
        key: &impl Key,
        next_hop: u32,
        icmp: (u8, u8),
        bytes: u16,
    ) -> Result<Admitted, DropReason> {
        let (snapshot, tuple) = (turn.snapshot, tuple(key, icmp));
        let (mut passed, rules) = (Passed::default(), &self.counters.rules);
        let mut pass = |end, decision: Decision| {
            if passed.add(end, decision.rule) {
                rules.count([decision.rule, RuleId::NONE], bytes);
                self.count_verdict(decision);
            }
        };
        match ask(snapshot, entry, &tuple, next_hop, &mut pass) {
            Ok(decided) => {
                let is_tracked = entry.is_some();
                let trails =
                    if is_tracked { self.trails(snapshot, decided, &passed) } else { [TrailId::NONE; 2] };
                Ok(Admitted { rules: decided, trails })
            }
            Err(denial) => {
                let rule = self.deny(snapshot, &tuple, denial);
                rules.count([rule, RuleId::NONE], bytes);
                self.tell_denied(turn, &tuple, denial, bytes);
                Err(DropReason::PolicyDeny)
            }
        }
    }

    /// The same for a flow that an older snapshot has judged, and that counts by these trails. Where it may go on no longer,
    /// the rule that denies it is in its direction's place. Rules count the flow that have not done so before.
    pub(super) fn again(
        &self,
        snapshot: &Snapshot,
        entry: Interface,
        key: &impl Key,
        icmp: (u8, u8),
        was_denied: bool,
        before: [TrailId; 2],
    ) -> (Verdict, [TrailId; 2]) {
        let tuple = tuple(key, icmp);
        let mut passed = Passed::default();
        let is_new = |end: End, rule| !self.holds(before[end as usize], rule);
        let mut pass = |end, decision: Decision| {
            if passed.add(end, decision.rule) && is_new(end, decision.rule) {
                self.count_verdict(decision);
            }
        };
        let asked = ask(snapshot, Some(entry), &tuple, route_word(snapshot, key.dst()), &mut pass);
        let (verdict, decided) = match asked {
            Ok(decided) => {
                for (end, rule) in End::BOTH.into_iter().zip(decided) {
                    if was_denied || is_new(end, rule) {
                        self.counters.rules.count_flow(rule);
                    }
                }
                (Verdict::Allow, decided)
            }
            Err(_) if self.established == Established::Keep && !was_denied => {
                (Verdict::Allow, [RuleId::NONE; 2])
            }
            Err(denial) => {
                if !was_denied {
                    self.deny(snapshot, &tuple, denial);
                }
                let of = |way| if way == denial.direction { denial.rule } else { RuleId::NONE };
                (Verdict::Deny, [of(PolicyType::Egress), of(PolicyType::Ingress)])
            }
        };
        (verdict, self.trails(snapshot, decided, &passed))
    }

    /// Counts a packet of a flow with these trails.
    pub(super) fn count(&self, trails: [TrailId; 2], bytes: u16) {
        self.counters.rules.count_trails(trails, bytes);
    }

    /// Counts a first packet by the rules that decided.
    pub(super) fn count_first(&self, admitted: &Admitted, bytes: u16) {
        self.counters.rules.count(admitted.rules, bytes);
    }

    /// Counts a flow that begins by the rules that decided.
    pub(super) fn count_flow(&self, admitted: &Admitted) {
        admitted.rules.into_iter().for_each(|rule| self.counters.rules.count_flow(rule));
    }

    fn count_verdict(&self, decision: Decision) {
        match decision.verdict {
            Verdict::Allow => self.counters.rules.count_flow(decision.rule),
            Verdict::Deny => self.counters.rules.count_denied(decision.rule),
        }
    }

    fn trails(&self, snapshot: &Snapshot, decided: [RuleId; 2], passed: &Passed) -> [TrailId; 2] {
        passed.trails(decided, &self.counters.rules, self.table.trails(), snapshot.trails)
    }

    fn holds(&self, trail: TrailId, rule: RuleId) -> bool {
        let rule = self.counters.rules.counted(rule);
        self.table.trails().rules(trail).any(|held| held == rule)
    }

    /// Whether a packet, which the host endpoint of where it came in is asked about before it is tracked, is not to be.
    pub(super) fn untracked(
        &self,
        turn: &Turn<'_>,
        entry: Interface,
        key: &impl Key,
        icmp: (u8, u8),
        bytes: u16,
    ) -> Result<bool, DropReason> {
        let (snapshot, tuple) = (turn.snapshot, tuple(key, icmp));
        let (mut passed, rules) = (Passed::default(), &self.counters.rules);
        let mut count = |rule| {
            if passed.add(End::Source, rule) {
                rules.count([rule, RuleId::NONE], bytes);
            }
        };
        let Some(decision) = classify_untracked(&snapshot.policies, entry, &tuple, &mut count) else {
            return Ok(false);
        };
        count(decision.rule);
        // Where it leaves is asked with the rest.
        let mut log = |way, rule| {
            if way == PolicyType::Ingress {
                count(rule);
            }
        };
        let staged = host::ask_staged(snapshot, Some(entry), &tuple, &mut log).ingress;
        if let Some(staged) = staged.filter(|staged| staged.rule != decision.rule) {
            count(staged.rule);
            self.count_verdict(staged);
        }
        if decision.verdict == Verdict::Allow {
            return Ok(true);
        }
        let denial = Denial { direction: PolicyType::Ingress, rule: decision.rule, is_of_host: true };
        self.deny(snapshot, &tuple, denial);
        self.tell_denied(turn, &tuple, denial, bytes);
        Err(DropReason::PolicyDeny)
    }

    /// Tells who asked for it of a packet that policy has denied.
    fn tell_denied(&self, turn: &Turn<'_>, tuple: &Tuple, denial: Denial, bytes: u16) {
        let (events, at) = (&self.counters.events, turn.now);
        if events.is_wanted() {
            let Denial { rule, direction, .. } = denial;
            let (packets, bytes) = (1, bytes.into());
            let denied = Denied { tuple: *tuple, rule, direction, packets, bytes, first: at, last: at };
            self.denials.borrow_mut().add(denied, events);
        }
    }

    /// Tells of denials that have been added up.
    #[inline]
    pub(super) fn settle_denials(&self, now: u64) {
        self.denials.borrow_mut().settle(now, &self.counters.events);
    }

    /// Tells who asked for it of a connection that begins, or goes on again.
    pub(super) fn tell_started(&self, turn: &Turn<'_>, key: &impl Key, icmp: (u8, u8), trails: [TrailId; 2]) {
        if self.counters.events.is_wanted() {
            self.counters.events.tell(Event::Started { tuple: tuple(key, icmp), trails, at: turn.now });
        }
    }

    /// Tells who asked for it of a connection that a change of policy has ended. From here on it carries nothing.
    #[cold]
    pub(super) fn tell_cut(
        &self,
        turn: &Turn<'_>,
        flow: FlowRef,
        key: &impl Key,
        icmp: (u8, u8),
        trails: [TrailId; 2],
    ) {
        if self.counters.events.is_wanted() {
            let counts = self.table.take_counts(flow, seconds(turn.now));
            self.counters.events.tell(Event::Cut { tuple: tuple(key, icmp), trails, counts, at: turn.now });
        }
    }

    /// Counts and records it. Returns the rule.
    #[cold]
    fn deny(&self, snapshot: &Snapshot, tuple: &Tuple, denial: Denial) -> RuleId {
        let Denial { direction, rule, is_of_host } = denial;
        self.denied.set(Some(denial));
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
pub(super) fn allows(snapshot: &Snapshot, entry: Interface, key: &impl Key) -> bool {
    let tuple = tuple(key, (0, 0));
    let host = host::ask(snapshot, Some(entry), &tuple, &mut |_, _| {});
    let decided = if is_host(snapshot, route_word(snapshot, key.dst())) {
        classify_to_node(&snapshot.policies, &tuple, &mut |_, _| {})
    } else {
        classify(&snapshot.policies, &tuple, &mut |_, _| {})
    };
    denial(host.as_ref(), &decided).is_none()
}

/// Asks everyone about a first packet for this next hop: the rules that let it pass, of both ends, or what denies it.
/// `pass` is given what else counts it, and at which end: what matches and decides nothing, as if it allowed, and what
/// staged policies would decide.
#[inline]
fn ask(
    snapshot: &Snapshot,
    entry: Option<Interface>,
    tuple: &Tuple,
    next_hop: u32,
    pass: &mut dyn FnMut(End, Decision),
) -> Result<[RuleId; 2], Denial> {
    let allowed = |rule| Decision { verdict: Verdict::Allow, rule };
    let host = host::ask(snapshot, entry, tuple, &mut |way, rule| pass(End::of_host(way), allowed(rule)));
    let mut log = |way, rule| pass(End::of_pod(way), allowed(rule));
    let (decided, staged) = if is_host(snapshot, next_hop) {
        // Staged policies are not asked on that way.
        (classify_to_node(&snapshot.policies, tuple, &mut log), Staged::default())
    } else {
        classify_with_staged(&snapshot.policies, tuple, &mut log)
    };
    let pods = [decided.egress, decided.ingress];
    pass_differing(staged, pods, |way, decision| pass(End::of_pod(way), decision));
    let mut log = |way, rule| pass(End::of_host(way), allowed(rule));
    let staged = host::ask_staged(snapshot, entry, tuple, &mut log);
    let HostClassification { egress, ingress } = host.unwrap_or(HostClassification::ALLOW);
    pass_differing(staged, [egress, ingress], |way, decision| pass(End::of_host(way), decision));
    if let Some(denial) = denial(host.as_ref(), &decided) {
        return Err(denial);
    }
    let (admitting, beside) = admitting(host.as_ref(), &decided);
    for (end, rule) in End::BOTH.into_iter().zip(beside.into_iter().flatten()) {
        pass(end, allowed(rule));
    }
    Ok(admitting)
}

/// What denies a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial {
    pub direction: PolicyType,
    /// [`RuleId::NONE`] where a part of policy was missing.
    pub rule: RuleId,
    /// It is a host endpoint's, and no pod's.
    pub is_of_host: bool,
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

fn tuple(key: &impl Key, icmp: (u8, u8)) -> Tuple {
    let ((sport, dport), protocol) = (key.ports(), key.protocol());
    let src = key.src();
    let own_icmp = if src.is_ipv6() { protocol::ICMPV6 } else { protocol::ICMP };
    let icmp = (protocol == own_icmp).then_some(icmp);
    Tuple { src, dst: key.dst(), protocol, sport, dport, icmp }
}
