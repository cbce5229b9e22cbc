//! Network namespaces for tests: made with names of their own, removed with whatever lives in them.

#![allow(dead_code, reason = "each test program uses its part")]

use std::fs::File;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};

/// A named network namespace, removed when dropped. Needs root.
#[derive(Debug)]
pub(crate) struct Netns {
    pub(crate) name: String,
}

impl Netns {
    /// A new namespace with its loopback up.
    pub(crate) fn new(what: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("mgt-{}-{}-{what}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        succeed(Command::new("ip").args(["netns", "add", &name]));
        let netns = Self { name };
        netns.ip("link set lo up");
        netns
    }

    /// `ip ARGUMENTS` inside; it must succeed.
    pub(crate) fn ip(&self, arguments: &str) -> String {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name]).args(arguments.split_whitespace());
        String::from_utf8_lossy(&succeed(&mut command).stdout).into_owned()
    }

    /// Many `ip` commands, a line each, by one process.
    pub(crate) fn ip_batch(&self, lines: &str) {
        let mut child = Command::new("ip")
            .args(["-n", &self.name, "-batch", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("ip starts");
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), lines.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "ip -batch:\n{lines}");
    }

    /// Takes the calling thread into the namespace.
    pub(crate) fn enter(&self) {
        let file = File::open(format!("/var/run/netns/{}", self.name)).expect("the namespace exists");
        setns(file, CloneFlags::CLONE_NEWNET).expect("root enters a network namespace");
    }

    /// A command that will run inside.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // A test that failed is shown as it failed, whatever becomes of the namespace.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// A veth pair: `a_name` in `a`, `b_name` in `b`, both up.
pub(crate) fn veth(a: &Netns, a_name: &str, b: &Netns, b_name: &str) {
    a.ip(&format!("link add {a_name} type veth peer name {b_name} netns {}", b.name));
    a.ip(&format!("link set {a_name} up"));
    b.ip(&format!("link set {b_name} up"));
}

fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n(these tests need root and iproute2)",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
