//! A lab of its own for each test: a name that no other has, manifests that the test may change, gone when it ends.

// A module of each test program, which uses its own part.
#![allow(dead_code, unreachable_pub)]

pub mod echo;
pub mod traffic;
pub mod wire;
pub mod world;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{fs, process, thread};

use margay_testbed::lab::{self, Lab};
use margay_testbed::probe::{self, Outcome};
use margay_testbed::state::LabState;
use margay_testbed::topology::Dataplane;
use tempfile::TempDir;

/// What a change to the world may take until packets feel it; only a failing test waits so long.
pub const EVENTUALLY: Duration = Duration::from_secs(40);

/// Directory of the demonstration's world.
pub fn two_zones() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("labs/two-zones")
}

/// The program `margay`, which stands beside `margay-lab`.
pub fn margay() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_margay-lab")).with_file_name("margay");
    assert!(program.exists(), "{} is missing: cargo build --workspace --bins", program.display());
    program
}

/// A name for a lab that no other test has.
pub fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("t{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// How a test's lab differs from `margay-lab up` without options.
#[derive(Default)]
pub struct Options {
    pub queues: Option<u32>,
    pub cores: Vec<usize>,
    pub dataplanes: Vec<(&'static str, Dataplane)>,
    /// The API server to watch; the manifests are read where there is none.
    pub kubeconfig: Option<PathBuf>,
    /// Whether VXLAN over IPv6 does without UDP checksums.
    pub zero_checksum6: bool,
    /// More lines of Margay's configuration.
    pub configuration: String,
    /// More manifests, by file name.
    pub extra: Vec<(&'static str, String)>,
}

pub struct TestLab {
    pub lab: Lab,
    /// What `up` had to say.
    pub notes: Vec<String>,
    manifests: TempDir,
}

impl TestLab {
    /// The demonstration's world.
    pub fn two_zones(options: Options) -> Self {
        Self::two_zones_after(options, |_| Ok(()))
    }

    /// The same, with `prepare` done before Margay starts.
    pub fn two_zones_after(options: Options, prepare: impl FnOnce(&Lab) -> anyhow::Result<()>) -> Self {
        let manifests = TempDir::new().unwrap();
        for file in fs::read_dir(two_zones().join("manifests")).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), manifests.path().join(file.file_name())).unwrap();
        }
        Self::up(manifests, options, prepare)
    }

    /// A world of the test's own, in `options.extra`.
    pub fn own(options: Options) -> Self {
        Self::up(TempDir::new().unwrap(), options, |_| Ok(()))
    }

    /// The same, with `prepare` done before Margay starts.
    pub fn own_after(options: Options, prepare: impl FnOnce(&Lab) -> anyhow::Result<()>) -> Self {
        Self::up(TempDir::new().unwrap(), options, prepare)
    }

    fn up(manifests: TempDir, options: Options, prepare: impl FnOnce(&Lab) -> anyhow::Result<()>) -> Self {
        for (name, text) in &options.extra {
            fs::write(manifests.path().join(name), text).unwrap();
        }
        let state = LabState {
            name: unique_name(),
            manifests: manifests.path().to_owned(),
            kubeconfig: options.kubeconfig,
            margay: margay(),
            queues: options.queues.unwrap_or(1),
            cores: options.cores,
            dataplanes: options.dataplanes.into_iter().map(|(node, who)| (node.to_owned(), who)).collect(),
            zero_checksum6: options.zero_checksum6,
            configuration: options.configuration,
        };
        let mut notes = Vec::new();
        let lab = Lab::up_after(state, &mut |line| notes.push(line.to_owned()), prepare)
            .unwrap_or_else(|error| panic!("{error:#}"));
        Self { lab, notes, manifests }
    }

    pub fn name(&self) -> &str {
        &self.lab.state.name
    }

    /// Puts a manifest in force, as one step.
    pub fn write(&self, name: &str, text: &str) {
        let unseen = self.manifests.path().join(format!("{name}.new"));
        fs::write(&unseen, text).unwrap();
        fs::rename(unseen, self.manifests.path().join(name)).unwrap();
    }

    /// Takes a manifest out of force.
    pub fn remove(&self, name: &str) {
        fs::remove_file(self.manifests.path().join(name)).unwrap();
    }

    /// Namespace and address of `NS/POD` or `node:NAME`.
    pub fn place(&self, place: &str) -> traffic::Place {
        self.place_of(place, false)
    }

    /// The same with the address of IPv6.
    pub fn place6(&self, place: &str) -> traffic::Place {
        self.place_of(place, true)
    }

    fn place_of(&self, place: &str, is_ipv6: bool) -> traffic::Place {
        let topology = &self.lab.topology;
        let pod = topology.pods.iter().find(|(name, _)| name.to_string() == place);
        let address = match (pod, place.strip_prefix("node:")) {
            (Some((_, pod)), _) => pod.addresses.iter().find(|address| address.is_ipv6() == is_ipv6).copied(),
            (None, Some(node)) => topology.nodes[node].underlay(is_ipv6),
            (None, None) => panic!("no place {place}"),
        };
        let address = address.unwrap_or_else(|| panic!("{place} has no address of the family"));
        traffic::Place { netns: self.lab.netns(place).unwrap(), address, port: 0 }
    }

    /// Makes probes, given as the lines of a probe file.
    pub fn probe(&self, lines: &str) -> Vec<Outcome> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), lines).unwrap();
        self.probe_file(file.path())
    }

    pub fn probe_file(&self, file: &Path) -> Vec<Outcome> {
        // The manifests as they are now, not as they were at `up`.
        let lab = Lab::open(self.name()).unwrap();
        probe::run(&lab, file).unwrap_or_else(|error| panic!("{error:#}")).outcomes
    }

    /// What `margay status` says of the node's Margay.
    pub fn status(&self, node: &str) -> serde_json::Value {
        let socket = margay_testbed::daemon::socket(self.name(), node);
        let output =
            Command::new(margay()).args(["status", "-o", "json", "--socket"]).arg(socket).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Log of the node's Margay, for messages.
    pub fn log(&self, node: &str) -> String {
        fs::read_to_string(margay_testbed::daemon::log(self.name(), node)).unwrap_or_default()
    }
}

impl Drop for TestLab {
    fn drop(&mut self) {
        if thread::panicking() {
            for node in self.lab.margay_nodes() {
                eprintln!("--- log of Margay on {}:\n{}", node.name, self.log(&node.name));
                if let Ok(status) = margay_testbed::daemon::status(&self.lab.state, node) {
                    eprintln!("--- its status:\n{}", status.text);
                }
            }
        }
        if let Err(error) = lab::down(self.name()) {
            eprintln!("lab {} could not be removed: {error:#}", self.name());
        }
    }
}

/// Panics with the outcomes that are not as expected; skipped ones must be those in `skipped`, as (from, to).
pub fn assert_agree(outcomes: &[Outcome], skipped: &[(&str, &str)]) {
    let wrong: Vec<_> = outcomes.iter().filter(|outcome| !outcome.agrees()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let left: Vec<_> = outcomes
        .iter()
        .filter(|outcome| outcome.seen.is_none())
        .map(|outcome| (outcome.given.from.as_str(), outcome.given.to.as_str()))
        .collect();
    assert_eq!(
        left,
        skipped,
        "{:#?}",
        outcomes.iter().filter(|outcome| outcome.seen.is_none()).collect::<Vec<_>>()
    );
}

/// Tries `attempt` until it is true, or for [`EVENTUALLY`]. Says whether it came true.
pub fn eventually(mut attempt: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + EVENTUALLY;
    while !attempt() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}
