//! What host endpoints say of a packet: where it comes into the node that forwards it, and where it leaves.

use std::collections::BTreeMap;

use margay_flowtable::{
    Decision, HostObeys, Interface, Passage, ProgramId, Tuple, WayOut, classify_host, classify_host_staged,
    classify_untracked, is_failsafe_in, is_failsafe_untracked,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::World;
use super::side::{Decided, obeys};
use super::trace::{TierTrace, Trace, trace};
use crate::check::spoken;
use crate::probe::Expect;

/// What is asked at the interfaces that a packet passes. There is one where either belongs to a host endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HostPassage {
    pub node: String,
    pub entry: Option<HostSide>,
    /// None where the packet goes no further than the node.
    pub exit: Option<HostSide>,
    pub notes: Vec<String>,
}

/// What is asked at one interface.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HostSide {
    pub kind: InterfaceKind,
    /// Its name; none of pods' ports, nor where manifests do not say it.
    pub interface: Option<String>,
    /// The HostEndpoint that it belongs to.
    pub endpoint: Option<String>,
    pub labels: BTreeMap<String, String>,
    #[serde(flatten)]
    pub said: HostSaid,
    /// What would be said if staged policies were enforced, where there are any.
    pub staged: Option<HostStaged>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum InterfaceKind {
    Pod,
    /// What lies inside a tunnel comes and goes by it.
    Tunnel,
    Uplink,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HostSaid {
    pub verdict: Expect,
    pub decided: Decided,
    /// Where that was decided; none where nothing of it was.
    pub decided_at: Option<Stage>,
    /// Those where there are policies, in the order in which they are asked.
    pub stages: Vec<StageTrace>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HostStaged {
    #[serde(flatten)]
    pub said: HostSaid,
    /// Whether the verdict is another than the one in force.
    pub is_change: bool,
}

/// When a host endpoint's policies are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Stage {
    /// Before connection tracking.
    #[serde(rename = "doNotTrack")]
    Untracked,
    /// Before destination NAT.
    #[serde(rename = "preDNAT")]
    PreDnat,
    /// Of what is forwarded.
    #[serde(rename = "applyOnForward")]
    Forward,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StageTrace {
    pub stage: Stage,
    pub skipped: Option<Skipped>,
    pub tiers: Vec<TierTrace>,
}

/// Why policies are not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Skipped {
    FailsafePort,
    /// The packet is for the node itself.
    NotForwarded,
}

/// By what a packet comes and goes.
pub(super) struct Crossing {
    /// By what packets to its sender leave.
    pub(super) entry: WayOut,
    pub(super) exit: WayOut,
    /// What was assumed of uplinks.
    pub(super) assumed: Option<String>,
}

impl HostPassage {
    /// Of a packet that crosses the node; none where no host endpoint is there, or it does not come to Margay.
    pub(super) fn of(world: &World<'_>, node: &str, tuple: &Tuple, crossing: &Crossing) -> Option<Self> {
        let (passage, mut notes) = passage(world, tuple, crossing)?;
        let crossed = || [passage.entry, passage.exit].into_iter().flatten();
        if !crossed().any(|interface| world.compiler.host_endpoint_at(interface).is_some()) {
            return None;
        }
        if crossed().any(|interface| matches!(interface, Interface::Uplink(_))) {
            notes.extend(crossing.assumed.clone());
        }
        let host = &world.policies.host;
        let untracked =
            passage.entry.and_then(|at| classify_untracked(world.policies, at, tuple, &mut |_| {}));
        let said = classify_host(world.policies, passage, tuple, &mut |_, _| {});
        let staged = classify_host_staged(world.policies, passage, tuple, &mut |_, _| {});
        let is_forwarded = passage.exit.is_some();
        let entry = passage.entry.map(|at| {
            let ask = |obeys| on_entry(tuple, obeys, is_forwarded);
            let decision = untracked.unwrap_or(said.ingress);
            side(
                world,
                tuple,
                at,
                (ask(host.at(at)), decision),
                staged.ingress.map(|decision| (ask(host.staged_at(at).unwrap_or_default()), decision)),
            )
        });
        let exit = passage.exit.map(|at| {
            let ask = |obeys: HostObeys| vec![(Stage::Forward, obeys.egress, None)];
            side(
                world,
                tuple,
                at,
                (ask(host.at(at)), said.egress),
                staged.egress.map(|decision| (ask(host.staged_at(at).unwrap_or_default()), decision)),
            )
        });
        Some(Self { node: node.to_owned(), entry, exit, notes })
    }

    /// Whether both sides allow.
    pub(super) fn allows(&self) -> bool {
        self.entry.iter().chain(&self.exit).all(|side| side.said.verdict == Expect::Allow)
    }
}

/// The interfaces that are asked, if any are, and what is to be said of that.
fn passage(world: &World<'_>, tuple: &Tuple, crossing: &Crossing) -> Option<(Passage, Vec<String>)> {
    if tuple.src == tuple.dst {
        return None;
    }
    let mut notes = Vec::new();
    let passage = match (crossing.entry, crossing.exit) {
        (WayOut::By(Interface::Pod), WayOut::Here) => {
            obeys(world, tuple.src).filter(|obeys| obeys.to_node != ProgramId::NONE)?;
            Passage { entry: Some(Interface::Pod), exit: None }
        }
        // Else what the node itself sends, and what is for it, is the kernel's.
        (WayOut::Here, _) | (_, WayOut::Here) | (WayOut::Unknown, WayOut::Unknown) => return None,
        (WayOut::By(entry), WayOut::By(exit)) => Passage { entry: Some(entry), exit: Some(exit) },
        (WayOut::By(entry), WayOut::Unknown) => {
            notes.push(format!("no way leads to {}: where it would leave is left out", tuple.dst));
            Passage { entry: Some(entry), exit: None }
        }
        (WayOut::Unknown, WayOut::By(exit)) => {
            notes.push(format!("no way leads back to {}: where it comes in is left out", tuple.src));
            Passage { entry: None, exit: Some(exit) }
        }
    };
    Some((passage, notes))
}

type Asked = (Stage, ProgramId, Option<Skipped>);

fn on_entry(tuple: &Tuple, obeys: HostObeys, is_forwarded: bool) -> Vec<Asked> {
    let failsafe = |is_failsafe: bool| is_failsafe.then_some(Skipped::FailsafePort);
    vec![
        (Stage::Untracked, obeys.untracked, failsafe(is_failsafe_untracked(tuple))),
        (Stage::PreDnat, obeys.pre_dnat, failsafe(is_failsafe_in(tuple))),
        (Stage::Forward, obeys.ingress, (!is_forwarded).then_some(Skipped::NotForwarded)),
    ]
}

fn side(
    world: &World<'_>,
    tuple: &Tuple,
    interface: Interface,
    (asked, decision): (Vec<Asked>, Decision),
    staged: Option<(Vec<Asked>, Decision)>,
) -> HostSide {
    let endpoint = world.compiler.host_endpoint_at(interface);
    let labels = endpoint.and_then(|name| world.cluster.host_endpoints.get(name));
    let staged = staged.map(|(asked, then)| HostStaged {
        said: said(world, tuple, endpoint, &asked, then),
        is_change: then.verdict != decision.verdict,
    });
    HostSide {
        kind: match interface {
            Interface::Pod => InterfaceKind::Pod,
            Interface::Ipip | Interface::Vxlan => InterfaceKind::Tunnel,
            Interface::Uplink(_) => InterfaceKind::Uplink,
        },
        interface: world.compiler.interface_name(interface).map(str::to_owned),
        endpoint: endpoint.map(str::to_owned),
        labels: labels.map(|endpoint| endpoint.labels.clone()).unwrap_or_default(),
        said: said(world, tuple, endpoint, &asked, decision),
        staged,
    }
}

fn said(
    world: &World<'_>,
    tuple: &Tuple,
    endpoint: Option<&str>,
    asked: &[Asked],
    decision: Decision,
) -> HostSaid {
    let mut whole = Trace { tiers: Vec::new(), decided: None };
    let (mut stages, mut decided_at) = (Vec::new(), None);
    for &(stage, program, skipped) in asked {
        let Some(program) = world.policies.programs.get(program.0) else { continue };
        let is_asked = skipped.is_none() && whole.decided.is_none();
        let one = trace(world, tuple, program, is_asked);
        if is_asked {
            decided_at = one.decided.as_ref().map(|_| stage);
            whole.decided = one.decided;
            whole.tiers.extend(one.tiers.iter().cloned());
        }
        stages.push(StageTrace { stage, skipped, tiers: one.tiers });
    }
    let decided = match endpoint {
        Some(_) => Decided::of(world, decision, &whole),
        None => Decided::NoEndpoint,
    };
    HostSaid { verdict: spoken(decision.verdict), decided, decided_at, stages }
}
