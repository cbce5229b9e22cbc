//! What a worker does at this moment, for who watches whether it gets on: a few stores a turn, read by anyone.

use std::fmt;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::Relaxed};

use margay_flowtable::PortId;

/// The parts of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    Starting,
    /// A command of control's.
    Obeying,
    Receiving(PortId),
    /// The packet function, with a burst that came in by this port.
    Processing(PortId),
    /// What other workers hand over.
    TakingOver,
    Transmitting(PortId),
    Reclaiming(PortId),
    Expiring,
    Sleeping,
}

impl Doing {
    /// The part in the high half, the port in the low one.
    fn code(self) -> u32 {
        let (part, port) = match self {
            Self::Starting => (0, 0),
            Self::Obeying => (1, 0),
            Self::Receiving(port) => (2, port.0),
            Self::Processing(port) => (3, port.0),
            Self::TakingOver => (4, 0),
            Self::Transmitting(port) => (5, port.0),
            Self::Reclaiming(port) => (6, port.0),
            Self::Expiring => (7, 0),
            Self::Sleeping => (8, 0),
        };
        part << 16 | u32::from(port)
    }

    fn from_code(code: u32) -> Self {
        let port = PortId(code as u16);
        match code >> 16 {
            1 => Self::Obeying,
            2 => Self::Receiving(port),
            3 => Self::Processing(port),
            4 => Self::TakingOver,
            5 => Self::Transmitting(port),
            6 => Self::Reclaiming(port),
            7 => Self::Expiring,
            8 => Self::Sleeping,
            _ => Self::Starting,
        }
    }

    pub fn port(self) -> Option<PortId> {
        match self {
            Self::Receiving(port)
            | Self::Processing(port)
            | Self::Transmitting(port)
            | Self::Reclaiming(port) => Some(port),
            _ => None,
        }
    }
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Obeying => "obeying a command of control",
            Self::Receiving(_) => "receiving",
            Self::Processing(_) => "in the packet function",
            Self::TakingOver => "taking over what other workers hand to it",
            Self::Transmitting(_) => "transmitting",
            Self::Reclaiming(_) => "reclaiming frames",
            Self::Expiring => "expiring connections",
            Self::Sleeping => "waiting for a frame",
        })
    }
}

#[derive(Debug)]
pub struct Progress {
    doing: AtomicU32,
    /// 0 until it has begun.
    thread: AtomicI32,
}

impl Default for Progress {
    fn default() -> Self {
        Self { doing: AtomicU32::new(Doing::Starting.code()), thread: AtomicI32::new(0) }
    }
}

impl Progress {
    pub fn doing(&self) -> Doing {
        Doing::from_code(self.doing.load(Relaxed))
    }

    /// The kernel's number of the worker's thread, once it has begun.
    pub fn thread(&self) -> Option<i32> {
        Some(self.thread.load(Relaxed)).filter(|thread| *thread != 0)
    }

    #[inline]
    pub(super) fn set(&self, doing: Doing) {
        self.doing.store(doing.code(), Relaxed);
    }

    pub(super) fn begin(&self) {
        self.thread.store(nix::unistd::gettid().as_raw(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_what_is_read() {
        let port = PortId(1023);
        let all = [
            Doing::Starting,
            Doing::Obeying,
            Doing::Receiving(port),
            Doing::Processing(port),
            Doing::TakingOver,
            Doing::Transmitting(port),
            Doing::Reclaiming(port),
            Doing::Expiring,
            Doing::Sleeping,
        ];
        let progress = Progress::default();
        for doing in all {
            progress.set(doing);
            assert_eq!(progress.doing(), doing);
        }
    }
}
