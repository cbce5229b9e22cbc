//! `margay run` on the lab's Margay nodes: its configuration, its start, its readiness, its end.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;

use crate::state::{LabState, node_file};
use crate::topology::LabNode;
use crate::wiring::UPLINK;
use crate::{ip, netns};

/// How long Margay may take to open its ports.
const START: Duration = Duration::from_secs(60);
/// How long it may take to end after a signal.
const END: Duration = Duration::from_secs(10);

/// The keys of margay.toml that a lab sets.
#[derive(Serialize)]
struct Config<'a> {
    node: NodeTable<'a>,
    source: SourceTable<'a>,
    workers: WorkersTable<'a>,
    umem: UmemTable,
    admin: AdminTable,
    tunnel: TunnelTable,
    uplink: [UplinkTable; 1],
}

#[derive(Serialize)]
struct NodeTable<'a> {
    name: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum SourceTable<'a> {
    Directory(&'a PathBuf),
    Kubernetes(&'a PathBuf),
}

#[derive(Serialize)]
struct WorkersTable<'a> {
    /// Left out, one worker runs on the last core.
    #[serde(skip_serializing_if = "<[usize]>::is_empty")]
    cores: &'a [usize],
    idle: &'static str,
}

#[derive(Serialize)]
struct UmemTable {
    frames: u32,
}

#[derive(Serialize)]
struct AdminTable {
    socket: PathBuf,
}

#[derive(Serialize)]
struct TunnelTable {
    udp6_zero_checksum: bool,
}

#[derive(Serialize)]
struct UplinkTable {
    device: &'static str,
}

/// The admin socket of the node's Margay.
pub fn socket(lab: &str, node: &str) -> PathBuf {
    node_file(lab, node, "sock")
}

/// What the node's Margay wrote to standard error.
pub fn log(lab: &str, node: &str) -> PathBuf {
    node_file(lab, node, "log")
}

/// Starts Margay in the node's namespace. The log of an earlier start is kept and added to.
pub fn start(lab: &LabState, node: &LabNode) -> Result<()> {
    let config = node_file(&lab.name, &node.name, "toml");
    fs::write(&config, configuration(lab, node)?)
        .with_context(|| format!("cannot write {}", config.display()))?;
    let path = log(&lab.name, &node.name);
    let log = File::options().create(true).append(true).open(&path);
    let log = log.with_context(|| format!("cannot open {}", path.display()))?;
    // `ip netns exec` gives it the namespace's own /sys, where it reads of its devices, and then becomes it.
    let mut child = ip::in_netns(&node.netns, &lab.margay)
        .args(["run", "--config"])
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("cannot share the log's descriptor")?)
        .stderr(log)
        // Ctrl-C is for the lab's program, which takes Margay down in its own order.
        .process_group(0)
        .spawn()
        .context("cannot run `ip netns exec`: install the package iproute2")?;
    let file = node_file(&lab.name, &node.name, "pid");
    fs::write(&file, child.id().to_string()).with_context(|| format!("cannot write {}", file.display()))?;
    // Until it stands in the namespace it would be taken for one that has ended.
    let deadline = Instant::now() + START;
    while pid(lab, node)?.is_none() {
        let ended = child.try_wait().context("cannot ask for Margay's state")?;
        if ended.is_some() || Instant::now() > deadline {
            bail!("Margay on node {} did not start; {} ends:\n{}", node.name, path.display(), tail(&path));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn configuration(lab: &LabState, node: &LabNode) -> Result<String> {
    let config = Config {
        node: NodeTable { name: &node.name },
        source: match &lab.kubeconfig {
            Some(kubeconfig) => SourceTable::Kubernetes(kubeconfig),
            None => SourceTable::Directory(&lab.manifests),
        },
        // Several Margays share the machine's cores with the pods' own programs: one that spins would starve them.
        workers: WorkersTable { cores: &lab.cores, idle: "poll" },
        umem: UmemTable { frames: 1 << 17 },
        admin: AdminTable { socket: socket(&lab.name, &node.name) },
        tunnel: TunnelTable { udp6_zero_checksum: lab.zero_checksum6 },
        uplink: [UplinkTable { device: UPLINK }],
    };
    let config = toml::to_string(&config).context("cannot write the configuration as TOML")?;
    Ok(config + "\n" + &lab.configuration)
}

/// Waits until the node's Margay forwards.
pub fn wait_ready(lab: &LabState, node: &LabNode) -> Result<()> {
    let deadline = Instant::now() + START;
    loop {
        let status = status(lab, node)?;
        if status.success {
            return Ok(());
        }
        let path = log(&lab.name, &node.name);
        if pid(lab, node)?.is_none() {
            bail!(
                "Margay on node {} ended at its start; {} ends:\n{}",
                node.name,
                path.display(),
                tail(&path)
            );
        }
        if Instant::now() > deadline {
            bail!(
                "Margay on node {} is not ready after {} s: {}; {} ends:\n{}",
                node.name,
                START.as_secs(),
                status.text.trim_end(),
                path.display(),
                tail(&path)
            );
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// What `margay status` says.
#[derive(Debug)]
pub struct Status {
    pub success: bool,
    pub text: String,
}

/// Asks the node's Margay for its status.
pub fn status(lab: &LabState, node: &LabNode) -> Result<Status> {
    let output = Command::new(&lab.margay)
        .args(["status", "--socket"])
        .arg(socket(&lab.name, &node.name))
        .output()
        .with_context(|| format!("cannot run {}", lab.margay.display()))?;
    let text = if output.status.success() { output.stdout } else { output.stderr };
    Ok(Status { success: output.status.success(), text: String::from_utf8_lossy(&text).into_owned() })
}

/// Process of the node's Margay, if it runs.
pub fn pid(lab: &LabState, node: &LabNode) -> Result<Option<i32>> {
    let path = node_file(&lab.name, &node.name, "pid");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let pid: i32 = text.trim().parse().with_context(|| format!("{} holds no process id", path.display()))?;
    // The number may be another process's by now; ours is in the node's namespace.
    Ok(netns::processes(std::slice::from_ref(&node.netns))?.contains(&pid).then_some(pid))
}

/// Ends the node's Margay with `signal` and waits until it is gone.
pub fn end(lab: &LabState, node: &LabNode, signal: Signal) -> Result<()> {
    let deadline = Instant::now() + END;
    let Some(running) = pid(lab, node)? else { bail!("no Margay runs on node {}", node.name) };
    kill(Pid::from_raw(running), signal)
        .with_context(|| format!("cannot send {signal} to process {running}"))?;
    // The process is listed nowhere while the last of its threads still hold its sockets.
    let socket = socket(&lab.name, &node.name);
    while pid(lab, node)?.is_some() || UnixStream::connect(&socket).is_ok() {
        if Instant::now() > deadline {
            bail!("Margay on node {} (process {running}) does not end after {signal}", node.name);
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn tail(log: &PathBuf) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}
