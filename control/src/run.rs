//! The running gateway: the control thread that keeps what workers read in step with the source and the kernel.
//!
//! The compiler follows the source at once; then ports are opened and closed and a snapshot is published, a few
//! milliseconds after the last one at the earliest, with all that came meanwhile. Nothing is published before the source
//! and the kernel have delivered a whole first state. No packet comes this way: those are the workers', on threads of
//! their own.

mod error;
mod host;
mod neighbours;
mod policies;
mod ports;
mod problems;
mod report;
mod status;
mod steered;
mod troubles;
mod wanted;
mod workers;

use std::mem;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use margay_fastpath::Layout;
use margay_fastpath::steer::RouteChanges;
use margay_fastpath::worker::Exchange;
use margay_fastpath::xdp::Xdp;
use margay_flowtable::Snapshot;
use margay_flowtable::publish::Publisher;
use margay_flowtable::table::FlowTable;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::admin;
use crate::compile::Compiler;
use crate::config::Config;
use crate::identity::{Identity, VXLAN_PORT};
use crate::kernel::{Kept, Mirror};
use crate::report::Reporter;
use crate::source::{Source, SourceEvent};

use self::host::HostWay;
use self::neighbours::Neighbours;
use self::policies::PolicyCounts;
use self::ports::Ports;
use self::problems::Problems;
use self::steered::Steered;
use self::troubles::Troubles;
use self::wanted::WantedPorts;
use self::workers::{Shared, Workers};

pub use self::error::Error;
pub use self::wanted::device_name;

/// Snapshots follow each other no faster. A change that comes after a pause is published at once, the changes that come
/// right after it together.
pub const COALESCE: Duration = Duration::from_millis(5);
/// How often to look whether workers have caught up, while something waits for that.
const SETTLE: Duration = Duration::from_millis(5);
/// How often to see which neighbours packets have waited for.
const ASK: Duration = Duration::from_millis(100);
/// How often to look after the workers, and to try again what failed.
const CHECK: Duration = Duration::from_secs(1);

/// Runs node `node` until SIGTERM or SIGINT. Takes ports down as they are configured to fail.
pub async fn run(config: Config, node: String, source: Box<dyn Source>) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let (_server, mut requests) = admin::Server::listen(&config.admin.socket)?;
    let mut plane = Dataplane::start(config, node, source.name()).await?;
    let mut events = listen(source)?;
    let mut due = None;
    let mut settle = interval(SETTLE);
    settle.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ask = interval(ASK);
    ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut check = interval(CHECK);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let next = plane.published.map(|published| published + COALESCE);
        let soon = || next.unwrap_or_else(Instant::now).max(Instant::now());
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            event = events.recv() => {
                plane.take(event.ok_or(Error::SourceEnded)?);
                due.get_or_insert_with(soon);
            }
            changed = plane.kernel.changed() => {
                changed?;
                due.get_or_insert_with(soon);
            }
            Some(request) = requests.recv() => plane.answer(request),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                plane.step().await?;
                due = (plane.ports.are_waiting() || plane.host.is_waiting()).then(Instant::now);
            }
            _ = settle.tick(), if plane.is_settling() => {
                if plane.settle() {
                    due.get_or_insert_with(soon);
                }
            }
            _ = ask.tick() => {
                plane.ask_for_neighbours();
                plane.collect_drops();
            }
            _ = check.tick() => {
                plane.workers.check()?;
                plane.report();
                if plane.ports.are_due() || plane.host.is_due() {
                    due.get_or_insert_with(soon);
                }
            }
        }
    }
    tracing::info!("stopping");
    plane.stop().await;
    Ok(())
}

/// Runs the source on a thread of its own, which ends with the process.
fn listen(source: Box<dyn Source>) -> Result<mpsc::Receiver<SourceEvent>, Error> {
    let (sender, events) = mpsc::channel(1);
    let mut deliver = move |event| match sender.blocking_send(event) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    };
    let thread = std::thread::Builder::new().name("margay-source".to_owned());
    thread.spawn(move || source.run(&mut deliver)).map_err(Error::SourceThread)?;
    Ok(events)
}

