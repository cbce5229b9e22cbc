//! Metrics of the gateway as a whole.

use margay_fastpath::DropReason;

use super::{Family, Kind, Value};
use crate::metrics::Scrape;

const SECONDS: &str = "seconds";

pub(super) const FAMILIES: &[Family] = &[
    Family::new(Kind::Info, "margay_build", &["version"], "The program that runs", |scrape, tell| {
        tell(&[&scrape.figures.status.version], Value::Info);
    }),
    Family::new(
        Kind::Gauge,
        "margay_ready",
        &[],
        "1 if packets are forwarded as the source says: a snapshot is in force, every uplink is open, and so is the port \
         of every pod whose device is up",
        |scrape, tell| tell(&[], scrape.figures.status.ready.into()),
    ),
    Family::new(
        Kind::Gauge,
        "margay_snapshot_generation",
        &[],
        "Number of the snapshot that workers read; 0 before the first",
        |scrape, tell| {
            let snapshot = scrape.figures.status.snapshot.as_ref();
            tell(&[], snapshot.map_or(0, |snapshot| u64::from(snapshot.generation)).into());
        },
    ),
    Family::new(
        Kind::Gauge,
        "margay_snapshot_published_timestamp",
        &[],
        "When it was published, since 1970 by the node's clock; no series before the first",
        |scrape, tell| {
            if let Some(published) = scrape.figures.published {
                tell(&[], (published.as_millisecond() as f64 / 1e3).into());
            }
        },
    )
    .of(SECONDS),
    Family::new(
        Kind::Gauge,
        "margay_source_troubles",
        &[],
        "Kinds of objects that the source cannot learn now; what it said last stands",
        |scrape, tell| tell(&[], scrape.figures.status.source.troubles.len().into()),
    ),
    Family::new(
        Kind::Gauge,
        "margay_source_problems",
        &[],
        "Objects and parts of objects that are not in force as written",
        |scrape, tell| tell(&[], scrape.figures.status.source.problems.len().into()),
    ),
    Family::new(
        Kind::Gauge,
        "margay_reporting_troubles",
        &[],
        "What cannot be written to the API server now",
        |scrape, tell| tell(&[], scrape.figures.status.reporting.len().into()),
    ),
    Family::new(
        Kind::Counter,
        "margay_dropped_packets",
        &["reason"],
        "Frames received and dropped, on all ports; reasons are those of ARCHITECTURE.md",
        dropped,
    ),
    Family::new(
        Kind::Counter,
        "margay_policy_drop_records_lost",
        &[],
        "First packets and flows that policy dropped faster than margay policies --drops could note them",
        |scrape, tell| tell(&[], scrape.figures.policy_drops_lost.into()),
    ),
    Family::new(
        Kind::Counter,
        "margay_policy_flows_cut_short",
        &[],
        "Flows that passed more Log, Pass and staged rules than are kept: some of these counted the first packet alone",
        |scrape, tell| tell(&[], scrape.figures.flows_cut_short.into()),
    ),
    Family::new(
        Kind::Gauge,
        "margay_flow_table_connections",
        &[],
        "Connections in the flow table",
        |scrape, tell| tell(&[], scrape.figures.status.flow_table.connections.into()),
    ),
    Family::new(
        Kind::Gauge,
        "margay_flow_table_capacity_connections",
        &[],
        "Connections that the flow table holds at most",
        |scrape, tell| tell(&[], scrape.figures.status.flow_table.capacity.into()),
    ),
    Family::new(
        Kind::Counter,
        "margay_flow_table_evicted_connections",
        &[],
        "Connections that were not assured and made room for others",
        |scrape, tell| tell(&[], scrape.figures.status.flow_table.evicted.into()),
    ),
    Family::new(
        Kind::Gauge,
        "margay_umem_frames",
        &["place"],
        "Frames of the packet memory by where they are: spare (nobody's), pools (the workers'), handed-over (between \
         workers), and ports (in rings, or waiting in a worker)",
        frames,
    ),
    Family::new(Kind::Gauge, "margay_umem_frame", &[], "Size of a frame", |scrape, tell| {
        tell(&[], u64::from(scrape.figures.status.umem.frame_size).into());
    })
    .of("bytes"),
];

/// Reasons that never applied too: a rate needs a series that was there before.
fn dropped(scrape: &Scrape, tell: &mut super::Tell<'_>) {
    for reason in DropReason::ALL {
        let workers = scrape.figures.status.workers.iter();
        let counted: u64 = workers.filter_map(|worker| worker.traffic.drops.get(reason.word())).sum();
        tell(&[reason.word()], counted.into());
    }
}

fn frames(scrape: &Scrape, tell: &mut super::Tell<'_>) {
    let umem = &scrape.figures.status.umem;
    let (spare, handed_over) = (umem.spare as u64, umem.handed_over as u64);
    let elsewhere = u64::from(umem.frames).saturating_sub(spare + umem.pools + handed_over);
    let places =
        [("spare", spare), ("pools", umem.pools), ("handed-over", handed_over), ("ports", elsewhere)];
    for (place, frames) in places {
        tell(&[place], frames.into());
    }
}
