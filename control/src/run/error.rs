//! Why Margay cannot start, or cannot go on.

use margay_fastpath::xdp::SetupError;

use super::{Ending, workers};
use crate::{admin, kernel, privileges};

/// Why Margay cannot start, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
    #[error("cannot start a thread for the source: {0}")]
    SourceThread(std::io::Error),
    #[error("cannot start the thread that reports to the API server: {0}")]
    ReportThread(std::io::Error),
    #[error("cannot start the thread that writes flow logs: {0}")]
    FlowLogThread(std::io::Error),
    #[error("the source has ended: it panicked, and its message stands above")]
    SourceEnded,
    #[error("cannot start the thread that watches the workers: {0}")]
    WatchdogThread(std::io::Error),
    #[error("a worker does not go on: why stands above")]
    Ended(Ending),
    #[error("cannot have random numbers of the kernel for the flow table: {0}")]
    Random(getrandom::Error),
    #[error(transparent)]
    Privileges(#[from] privileges::Error),
    #[error(transparent)]
    Admin(#[from] admin::ServerError),
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error(transparent)]
    Workers(#[from] workers::Error),
}
