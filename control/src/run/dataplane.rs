//! Everything that runs: how it begins, what it takes, and how it ends.

use std::sync::Arc;

use margay_fastpath::Layout;
use margay_fastpath::worker::Exchange;
use margay_fastpath::xdp::Xdp;
use margay_flowtable::Snapshot;
use margay_flowtable::publish::Publisher;
use margay_flowtable::table::FlowTable;
use tokio::time::Instant;

use super::error::Error;
use super::flow_log;
use super::host::HostWay;
use super::neighbours::Neighbours;
use super::notify::{self, Notified};
use super::policies::PolicyCounts;
use super::ports::Ports;
use super::problems::Problems;
use super::reload::{Reloading, Settings};
use super::report;
use super::steered::Steered;
use super::taps::Taps;
use super::troubles::Troubles;
use super::wanted::WantedPorts;
use super::watchdog::Watchdog;
use super::workers::{self, Shared, Workers};
use crate::admin;
use crate::compile::Compiler;
use crate::config::Config;
use crate::flowlog::FlowLog;
use crate::flowlog::names::NodeNames;
use crate::identity::{Identity, VXLAN_PORT};
use crate::kernel::{Kept, Mirror};
use crate::privileges::Privileges;
use crate::report::Reporter;
use crate::source::SourceEvent;

/// Everything that runs.
#[derive(Debug)]
pub(crate) struct Dataplane {
    pub(super) config: Config,
    pub(super) reloading: Reloading,
    pub(super) identity: Identity,
    pub(super) started: Instant,
    pub(super) kernel: Kept,
    pub(super) xdp: Xdp,
    /// The UDP port that the program knows as VXLAN's.
    pub(super) vxlan_port: u16,
    pub(super) exchange: Arc<Exchange>,
    pub(super) table: Arc<FlowTable>,
    pub(super) publisher: Publisher<Snapshot>,
    /// When the snapshot in force was published.
    pub(super) published: Option<Instant>,
    pub(super) workers: Workers,
    pub(super) watchdog: Watchdog,
    pub(super) privileges: Privileges,
    pub(super) notified: Notified,
    pub(super) ports: Ports,
    pub(super) wanted: WantedPorts,
    pub(super) host: HostWay,
    pub(super) compiler: Compiler,
    pub(super) policy_counts: PolicyCounts,
    /// Whether the source has delivered.
    pub(super) has_cluster: bool,
    /// Whether the cluster is another than the snapshot in force was made of.
    pub(super) is_stale: bool,
    pub(super) source: admin::Source,
    pub(super) problems: Problems,
    pub(super) troubles: Troubles,
    /// Where the source is an API server.
    pub(super) reporter: Option<Reporter>,
    /// Where records of flows are wanted.
    pub(super) flow_log: Option<FlowLog>,
    pub(super) node_names: NodeNames,
    pub(super) steered: Steered,
    pub(super) said_unknown_node: bool,
    pub(super) neighbours: Neighbours,
    pub(super) taps: Taps,
}

