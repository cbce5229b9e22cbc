//! Frames on their way out: one pending burst for each output port, and behind it what a burst of packets became that had
//! to be split.

use std::collections::VecDeque;

use margay_flowtable::PortId;

use crate::counters::MAX_PORTS;
use crate::frame::{Burst, Frame};

/// Frames behind a full burst at most, for each port: the fragments of several datagrams of 64 kB, each of them in two.
const BEHIND: usize = 256;

/// Bursts waiting for transmission, by port. Ports that have frames are listed in order of first use, so a turn
/// visits those alone.
#[derive(Debug)]
pub struct Egress {
    bursts: Box<[Option<Box<Burst>>]>,
    /// Not empty only where the burst is full.
    behind: Box<[VecDeque<Frame>]>,
    touched: Vec<PortId>,
}

impl Default for Egress {
    fn default() -> Self {
        Self {
            bursts: (0..MAX_PORTS).map(|_| None).collect(),
            behind: (0..MAX_PORTS).map(|_| VecDeque::new()).collect(),
            touched: Vec::with_capacity(MAX_PORTS),
        }
    }
}

impl Egress {
    /// Lets frames go to this port. Allocates: called when a port is attached, not per packet.
    pub fn open(&mut self, port: PortId) {
        self.bursts[usize::from(port.0)].get_or_insert_default();
        self.behind[usize::from(port.0)].reserve_exact(BEHIND);
    }

    /// Takes the port's frames out that still wait.
    pub fn close(&mut self, port: PortId) -> impl Iterator<Item = Frame> {
        self.touched.retain(|&touched| touched != port);
        let burst = self.bursts[usize::from(port.0)].take();
        let behind = std::mem::take(&mut self.behind[usize::from(port.0)]);
        burst.into_iter().flat_map(|burst| burst.into_frames()).chain(behind)
    }

    /// Queues a frame. Gives it back where the port is not open, or its burst is full.
    #[inline]
    pub fn push(&mut self, port: PortId, frame: Frame) -> Result<(), (Frame, Refusal)> {
        let Some(Some(burst)) = self.bursts.get_mut(usize::from(port.0)) else {
            return Err((frame, Refusal::NoPort));
        };
        if burst.is_empty() {
            self.touched.push(port);
        }
        match burst.try_push(frame) {
            Ok(()) => Ok(()),
            Err(frame) => self.follow(port, frame),
        }
    }

    /// Queues a frame of a packet that was split, for which [`room`](Self::room) has said that there is some.
    #[cold]
    pub fn push_split(&mut self, port: PortId, frame: Frame) -> Result<(), (Frame, Refusal)> {
        match self.push(port, frame) {
            Err((frame, Refusal::Full)) => self.queue_behind(port, frame),
            queued => queued,
        }
    }

    /// What comes after frames that wait behind the burst waits there too: they came in one burst, and took its room.
    #[cold]
    #[inline(never)]
    fn follow(&mut self, port: PortId, frame: Frame) -> Result<(), (Frame, Refusal)> {
        if self.behind[usize::from(port.0)].is_empty() {
            return Err((frame, Refusal::Full));
        }
        self.queue_behind(port, frame)
    }

    fn queue_behind(&mut self, port: PortId, frame: Frame) -> Result<(), (Frame, Refusal)> {
        let behind = &mut self.behind[usize::from(port.0)];
        if behind.len() == BEHIND {
            return Err((frame, Refusal::Full));
        }
        behind.push_back(frame);
        Ok(())
    }

    /// How many more frames of split packets the port takes before the next flush.
    pub fn room(&self, port: PortId) -> Result<usize, Refusal> {
        let port = usize::from(port.0);
        match self.bursts.get(port) {
            Some(Some(burst)) => Ok(burst.room() + BEHIND - self.behind[port].len()),
            _ => Err(Refusal::NoPort),
        }
    }

    /// Takes a whole burst for a port of which nothing waits yet, and leaves an empty one in its place. False, and
    /// nothing is done, where something waits or the port is not open.
    #[inline]
    pub fn hand_over(&mut self, port: PortId, burst: &mut Box<Burst>) -> bool {
        match self.bursts.get_mut(usize::from(port.0)) {
            Some(Some(waiting)) if waiting.is_empty() => {
                self.touched.push(port);
                std::mem::swap(waiting, burst);
                true
            }
            _ => false,
        }
    }

    /// Calls `send` with each port's waiting burst; what `send` leaves in a burst waits for the next flush.
    pub fn flush(&mut self, mut send: impl FnMut(PortId, &mut Burst)) {
        let Self { bursts, behind, touched } = self;
        touched.retain(|&port| {
            let Some(burst) = &mut bursts[usize::from(port.0)] else { return false };
            send(port, burst);
            let behind = &mut behind[usize::from(port.0)];
            while !behind.is_empty() && burst.room() > 0 {
                let next = burst.room().min(behind.len());
                behind.drain(..next).for_each(|frame| burst.push(frame));
                send(port, burst);
            }
            !burst.is_empty()
        });
    }

    /// Frames that wait.
    pub fn len(&self) -> usize {
        let waiting = |port: &PortId| {
            let port = usize::from(port.0);
            self.bursts[port].as_ref().map_or(0, |burst| burst.len()) + self.behind[port].len()
        };
        self.touched.iter().map(waiting).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.touched.is_empty()
    }
}

/// Why a frame was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    NoPort,
    Full,
}
