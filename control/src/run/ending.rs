//! With which exit code a gateway ends that cannot go on, for who starts it anew.

use super::Error;
use super::workers;

/// Why the process ends though nobody asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It could not start, or cannot go on.
    Failed,
    /// A worker panicked. The code is the one of a Rust program of which the first thread does.
    Panicked,
    /// A worker made no progress.
    Stuck,
}

impl Ending {
    pub fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Panicked => 101,
            Self::Stuck => 102,
        }
    }
}

impl Error {
    pub fn ending(&self) -> Ending {
        match self {
            Self::Ended(ending) => *ending,
            Self::Workers(workers::Error::Ended(_)) => Ending::Panicked,
            _ => Ending::Failed,
        }
    }
}
