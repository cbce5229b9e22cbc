//! What is found of workers, and what becomes of a process whose worker hangs or panics: a test that runs itself as another
//! process, with a port that does so.

use std::fs;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use margay_fastpath::frame::Burst;
use margay_fastpath::pipeline::{Established, MidFlow};
use margay_fastpath::port::{Census, Port};
use margay_fastpath::umem::{FramePool, Umem};
use margay_fastpath::worker::{
    Command as Order, Exchange, Idle, Parts, Worker, WorkerHandle, spawn_confined,
};
use margay_fastpath::{Layout, umem};
use margay_flowtable::conntrack::Timeouts;
use margay_flowtable::publish::Publisher;
use margay_flowtable::table::FlowTable;
use margay_flowtable::{Fragments, PortId, Snapshot};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollTimeout};

use super::judge::{Finding, Judge};
use super::thread_state::ThreadState;
use super::{LOOK, STUCK, Watchdog, Watched};
use crate::config::{self, LogLevel};
use crate::log::Log;
use crate::privileges::Privileges;

/// At each look: how long after the one before, turns so far, the thread's state, its processor time; in milliseconds.
type Look = (u64, u64, char, u64);

/// What was found at the last of these.
fn found(looks: impl IntoIterator<Item = Look>) -> Finding {
    let (mut now, mut judge) = (Duration::ZERO, Judge::new(1, Duration::ZERO));
    let mut last = Finding::GetsOn;
    for (after, turns, letter, used) in looks {
        now += Duration::from_millis(after);
        judge.begin(now);
        last = judge.look(0, turns, || Some(ThreadState { letter, used: Duration::from_millis(used) }));
    }
    last
}

/// Looks in time at a worker that is at its hundredth turn, so many.
fn still(looks: u64, letter: char, used_between: u64) -> impl Iterator<Item = Look> {
    let look = LOOK.as_millis() as u64;
    (0..looks).map(move |n| (look, 100, letter, n * used_between))
}

#[test]
fn a_worker_that_makes_no_turn_is_stuck_unless_it_did_not_run() {
    // One to see the turn, one to see that there is no other, and those until it has been so long.
    let enough = (STUCK.as_millis() / LOOK.as_millis()) as u64 + 2;
    let stuck = Finding::Stuck(STUCK);
    assert_eq!(found(still(enough, 'S', 0)), stuck, "asleep in the kernel");
    assert_eq!(found(still(enough, 'D', 0)), stuck, "asleep whatever comes");
    assert_eq!(found(still(enough, 'R', 50)), stuck, "in a loop");
    assert_eq!(found(still(enough, 'R', 20)), stuck, "in a loop, with half a core");
    assert!(matches!(found(still(enough - 1, 'S', 0)), Finding::Still(_)), "not yet");
    assert_eq!(found(still(enough, 'R', 5)), Finding::Starved(STUCK), "others have the core");
    assert!(matches!(found(still(enough + 5, 'R', 5)), Finding::Still(_)), "which is told once");
    assert_eq!(found(still(enough, 't', 0)), Finding::GetsOn, "a debugger has it");
    assert!(
        matches!(found(still(enough * 3, 't', 0).chain(still(enough - 2, 'S', 0))), Finding::Still(_)),
        "a debugger has let it go"
    );
    let late = || [(10_000, 100, 'S', 0)];
    assert_eq!(found(still(enough, 'S', 0).take(10).chain(late())), Finding::GetsOn, "stopped, and going on");
    let after = still(10, 'S', 0).chain(late()).chain(still(enough - 2, 'S', 0));
    assert!(matches!(found(after), Finding::Still(_)), "what was before that counts for nothing");
    let slow = (0..enough).map(|n| (150, 100 + n / 5, 'R', n));
    assert!(!matches!(found(slow), Finding::Stuck(_) | Finding::Starved(_)), "a turn at times");
    let (now, mut judge) = (STUCK * 10, Judge::new(1, Duration::ZERO));
    judge.begin(now);
    assert_eq!(judge.look(0, 1, || None), Finding::GetsOn);
    assert_eq!(judge.look(0, 1, || None), Finding::GetsOn, "a thread that has ended is told of otherwise");
}

/// How a port ends its worker.
#[derive(Debug)]
enum Fault {
    Loops,
    /// In a system call that does not return.
    Blocks(Epoll),
    Panics,
}

#[derive(Debug)]
struct FaultyPort(Fault);

