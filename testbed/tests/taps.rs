//! `margay capture` and `margay trace` on real traffic: what Wireshark reads of it, and who decided. They need root.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use common::traffic::Place;
use common::{Options, TestLab, eventually, margay};
use margay_testbed::daemon;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// As many taps as there may be at once.
const TAPS: usize = 4;

/// A program that ends with the test, whatever becomes of it.
struct Running(Option<Child>);

impl Running {
    /// Ends it by a signal, and gives what it said.
    fn end(mut self, signal: Signal) -> Output {
        let child = self.0.take().expect("it runs");
        // It may have ended by itself.
        let _ = kill(Pid::from_raw(child.id().cast_signed()), signal);
        child.wait_with_output().unwrap()
    }

    fn finish(mut self) -> Output {
        self.0.take().expect("it runs").wait_with_output().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The lab, and two pods in different zones: what goes from the client to the web server comes to the gateway by VXLAN.
struct World {
    lab: TestLab,
    files: TempDir,
    client: Place,
    web: Place,
}

impl World {
    fn new() -> Self {
        let lab = TestLab::two_zones(Options::default());
        let (client, web) = (lab.place("far/client"), lab.place("shop/web"));
        Self { lab, files: TempDir::new().unwrap(), client, web }
    }

    fn start(&self, command: &str, arguments: &[&str]) -> Running {
        let mut margay = Command::new(margay());
        margay.arg(command).arg("--socket").arg(daemon::socket(self.lab.name(), "gw-a")).args(arguments);
        Running(Some(margay.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()))
    }

    /// A capture that has begun.
    fn capture(&self, name: &str, arguments: &[&str]) -> (Running, PathBuf) {
        let file = self.files.path().join(name);
        let mut running = self.start("capture", &[&["-w", file.to_str().unwrap()], arguments].concat());
        let has_begun =
            eventually(|| fs::metadata(&file).is_ok_and(|file| file.len() > 0) || has_ended(&mut running));
        assert!(has_begun && !has_ended(&mut running), "{:?}", running.end(Signal::SIGTERM));
        (running, file)
    }

    /// The one packet that a trace shows of those that `send` has sent until it ends.
    fn trace(&self, filter: &str, mut send: impl FnMut()) -> Value {
        let mut running = self.start("trace", &["-o", "json", "--seconds", "30", filter]);
        let is_done = eventually(|| {
            send();
            has_ended(&mut running)
        });
        assert!(is_done, "nothing matches {filter}");
        let output = running.finish();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }
}

fn has_ended(running: &mut Running) -> bool {
    running.0.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some())
}

/// What tshark reads: a line a frame, of these fields.
fn tshark(file: &Path, filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(file).args(["-Y", filter, "-T", "fields"]);
    tshark.args(fields.iter().flat_map(|field| ["-e", field]));
    let output = tshark.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

/// What a step of a trace says.
fn said<'a>(traced: &'a Value, step: &str) -> &'a str {
    let steps = traced["steps"].as_array().unwrap();
    let step = steps.iter().rev().find(|said| said["step"] == step);
    step.and_then(|step| step["said"].as_str()).unwrap_or_default()
}

