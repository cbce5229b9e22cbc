//! The state of a running Margay as the admin socket tells it.

use std::collections::{BTreeMap, BTreeSet};

use margay_fastpath::DropReason;
use margay_fastpath::counters::Counters;
use margay_fastpath::steer::Kind;
use margay_flowtable::PortId;

use super::dataplane::Dataplane;
use super::wanted::Wanted;
use super::workers::Workers;
use crate::admin;
use crate::admin::routes::mac;
use crate::explain::{self, Explanation, explain_running};
use crate::probe::Probe;

/// Counters of one port, summed over the workers.
#[derive(Clone, Debug)]
pub(super) struct Totals {
    rx: u64,
    rx_bytes: u64,
    forwarded: u64,
    tx_lost: u64,
    answered: u64,
    tx: u64,
    tx_bytes: u64,
    drops: [u64; DropReason::COUNT],
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            rx: 0,
            rx_bytes: 0,
            forwarded: 0,
            tx_lost: 0,
            answered: 0,
            tx: 0,
            tx_bytes: 0,
            drops: [0; DropReason::COUNT],
        }
    }
}

impl Totals {
    pub(super) fn of(id: PortId, workers: &Workers) -> Self {
        let mut totals = Self::default();
        workers.iter().for_each(|(_, handle)| totals.add(&handle.counters, id));
        totals
    }

    pub(super) fn drops(&self) -> [u64; DropReason::COUNT] {
        self.drops
    }

    fn add(&mut self, counters: &Counters, id: PortId) {
        let port = counters.port(id);
        self.rx += port.rx.get();
        self.rx_bytes += port.rx_bytes.get();
        self.forwarded += port.forwarded.get();
        self.tx_lost += port.tx_lost.get();
        self.answered += port.answered.get();
        self.tx += port.tx.get();
        self.tx_bytes += port.tx_bytes.get();
        self.drops.iter_mut().zip(&port.drops).for_each(|(sum, drops)| *sum += drops.get());
    }

    /// What was counted since `base`; reasons that never applied are left out.
    fn since(&self, base: &Self) -> admin::Traffic {
        let drops = DropReason::ALL.iter().zip(self.drops.iter().zip(&base.drops));
        let drops: BTreeMap<String, u64> = drops
            .map(|(reason, (now, then))| (reason.word().to_owned(), now - then))
            .filter(|(_, count)| *count > 0)
            .collect();
        admin::Traffic {
            rx: self.rx - base.rx,
            rx_bytes: self.rx_bytes - base.rx_bytes,
            forwarded: self.forwarded - base.forwarded,
            tx_lost: self.tx_lost - base.tx_lost,
            answered: self.answered - base.answered,
            tx: self.tx - base.tx,
            tx_bytes: self.tx_bytes - base.tx_bytes,
            drops,
        }
    }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Uplink => "uplink",
        Kind::Pod => "pod",
        Kind::Host => "host",
    }
}

impl Dataplane {
    /// By the snapshot in force.
    pub(crate) fn explain(&self, probe: &Probe) -> Result<Explanation, explain::Error> {
        let (snapshot, node) = (self.publisher.current(), &self.identity.node);
        explain_running(&self.compiler, snapshot, node, probe, &self.source.problems)
    }

    /// Whether packets are forwarded as the source says; see [`admin::Status::ready`].
    pub(super) fn is_ready(&self) -> bool {
        let open: BTreeSet<&str> = self.ports.open().map(|open| open.wanted.name.as_str()).collect();
        let may_lack =
            |wanted: &Wanted| wanted.kind != Kind::Uplink && self.ports.failure(&wanted.name).is_none();
        let is_well = |wanted: &Wanted| open.contains(wanted.name.as_str()) || may_lack(wanted);
        self.published.is_some() && !self.ports.are_waiting() && self.wanted.ports.iter().all(is_well)
    }