impl Port for FaultyPort {
    fn id(&self) -> PortId {
        PortId(7)
    }

    fn rx(&mut self, _: &Umem, _: &mut Burst, _: &mut FramePool) {
        match &self.0 {
            Fault::Loops => loop {
                std::hint::spin_loop();
            },
            Fault::Blocks(nothing) => {
                let _ = nothing.wait(&mut [EpollEvent::empty()], EpollTimeout::NONE);
            }
            Fault::Panics => panic!("a port that panics"),
        }
    }

    fn tx(&mut self, _: &Umem, _: &mut Burst) {}

    fn reclaim(&mut self, _: &Umem, _: &mut FramePool) {}

    fn census(&self) -> Census {
        Census::default()
    }

    fn drain(&mut self, _: &Umem, _: &mut FramePool) -> usize {
        0
    }
}

/// A worker on no port yet.
fn worker(publisher: &mut Publisher<Snapshot>) -> WorkerHandle {
    let (umem, frames) = umem::Umem::heap(Layout { chunk_size: 2048, chunks: 64 });
    let worker = Worker::new(Parts {
        index: 0,
        exchange: Arc::new(Exchange::new(umem, frames, 1)),
        table: Arc::new(FlowTable::new(64, [1, 2, 3, 4], Timeouts::default())),
        fragments: Arc::new(Fragments::new(8, [1, 2], 30)),
        reader: publisher.reader(),
        mid_flow: MidFlow::Pickup,
        established: Established::default(),
        rules: 8,
    });
    // As a gateway has it: what is told of it has to get out of a worker that may do next to nothing.
    let privileges = Privileges::new(&config::Privileges::default()).expect("a filter");
    spawn_confined(worker, None, Idle::Poll, move || privileges.confine_worker()).expect("a thread")
}

/// What stands in for the gateway: ends as the watchdog says.
#[test]
#[ignore = "runs in a process of its own, which it ends"]
fn a_gateway_with_a_faulty_port() {
    let Ok(fault) = std::env::var("MARGAY_TEST_FAULT") else { return };
    let nothing = Epoll::new(EpollCreateFlags::empty()).expect("an epoll");
    let fault = match fault.as_str() {
        "loops" => Fault::Loops,
        "blocks" => Fault::Blocks(nothing),
        _ => Fault::Panics,
    };
    Log::start(LogLevel::Info);
    let mut publisher = Publisher::new(Snapshot::default());
    let handle = worker(&mut publisher);
    let watched = Watched {
        index: 0,
        core: 5,
        counters: Arc::clone(&handle.counters),
        progress: Arc::clone(&handle.progress),
        stalls: Arc::default(),
    };
    let mut watchdog = Watchdog::start(vec![watched]).expect("a thread");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio");
    // A worker that gets on, and sleeps between, is left alone.
    let quiet = async { tokio::time::timeout(STUCK * 2, watchdog.verdict()).await };
    assert_eq!(runtime.block_on(quiet).ok(), None);
    handle.mailbox.send(Order::Attach(Box::new(FaultyPort(fault)))).expect("room in the mailbox");
    let ending = runtime.block_on(watchdog.verdict());
    std::process::exit(ending.code().into());
}

fn ended(fault: &str) -> (ExitStatus, String) {
    let test = "run::watchdog::tests::a_gateway_with_a_faulty_port";
    let mut command = Command::new(fs::canonicalize("/proc/self/exe").expect("this program"));
    command.args(["--ignored", "--exact", test, "--nocapture"]).env("MARGAY_TEST_FAULT", fault);
    command.env_remove("RUST_LOG").env_remove("RUST_BACKTRACE");
    let output = command.stdout(Stdio::null()).output().expect("it runs");
    (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_worker_that_hangs_or_panics_ends_the_process_and_the_log_says_where() {
    let cases = [
        ("loops", 102, ["worker 0 on core 5 has made no turn for ", "receiving, port number 7", "state R"]),
        ("blocks", 102, ["worker 0 on core 5 has made no turn for ", "receiving, port number 7", "state S"]),
        ("panics", 101, ["margay-worker-0 panicked at ", ": a port that panics", "spawn_confined"]),
    ];
    for (fault, code, words) in cases {
        let (status, log) = ended(fault);
        assert_eq!(status.code(), Some(code), "{fault}: {log}");
        for word in words {
            assert!(log.contains(word), "{fault}: no {word:?} in\n{log}");
        }
    }
}