#[test]
fn wireshark_reads_what_came_left_and_was_dropped_and_why() {
    let world = World::new();
    let filter = format!("tcp and host {} and host {}", world.client.address, world.web.address);
    let (capture, file) = world.capture("all.pcapng", &[&filter]);
    let (denied, dropped) = world.capture("dropped.pcapng", &["--dropped", "-c", "1", &filter]);
    assert!(world.client.opens(&world.web.at(80)));
    assert!(!world.client.opens(&world.web.at(81)));
    let ended = denied.finish();
    assert!(ended.status.success(), "{ended:?}");
    let ended = capture.end(Signal::SIGINT);
    assert!(ended.status.success(), "{ended:?}");
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(told.contains("packets matched") && told.contains(" 0 packets and frames not copied"), "{told}");

    let fields = ["frame.packet_flags_direction", "frame.interface_name", "vxlan.vni", "frame.comment"];
    let opens = tshark(&file, "tcp.dstport == 80 && tcp.flags.syn == 1", &fields);
    // Once as it came, in its tunnel, and once as it left to the pod's node.
    assert!(opens.len() >= 2, "{opens:?}");
    let [came, left] = [&opens[0], &opens[1]];
    assert_eq!((came[0].as_str(), came[1].as_str()), ("0x00000001", "uplink0"), "{came:?}");
    assert!(!came[2].is_empty(), "{came:?}");
    assert!(
        came[3].contains("forwarded by uplink0; admitted by ") && came[3].contains("shop/web"),
        "{came:?}"
    );
    assert_eq!(left[0], "0x00000002", "{left:?}");
    assert!(left[2].is_empty() && left[3].contains("forwarded from uplink0"), "{left:?}");
    let refused = tshark(&file, "tcp.dstport == 81", &fields);
    assert!(!refused.is_empty());
    for frame in &refused {
        assert_eq!(frame[0], "0x00000001", "{frame:?}");
        assert!(frame[3].contains("dropped: policy-deny by ") && frame[3].contains("ingress"), "{frame:?}");
    }
    let only = tshark(&dropped, "frame", &["tcp.dstport"]);
    assert_eq!(only.len(), 1, "{only:?}");
    assert!(only[0][0].contains("81"), "{only:?}");
    // The answer goes back by the same connection, into the tunnel.
    let answers = tshark(&file, "tcp.srcport == 80 && vxlan", &fields);
    assert!(answers.iter().any(|frame| frame[0] == "0x00000002"), "{answers:?}");
}

#[test]
fn a_trace_tells_the_steps_and_who_decided_and_captures_end_with_who_reads_them() {
    let world = World::new();
    let (client, web) = (&world.client, &world.web);
    let open = |port: u16| {
        client.opens(&web.at(port));
    };
    let allowed = world.trace(
        &format!("tcp[tcpflags] == tcp-syn and dst host {} and dst port 80", web.address),
        || {
            open(80);
        },
    );
    assert_eq!(
        (&allowed["fate"], &allowed["reason"]),
        (&Value::from("forwarded"), &Value::Null),
        "{allowed:#}"
    );
    assert!(said(&allowed, "in").starts_with("uplink0"), "{allowed:#}");
    assert!(said(&allowed, "tunnel").contains("VXLAN"), "{allowed:#}");
    assert!(said(&allowed, "flow").contains("entered as a new connection"), "{allowed:#}");
    assert!(said(&allowed, "policy").contains("shop/web"), "{allowed:#}");
    assert!(said(&allowed, "rewrite").contains("TTL 6"), "{allowed:#}");
    assert!(said(&allowed, "out").contains(&format!("{}:80 tcp SYN", web.address)), "{allowed:#}");
    assert_eq!(allowed["explanation"]["verdict"], "allow", "{allowed:#}");

    let denied = world.trace(&format!("dst host {} and tcp dst port 81", web.address), || open(81));
    assert_eq!((&denied["fate"], &denied["reason"]), (&Value::from("dropped"), &Value::from("policy-deny")));
    assert!(said(&denied, "policy").starts_with("asked: denied by "), "{denied:#}");
    assert!(said(&denied, "end").contains("A policy denied it."), "{denied:#}");
    assert_eq!(
        (said(&denied, "out"), &denied["explanation"]["verdict"]),
        ("", &Value::from("deny")),
        "{denied:#}"
    );

    let bad = world.start("trace", &["host", "and", "and"]).finish();
    assert_eq!(bad.status.code(), Some(2), "{bad:?}");
    let captures: Vec<_> = (0..TAPS).map(|n| world.capture(&format!("{n}"), &["udp port 9"]).0).collect();
    let beyond = || world.start("capture", &["-w", "/dev/null", "--seconds", "1", "udp port 9"]).finish();
    let refused = beyond();
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("captures and traces are under way"),
        "{refused:?}"
    );
    // Killed: nothing is said to the gateway.
    for capture in captures {
        drop(capture.end(Signal::SIGKILL));
    }
    assert!(eventually(|| beyond().status.success()), "taps are left");
}
