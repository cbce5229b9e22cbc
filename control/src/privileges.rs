//! What the gateway gives up of what it was started with: capabilities that it does not need (any more), and the system
//! calls that workers have no use for.

mod capabilities;
mod seccomp;
#[cfg(test)]
mod tests;

use std::io;

use crate::config;

pub use self::capabilities::{RUNNING, STARTING};
use self::seccomp::Filter;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot drop capabilities: {0}; privileges.drop_capabilities = false does without")]
    Capabilities(caps::errors::CapsError),
    #[error(
        "cannot confine workers to the system calls that they need: {0}; privileges.seccomp = \"off\" does without"
    )]
    Seccomp(#[from] seccompiler::Error),
}

/// What of it the configuration wants.
#[derive(Clone, Debug)]
pub struct Privileges {
    drops: bool,
    filter: Option<Filter>,
    /// Whether what only the start needs has been given up.
    is_started: bool,
}

impl Privileges {
    pub fn new(config: &config::Privileges) -> Result<Self, Error> {
        Ok(Self { drops: config.drop_capabilities, filter: Filter::of(config.seccomp)?, is_started: false })
    }

    /// Keeps what the start needs, on this thread and those that it starts from now on.
    pub fn begin(&self) -> Result<(), Error> {
        self.keep(&[RUNNING.as_slice(), STARTING.as_slice()].concat())
    }

    /// Keeps what is needed as long as the gateway runs. Does nothing where it has before.
    pub fn started(&mut self) -> Result<(), Error> {
        if self.is_started {
            return Ok(());
        }
        self.is_started = true;
        self.keep(&RUNNING)
    }

    /// Keeps nothing, on a thread that reads and writes what is open to everybody.
    pub fn none(&self) -> Result<(), Error> {
        self.keep(&[])
    }

    /// The same, and no system calls but a worker's.
    pub fn confine_worker(&self) -> io::Result<()> {
        self.none().map_err(io::Error::other)?;
        self.filter.as_ref().map_or(Ok(()), Filter::apply).map_err(io::Error::other)
    }

    fn keep(&self, needed: &[caps::Capability]) -> Result<(), Error> {
        if self.drops { capabilities::keep(needed).map_err(Error::Capabilities) } else { Ok(()) }
    }
}
