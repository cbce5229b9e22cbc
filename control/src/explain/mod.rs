//! Why a packet passes or does not: every tier and policy that is asked on both sides, what decides, what staged policies
//! would do, and the way that the packet takes.
//!
//! The verdict is the classifier's own. What is told of each rule comes of the programs that workers read and of the
//! matcher that they run.

mod host;
mod manifests;
mod matching;
mod route;
mod side;
mod text;
mod trace;

use std::net::IpAddr;

use margay_flowtable::{
    Interface, Policies, PortId, PortKind, Snapshot, Tuple, Verdict, WayOut, classify, classify_staged,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::compile::Compiler;
use crate::compile::policy::PolicyCompiler;
use crate::compile::routes::{RoutingTable, UnknownNode};
use crate::probe::{Expect, Given, Probe, Unresolved};
use crate::state::Cluster;
use crate::state::policy::TierSpec;

use self::host::Crossing;
pub use self::host::{
    HostPassage, HostSaid, HostSide, HostStaged, InterfaceKind, Skipped, Stage, StageTrace,
};
pub use self::manifests::{At, explain};
pub use self::matching::Condition;
pub use self::route::Route;
pub use self::side::{Decided, Ended, Side, Staged};
pub use self::text::text;
pub use self::trace::{Outcome, PolicyTrace, RuleTrace, Spoken, TierTrace};

/// The answer to "why"; its JSON form is an interface that scripts rely on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    #[serde(flatten)]
    pub given: Given,
    /// Allowed if every packet is.
    pub verdict: Expect,
    /// One, or one for each ready endpoint of a service. None: nobody answers, or an end holds no address any more.
    pub packets: Vec<Explained>,
    /// Objects that are not in force as written. (Those of a directory of manifests are named on stderr.)
    pub problems: Vec<String>,
}

/// One packet, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explained {
    #[schema(value_type = String)]
    pub src: IpAddr,
    #[schema(value_type = String)]
    pub dst: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    pub sport: u16,
    pub dport: u16,
    /// Type and code.
    pub icmp: Option<(u8, u8)>,
    pub verdict: Expect,
    pub egress: Side,
    pub ingress: Side,
    /// What host endpoints say where the packet comes in and leaves; none where it passes none.
    pub host: Option<HostPassage>,
    pub route: Route,
}

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Unresolved(#[from] Unresolved),
    #[error(transparent)]
    UnknownNode(#[from] UnknownNode),
}

/// What packets are held against.
struct World<'a> {
    cluster: &'a Cluster,
    policies: &'a Policies,
    compiler: &'a PolicyCompiler,
}

/// Explains what a gateway does, by the snapshot in force there.
pub fn explain_running(
    compiler: &Compiler,
    snapshot: &Snapshot,
    node: &str,
    probe: &Probe,
    problems: &[String],
) -> Result<Explanation, Error> {
    let cluster = compiler.cluster();
    let packets = probe.packets(cluster)?;
    let explain = explainer(compiler, snapshot, node);
    let tuples = packets.iter().map(|packet| probe.tuple(packet));
    Ok(Explanation::of(probe, tuples.map(|tuple| explain(&tuple)).collect(), problems.to_vec()))
}

/// What explains a packet, whoever sent it.
pub(crate) fn explainer<'a>(
    compiler: &'a Compiler,
    snapshot: &'a Snapshot,
    node: &'a str,
) -> impl Fn(&Tuple) -> Explained + use<'a> {
    let cluster = compiler.cluster();
    let world = World { cluster, policies: &snapshot.policies, compiler: compiler.policy() };
    let routing = compiler.routing();
    let missing = routing.missing().map(|(dst, node, why)| (*dst, node.to_owned(), why.clone()));
    let table = RoutingTable { routes: routing.routes().cloned().collect(), missing: missing.collect() };
    move |tuple| {
        let route = route::of_table(cluster, node, &table, tuple.dst);
        explained(&world, tuple, route, &crossing(compiler, snapshot, tuple))
    }
}

/// By what a packet comes to the gateway, and by what it leaves: the way there, and the way back.
fn crossing(compiler: &Compiler, snapshot: &Snapshot, tuple: &Tuple) -> Crossing {
    // Hosts beside an uplink have no next hop before there is a packet for them.
    let resolved = |address| match snapshot.way_out(address) {
        WayOut::Unknown => compiler
            .routing()
            .uplink_toward(address)
            .map_or(WayOut::Unknown, |port| WayOut::By(Interface::Uplink(port))),
        way => way,
    };
    let entry = match resolved(tuple.src) {
        WayOut::Unknown => only_uplink(snapshot).unwrap_or(WayOut::Unknown),
        way => way,
    };
    Crossing { entry, exit: resolved(tuple.dst), assumed: None }
}

/// By what all comes in that comes from outside, where there is one such port.
fn only_uplink(snapshot: &Snapshot) -> Option<WayOut> {
    let ports = (0..).map(PortId).zip(&snapshot.ports);
    let is_uplink = |port: &margay_flowtable::PortState| port.kind == PortKind::Uplink;
    let mut uplinks = ports.filter(|(_, port)| port.as_ref().is_some_and(is_uplink));
    let (id, _) = uplinks.next()?;
    uplinks.next().is_none().then_some(WayOut::By(Interface::Uplink(id)))
}

fn explained(world: &World<'_>, tuple: &Tuple, route: Route, crossing: &Crossing) -> Explained {
    let decision = classify(world.policies, tuple, &mut |_, _| {});
    let staged = classify_staged(world.policies, tuple);
    let host = route.node.as_ref().and_then(|node| HostPassage::of(world, node, tuple, crossing));
    let is_allowed = decision.verdict() == Verdict::Allow && host.as_ref().is_none_or(HostPassage::allows);
    Explained {
        src: tuple.src,
        dst: tuple.dst,
        protocol: tuple.protocol,
        sport: tuple.sport,
        dport: tuple.dport,
        icmp: tuple.icmp,
        verdict: if is_allowed { Expect::Allow } else { Expect::Deny },
        egress: side::egress(world, tuple, decision.egress, staged.egress),
        ingress: side::ingress(world, tuple, decision.ingress, staged.ingress),
        host,
        route,
    }
}

fn tier_of(cluster: &Cluster, name: &str) -> Option<TierSpec> {
    cluster.tiers.get(name).map(|tier| **tier).or_else(|| TierSpec::implied(name))
}

impl Explanation {
    fn of(probe: &Probe, packets: Vec<Explained>, problems: Vec<String>) -> Self {
        let is_allowed = !packets.is_empty() && packets.iter().all(|packet| packet.verdict == Expect::Allow);
        let verdict = if is_allowed { Expect::Allow } else { Expect::Deny };
        Self { given: probe.given.clone(), verdict, packets, problems }
    }
}
