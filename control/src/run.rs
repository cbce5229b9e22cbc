//! The running gateway: the control thread that keeps what workers read in step with the source and the kernel.
//!
//! Whatever changes marks the state as due; a few milliseconds later, with all that came meanwhile, ports are opened
//! and closed, the state is compiled and the snapshot published. Nothing is published before the source and the kernel
//! have delivered a whole first state. No packet comes this way: those are the workers', on threads of their own.

mod ports;
mod status;
mod wanted;
mod workers;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use margay_fastpath::Layout;
use margay_fastpath::steer::Routes;
use margay_fastpath::worker::Exchange;
use margay_fastpath::xdp::{SetupError, Xdp};
use margay_flowtable::Snapshot;
use margay_flowtable::publish::Publisher;
use margay_flowtable::table::FlowTable;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::admin;
use crate::compile::{compile, steering, uplink_neighbour, wanted_neighbours};
use crate::config::Config;
use crate::identity::Identity;
use crate::kernel::{self, Kept, Mirror};
use crate::source::{Source, SourceEvent};
use crate::state::{Cluster, Kernel, PortBinding, State};

use self::ports::Ports;
use self::wanted::{Wanted, wanted};
use self::workers::{Shared, Workers};

pub use self::wanted::device_name;

/// How long a change waits for others to be published with it.
const COALESCE: Duration = Duration::from_millis(5);
/// How often to look whether workers have caught up, while something waits for that.
const SETTLE: Duration = Duration::from_millis(5);
/// How often to see which neighbours packets have waited for.
const ASK: Duration = Duration::from_millis(100);
/// Neighbours beside those of routes that are kept resolved because packets went there; the oldest make room.
const ASKED: usize = 256;
/// How often to look after the workers, and to try again what failed.
const CHECK: Duration = Duration::from_secs(1);

