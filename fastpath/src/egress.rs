//! Frames on their way out: one pending burst for each output port.

use margay_flowtable::PortId;

use crate::counters::MAX_PORTS;
use crate::frame::{Burst, Frame};

/// Bursts waiting for transmission, by port. Ports that have frames are listed in order of first use, so a turn
/// visits those alone.
#[derive(Debug)]
pub struct Egress {
    bursts: Box<[Option<Box<Burst>>]>,
    touched: Vec<PortId>,
}

impl Default for Egress {
    fn default() -> Self {
        Self { bursts: (0..MAX_PORTS).map(|_| None).collect(), touched: Vec::with_capacity(MAX_PORTS) }
    }
}

impl Egress {
    /// Lets frames go to this port. Allocates: called when a port is attached, not per packet.
    pub fn open(&mut self, port: PortId) {
        self.bursts[usize::from(port.0)].get_or_insert_default();
    }

    /// Takes the port's burst out, with what still waits in it.
    pub fn close(&mut self, port: PortId) -> Option<Box<Burst>> {
        self.touched.retain(|&touched| touched != port);
        self.bursts[usize::from(port.0)].take()
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
        burst.try_push(frame).map_err(|frame| (frame, Refusal::Full))
    }

    /// How many more frames the port takes before the next flush.
    pub fn room(&self, port: PortId) -> Result<usize, Refusal> {
        match self.bursts.get(usize::from(port.0)) {
            Some(Some(burst)) => Ok(burst.room()),
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
        let bursts = &mut self.bursts;
        self.touched.retain(|&port| {
            let Some(burst) = &mut bursts[usize::from(port.0)] else { return false };
            send(port, burst);
            !burst.is_empty()
        });
    }

    /// Frames that wait.
    pub fn len(&self) -> usize {
        self.touched
            .iter()
            .filter_map(|port| self.bursts[usize::from(port.0)].as_ref())
            .map(|b| b.len())
            .sum()
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