/// Everything that runs.
#[derive(Debug)]
struct Dataplane {
    config: Config,
    identity: Identity,
    started: Instant,
    kernel: Kept,
    xdp: Xdp,
    /// The UDP port that the program knows as VXLAN's.
    vxlan_port: u16,
    exchange: Arc<Exchange>,
    table: Arc<FlowTable>,
    publisher: Publisher<Snapshot>,
    /// When the snapshot in force was published.
    published: Option<Instant>,
    workers: Workers,
    ports: Ports,
    wanted: WantedPorts,
    host: HostWay,
    compiler: Compiler,
    policy_counts: PolicyCounts,
    /// Whether the source has delivered.
    has_cluster: bool,
    /// Whether the cluster is another than the snapshot in force was made of.
    is_stale: bool,
    source: admin::Source,
    problems: Problems,
    troubles: Troubles,
    /// Where the source is an API server.
    reporter: Option<Reporter>,
    steered: Steered,
    said_unknown_node: bool,
    neighbours: Neighbours,
}

impl Dataplane {
    async fn start(config: Config, node: String, source: String) -> Result<Self, Error> {
        let cores = workers::cores(&config.workers.cores)?;
        let layout = Layout { chunk_size: config.umem.frame_size, chunks: config.umem.frames };
        let vxlan_port = config.tunnel.vxlan_port.unwrap_or(VXLAN_PORT);
        let (xdp, frames) = Xdp::load(layout, vxlan_port)?;
        let exchange = Arc::new(Exchange::new(Arc::clone(xdp.umem()), frames, cores.len()));
        let connections = config.flow_table.connections;
        let table = FlowTable::new(connections, seed()?, config.conntrack.timeouts())
            .with_share(config.conntrack.endpoint_share.of(connections))
            .with_ipv6();
        let table = Arc::new(table);
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
        let mut shared = Shared { exchange: &exchange, table: &table, publisher: &mut publisher };
        let workers = Workers::start(cores, &config, seed()?, &mut shared)?;
        let identity = Identity::configured(node, &config);
        let reporter = report::start(&config, &identity.node)?;
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
            ports: Ports::default(),
            wanted: WantedPorts::default(),
            has_cluster: false,
            is_stale: false,
            source: admin::Source { name: source, ..admin::Source::default() },
            problems: Problems::default(),
            troubles: Troubles::default(),
            reporter,
            steered: Steered::default(),
            said_unknown_node: false,
            neighbours: Neighbours::default(),
            config,
        })
    }

    fn answer(&self, request: admin::Request) {
        match request {
            // Whoever asked may have gone.
            admin::Request::Status(reply) => drop(reply.send(self.status())),
            admin::Request::Policies(reply) => {
                let (rules, now) = (self.compiler.rule_ids(), self.started.elapsed());
                let trails = self.table.trails();
                drop(reply.send(self.policy_counts.counted(&self.workers, rules, trails, now)));
            }
            admin::Request::Explain(probe, reply) => drop(reply.send(self.explain(&probe))),
        }
    }

    /// Takes what the source says.
    fn take(&mut self, event: SourceEvent) {
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
    fn note_node(&mut self) {
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

    /// Brings ports, snapshot and neighbours in step with the cluster and the kernel.
    async fn step(&mut self) -> Result<(), Error> {
        if !self.has_cluster {
            return Ok(());
        }
        let kernel = self.kernel.kernel();
        self.host.ensure(&kernel).await;
        let (routing, host) = (self.compiler.routing(), self.host.device());
        let largest = self.xdp.largest_mtu();
        let largest_mtu = |interface| self.ports.largest_mtu(interface).unwrap_or(largest);
        if self.wanted.refresh(&self.config, routing, &kernel, host, largest_mtu) {
            self.ports.retire_unwanted(&self.wanted.ports, &kernel);
        }
        for (device, interface) in self.ports.interfaces() {
            if let Some(link) = kernel.links.get(&interface)
                && let Err(error) = self.xdp.set_mac(device, link.mac)
            {
                tracing::error!("packets to the new MAC address of {} go to the kernel: {error}", link.name);
            }
        }
        let mut is_new = self.compiler.set_underlay(&self.wanted.limited, self.ports.bindings());
        // Before a port is open: what is Margay's must not slip to the kernel meanwhile.
        self.steer();
        let (xdp, workers) = (&mut self.xdp, &mut self.workers);
        self.ports.open_wanted(&self.wanted.ports, &self.config, &kernel, xdp, workers).await?;
        is_new |= self.compiler.set_underlay(&self.wanted.limited, self.ports.bindings());
        is_new |= mem::take(&mut self.is_stale);
        is_new |= self.host.refresh(&self.ports, &kernel, &self.xdp);
        if is_new {
            self.publish();
            self.want_neighbours();
            self.ports.detach_retired(&mut self.workers).await?;
        }
        Ok(())
    }

    /// Has the kernel resolve the neighbours that packets have waited for.
    fn ask_for_neighbours(&mut self) {
        if self.neighbours.take(&self.exchange) && self.has_cluster {
            self.neighbours.trim(self.compiler.routing());
            self.want_neighbours();
        }
    }

    fn want_neighbours(&mut self) {
        if let Some(wanted) = self.neighbours.wanted(self.compiler.routing()) {
            self.kernel.want_neighbours(wanted);
        }
    }

    /// Takes what policy has dropped since.
    fn collect_drops(&mut self) {
        let (rules, policies) = (self.compiler.rule_ids(), &self.publisher.current().policies);
        self.policy_counts.collect(&self.workers, rules, policies, self.started.elapsed());
    }

    /// Publishes what the state compiles to.
    fn publish(&mut self) {
        let mut snapshot = self.compiler.snapshot(self.publisher.current());
        snapshot.entrance = self.host.entrance();
        let (trails, given_again) = (self.table.trails(), self.compiler.take_rules_given_again());
        self.policy_counts.begin(&given_again, trails, &self.workers);
        let now = self.started.elapsed();
        self.policy_counts.turn(&mut snapshot, trails, &self.workers, &self.publisher, now);
        self.steer();
        self.steered.publish(self.publisher.publish(snapshot));
        self.host.police(self.ports.pods(), self.publisher.current(), &mut self.xdp);
        let first = self.published.replace(Instant::now()).is_none();
        if first {
            tracing::info!(
                ports = self.ports.bindings().len(),
                fill_frames = self.ports.fill_total(&self.config.xdp),
                "forwarding: the first snapshot is published"
            );
        }
    }

    /// Has the program redirect what has come, beside what it redirects already.
    fn steer(&mut self) {
        let port = self.compiler.routing().local().vxlan_port;
        let is_other = mem::replace(&mut self.vxlan_port, port) != port;
        if is_other && let Err(error) = self.xdp.set_vxlan_port(port) {
            tracing::error!("VXLAN on port {port} goes to the kernel: {error}");
        }
        let changes = self.steered.take(self.compiler.take_steering_changes());
        self.change_routes(changes);
    }

    fn change_routes(&mut self, changes: RouteChanges) {
        if let Err(error) = self.xdp.change_routes(changes) {
            tracing::error!("packets to some destinations go to the kernel: {error}");
        }
    }

    fn is_settling(&self) -> bool {
        self.steered.is_waiting() || self.ports.is_closing() || self.compiler.has_stale_indexes()
    }

    /// Does what waited for the workers, as far as they are. True where the state is due.
    fn settle(&mut self) -> bool {
        if let Some(changes) = self.steered.settle(|number| self.publisher.is_taken(number)) {
            self.change_routes(changes);
            self.publisher.reclaim();
        }
        if let Some(snapshot) = self.compiler.refresh_indexes(self.publisher.current()) {
            self.publisher.publish(snapshot);
        }
        self.ports.advance(&mut self.xdp, &mut self.workers)
    }

    /// Leaves the ports as they are configured to fail, then ends the workers.
    async fn stop(mut self) {
        if let Some(reporter) = self.reporter {
            reporter.close().await;
        }
        self.ports.leave(&mut self.xdp);
        self.workers.stop().await;
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