/// Why Margay cannot start, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
    #[error("cannot start a thread for the source: {0}")]
    SourceThread(std::io::Error),
    #[error("the source has ended: it panicked, and its message stands above")]
    SourceEnded,
    #[error("cannot have random numbers of the kernel for the flow table: {0}")]
    Random(getrandom::Error),
    #[error(transparent)]
    Admin(#[from] admin::ServerError),
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error(transparent)]
    Workers(#[from] workers::Error),
}

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
        let soon = || Instant::now() + COALESCE;
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
                due = plane.ports.are_waiting().then(Instant::now);
            }
            _ = settle.tick(), if plane.is_settling() => {
                if plane.settle() {
                    due.get_or_insert_with(soon);
                }
            }
            _ = ask.tick() => plane.ask_for_neighbours(),
            _ = check.tick() => {
                plane.workers.check()?;
                if plane.ports.are_due() {
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
    exchange: Arc<Exchange>,
    table: Arc<FlowTable>,
    publisher: Publisher<Snapshot>,
    /// When the snapshot in force was published.
    published: Option<Instant>,
    workers: Workers,
    ports: Ports,
    wanted: Vec<Wanted>,
    /// `None` until the source has delivered.
    cluster: Option<Cluster>,
    /// What the snapshot in force was compiled from beside the cluster; `None` where that has changed since.
    compiled: Option<(Arc<Kernel>, Vec<PortBinding>)>,
    source: admin::Source,
    /// What the XDP program redirects.
    steered: Routes,
    /// What it is to redirect once every worker has taken the snapshot of this number.
    steering: Option<(u64, Routes)>,
    said_unknown_node: bool,
    /// Destinations on the uplinks' own subnets that packets went to.
    asked: VecDeque<IpAddr>,
}

impl Dataplane {
    async fn start(config: Config, node: String, source: String) -> Result<Self, Error> {
        let cores = workers::cores(&config.workers.cores)?;
        let layout = Layout { chunk_size: config.umem.frame_size, chunks: config.umem.frames };
        let (xdp, frames) = Xdp::load(layout, config.tunnel.vxlan_port)?;
        let exchange = Arc::new(Exchange::new(Arc::clone(xdp.umem()), frames, cores.len()));
        let connections = config.flow_table.connections;
        let table = FlowTable::new(connections, seed()?, config.conntrack.timeouts())
            .with_share(config.conntrack.endpoint_share.of(connections));
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
        let mut shared = Shared { exchange: &exchange, table: &table, publisher: &mut publisher };
        let mid_flow = config.conntrack.mid_flow.into();
        let workers = Workers::start(cores, config.workers.idle, mid_flow, &mut shared)?;
        Ok(Self {
            identity: Identity { node, vni: config.tunnel.vni, vxlan_port: config.tunnel.vxlan_port },
            started: Instant::now(),
            kernel: Mirror::open().await?.keep(),
            xdp,
            exchange,
            table,
            publisher,
            published: None,
            workers,
            ports: Ports::default(),
            wanted: Vec::new(),
            cluster: None,
            compiled: None,
            source: admin::Source { name: source, ..admin::Source::default() },
            steered: Routes::new(),
            steering: None,
            said_unknown_node: false,
            asked: VecDeque::new(),
            config,
        })
    }

    fn answer(&self, request: admin::Request) {
        match request {
            // Whoever asked may have gone.
            admin::Request::Status(reply) => drop(reply.send(self.status())),
        }
    }

    /// Takes what the source says. Problems are logged when they are new.
    fn take(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Snapshot(cluster, problems) => {
                let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
                for problem in problems.iter().filter(|problem| !self.source.problems.contains(problem)) {
                    tracing::warn!("{problem}");
                }
                self.source.problems = problems;
                self.source.error = None;
                self.note_node(&cluster);
                self.cluster = Some(*cluster);
                self.compiled = None;
            }
            SourceEvent::Lost { why } => {
                tracing::error!("source lost, what it said last stays in force: {why}");
                self.source.error = Some(why);
            }
        }
    }

    /// Says once that the cluster does not know us: then only the kernel's routes are forwarded.
    fn note_node(&mut self, cluster: &Cluster) {
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
        let Some(cluster) = &self.cluster else { return Ok(()) };
        let kernel = self.kernel.kernel();
        self.wanted = wanted(&self.config, &self.identity.node, cluster, &kernel);
        self.ports.retire_unwanted(&self.wanted, &kernel);
        for (ifindex, link) in &kernel.links {
            if let Err(error) = self.xdp.set_mac(*ifindex, link.mac) {
                tracing::error!("packets to the new MAC address of {} go to the kernel: {error}", link.name);
            }
        }
        let mut state = State {
            cluster: cluster.clone(),
            kernel: limited(&kernel, &self.wanted),
            ports: self.ports.bindings(),
        };
        // Before a port is open: what is Margay's must not slip to the kernel meanwhile.
        self.steer_also(&steering(&state, &self.identity));
        self.ports.open_wanted(&self.wanted, &self.config, &kernel, &mut self.xdp, &mut self.workers).await?;
        state.ports = self.ports.bindings();
        if self.compiled.as_ref().is_some_and(|(k, p)| Arc::ptr_eq(k, &kernel) && *p == state.ports) {
            return Ok(());
        }
        self.publish(&state);
        self.want_neighbours(&state);
        self.compiled = Some((kernel, state.ports));
        self.ports.detach_retired(&mut self.workers).await?;
        Ok(())
    }

    /// Has the kernel resolve the neighbours that packets have waited for: hosts beside us on an uplink, which nothing
    /// but the packets names.
    fn ask_for_neighbours(&mut self) {
        let before = self.asked.len();
        while let Some(address) = self.exchange.asked().map(IpAddr::V4) {
            if !self.asked.contains(&address) {
                self.asked.push_back(address);
            }
        }
        let Some(cluster) = self.cluster.as_ref().filter(|_| self.asked.len() > before) else { return };
        let kernel = limited(&self.kernel.kernel(), &self.wanted);
        let state = State { cluster: cluster.clone(), kernel, ports: self.ports.bindings() };
        self.asked.retain(|address| uplink_neighbour(&state, *address).is_some());
        self.asked.drain(..self.asked.len().saturating_sub(ASKED));
        self.want_neighbours(&state);
    }

    fn want_neighbours(&self, state: &State) {
        let mut neighbours = wanted_neighbours(state, &self.identity);
        neighbours.extend(self.asked.iter().filter_map(|address| uplink_neighbour(state, *address)));
        self.kernel.want_neighbours(neighbours);
    }

    /// Publishes what the state compiles to. The XDP program redirects what the snapshots before and after need until
    /// no worker has the one before.
    fn publish(&mut self, state: &State) {
        let mut snapshot = compile(state, &self.identity);
        snapshot.succeed(self.publisher.current());
        let routes = steering(state, &self.identity);
        self.steer_also(&routes);
        let number = self.publisher.publish(snapshot);
        self.steering = Some((number, routes));
        let first = self.published.replace(Instant::now()).is_none();
        if first {
            tracing::info!(
                ports = state.ports.len(),
                fill_frames = self.ports.fill_total(&self.config.xdp),
                "forwarding: the first snapshot is published"
            );
        }
    }

    /// Has the program redirect these beside what it redirects already.
    fn steer_also(&mut self, routes: &Routes) {
        self.steered.extend(routes.iter().map(|(prefix, destination)| (*prefix, *destination)));
        self.steer();
    }

    fn steer(&mut self) {
        if let Err(error) = self.xdp.set_routes(&self.steered) {
            tracing::error!("packets to some destinations go to the kernel: {error}");
        }
    }

    fn is_settling(&self) -> bool {
        self.steering.is_some() || self.ports.is_closing()
    }

    /// Does what waited for the workers, as far as they are. True where the state is due.
    fn settle(&mut self) -> bool {
        if let Some((_, routes)) = self.steering.take_if(|(number, _)| self.publisher.is_taken(*number)) {
            self.steered = routes;
            self.steer();
            self.publisher.reclaim();
        }
        self.ports.advance(&mut self.xdp, &mut self.workers)
    }

    /// Leaves the ports as they are configured to fail, then ends the workers.
    async fn stop(mut self) {
        self.ports.leave(&mut self.xdp);
        self.workers.stop().await;
        self.kernel.close().await;
    }
}

/// The kernel with the MTUs that the configuration limits.
fn limited(kernel: &Kernel, wanted: &[Wanted]) -> Kernel {
    let mut kernel = kernel.clone();
    for (ifindex, mtu) in wanted.iter().filter_map(|port| Some((port.ifindex?, port.mtu?))) {
        if let Some(link) = kernel.links.get_mut(&ifindex) {
            link.mtu = link.mtu.min(mtu.into());
        }
    }
    kernel
}

fn seed() -> Result<[u64; 4], Error> {
    let mut seed = [0; 4];
    for word in &mut seed {
        *word = getrandom::u64().map_err(Error::Random)?;
    }
    Ok(seed)
}
