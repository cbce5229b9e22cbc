//! `GET /v1/flows`: the connections in the flow table.
//!
//! A million of them are walked on a thread of their own (`walk.rs`), which only reads; the control loop is asked twice, for
//! what the filters mean and for the names of what one page shows. One walk at a time: the next waits.

mod asked;
mod cursor;
mod walk;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use margay_flowtable::{AnyKey, Flow, FlowTable, Key, RuleId, TrailId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use self::asked::Asked;
pub(crate) use self::asked::{Ends, Meant};
use self::walk::{Found, Met};
use super::policies::Rule;
use super::{Control, Query, Refusal, apart};

/// Rows whose names the control loop is asked for at once.
const NAMED: usize = 200;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FlowPage {
    /// As they are sorted; unsorted, as they stand in the table.
    pub flows: Vec<FlowRow>,
    /// What `cursor` is for the next page; none on the last. Unsorted, no connection that lives throughout is on two
    /// pages or on none; sorted, one whose counts have grown meanwhile may be.
    pub next: Option<String>,
    /// How many connections the filters fit; where the table was not walked to its end, none.
    pub matched: Option<u64>,
    /// Connections in the table, and for how many it has room.
    pub connections: u64,
    pub capacity: u64,
    /// Seconds over which rates were measured, where they were asked for.
    pub measured_seconds: Option<f64>,
}

/// A connection. Source and destination are those of its first packet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FlowRow {
    #[schema(value_type = String)]
    pub src: IpAddr,
    #[schema(value_type = String)]
    pub dst: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Ports; of ICMP both are the identifier.
    pub sport: u16,
    pub dport: u16,
    /// NAMESPACE/NAME of the pod that holds the address now, or node:NAME.
    pub src_name: Option<String>,
    pub dst_name: Option<String>,
    /// Of TCP in conntrack's words; of others UNREPLIED, REPLIED or ASSURED. DENIED: a change of policy has ended it, and
    /// its packets are dropped until it expires.
    pub state: String,
    /// Whether it makes no room for others while the table is full.
    pub assured: bool,
    /// Seconds since it began here, where the table counts.
    pub age_seconds: Option<u64>,
    /// Seconds since its last packet, and until it expires if no other comes.
    pub idle_seconds: u64,
    pub expires_in_seconds: u64,
    /// What it has carried, with its first packet and against it, where the table counts.
    pub original: Option<FlowTraffic>,
    pub reply: Option<FlowTraffic>,
    /// Both ways together, where rates were asked for.
    pub packets_per_second: Option<f64>,
    pub bits_per_second: Option<f64>,
    /// Rules that it met at its source and at its destination, in their order: the last decided, those before it (Log,
    /// Pass, staged) did not. None: no policy is asked there.
    pub egress: Vec<Rule>,
    pub ingress: Vec<Rule>,
}

/// IP packets of one direction, and their bytes without tunnel headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FlowTraffic {
    pub packets: u64,
    pub bytes: u64,
}

/// What the control loop shares for a walk.
pub(crate) struct Walked {
    pub(crate) table: Arc<FlowTable>,
    /// Seconds of the workers' clock.
    pub(crate) now: u32,
    pub(crate) meant: Meant,
}

/// Who holds addresses, and what rules' numbers mean.
#[derive(Default)]
pub(crate) struct Names {
    pub(crate) ends: HashMap<IpAddr, String>,
    pub(crate) rules: HashMap<RuleId, Rule>,
}

