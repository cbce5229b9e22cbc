//! How control talks to a worker: bounded queues that neither side waits on.

use crossbeam::queue::ArrayQueue;
use margay_flowtable::PortId;

use crate::counters::MAX_PORTS;
use crate::pipeline::{Established, MidFlow};
use crate::port::Port;
use crate::tap::{TAPS, Tap, TapId};

const COMMANDS: usize = 256;

/// What control asks of a worker, in order.
#[derive(Debug)]
pub enum Command {
    /// Receive from this port, and send what goes out of it.
    Attach(Box<dyn Port>),
    /// Frames for this port go to the worker of that number, who owns one of its queues.
    Via { port: PortId, worker: usize },
    /// Stop using the port. Its box comes back by [`Mailbox::returned`] where this worker had one.
    Detach(PortId),
    /// Tell this tap of the packets that match it. It comes back by [`Mailbox::returned_tap`]: at once where there are
    /// [`TAPS`] already.
    Tap(Box<Tap>),
    /// Give the tap back.
    Untap(TapId),
    /// From now on treat packets of unknown connections, and flows that policy would no longer allow, so.
    Configure { mid_flow: MidFlow, established: Established },
    /// Give every frame and port back, and end.
    Stop,
}

#[derive(Debug)]
pub struct Mailbox {
    commands: ArrayQueue<Command>,
    returned: ArrayQueue<Returned>,
    taps: ArrayQueue<Box<Tap>>,
}

/// A port that the worker is done with.
#[derive(Debug)]
pub struct Returned {
    pub id: PortId,
    /// Still open, with its frames: closing waits for the kernel, which is not for a worker ([`Exchange::close`]).
    /// `None` where the worker only reached it by another worker.
    ///
    /// [`Exchange::close`]: super::Exchange::close
    pub port: Option<Box<dyn Port>>,
}

impl Default for Mailbox {
    fn default() -> Self {
        // A worker returns one port for each `Detach`, of which no more are sent while `COMMANDS` wait to be taken, and
        // all ports at `Stop`.
        Self {
            commands: ArrayQueue::new(COMMANDS),
            returned: ArrayQueue::new(2 * COMMANDS + MAX_PORTS),
            taps: ArrayQueue::new(COMMANDS + TAPS),
        }
    }
}

impl Mailbox {
    /// Queues a command; gives it back where the worker has not caught up with those before.
    pub fn send(&self, command: Command) -> Result<(), Command> {
        if self.returned.len() >= COMMANDS {
            return Err(command);
        }
        self.commands.push(command)
    }

    /// The next port that the worker has let go of.
    pub fn returned(&self) -> Option<Returned> {
        self.returned.pop()
    }

    /// The next tap that the worker has let go of.
    pub fn returned_tap(&self) -> Option<Box<Tap>> {
        self.taps.pop()
    }

    pub(super) fn give_tap_back(&self, tap: Box<Tap>) {
        // Control takes them out before it gives more; were there no room, the memory would be freed here.
        drop(self.taps.push(tap));
    }

    pub(super) fn next(&self) -> Option<Command> {
        self.commands.pop()
    }

    pub(super) fn give_back(&self, returned: Returned) {
        // `send` keeps room for one answer to each queued command, so the queue is never full here; if it were,
        // dropping the box closes the port, which is what control does with it.
        drop(self.returned.push(returned));
    }
}
