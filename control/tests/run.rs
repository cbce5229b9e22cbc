//! `margay run` in network namespaces of its own: ports, sources and signals of a living gateway. Needs root.

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use margay_control::admin::policies::{DropRow, Policies};
use margay_control::admin::{Port, PortState, Status};
use margay_control::run::device_name;
use margay_control::state::Name;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use support::{Netns, veth};
use tempfile::TempDir;

const MARGAY: &str = env!("CARGO_BIN_EXE_margay");
/// Far longer than anything here takes.
const NEVER: Duration = Duration::from_secs(60);

const NODES: &str = r"
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
const POD: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: default}
spec: {nodeName: gw}
status: {phase: Running, podIP: 10.0.0.5}
";

/// A gateway's namespace with an uplink to another node and a pod; files; and at times a running Margay.
struct World {
    gateway: Netns,
    other: Netns,
    pod: Netns,
    device: String,
    home: TempDir,
    running: Option<Child>,
}

impl World {
    fn new() -> Self {
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
    fn plug_uplink(&self) {
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

    fn plug_pod(&self) {
        veth(&self.gateway, &self.device, &self.pod, "eth0");
        // Where a pod's default gateway is, for the kernel to answer its ARP.
        self.gateway.ip(&format!("addr add 169.254.1.1/32 dev {}", self.device));
        self.pod.ip_batch(
            "addr add 10.0.0.5/32 dev eth0\nroute add 169.254.1.1 dev eth0\nroute add default via 169.254.1.1\n",
        );
    }

    fn path(&self, file: &str) -> PathBuf {
        self.home.path().join(file)
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.path(file), text).unwrap();
    }

    /// Writes the configuration; `more` goes into the table of the uplink.
    fn configure(&self, more: &str) {
        let config = format!(
            "node.name = \"gw\"\nsource.directory = \"manifests\"\nadmin.socket = \"{}\"\nworkers.idle = \"poll\"\n\
             umem.frames = 4096\nxdp.uplink_rx = 512\nxdp.pod_rx = 64\nflow_table.connections = 1024\n\
             [[uplink]]\ndevice = \"eth0\"\n{more}\n",
            self.path("socket").display()
        );
        self.write("margay.toml", &config);
    }

    fn start(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = self.gateway.command(MARGAY);
        command.args(["run", "--config"]).arg(self.path("margay.toml")).stderr(log);
        self.running = Some(command.spawn().unwrap());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// `ip netns exec` has become Margay by then.
    fn signal(&mut self, signal: Signal) -> ExitStatus {
        let mut child = self.running.take().expect("Margay runs");
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        child.wait().unwrap()
    }

    fn ask(&self) -> (Output, Option<Status>) {
        let socket = self.path("socket");
        let output =
            Command::new(MARGAY).args(["status", "-o", "json", "--socket"]).arg(socket).output().unwrap();
        let status = serde_json::from_slice(&output.stdout).ok();
        (output, status)
    }

    /// Waits for a status that is as said.
    fn until(&self, what: &str, holds: impl Fn(&Status) -> bool) -> Status {
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
    fn ping_until<T: DeserializeOwned>(&self, more: &[&str], holds: impl Fn(&T) -> bool) -> T {
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
    fn pings(&self) -> bool {
        // The first may be lost while the kernel resolves neighbours.
        let mut ping = self.other.command("ping");
        ping.args(["-c", "1", "-w", "30", "-i", "0.2", "10.0.0.5"]).stdout(Stdio::null());
        ping.status().unwrap().success()
    }

    fn has_program(&self, device: &str) -> bool {
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

fn port<'a>(status: &'a Status, name: &str) -> Option<&'a Port> {
    status.ports.iter().find(|port| port.name == name)
}

fn state(status: &Status, name: &str) -> Option<PortState> {
    port(status, name).map(|port| port.state)
}

#[test]
fn ports_and_manifests_come_and_go_while_it_forwards() {
    let mut world = World::new();
    world.start();
    let status = world.until("ready", |status| status.ready);
    let eth0 = port(&status, "eth0").unwrap();
    assert_eq!((eth0.state, eth0.queues, eth0.kind.as_str()), (PortState::Open, Some(2), "uplink"));
    assert_eq!((eth0.mode.as_deref(), eth0.zero_copy), (Some("native"), Some(false)));
    let web = port(&status, &world.device).unwrap();
    assert_eq!((web.state, web.pod.as_deref()), (PortState::Open, Some("default/web")));
    assert_eq!(status.umem.fill_frames, 2 * 512 + 64);
    assert!(world.pings());
    let status = world.until("both directions counted", |status| {
        let forwarded = |name| port(status, name).unwrap().traffic.as_ref().unwrap().forwarded;
        forwarded("eth0") > 0 && forwarded(&world.device) > 0
    });
    assert_eq!(status.flow_table.connections, 1, "one connection: the ping");

    world.write("manifests/bad.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: [}\n");
    let status = world.until("the bad manifest is named", |status| !status.source.problems.is_empty());
    assert!(status.source.problems[0].contains("bad.yaml:3"), "{:?}", status.source.problems);
    assert!(status.ready && world.pings());
    fs::remove_file(world.path("manifests/bad.yaml")).unwrap();
    world.until("the bad manifest is gone", |status| status.source.problems.is_empty());

    for _ in 0..2 {
        world.gateway.ip(&format!("link del {}", world.device));
        world.until("the pod's device is gone", |s| state(s, &world.device) == Some(PortState::Missing));
        world.plug_pod();
        world.until("the pod's device is back", |s| state(s, &world.device) == Some(PortState::Open));
        assert!(world.pings());
    }
    world.gateway.ip("link del eth0");
    let status = world.until("the uplink is gone", |s| state(s, "eth0") == Some(PortState::Missing));
    assert!(!status.ready);
    assert_eq!(world.ask().0.status.code(), Some(1));
    world.plug_uplink();
    world.until("the uplink is back", |status| status.ready);
    assert!(world.pings());

    fs::remove_file(world.path("manifests/pod.yaml")).unwrap();
    world.until("the pod is gone", |status| port(status, &world.device).is_none());
    while world.has_program(&world.device) {
        sleep(Duration::from_millis(5));
    }

    assert!(world.signal(Signal::SIGTERM).success(), "{}", world.log());
    assert!(!world.has_program("eth0"), "on_failure = pass: the kernel has its device back");
    assert!(!world.path("socket").exists());
}

#[test]
fn rules_say_what_they_counted_and_drops_who_dropped_them() {
    let policy = |ingress: &str| {
        let head = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: default}";
        format!("{head}\nspec: {{podSelector: {{}}, policyTypes: [Ingress], ingress: {ingress}}}\n")
    };
    let mut world = World::new();
    world.write("manifests/policy.yaml", &policy("[{from: [{ipBlock: {cidr: 10.0.1.0/24}}]}]"));
    world.start();
    world.until("ready", |status| status.ready);
    let said = world.ping_until(&[], |said: &Policies| said.rules[0].counts.packets > 1);
    let [hit, end] = &said.rules[..] else { panic!("{said:?}") };
    assert_eq!((hit.rule.policy.as_str(), hit.rule.rule, hit.counts.denied), ("default/web", Some(0), 0));
    assert!(hit.counts.flows > 0 && hit.counts.bytes == 84 * hit.counts.packets, "{hit:?}");
    assert_eq!((end.rule.rule, end.counts.packets, said.drops.len()), (None, 0, 0));

    world.write("manifests/policy.yaml", &policy("[]"));
    let drops = world.ping_until(&["--drops"], |drops: &Vec<DropRow>| !drops.is_empty());
    let rule = drops[0].rule.as_ref().expect("the end of the tier");
    assert_eq!(
        (rule.policy.as_str(), rule.rule, drops[0].endpoint.as_str()),
        ("default/web", None, "default/web")
    );
    assert_eq!((drops[0].last.dst.to_string().as_str(), drops[0].last.icmp), ("10.0.0.5", Some((8, 0))));
}

#[test]
fn a_running_gateway_explains_by_what_is_in_force() {
    let mut world = World::new();
    world.start();
    world.until("ready", |status| status.ready);
    let explain = |arguments: &[&str]| {
        let mut command = Command::new(MARGAY);
        command.arg("explain").arg("--socket").arg(world.path("socket")).args(arguments).output().unwrap()
    };
    let output = explain(&["192.0.2.2", "default/web", "tcp", "80"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text.contains("  ingress  allow  no policy selects default/web\n"), "{text}");
    assert!(text.contains("  route    on gw: 10.0.0.5/32 local"), "{text}");
    let output = explain(&["192.0.2.2", "default/nobody", "tcp", "80"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("default/nobody is not in the manifests"),
        "{output:?}"
    );
}

#[test]
fn a_port_that_drops_on_failure_keeps_its_program_and_is_taken_over_by_the_next_start() {
    let mut world = World::new();
    world.configure("on_failure = \"drop\"");
    world.start();
    world.until("ready", |status| status.ready);
    assert!(world.signal(Signal::SIGTERM).success(), "{}", world.log());
    assert!(world.has_program("eth0"));
    assert!(!world.has_program(&world.device), "pods' ports are to pass");

    world.start();
    world.until("ready again", |status| status.ready);
    world.signal(Signal::SIGKILL);
    assert!(world.has_program("eth0"));
    world.start();
    world.until("ready after a crash", |status| status.ready);
    assert!(world.pings());
}

#[test]
fn a_directory_that_is_not_there_is_waited_for_and_one_that_goes_leaves_its_objects_in_force() {
    let mut world = World::new();
    fs::rename(world.path("manifests"), world.path("later")).unwrap();
    world.start();
    let status = world.until("the source is missed", |status| !status.source.troubles.is_empty());
    assert!(status.snapshot.is_none() && !status.ready, "nothing is published of half a world");
    assert!(!world.has_program("eth0"));
    fs::rename(world.path("later"), world.path("manifests")).unwrap();
    world.until("the source is there", |status| status.ready && status.source.troubles.is_empty());
    assert!(world.pings());

    fs::remove_dir_all(world.path("manifests")).unwrap();
    let status = world.until("the source is lost", |status| !status.source.troubles.is_empty());
    assert!(status.ready && world.pings());
}

#[test]
fn a_node_that_the_manifests_do_not_have_is_named_and_the_kernel_s_routes_are_forwarded() {
    let mut world = World::new();
    let text = fs::read_to_string(world.path("margay.toml")).unwrap();
    world.write("margay.toml", &text.replace("\"gw\"", "\"nobody\""));
    world.start();
    let status = world.until("ready", |status| status.ready);
    assert_eq!((status.node.as_str(), state(&status, "eth0")), ("nobody", Some(PortState::Open)));
    let log = world.log();
    assert!(log.contains("has no Node nobody") && log.contains("it has gw, other"), "{log}");
}

#[test]
fn a_port_that_does_not_fit_is_refused_and_the_others_work() {
    let mut world = World::new();
    let text = fs::read_to_string(world.path("margay.toml")).unwrap();
    world.write("margay.toml", &text.replace("umem.frames = 4096", "umem.frames = 1000"));
    world.start();
    let status = world.until("the pod's port is open", |s| state(s, &world.device) == Some(PortState::Open));
    let error = port(&status, "eth0").and_then(|port| port.error.clone()).unwrap_or_default();
    assert!(error.contains("2 queues") && error.contains("raise umem.frames"), "{status:#?}");
    assert!(!status.ready && !world.has_program("eth0"));
    let (output, _) = world.ask();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not ready: port eth0: with its 2 queues"));
}

#[test]
fn two_gateways_do_not_share_an_admin_socket() {
    let mut world = World::new();
    world.start();
    world.until("ready", |status| status.ready);
    let mut second = world.gateway.command(MARGAY);
    let second = second.args(["run", "--config"]).arg(world.path("margay.toml")).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let error = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(error.contains("another Margay answers there"), "{error}");
    assert!(world.ask().1.unwrap().ready, "the first is as it was");
}

const KUBECONFIG: &str = "
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: k, user: u}}]
clusters: [{name: k, cluster: {server: 'https://127.0.0.1:6443', insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: t}}]
";

#[test]
fn a_configuration_is_checked_without_a_gateway() {
    let home = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| fs::write(home.path().join(file), text).unwrap();
    let check = || {
        let mut command = Command::new(MARGAY);
        let output =
            command.args(["run", "--check", "--config"]).arg(home.path().join("m.toml")).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let cases = [
        ("source.directory = \"all\"\nnode.name = \"gw\"", 0, ""),
        ("source.directory = \"all\"\nnode.name = \"gx\"", 2, "no Node gx"),
        ("source.directory = \"none\"\nnode.name = \"gw\"", 2, "cannot read the manifest directory"),
        ("node.name = \"gw\"", 2, "no source: [source] needs either `directory"),
        (
            "source.directory = \"all\"\nsource.kubernetes = \"kc\"",
            2,
            "two sources: [source] needs either `directory",
        ),
        (
            "source.directory = \"all\"\ncalico.vxlan_tunnel_address = \"10.9.0.1\"",
            2,
            "[calico] says what an API server is told: it needs source.kubernetes",
        ),
        ("source.kubernetes = \"kubeconfig\"\ncalico.vxlan_tunnel_address = \"10.9.0.1\"", 0, ""),
        ("source.kubernetes = \"kubeconfig\"\nnode.name = \"gw\"", 0, ""),
        ("source.kubernetes = \"none\"\nnode.name = \"gw\"", 2, "/none: "),
        ("source.kubernetes = \"bad/pod.yaml\"\nnode.name = \"gw\"", 2, "kubeconfig "),
        ("source.kubernetes = \"in-cluster\"\nnode.name = \"gw\"", 2, "the pod's access to its API server: "),
        (
            "source.directory = \"all\"\nnod.name = \"gw\"",
            2,
            "m.toml:2:1: unknown key `nod`: did you mean `node`?",
        ),
        ("source.directory = \"bad\"\nnode.name = \"gw\"", 2, "bad/pod.yaml:4: Pod: metadata.name"),
    ];
    write("kubeconfig", KUBECONFIG);
    for directory in ["all", "bad"] {
        fs::create_dir(home.path().join(directory)).unwrap();
        write(&format!("{directory}/nodes.yaml"), NODES);
    }
    write(
        "bad/pod.yaml",
        &POD.replace("metadata: {name: web", "metadata: {name: Web!").replace("Running", "Runnin"),
    );
    for (config, code, message) in cases {
        write("m.toml", config);
        let (actual, error) = check();
        assert_eq!(actual, code, "{config}\n{error}");
        assert!(error.contains(message), "{config}\n{error}");
    }
    let none =
        Command::new(MARGAY).args(["status", "--socket"]).arg(home.path().join("none")).output().unwrap();
    assert_eq!(none.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&none.stderr).contains("no Margay answers at"));
}
