//! What a pod and its node exchange while Margay runs, as it is configured and when it is killed. Needs root.

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use margay_control::admin::{PortState, Status};
use margay_control::run::device_name;
use margay_control::state::Name;
use support::{Netns, veth};
use tempfile::TempDir;

const MARGAY: &str = env!("CARGO_BIN_EXE_margay");
/// Far longer than anything here takes.
const NEVER: Duration = Duration::from_secs(60);

const NODE: &str = "192.0.2.1";
const POD: &str = "10.0.0.5";

const OBJECTS: &str = r"
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
kind: Pod
metadata: {name: web, namespace: default}
spec: {nodeName: gw}
status: {phase: Running, podIP: 10.0.0.5}
";
const NO_UDP: &str = r"
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: no-udp}
spec:
  types: [Egress]
  egress: [{action: Deny, protocol: UDP}, {action: Allow}]
";

/// A node whose kernel checks reverse paths strictly, and a pod on it.
struct World {
    node: Netns,
    pod: Netns,
    device: String,
    home: TempDir,
    running: Option<Child>,
}

impl World {
    fn new(config: &str) -> Self {
        let (node, pod) = (Netns::new("node"), Netns::new("pod"));
        let device = device_name("cali", &Name::new("default", "web"));
        let strict = node.command("sysctl").args(["-qw", "net.ipv4.conf.all.rp_filter=1"]).status();
        assert!(strict.unwrap().success());
        veth(&node, &device, &pod, "eth0");
        node.ip_batch(&format!(
            "addr add {NODE}/32 dev lo\naddr add 169.254.1.1/32 dev {device}\n\
             route add {POD} dev {device} src {NODE}\n"
        ));
        pod.ip_batch(&format!(
            "addr add {POD}/32 dev eth0\nroute add 169.254.1.1 dev eth0\nroute add default via 169.254.1.1\n"
        ));
        let home = tempfile::tempdir().unwrap();
        let world = Self { node, pod, device, home, running: None };
        fs::create_dir(world.path("manifests")).unwrap();
        fs::write(world.path("manifests/objects.yaml"), OBJECTS).unwrap();
        let config = format!(
            "node.name = \"gw\"\nsource.directory = \"manifests\"\nadmin.socket = \"{}\"\n\
             workers.idle = \"poll\"\numem.frames = 4096\nxdp.pod_rx = 64\nflow_table.connections = 1024\n{config}\n",
            world.path("socket").display()
        );
        fs::write(world.path("margay.toml"), config).unwrap();
        world
    }

    fn path(&self, file: &str) -> PathBuf {
        self.home.path().join(file)
    }

    fn start(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = self.node.command(MARGAY);
        command.args(["run", "--config"]).arg(self.path("margay.toml")).stderr(log);
        self.running = Some(command.spawn().unwrap());
    }

    fn kill(&mut self) {
        let mut child = self.running.take().expect("Margay runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn status(&self) -> Option<Status> {
        let mut command = Command::new(MARGAY);
        let output = command.args(["status", "-o", "json", "--socket"]).arg(self.path("socket")).output();
        serde_json::from_slice(&output.unwrap().stdout).ok()
    }

    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let begin = Instant::now();
        while !holds() {
            assert!(begin.elapsed() < NEVER, "never: {what}\n{:#?}\n{}", self.status(), self.log());
            sleep(Duration::from_millis(20));
        }
    }

    /// Packets of the pod that were dropped for this reason.
    fn dropped(&self, reason: &str) -> u64 {
        let status = self.status().expect("Margay runs");
        let port = status.ports.iter().find(|port| port.name == self.device).expect("the pod has a port");
        let traffic = port.traffic.as_ref().expect("it is open");
        traffic.drops.get(reason).copied().unwrap_or(0)
    }

    fn is_open(&self, port: &str) -> bool {
        let status = self.status();
        status.is_some_and(|s| s.ports.iter().any(|p| p.name == port && p.state == PortState::Open))
    }

    fn pod_pings(&self) -> bool {
        pings(&self.pod, NODE)
    }

    fn node_pings(&self) -> bool {
        pings(&self.node, POD)
    }

    fn has(&self, device: &str) -> bool {
        self.node.ip("link show").contains(&format!(" {device}@"))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(child) = &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The first may be lost while the kernel resolves its neighbour.
fn pings(from: &Netns, to: &str) -> bool {
    let mut ping = from.command("ping");
    ping.args(["-c", "2", "-i", "0.2", "-W", "1", to]).stdout(Stdio::null()).status().unwrap().success()
}

#[test]
fn a_node_that_is_closed_to_its_pods_reaches_them_and_has_no_use_for_a_pair() {
    let mut world = World::new("policy.endpoint_to_host = \"drop\"");
    world.start();
    world.until("the pod's port is open", || world.is_open(&world.device));
    world.until("the node is closed", || !world.pod_pings());
    assert!(world.dropped("endpoint-to-host") > 0);
    assert!(world.node_pings(), "what the node begins is not asked about");
    assert!(!world.has("margay0"));
}

#[test]
fn a_pod_s_port_that_drops_on_failure_still_lets_the_node_s_own_exchanges_through() {
    let mut world = World::new("pods.on_failure = \"drop\"\npolicy.host_interface_prefix = \"mgy\"");
    fs::write(world.path("manifests/no-udp.yaml"), NO_UDP).unwrap();
    world.start();
    world.until("the way into the node is open", || world.is_open("mgy1"));
    assert!(world.pod_pings(), "past a strict check of reverse paths");
    assert!(world.node_pings());
    world.kill();
    assert!(!world.pod_pings());
    assert!(world.node_pings());
    assert!(world.has("mgy0"));
    world.start();
    world.until("the pair is taken over", || world.is_open("mgy1"));
    assert!(world.pod_pings() && world.node_pings());
}

#[test]
fn a_device_that_is_in_the_way_is_named_and_left_alone() {
    let mut world = World::new("");
    world.node.ip("link add margay0 type veth peer name other");
    fs::write(world.path("manifests/no-udp.yaml"), NO_UDP).unwrap();
    world.start();
    world.until("the device is named", || world.log().contains("margay0, margay1: there is a device"));
    world.until("policy holds", || !world.pod_pings());
    assert!(world.dropped("host-bound") > 0, "without a way in nothing slips past policy");
    assert!(world.node_pings());
    assert!(world.has("other"));
    world.node.ip("link del margay0");
    world.until("the way into the node is open", || world.is_open("margay1") && world.pod_pings());
}
