//! Taps as control has them: what is asked for, the thread that reads what workers tell, and the names of what they tell.
//! `capture` and `trace` show it.

mod filter;
mod names;
mod packets;
mod session;

use std::time::Duration;

use margay_fastpath::tap::{LONGEST_SNAP, Program, Spec};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use filter::{Compiled, Error as FilterError, compile};
pub(crate) use names::{Asked, Judge, Known, Names, PortName, fate};
pub(crate) use packets::{Packet, Seen};
pub(crate) use session::{Open, Session, Show};

/// An instruction of classic BPF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// Which packets to copy, how much of them and for how long. Whatever ends first ends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CaptureRequest {
    /// What `filter` was compiled from, to be named in the capture.
    pub expression: String,
    /// A program of classic BPF for Ethernet, as `tcpdump -d` prints it. None: every packet.
    pub filter: Vec<Instruction>,
    /// Bytes of each frame at most.
    pub snap: u32,
    /// Packets at most; 0: no limit.
    pub count: u64,
    /// Seconds at most; 0: no limit.
    pub seconds: u64,
    /// Bytes of the answer at most, and one packet; 0: no limit.
    pub bytes: u64,
    /// Packets of one worker in a second at most. What matches beyond that is counted as missed.
    pub per_second: u32,
    /// Only packets that are dropped.
    pub dropped: bool,
}

/// Packets a second of one worker where nothing else is said: a worker copies so many beside its work.
pub const PER_SECOND: u32 = 50_000;
/// Bytes of frames of one worker that may wait to be read.
const WAITING: usize = 8 << 20;

impl Default for CaptureRequest {
    fn default() -> Self {
        Self {
            expression: String::new(),
            filter: Vec::new(),
            snap: LONGEST_SNAP,
            count: 0,
            seconds: 0,
            bytes: 0,
            per_second: PER_SECOND,
            dropped: false,
        }
    }
}

impl CaptureRequest {
    /// What workers are given, checked: nothing is taken as the client has said it.
    pub(crate) fn spec(&self) -> Result<Spec, margay_fastpath::tap::Invalid> {
        let instruction = |of: &Instruction| margay_fastpath::tap::Instruction {
            code: of.code,
            jt: of.jt,
            jf: of.jf,
            k: of.k,
        };
        let program: Vec<_> = self.filter.iter().map(instruction).collect();
        let filter = if program.is_empty() { None } else { Some(Program::new(&program)?) };
        let snap = self.snap.clamp(1, LONGEST_SNAP);
        Ok(Spec { filter, snap, per_second: self.per_second, waiting: WAITING })
    }

    fn lasts(&self) -> Option<Duration> {
        (self.seconds > 0).then(|| Duration::from_secs(self.seconds))
    }
}

/// What taps have counted, summed over the workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Packets that matched.
    pub(crate) matched: u64,
    /// Of these, those that were not copied: too many in a second, or too many waiting to be read.
    pub(crate) missed: u64,
    /// Frames in which copied packets left that were not copied themselves.
    pub(crate) missed_leaving: u64,
}
