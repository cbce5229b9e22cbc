//! What policy says of each probe's first packet, by the compiler and the classifier that workers run.

use std::path::Path;

use margay_flowtable::{Decision, Policies, Tuple, Verdict, classify};
use serde::Serialize;

use crate::compile::policy::{self, RuleIds, Serves};
use crate::probe::{Expect, Given, Packet, Probe, ProbeFileError, Unresolved};
use crate::state::{Cluster, Protocol};

/// Source port of a probe that names none: the first ephemeral one (IANA).
const EPHEMERAL: u16 = 49152;

/// The answer to one probe; its JSON form is an interface that scripts rely on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    #[serde(flatten)]
    pub given: Given,
    pub verdict: Expect,
    pub expect: Option<Expect>,
    pub egress: Half,
    pub ingress: Half,
}

/// What one end's policy says, and what decided: no policy where none selects the end; no rule where a policy's
/// isolation did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Half {
    pub verdict: Expect,
    /// `NAMESPACE/NAME`, or `NAME` of one that is cluster-wide.
    pub policy: Option<String>,
    /// Position in the policy's ingress or egress list.
    pub rule: Option<u32>,
}

impl Answer {
    /// Whether the verdict is the expected one, or none was expected.
    pub fn agrees(&self) -> bool {
        self.expect.is_none_or(|expect| expect == self.verdict)
    }
}

impl Half {
    const UNDELIVERED: Self = Self { verdict: Expect::Deny, policy: None, rule: None };

    fn of(decision: Decision, rules: &RuleIds) -> Self {
        let name = rules.name(decision.rule);
        Self {
            verdict: spoken(decision.verdict),
            policy: name.map(|name| name.policy.full_name()),
            rule: name.and_then(|name| name.index),
        }
    }
}

impl Probe {
    /// What policy sees of one of its packets.
    pub fn tuple(&self, packet: &Packet) -> Tuple {
        Tuple {
            src: packet.src,
            dst: packet.dst,
            protocol: self.protocol.0,
            sport: if packet.dport.is_some() { self.sport.unwrap_or(EPHEMERAL) } else { 0 },
            dport: packet.dport.unwrap_or(0),
            icmp: matches!(self.protocol, Protocol::ICMP | Protocol::ICMPV6).then_some(self.icmp),
        }
    }
}

pub(crate) fn spoken(verdict: Verdict) -> Expect {
    match verdict {
        Verdict::Allow => Expect::Allow,
        Verdict::Deny => Expect::Deny,
    }
}

/// A probe that cannot be answered.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct Unanswerable {
    pub line: usize,
    pub why: Unresolved,
}

impl Unanswerable {
    /// As an error of the file that the probe is from.
    pub fn in_file(self, file: &Path) -> ProbeFileError {
        ProbeFileError::Wrong { file: file.to_owned(), line: self.line, why: self.why.to_string() }
    }
}

/// Answers the probes in their order, with every pod of the cluster taken as served.
pub fn check(cluster: &Cluster, probes: &[Probe]) -> Result<Vec<Answer>, Unanswerable> {
    let (policies, compiler) = policy::compile(cluster, Serves::All);
    let answer = |probe: &Probe| {
        let packets = probe.packets(cluster).map_err(|why| Unanswerable { line: probe.line, why })?;
        Ok(answer(&policies, compiler.rule_ids(), probe, &packets))
    };
    probes.iter().map(answer).collect()
}

/// Allowed if each packet is; of several the first that is denied speaks. Without a packet (a service without ready
/// endpoints, a finished pod) nothing is delivered.
fn answer(policies: &Policies, rules: &RuleIds, probe: &Probe, packets: &[Packet]) -> Answer {
    let halves = |packet: &Packet| {
        let tuple = probe.tuple(packet);
        let classification = classify(policies, &tuple, &mut |_, _| {});
        let halves = (Half::of(classification.egress, rules), Half::of(classification.ingress, rules));
        (spoken(classification.verdict()), halves)
    };
    let verdicts: Vec<_> = packets.iter().map(halves).collect();
    let denied = verdicts.iter().find(|(verdict, _)| *verdict == Expect::Deny);
    let (verdict, (egress, ingress)) = denied
        .or(verdicts.first())
        .cloned()
        .unwrap_or((Expect::Deny, (Half::UNDELIVERED, Half::UNDELIVERED)));
    Answer { given: probe.given.clone(), verdict, expect: probe.expect, egress, ingress }
}
