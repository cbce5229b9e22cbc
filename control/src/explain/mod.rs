//! Why a packet passes or does not: every tier and policy that is asked on both sides, what decides, what staged policies
//! would do, and the way that the packet takes.
//!
//! The verdict is the classifier's own. What is told of each rule comes of the programs that workers read and of the
//! matcher that they run.

mod matching;
mod route;
mod side;
mod text;
mod trace;

use std::net::IpAddr;

use margay_flowtable::{Policies, Tuple, classify, classify_staged};
use serde::{Deserialize, Serialize};

use crate::check::spoken;
use crate::compile::Compiler;
use crate::compile::policy::{self, PolicyCompiler, Serves};
use crate::compile::routes::{self, RoutingTable, UnknownNode};
use crate::probe::{Expect, Given, Probe, Unresolved};
use crate::state::Cluster;
use crate::state::policy::TierSpec;

pub use self::matching::Condition;
pub use self::route::Route;
pub use self::side::{Decided, Ended, Side, Staged};
pub use self::text::text;
pub use self::trace::{Outcome, PolicyTrace, RuleTrace, Spoken, TierTrace};

/// The answer to "why"; its JSON form is an interface that scripts rely on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explained {
    pub src: IpAddr,
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

/// Explains by manifests alone, with every pod taken as served. The route is that of `node`, or where none is named of
/// the one that would handle the packet: the gateway of the sender's node, else that node, else those of the receiver.
pub fn explain(cluster: &Cluster, probe: &Probe, node: Option<&str>) -> Result<Explanation, Error> {
    let packets = probe.packets(cluster)?;
    let (policies, compiler) = policy::compile(cluster, Serves::All);
    let world = World { cluster, policies: &policies, compiler: &compiler };
    let given = node.map(|node| Ok::<_, UnknownNode>((node, routes::table(cluster, node)?))).transpose()?;
    let explain = |tuple: &Tuple| {
        if let Some((node, table)) = &given {
            return explained(&world, tuple, route::of_table(cluster, node, table, tuple.dst));
        }
        let route = match route::handler(cluster, tuple.src, tuple.dst) {
            None => Route::unknown(),
            Some(node) => match routes::table(cluster, &node) {
                Ok(table) => route::of_table(cluster, &node, &table, tuple.dst),
                Err(error) => Route::none(&node, error.to_string()),
            },
        };
        explained(&world, tuple, route)
    };
    let tuples = packets.iter().map(|packet| probe.tuple(packet));
    Ok(Explanation::of(probe, tuples.map(|tuple| explain(&tuple)).collect(), Vec::new()))
}

/// Explains what a gateway does, by the policies in force there.
pub fn explain_running(
    compiler: &Compiler,
    policies: &Policies,
    node: &str,
    probe: &Probe,
    problems: &[String],
) -> Result<Explanation, Error> {
    let cluster = compiler.cluster();
    let packets = probe.packets(cluster)?;
    let world = World { cluster, policies, compiler: compiler.policy() };
    let routing = compiler.routing();
    let missing = routing.missing().map(|(dst, node, why)| (*dst, node.to_owned(), why.clone()));
    let table = RoutingTable { routes: routing.routes().cloned().collect(), missing: missing.collect() };
    let explain = |tuple: &Tuple| explained(&world, tuple, route::of_table(cluster, node, &table, tuple.dst));
    let tuples = packets.iter().map(|packet| probe.tuple(packet));
    Ok(Explanation::of(probe, tuples.map(|tuple| explain(&tuple)).collect(), problems.to_vec()))
}

fn explained(world: &World<'_>, tuple: &Tuple, route: Route) -> Explained {
    let decision = classify(world.policies, tuple, &mut |_| {});
    let staged = classify_staged(world.policies, tuple);
    Explained {
        src: tuple.src,
        dst: tuple.dst,
        protocol: tuple.protocol,
        sport: tuple.sport,
        dport: tuple.dport,
        icmp: tuple.icmp,
        verdict: spoken(decision.verdict()),
        egress: side::egress(world, tuple, decision.egress, staged.egress),
        ingress: side::ingress(world, tuple, decision.ingress, staged.ingress),
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
