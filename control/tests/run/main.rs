//! `margay run` in network namespaces of its own: ports, sources and signals of a living gateway. Needs root.

mod api;
mod configuration;
mod doctor;
mod leaving;
mod notify;
mod privileges;
mod reload;
#[path = "../support/mod.rs"]
mod support;
mod world;

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use margay_control::admin::policies::{DropRow, Policies};
use margay_control::admin::{Port, PortState, Status};
use nix::sys::signal::Signal;
use world::World;

const MARGAY: &str = env!("CARGO_BIN_EXE_margay");

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
