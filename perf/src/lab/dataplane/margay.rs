//! Margay as the gateway: the program `margay` itself, told of the cluster by manifests, with connection tracking and policy
//! as ever.

mod manifests;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use margay_control::admin::{self, PortState, Status};
use margay_testbed::ip;
use serde::Serialize;
use tempfile::TempDir;
use tokio::runtime::{self, Runtime};

use super::process::Process;
use super::{Cores, Description, Gateway};
use crate::lab::case::{Case, Dataplane};
use crate::lab::site::Site;
use crate::lab::world::{self, Beyond, GATEWAY_NAME, Side};

/// Connections that Margay's table holds if it is not told.
const COMMON_CONNECTIONS: u32 = 1 << 20;

/// Frames in the rings of the pod's port, as uplinks have them. Usual is 512, which this pod sends in half a millisecond.
const POD_RINGS: XdpTable = XdpTable { pod_rx: 8192, pod_tx: 2048 };

/// The keys of margay.toml that a lab sets; the rest is as everybody has it.
#[derive(Serialize)]
struct Config<'a> {
    node: NodeTable,
    source: SourceTable<'a>,
    workers: WorkersTable,
    flow_table: FlowTable,
    conntrack: Conntrack,
    xdp: XdpTable,
    admin: AdminTable<'a>,
    uplink: Vec<UplinkTable<'a>>,
}

#[derive(Serialize)]
struct NodeTable {
    name: &'static str,
}

#[derive(Serialize)]
struct SourceTable<'a> {
    directory: &'a Path,
}

#[derive(Serialize)]
struct WorkersTable {
    cores: [usize; 1],
    idle: &'static str,
}

#[derive(Serialize)]
struct FlowTable {
    connections: u32,
}

#[derive(Serialize)]
struct Conntrack {
    endpoint_share: f64,
}

#[derive(Serialize)]
struct XdpTable {
    pod_rx: u32,
    pod_tx: u32,
}

#[derive(Serialize)]
struct AdminTable<'a> {
    socket: &'a Path,
}

#[derive(Serialize)]
struct UplinkTable<'a> {
    device: &'a str,
}

struct Margay {
    process: Process,
    socket: PathBuf,
    runtime: Runtime,
    description: Description,
    /// Configuration, manifests, log and socket.
    _directory: TempDir,
}

pub fn start(site: &Site, case: &Case, cores: Cores) -> Result<Box<dyn Gateway>> {
    let directory =
        tempfile::Builder::new().prefix("margay-perf-").tempdir().context("cannot make a directory")?;
    let manifests = directory.path().join("manifests");
    let socket = directory.path().join("admin.sock");
    fs::create_dir(&manifests).with_context(|| format!("cannot make {}", manifests.display()))?;
    for (name, text) in manifests::files(case, site.ipip)? {
        write(&manifests.join(name), &text)?;
    }
    let connections = connections(case.flows);
    let config = configuration(site, &manifests, &socket, cores, connections)?;
    let path = directory.path().join("margay.toml");
    write(&path, &config)?;

    let mut command = ip::in_netns(&site.gateway, program()?);
    command.args(["run", "--config"]).arg(&path);
    let mut process = Process::start(&mut command, "margay", directory.path().join("log"))?;
    let runtime =
        runtime::Builder::new_current_thread().enable_all().build().context("cannot make a runtime")?;
    let mut status = None;
    process.wait(|| {
        status = runtime.block_on(admin::status(&socket)).ok().filter(is_ready);
        Ok(status.is_some())
    })?;
    let description = describe(&status.context("margay says nothing of itself")?, cores, connections);
    Ok(Box::new(Margay { process, socket, runtime, description, _directory: directory }))
}

/// A fifth more than the flows of a case: a table that is nearly full works at finding room.
fn connections(flows: u32) -> u32 {
    COMMON_CONNECTIONS.max(flows.saturating_add(flows / 5))
}

fn configuration(
    site: &Site,
    manifests: &Path,
    socket: &Path,
    cores: Cores,
    connections: u32,
) -> Result<String> {
    let sides = [Side::Source, Side::Sink].into_iter();
    let uplinks = sides.filter(|&side| world::beyond(site.job, side) != Beyond::Pod);
    let config = Config {
        node: NodeTable { name: GATEWAY_NAME },
        source: SourceTable { directory: manifests },
        workers: WorkersTable { cores: [cores.dataplane], idle: "spin" },
        flow_table: FlowTable { connections },
        // All connections of a lab are of one pod.
        conntrack: Conntrack { endpoint_share: 1.0 },
        xdp: POD_RINGS,
        admin: AdminTable { socket },
        uplink: uplinks.map(|side| UplinkTable { device: &site.end(side).gateway_device }).collect(),
    };
    toml::to_string(&config).context("cannot write the configuration as TOML")
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The program beside this one; a test stands one folder deeper.
fn program() -> Result<PathBuf> {
    let own = env::current_exe().context("cannot find this program's own path")?;
    let beside =
        own.ancestors().skip(1).take(2).map(|folder| folder.join("margay")).find(|path| path.is_file());
    let Some(program) = beside else {
        bail!("the program margay is not beside {}: build the workspace", own.display());
    };
    Ok(program)
}

fn is_ready(status: &Status) -> bool {
    status.ready && status.ports.iter().all(|port| port.state == PortState::Open)
}

fn describe(status: &Status, cores: Cores, connections: u32) -> Description {
    let mode = |port: &admin::Port| {
        let copy = if port.zero_copy == Some(true) { "zero-copy" } else { "copy" };
        format!("{}: AF_XDP, {}, {copy}", port.name, port.mode.as_deref().unwrap_or("unknown mode"))
    };
    Description {
        dataplane: Dataplane::Margay,
        version: status.version.clone(),
        arrangement: format!("one worker, which spins, on core {}", cores.dataplane),
        settings: status
            .ports
            .iter()
            .map(mode)
            .chain([format!("flow table of {connections} connections, all of which one pod may hold")])
            .collect(),
    }
}

impl Gateway for Margay {
    fn description(&self) -> Description {
        self.description.clone()
    }

    fn forwarded(&self) -> Result<u64> {
        Ok(self.status()?.workers.iter().map(|worker| worker.traffic.tx).sum())
    }

    fn drops(&self) -> Result<Vec<(String, u64)>> {
        let mut drops = BTreeMap::<String, u64>::new();
        for traffic in self.status()?.workers.into_iter().map(|worker| worker.traffic) {
            let lost = ("tx-lost".to_owned(), traffic.tx_lost);
            for (reason, count) in traffic.drops.into_iter().chain([lost]).filter(|(_, count)| *count > 0) {
                *drops.entry(reason).or_default() += count;
            }
        }
        Ok(drops.into_iter().collect())
    }
}

impl Margay {
    fn status(&self) -> Result<Status> {
        let status = self.runtime.block_on(admin::status(&self.socket));
        status.with_context(|| format!("margay's log ends:\n{}", self.process.tail()))
    }
}
