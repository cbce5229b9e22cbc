//! `margay doctor` where something is wrong, before a run and during one.

use std::fs;
use std::process::{Command, Stdio};

use margay_control::doctor::{Finding, Severity};

use crate::MARGAY;
use crate::world::World;

/// A program that passes everything, as somebody else's.
const FOREIGN: &str = "
__attribute__((section(\"xdp\"), used)) int others(void *context) { return 2; }
char terms[] __attribute__((section(\"license\"), used)) = \"GPL\";
";

/// What is said that is not `ok`, and the exit code.
fn findings(world: &World, before: &[&str]) -> (Vec<Finding>, i32) {
    let words = [before, &[MARGAY, "doctor", "-o", "json", "--config"]].concat();
    let mut command = world.gateway.command(words[0]);
    let output = command.args(&words[1..]).arg(world.path("margay.toml")).output().unwrap();
    let findings: Vec<Finding> =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let findings = findings.into_iter().filter(|finding| finding.severity > Severity::Ok);
    (findings.collect(), output.status.code().unwrap())
}

fn errors(findings: &[Finding]) -> Vec<(&str, &str)> {
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
    errors.map(|finding| (finding.check.as_str(), finding.place.as_str())).collect()
}

fn attach_foreign(world: &World) {
    fs::write(world.path("foreign.c"), FOREIGN).unwrap();
    let (source, object) = (world.path("foreign.c"), world.path("foreign.o"));
    let mut clang = Command::new("clang");
    clang.args(["-O2", "-target", "bpf", "-c"]).arg(source).arg("-o").arg(&object);
    assert!(clang.status().unwrap().success());
    world.gateway.ip(&format!("link set dev {} xdpgeneric obj {} sec xdp", world.device, object.display()));
}

#[test]
fn real_faults_are_found_with_the_command_that_mends_them() {
    let mut world = World::new();
    let (found, code) = findings(&world, &[]);
    assert_eq!((errors(&found), code), (vec![], 0), "{found:#?}");

    world.gateway.ip("link set dev eth0 mtu 40000");
    attach_foreign(&world);
    let without_ipc_lock = ["setpriv", "--bounding-set=-ipc_lock", "prlimit", "--memlock=65536:65536"];
    let (found, code) = findings(&world, &without_ipc_lock);
    let device = world.device.clone();
    let device = device.as_str();
    assert_eq!(
        (errors(&found), code),
        (vec![("memlock", "machine"), ("mtu", "eth0"), ("xdp program", device)], 1)
    );
    let mend = |check: &str| found.iter().find(|finding| finding.check == check).unwrap().mend.clone();
    assert!(mend("memlock").contains("LimitMEMLOCK=infinity"));

    // What it says mends it, and a gateway says the same of its ports meanwhile.
    world.start();
    world.until("one port failed", |status| status.ports.iter().any(|port| port.error.is_some()));
    let (found_running, code) = findings(&world, &[]);
    assert_eq!(code, 1);
    let ports: Vec<_> = errors(&found_running).into_iter().filter(|(check, _)| *check == "port").collect();
    assert_eq!(ports, [("port", "eth0"), ("port", device)], "{found_running:#?}");
    for command in [mend("mtu"), mend("xdp program")] {
        let command =
            command.split(" or ").find_map(|part| part.split_once("ip link set ").map(|(_, rest)| rest));
        let words = command.expect("a command of `ip link set`").split(',').next().unwrap().to_owned();
        world.gateway.ip(&format!("link set {words}"));
    }
    world.until("ready", |status| status.ready);
    let (found, code) = findings(&world, &[]);
    assert_eq!((errors(&found), code), (vec![], 0), "{found:#?}");

    let mut nothing = Command::new(MARGAY);
    let nothing = nothing.args(["doctor", "--config", "/none"]).stderr(Stdio::null()).status().unwrap();
    assert_eq!(nothing.code(), Some(2));
}