    pub(crate) fn status(&self) -> admin::Status {
        let ports = self.port_statuses();
        let layout = self.exchange.umem.layout();
        let workers = self.worker_statuses();
        admin::Status {
            node: self.identity.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: self.started.elapsed().as_secs(),
            ready: self.is_ready(),
            snapshot: self.published.map(|at| admin::Snapshot {
                generation: self.publisher.current().generation,
                age_seconds: at.elapsed().as_secs(),
            }),
            source: admin::Source { troubles: self.troubles.statuses(), ..self.source.clone() },
            reporting: self.reporting(),
            flow_table: admin::FlowTable {
                connections: self.table.len(),
                capacity: self.table.capacity(),
                evicted: self.table.evicted(),
            },
            umem: admin::Umem {
                frames: layout.chunks,
                frame_size: layout.chunk_size,
                huge_pages: self.xdp.is_on_huge_pages(),
                fill_frames: self.ports.fill_total(&self.config.xdp),
                spare: self.exchange.spare(),
                pools: workers.iter().map(|worker| worker.pool).sum(),
                handed_over: self.exchange.handed_over(),
            },
            flow_log: self.flow_log_status(),
            untold_gso: self.xdp.untold_gso().map(str::to_owned),
            workers,
            ports,
        }
    }

    pub(crate) fn port_statuses(&self) -> Vec<admin::Port> {
        let mut statuses: Vec<admin::Port> =
            self.wanted.ports.iter().map(|wanted| self.without(wanted)).collect();
        for open in self.ports.open() {
            let Some(status) = statuses.iter_mut().find(|status| status.name == open.wanted.name) else {
                continue;
            };
            status.state = admin::PortState::Open;
            let known = self.compiler.routing().ports().get(usize::from(open.id.0)).and_then(Option::as_ref);
            status.mac = known.map(|port| mac(port.mac));
            status.mtu = known.map(|port| port.mtu);
            status.mode = Some(open.mode.to_string());
            status.zero_copy = Some(open.is_zero_copy);
            status.queues = Some(open.queues);
            status.fill_frames = Some(open.fill_frames(&self.config.xdp));
            status.traffic = Some(Totals::of(open.id, &self.workers).since(&open.base));
        }
        statuses
    }

    /// The status of a port that is not open.
    fn without(&self, wanted: &Wanted) -> admin::Port {
        let error = self.ports.failure(&wanted.name).map(str::to_owned);
        admin::Port {
            name: wanted.name.clone(),
            device: wanted.device.clone(),
            vlan: wanted.vlan.as_ref().map(|vlan| vlan.id),
            kind: word(wanted.kind).to_owned(),
            pod: wanted.pod.as_ref().map(ToString::to_string),
            state: if error.is_some() { admin::PortState::Failed } else { admin::PortState::Missing },
            error,
            mac: None,
            mtu: None,
            mode: None,
            zero_copy: None,
            queues: None,
            fill_frames: None,
            traffic: None,
        }
    }

    fn worker_statuses(&self) -> Vec<admin::Worker> {
        let status = |(index, (core, handle)): (usize, (usize, &margay_fastpath::worker::WorkerHandle))| {
            let counters = &handle.counters;
            let mut totals = Totals::default();
            (0..margay_fastpath::counters::MAX_PORTS as u16).for_each(|id| totals.add(counters, PortId(id)));
            admin::Worker {
                index,
                core,
                turns: counters.turns.get(),
                busy_turns: counters.busy_turns.get(),
                flows_inserted: counters.flows_inserted.get(),
                flows_expired: counters.flows_expired.get(),
                flows_reclassified: counters.flows_reclassified.get(),
                doing: handle.progress.doing().to_string(),
                longest_stall_ms: self.workers.stalls(index).longest_ms(),
                starved: self.workers.stalls(index).starved(),
                traffic: totals.since(&Totals::default()),
                pool: counters.pool.load(std::sync::atomic::Ordering::Relaxed),
            }
        };
        self.workers.iter().enumerate().map(status).collect()
    }
}
