//! A gateway's world: namespaces of its own, manifests, and at times a running Margay.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use margay_control::admin::Status;
use margay_control::run::device_name;
use margay_control::state::Name;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::MARGAY;
use crate::support::{Netns, veth};

/// Far longer than anything here takes.
const NEVER: Duration = Duration::from_secs(60);

pub(crate) const NODES: &str = r"
apiVersion: v1
kind: Namespace
metadata: {name: default}
---
apiVersion: v1
kind: Node
metadata: {name: gw, annotations: {projectcalico.org/IPv4Address: 192.0.2.1/24}}
spec: {podCIDRs: [10.0.0.0/24]}
---
apiVersion: v1
kind: Node
metadata: {name: other, annotations: {projectcalico.org/IPv4Address: 192.0.2.2/24}}
spec: {podCIDRs: [10.0.1.0/24]}
";
pub(crate) const POD: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: default}
spec: {nodeName: gw}
status: {phase: Running, podIP: 10.0.0.5}
";

/// A gateway's namespace with an uplink to another node and a pod; files; and at times a running Margay.
pub(crate) struct World {
    pub(crate) gateway: Netns,
    pub(crate) other: Netns,
    pod: Netns,
    pub(crate) device: String,
    pub(crate) home: TempDir,
    pub(crate) running: Option<Child>,
}

impl World {
    pub(crate) fn new() -> Self {
        let world = Self {
            gateway: Netns::new("gw"),
            other: Netns::new("other"),
            pod: Netns::new("pod"),
            device: device_name("cali", &Name::new("default", "web")),
            home: tempfile::tempdir().unwrap(),
            running: None,
        };
        world.plug_uplink();
        world.plug_pod();
        fs::create_dir(world.home.path().join("manifests")).unwrap();
        world.write("manifests/nodes.yaml", NODES);
        world.write("manifests/pod.yaml", POD);
        world.configure("");
        world
    }

    /// Two queues on the gateway's side, for what is by default one worker.
    pub(crate) fn plug_uplink(&self) {
        let (gateway, other) = (&self.gateway, &self.other);
        gateway.ip(&format!(
            "link add eth0 numrxqueues 2 numtxqueues 2 type veth peer name eth0 netns {} numrxqueues 2 numtxqueues 2",
            other.name
        ));
        gateway.ip_batch("link set eth0 up\naddr add 192.0.2.1/24 dev eth0\n");
        other.ip_batch(
            "link set eth0 up\naddr add 192.0.2.2/24 dev eth0\naddr replace 10.0.1.9/32 dev lo\n\
             route add 10.0.0.0/24 via 192.0.2.1 src 10.0.1.9\n",
        );
    }

    pub(crate) fn plug_pod(&self) {
        veth(&self.gateway, &self.device, &self.pod, "eth0");
        // Where a pod's default gateway is, for the kernel to answer its ARP.
        self.gateway.ip(&format!("addr add 169.254.1.1/32 dev {}", self.device));
        self.pod.ip_batch(
            "addr add 10.0.0.5/32 dev eth0\nroute add 169.254.1.1 dev eth0\nroute add default via 169.254.1.1\n",
        );
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.home.path().join(file)
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        fs::write(self.path(file), text).unwrap();
    }

    /// Writes the configuration; `more` goes into the table of the uplink.
    pub(crate) fn configure(&self, more: &str) {
        let config = format!(
            "node.name = \"gw\"\nsource.directory = \"manifests\"\nadmin.socket = \"{}\"\nworkers.idle = \"poll\"\n\
             umem.frames = 4096\nxdp.uplink_rx = 512\nxdp.pod_rx = 64\nflow_table.connections = 1024\n\
             [[uplink]]\ndevice = \"eth0\"\n{more}\n",
            self.path("socket").display()
        );
        self.write("margay.toml", &config);
    }

    pub(crate) fn start(&mut self) {
        self.start_with(&[]);
    }

    /// The same, with these in its environment.
    pub(crate) fn start_with(&mut self, environment: &[(&str, &OsStr)]) {
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = self.gateway.command(MARGAY);
        command.args(["run", "--config"]).arg(self.path("margay.toml")).stderr(log);
        command.envs(environment.iter().copied());
        self.running = Some(command.spawn().unwrap());
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// `ip netns exec` has become Margay by then.
    pub(crate) fn signal(&mut self, signal: Signal) -> ExitStatus {
        let mut child = self.running.take().expect("Margay runs");
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        child.wait().unwrap()
    }

    /// Has the configuration read again.
    pub(crate) fn hang_up(&self) {
        let child = self.running.as_ref().expect("Margay runs");
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGHUP).unwrap();
    }

    pub(crate) fn ask(&self) -> (Output, Option<Status>) {
        let socket = self.path("socket");
        let output =
            Command::new(MARGAY).args(["status", "-o", "json", "--socket"]).arg(socket).output().unwrap();
        let status = serde_json::from_slice(&output.stdout).ok();
        (output, status)
    }

    /// Waits for a status that is as said.
    pub(crate) fn until(&self, what: &str, holds: impl Fn(&Status) -> bool) -> Status {
        let begin = Instant::now();
        loop {
            let (output, status) = self.ask();
            match status {
                Some(status) if holds(&status) => return status,
                _ if begin.elapsed() < NEVER => sleep(Duration::from_millis(20)),
                status => panic!("never: {what}\n{output:?}\n{status:#?}\n{}", self.log()),
            }
        }
    }

    /// Pings once after another until what `margay policies` then says is so.
    pub(crate) fn ping_until<T: DeserializeOwned>(&self, more: &[&str], holds: impl Fn(&T) -> bool) -> T {
        let begin = Instant::now();
        loop {
            let mut ping = self.other.command("ping");
            // The last answers may be missing, which is what is tried here.
            ping.args(["-c", "1", "-W", "0.2", "10.0.0.5"]).stdout(Stdio::null()).status().unwrap();
            let mut policies = Command::new(MARGAY);
            policies.args(["policies", "-o", "json", "--socket"]).arg(self.path("socket")).args(more);
            let output = policies.output().unwrap();
            match serde_json::from_slice(&output.stdout) {
                Ok(said) if holds(&said) => return said,
                _ if begin.elapsed() < NEVER => {}
                _ => panic!("never:\n{output:?}\n{}", self.log()),
            }
        }
    }

    /// Whether the other node reaches the pod.
    pub(crate) fn pings(&self) -> bool {
        // The first may be lost while the kernel resolves neighbours.
        let mut ping = self.other.command("ping");
        ping.args(["-c", "1", "-w", "30", "-i", "0.2", "10.0.0.5"]).stdout(Stdio::null());
        ping.status().unwrap().success()
    }

    pub(crate) fn has_program(&self, device: &str) -> bool {
        self.gateway.ip(&format!("-d link show {device}")).contains("prog/xdp")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(child) = &mut self.running {
            // It may have ended by itself, which the test has failed by then for.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
