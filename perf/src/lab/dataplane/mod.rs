//! The gateways that are compared: each does the same for the same case, in the same site.
//!
//! `cluster` says what each is told, `process` runs the programs of those that are programs.

pub mod bare;
pub mod cluster;
pub mod kernel;
pub mod margay;
pub mod ovs;
mod process;
pub mod testpmd;

use anyhow::{Context, Result, bail, ensure};

use super::case::{Case, Dataplane, name};
use super::site::{OVERHEAD, Site};

/// What forwards, for the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    pub dataplane: Dataplane,
    pub version: String,
    /// Which core does what.
    pub arrangement: String,
    /// Modes, offloads and table sizes that were chosen, a line each.
    pub settings: Vec<String>,
}

/// The cores of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cores {
    /// Where packets are made; what the kernel does with a frame that was sent there is done there too.
    pub generator: usize,
    pub dataplane: usize,
}

impl Cores {
    /// The first and the last of those that this process may use.
    pub fn allowed() -> Result<Self> {
        let cores = core_affinity::get_core_ids().context("cannot ask which cores this process may use")?;
        match cores.as_slice() {
            [first, .., last] => Ok(Self { generator: first.id, dataplane: last.id }),
            _ => bail!(
                "a lab needs two cores, one for the load and one for the gateway: this process may use {}",
                cores.len()
            ),
        }
    }
}

impl Cores {
    /// Where both ends of connections do their own work, which is the tester's and sends half of the packets: not on the
    /// core that the gateway has to itself. Linux forwards where packets are made, and its ends have the core that is left.
    #[must_use]
    pub fn of_ends(self, dataplane: Dataplane) -> usize {
        match dataplane {
            Dataplane::Kernel => self.dataplane,
            Dataplane::Margay | Dataplane::Ovs | Dataplane::Testpmd | Dataplane::Bare => self.generator,
        }
    }
}

/// A gateway that forwards. Dropped, it ends, and what it has set outside the site's namespaces is as it was.
pub trait Gateway: Send {
    fn description(&self) -> Description;

    /// Frames that it has forwarded since its start, by its own count.
    fn forwarded(&self) -> Result<u64>;

    /// Frames that it has dropped since its start, by its own reasons.
    fn drops(&self) -> Result<Vec<(String, u64)>>;
}

/// Bytes of tunnels that arrive at the sink with what was in them: what only swaps addresses takes no packet out of its tunnel.
#[must_use]
pub fn left_on(dataplane: Dataplane) -> u32 {
    if matches!(dataplane, Dataplane::Bare | Dataplane::Testpmd) { OVERHEAD } else { 0 }
}

/// Starts the case's gateway in the site, and waits until it forwards. It does so for all jobs that go one way, at the
/// case's flows at most. What it sets in the site's namespaces stays: a site has one gateway.
pub fn start(site: &Site, case: &Case, cores: Cores) -> Result<Box<dyn Gateway>> {
    ensure!(
        site.job.way() == case.job.way(),
        "the site is of the job {:?}, and the case of {:?}",
        site.job,
        case.job
    );
    ensure!(
        !site.ipip || matches!(case.dataplane, Dataplane::Margay | Dataplane::Bare),
        "{} is not set up for IP-in-IP: Margay and the bare forwarder are",
        name(&case.dataplane)
    );
    match case.dataplane {
        Dataplane::Margay => margay::start(site, case, cores),
        Dataplane::Kernel => kernel::start(site, case, cores),
        Dataplane::Ovs => ovs::start(site, case, cores),
        Dataplane::Bare => bare::start(site, cores),
        Dataplane::Testpmd => testpmd::start(site, case, cores),
    }
}
