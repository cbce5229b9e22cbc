//! The gateways that are compared: each does the same for the same case, in the same site.

use anyhow::{Context, Result, bail};

use super::case::{Case, Dataplane};
use super::site::Site;

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

/// A gateway that forwards. Dropped, it ends, and what it has set outside the site's namespaces is as it was.
pub trait Gateway: Send {
    fn description(&self) -> Description;

    /// Frames that it has forwarded since its start, by its own count.
    fn forwarded(&self) -> Result<u64>;

    /// Frames that it has dropped since its start, by its own reasons.
    fn drops(&self) -> Result<Vec<(String, u64)>>;
}

/// Starts the case's gateway in the site, and waits until it forwards.
pub fn start(_site: &Site, case: &Case, _cores: Cores) -> Result<Box<dyn Gateway>> {
    bail!("there is no {:?} in the lab", case.dataplane)
}