impl Dataplane {
    pub(super) async fn start(settings: Settings, node: String, source: String) -> Result<Self, Error> {
        let config = settings.loaded.config.clone();
        let privileges = Privileges::new(&config.privileges)?;
        privileges.begin()?;
        let cores = workers::cores(&config.workers.cores)?;
        let layout = Layout { chunk_size: config.umem.frame_size, chunks: config.umem.frames };
        let vxlan_port = config.tunnel.vxlan_port.unwrap_or(VXLAN_PORT);
        let (xdp, frames) = Xdp::load(layout, vxlan_port)?;
        let exchange = Arc::new(Exchange::new(Arc::clone(xdp.umem()), frames, cores.len()));
        let connections = config.flow_table.connections;
        let table = FlowTable::new(connections, seed()?, config.conntrack.timeouts())
            .with_share(config.conntrack.endpoint_share.of(connections))
            .with_ipv6();
        let table = if config.flow_log.is_wanted() { table.with_ends(flow_log::ENDS) } else { table };
        let table = Arc::new(if config.flow_table.accounting { table.with_accounting() } else { table });
        let mut publisher = Publisher::new(Snapshot::default());
        tracing::info!(
            node,
            ?cores,
            idle = ?config.workers.idle,
            frames = layout.chunks,
            frame_size = layout.chunk_size,
            huge_pages = xdp.is_on_huge_pages(),
            connections = table.capacity(),
            fill_frames_per_uplink_queue = config.xdp.uplink_rx,
            fill_frames_per_pod_queue = config.xdp.pod_rx,
            "starting"
        );
        if let Some(why) = xdp.untold_gso() {
            tracing::info!(
                why,
                "the kernel does not tell where packets are to be cut that come in several in one: ports in skb mode drop \
                 those of UDP (udp-gso)"
            );
        }
        let mut shared =
            Shared { exchange: &exchange, table: &table, publisher: &mut publisher, privileges: &privileges };
        let workers = Workers::start(cores, &config, seed()?, &mut shared)?;
        let watchdog = Watchdog::start(workers.watched()).map_err(Error::WatchdogThread)?;
        let identity = Identity::configured(node, &config);
        let reporter = report::start(&config, &identity.node, &privileges)?;
        let flow_log = FlowLog::start(&config.flow_log, &identity.node).map_err(Error::FlowLogThread)?;
        flow_log::listen(&workers, flow_log.as_ref());
        Ok(Self {
            compiler: Compiler::new(identity.clone()),
            policy_counts: PolicyCounts::default(),
            identity,
            started: Instant::now(),
            kernel: Mirror::open().await?.keep(),
            host: HostWay::new(&config.policy, &config.node.proc_sys_net, xdp.largest_mtu()),
            xdp,
            vxlan_port,
            exchange,
            table,
            publisher,
            published: None,
            workers,
            watchdog,
            privileges,
            notified: Notified::default(),
            ports: Ports::default(),
            wanted: WantedPorts::default(),
            has_cluster: false,
            is_stale: false,
            source: admin::Source { name: source, ..admin::Source::default() },
            problems: Problems::default(),
            troubles: Troubles::default(),
            reporter,
            flow_log,
            node_names: NodeNames::default(),
            steered: Steered::default(),
            said_unknown_node: false,
            neighbours: Neighbours::default(),
            taps: Taps::default(),
            reloading: Reloading::new(settings),
            config,
        })
    }

    /// Takes what the source says.
    pub(super) fn take(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Changes { changes, problems, references } => {
                self.compiler.apply(changes);
                let not_in_force = self.compiler.not_in_force();
                self.problems.take(problems, references, not_in_force, &mut self.source.problems);
                (self.has_cluster, self.is_stale) = (true, true);
                self.note_node();
            }
            SourceEvent::Trouble(troubles) => self.troubles.set(&self.source.name, troubles),
        }
    }

    /// Says once that the cluster does not know us: then only the kernel's routes are forwarded.
    pub(super) fn note_node(&mut self) {
        let cluster = self.compiler.cluster();
        let is_known = cluster.nodes.contains_key(&self.identity.node);
        if !is_known && !self.said_unknown_node {
            let known: Vec<&str> = cluster.nodes.keys().map(String::as_str).collect();
            tracing::error!(
                "{} has no Node {}: without it there are no routes to pods and no tunnels (it has {}); node.name in \
                 the configuration says who this is",
                self.source.name,
                self.identity.node,
                known.join(", ")
            );
        }
        self.said_unknown_node = !is_known;
    }

    /// Gives up what only the start needs, once the first ports are open.
    pub(super) fn end_start(&mut self) -> Result<(), Error> {
        if self.published.is_some() && !self.ports.are_waiting() {
            self.privileges.started()?;
        }
        Ok(())
    }

    /// Writes what is known of flows, where the gateway ends at once.
    pub(super) async fn close_logs(&mut self) {
        self.tell_flows();
        if let Some(log) = self.flow_log.take() {
            log.close().await;
        }
    }

    /// Leaves the ports as they are configured to fail, then ends the workers.
    pub(super) async fn stop(mut self) {
        notify::stopping();
        self.tell_flows();
        if let Some(reporter) = self.reporter {
            reporter.close().await;
        }
        // What ends now makes no turns.
        drop(self.watchdog);
        self.ports.leave(&mut self.xdp);
        self.workers.stop().await;
        if let Some(log) = self.flow_log {
            log.close().await;
        }
        self.host.close().await;
        self.kernel.close().await;
    }
}

fn seed<const N: usize>() -> Result<[u64; N], Error> {
    let mut seed = [0; N];
    for word in &mut seed {
        *word = getrandom::u64().map_err(Error::Random)?;
    }
    Ok(seed)
}