/// The connections in the flow table: filtered, sorted, page by page.
///
/// A walk of the whole table rests as long as it reads, so that workers find their caches theirs half of its time. Rates take
/// a second more: they are the difference of two looks at the counts.
#[utoipa::path(
    get,
    path = "/v1/flows",
    params(Asked),
    responses(
        (status = OK, description = "A page of connections", body = FlowPage),
        (status = BAD_REQUEST, description = "No such question", body = super::Refused),
        (status = NOT_FOUND, description = "A pod or policy that nobody knows", body = super::Refused),
    )
)]
pub(super) async fn flows(
    State(control): State<Control>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    let question = asked.read()?;
    let ends = question.ends();
    let Walked { table, now, meant } = control.ask(move |plane| plane.flows(&ends)).await??;
    let walk = question.walk(Arc::clone(&table), meant);
    let turn = control.walk().await?;
    let found = tokio::task::spawn_blocking(move || walk.run()).await.map_err(|_| Refusal::stopping())?;
    drop(turn);
    let found = found?;
    let mut names = Names::default();
    for portion in found.met.chunks(NAMED) {
        let (ends, rules) = unnamed(portion, &table, &names);
        let more = control.ask(move |plane| plane.names(&ends, &rules)).await?;
        names.ends.extend(more.ends);
        names.rules.extend(more.rules);
    }
    apart(move || Ok(page(&found, &table, now, &names))).await
}

/// Addresses and rules that have no name yet.
fn unnamed(met: &[Met], table: &FlowTable, names: &Names) -> (HashSet<IpAddr>, HashSet<RuleId>) {
    let ends = met.iter().flat_map(|met| [met.flow.key.src(), met.flow.key.dst()]);
    let trails = met.iter().flat_map(|met| met.flow.trails.ids());
    let rules = trails.flat_map(|trail| table.trails().rules(trail));
    (
        ends.filter(|address| !names.ends.contains_key(address)).collect(),
        rules.filter(|rule| !names.rules.contains_key(rule)).collect(),
    )
}

fn page(found: &Found, table: &FlowTable, now: u32, names: &Names) -> FlowPage {
    FlowPage {
        flows: found.met.iter().map(|met| row(met, table, now, names)).collect(),
        next: found.next.as_ref().map(ToString::to_string),
        matched: found.matched,
        connections: table.len() as u64,
        capacity: table.capacity() as u64,
        measured_seconds: found.measured.map(|measured| measured.as_secs_f64()),
    }
}

fn row(met: &Met, table: &FlowTable, now: u32, names: &Names) -> FlowRow {
    let Met { flow, counts, rate } = met;
    let Flow { key, state, .. } = flow;
    let (sport, dport) = key.ports();
    let (src, dst, protocol) = (key.src(), key.dst(), key.protocol());
    let idle = now.saturating_sub(state.last_seen);
    let rules = |trail: TrailId| {
        let known = table.trails().rules(trail).filter_map(|rule| names.rules.get(&rule));
        known.cloned().collect()
    };
    let [egress, ingress] = flow.trails.ids().map(rules);
    let traffic =
        |traffic: margay_flowtable::Traffic| FlowTraffic { packets: traffic.packets, bytes: traffic.bytes };
    FlowRow {
        src,
        dst,
        protocol,
        sport,
        dport,
        src_name: names.ends.get(&src).cloned(),
        dst_name: names.ends.get(&dst).cloned(),
        state: word(flow).to_owned(),
        assured: state.is_assured(protocol),
        age_seconds: counts.map(|counts| now.saturating_sub(counts.started).into()),
        idle_seconds: idle.into(),
        expires_in_seconds: (table.timeout(flow).saturating_add(1)).saturating_sub(idle).into(),
        original: counts.map(|counts| traffic(counts.original)),
        reply: counts.map(|counts| traffic(counts.reply)),
        packets_per_second: rate.map(|rate| rate.packets),
        bits_per_second: rate.map(|rate| rate.bytes * 8.0),
        egress,
        ingress,
    }
}

/// Its state, as it is shown and asked for.
fn word(flow: &Flow) -> &'static str {
    let is_denied = flow.next_hops == [margay_fastpath::pipeline::DENIED; 2];
    if is_denied { DENIED } else { flow.state.phase(flow.key.protocol()).word() }
}

const DENIED: &str = "DENIED";

/// Whether one of its ends is such an address.
fn has_end(key: &AnyKey, mut is_end: impl FnMut(IpAddr) -> bool) -> bool {
    is_end(key.src()) || is_end(key.dst())
}
