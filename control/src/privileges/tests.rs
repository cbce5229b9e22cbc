//! What threads keep and may do. What ends a process is tried in another one, which runs the same test program.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use caps::{CapSet, Capability, CapsHashSet};
use nix::libc;

use super::Privileges;
use crate::config::{self, Seccomp};

fn privileges(seccomp: Seccomp) -> Privileges {
    Privileges::new(&config::Privileges { drop_capabilities: true, seccomp }).expect("a filter")
}

/// Of the calling thread, by set.
fn held() -> [CapsHashSet; 4] {
    [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable, CapSet::Bounding]
        .map(|set| caps::read(None, set).expect("the kernel says"))
}

/// On a thread of its own, which other tests do not share.
fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    thread::spawn(work).join().expect("it does not panic")
}

#[test]
fn threads_keep_what_they_need_and_never_get_more() {
    let before = held();
    let (started, running, none) = on_a_thread(|| {
        let mut privileges = privileges(Seccomp::Off);
        let mut step = |step: fn(&mut Privileges) -> Result<(), super::Error>| {
            step(&mut privileges).expect("capabilities may be dropped");
            held()
        };
        (step(|all| all.begin()), step(Privileges::started), step(|all| all.none()))
    });
    let had = |needed: &[Capability], set: usize| -> CapsHashSet {
        needed.iter().copied().filter(|needed| before[set].contains(needed)).collect()
    };
    let at_start = [super::RUNNING.as_slice(), super::STARTING.as_slice()].concat();
    for set in 0..3 {
        assert_eq!(started[set], had(&at_start, set), "set {set}");
        assert_eq!(running[set], had(&super::RUNNING, set), "set {set}");
        assert!(none[set].is_empty(), "set {set}");
    }
    if before[0].contains(&Capability::CAP_SETPCAP) {
        assert_eq!(started[3], had(&at_start, 3), "what a program that it runs can come to have");
    }
    assert_eq!(held(), before, "other threads are as they were");
}

#[test]
fn nothing_is_dropped_where_the_configuration_says_so() {
    let config = config::Privileges { drop_capabilities: false, seccomp: Seccomp::Off };
    let kept = on_a_thread(move || {
        Privileges::new(&config).and_then(|privileges| privileges.begin()).expect("nothing to do");
        held()
    });
    assert_eq!(kept, held());
}

/// What a worker does that obeys its filter, and one that does not.
#[test]
#[ignore = "runs in a process of its own, which it may end"]
fn a_confined_worker() {
    let Ok(case) = std::env::var("MARGAY_TEST_CALL") else { return };
    let seccomp = if case == "logged" { Seccomp::Log } else { Seccomp::Kill };
    let joined = thread::spawn(move || {
        privileges(seccomp).confine_worker().expect("the kernel has seccomp");
        match case.as_str() {
            "obeys" => {
                let memory = vec![1_u8; 8 << 20];
                thread::yield_now();
                assert_eq!(memory.iter().map(|byte| usize::from(*byte)).sum::<usize>(), 8 << 20);
            }
            "panics" => panic!("as a worker may"),
            _ => drop(fs::read("/proc/self/status")),
        }
    });
    let panicked = joined.join().is_err();
    std::process::exit(i32::from(panicked) * 3);
}

fn ended(case: &str) -> ExitStatus {
    let mut command = Command::new(fs::canonicalize("/proc/self/exe").expect("this program"));
    command.args(["--ignored", "--exact", "privileges::tests::a_confined_worker", "--nocapture"]);
    // Names of functions are looked up in files.
    command.env("RUST_BACKTRACE", "0");
    command.env("MARGAY_TEST_CALL", case).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().expect("it runs")
}

#[test]
fn a_worker_makes_its_own_system_calls_and_dies_of_others() {
    assert_eq!(ended("obeys").code(), Some(0));
    assert_eq!(ended("panics").code(), Some(3), "a panic unwinds, and its thread ends");
    assert_eq!(ended("logged").code(), Some(0));
    assert_eq!(ended("strays").signal(), Some(libc::SIGSYS));
}
