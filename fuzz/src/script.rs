//! What one input has happen to a gateway: bursts of frames, time that passes, changes of the snapshot.

use std::time::Duration;

use arbitrary::{Arbitrary, Result, Unstructured};
use margay_fastpath::pipeline::{Established, MidFlow};
use margay_flowtable::PortId;

use crate::frame::FrameSpec;
use crate::world::{Change, Config, PORTS};

#[derive(Arbitrary, Clone, Debug)]
pub struct Script {
    pub config: Config,
    #[arbitrary(with = |u: &mut Unstructured<'_>| u.choose(&[64, 16, 4]).copied())]
    pub connections: u32,
    #[arbitrary(with = |u: &mut Unstructured<'_>| u.choose(&[64, 4, 1]).copied())]
    pub datagrams: u32,
    /// Connections that an endpoint may have.
    #[arbitrary(with = |u: &mut Unstructured<'_>| u.choose(&[None, Some(2), Some(1)]).copied())]
    pub share: Option<u32>,
    #[arbitrary(with = mid_flow)]
    pub mid_flow: MidFlow,
    #[arbitrary(with = |u: &mut Unstructured<'_>| u.choose(&[Established::Reevaluate, Established::Keep]).copied())]
    pub established: Established,
    /// Free chunks but for those of the frames that come in.
    #[arbitrary(with = |u: &mut Unstructured<'_>| u.choose(&[usize::MAX, 8, 1, 0]).copied())]
    pub spare: usize,
    pub steps: Vec<Step>,
}

fn mid_flow(u: &mut Unstructured<'_>) -> Result<MidFlow> {
    u.choose(&[MidFlow::Pickup, MidFlow::PickupFor(Duration::from_secs(1100)), MidFlow::Drop]).copied()
}

/// One of two workers, which share the tables.
pub type Worker = bool;

#[derive(Clone, Debug)]
pub enum Step {
    /// Of a port, or each frame by the one that what is from there comes in by.
    Burst {
        worker: Worker,
        port: Option<PortId>,
        frames: Vec<FrameSpec>,
    },
    /// So many milliseconds pass.
    Wait(u32),
    Change(Change),
    /// A port's ring is full from now on, or has room again.
    Stall(PortId),
}

impl<'a> Arbitrary<'a> for Step {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match u.int_in_range(0..=15)? {
            0..=9 => Self::Burst {
                worker: u.arbitrary()?,
                port: if u.ratio(1, 4)? { Some(*u.choose(&PORTS[..4])?) } else { None },
                frames: u.arbitrary()?,
            },
            10 | 11 => Self::Wait(*u.choose(&[1, 100, 1000, 31_000, 700_000])?),
            12..=14 => Self::Change(u.arbitrary()?),
            _ => Self::Stall(*u.choose(&PORTS)?),
        })
    }
}
