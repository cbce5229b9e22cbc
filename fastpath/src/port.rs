//! A port: one queue of one device, as a worker sees it.

pub mod memory;
pub mod pcap;
pub mod queues;
pub mod vlan;
pub mod xdp;

use std::os::fd::BorrowedFd;

use margay_flowtable::PortId;

use crate::frame::Burst;
use crate::umem::{FramePool, Umem};

/// Frames of the UMEM that a port holds, by where they are; one in a large buffer counts as one. For the invariant
/// pool + fill + rx + tx + completion == frames of the UMEM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    pub fill: usize,
    pub rx: usize,
    pub tx: usize,
    pub completion: usize,
}

impl Census {
    pub fn total(self) -> usize {
        self.fill + self.rx + self.tx + self.completion
    }
}

/// One queue of a port. None of the calls blocks or allocates; system calls are ring wakeups alone.
pub trait Port: Send + std::fmt::Debug {
    fn id(&self) -> PortId;

    /// Appends received frames to the burst, up to its room. What no chunk holds is gathered in large buffers of the pool,
    /// to which the chunks that it came in go.
    fn rx(&mut self, umem: &Umem, burst: &mut Burst, pool: &mut FramePool);

    /// Takes frames from the front of the burst for transmission, with one submission and at most one wakeup. Frames
    /// that the port has no room for stay in the burst.
    fn tx(&mut self, umem: &Umem, burst: &mut Burst);

    /// Brings frames whose transmission is complete back to the pool, and gives the port frames from the pool to
    /// receive into.
    fn reclaim(&mut self, umem: &Umem, pool: &mut FramePool);

    /// Frames that the port holds now. Exact only while the kernel is not moving them.
    fn census(&self) -> Census;

    /// The descriptor to poll for input in idle mode; `None` where there is nothing to wait for.
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Takes every frame back that can be had without the kernel's help, before the port is dropped. Returns how many
    /// stay with the kernel: they are lost to this UMEM when the port's device is gone for good.
    fn drain(&mut self, umem: &Umem, pool: &mut FramePool) -> usize;
}
