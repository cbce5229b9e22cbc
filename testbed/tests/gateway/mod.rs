//! A gateway as it runs, in a namespace of its own with an uplink that leads nowhere.

// A module of each test program, which uses its own part.
#![allow(dead_code, unreachable_pub)]

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use margay_testbed::measure::Running;
use margay_testbed::{ip, netns};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::{EVENTUALLY, margay, unique_name};

const CONFIGURATION: &str = r#"
node.name = "gw"
workers.idle = "poll"
umem.frames = 8192
flow_table.connections = 1000
admin.socket = "SOCKET"
SOURCE
[[uplink]]
device = "uplink0"
UPLINK
"#;

/// A namespace with an uplink of the address 192.0.2.7; gone with all that runs there.
pub struct Namespace(pub String);

impl Namespace {
    pub fn new() -> Self {
        let namespace = Self(netns::name(&unique_name(), "gw"));
        netns::create(std::slice::from_ref(&namespace.0)).unwrap();
        let links = ["link set lo up", "link add uplink0 type veth peer name beyond0", "link set beyond0 up"];
        let uplink = ["addr add 192.0.2.7/24 dev uplink0", "link set uplink0 up"];
        ip::Batch::new().extend(links).extend(uplink).run(Some(&namespace.0)).unwrap();
        namespace
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = netns::remove(std::slice::from_ref(&self.0)) {
            eprintln!("{error:#}");
        }
    }
}

/// `margay run` on the Node `gw`.
pub struct Gateway {
    pub process: Running,
    pub directory: TempDir,
}

impl Gateway {
    /// By a configuration with these lines of the source and more.
    pub fn start(namespace: &Namespace, source: &str) -> Self {
        Self::start_after(namespace, source, ":")
    }

    /// The same with these lines of the uplink.
    pub fn start_on(namespace: &Namespace, source: &str, uplink: &str) -> Self {
        Self::start_as(namespace, source, uplink, ":")
    }

    /// The same, with lines of a shell before it, whose mounts are nobody else's.
    pub fn start_after(namespace: &Namespace, source: &str, lines: &str) -> Self {
        Self::start_as(namespace, source, "", lines)
    }

    fn start_as(namespace: &Namespace, source: &str, uplink: &str, lines: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let configuration = directory.path().join("margay.toml");
        let socket = directory.path().join("admin.sock");
        let text = CONFIGURATION.replace("SOCKET", socket.to_str().unwrap()).replace("SOURCE", source);
        let text = text.replace("UPLINK", uplink);
        fs::write(&configuration, text).unwrap();
        // `ip netns exec` gives what it runs a mount namespace of its own.
        let mut command = ip::in_netns(&namespace.0, "sh");
        command
            .arg("-ec")
            .arg(format!("{lines}\nexec \"$0\" run --config \"$1\""))
            .arg(margay())
            .arg(configuration);
        let log = File::create(directory.path().join("log")).unwrap();
        let process = Running::start(command.stdin(Stdio::null()).stderr(log)).unwrap();
        Self { process, directory }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("admin.sock")
    }

    /// Asks it by one of the program's commands.
    pub fn ask(&self, command: &str, arguments: &[&str]) -> Output {
        let mut asking = Command::new(margay());
        asking.arg(command).arg("--socket").arg(self.socket()).args(arguments);
        asking.output().unwrap()
    }

    /// What `margay status` says, once it answers.
    pub fn status(&self) -> Option<Value> {
        serde_json::from_slice(&self.ask("status", &["-o", "json"]).stdout).ok()
    }

    /// Waits for a status that is so.
    pub fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + EVENTUALLY;
        loop {
            let status = self.status();
            if let Some(status) = status.as_ref().filter(|status| is_so(status)) {
                return status.clone();
            }
            if Instant::now() > deadline {
                let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
                panic!("still not: {what}\n{status:#?}\n{log}");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn wait_ready(&self) {
        self.until("ready", |status| status["ready"] == true);
    }
}

/// Asks until the answer has it.
pub fn until<T>(what: &str, ask: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + EVENTUALLY;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "still not: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
