//! What a worker tells of a packet that is tapped: as it came in, as it left, what became of it and by which steps.

use std::time::Duration;

use margay_encap::Headers;
use margay_flowtable::{AnyKey, Hit, Interface, NextHopId, PortId};

use crate::drop::DropReason;
use crate::pipeline::Denial;

/// One thing about a packet. Of each that is told in this order: it came (where it matched by then), frames in which it
/// leaves, and its end.
#[derive(Clone, Copy, Debug)]
pub struct Note {
    /// The worker's number of the packet.
    pub packet: u64,
    pub what: What,
}

#[derive(Clone, Copy, Debug)]
#[expect(clippy::large_enum_variant, reason = "every packet has an end, and a worker does not allocate")]
pub enum What {
    /// It came in so.
    Came(Image),
    /// A frame that was to leave because of it. One that was not sent found no room at its port.
    Leaves {
        image: Image,
        leaving: Leaving,
        is_sent: bool,
    },
    Ended(End),
}

/// A copy of a frame. Its bytes stand in the ring, in the order of the notes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// Port that it came in by, or leaves by.
    pub port: PortId,
    /// Since 1970, as of the worker's turn.
    pub at: Duration,
    pub len: u32,
    /// Bytes of it that were copied.
    pub copied: u32,
}

/// What a frame that leaves is to the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// The packet, rewritten.
    Whole,
    /// A fragment or a segment of it.
    Piece,
    /// An ICMP error of ours that answers it.
    Answer,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Forwarded,
    /// It left in pieces.
    Split,
    Dropped(DropReason),
}

#[derive(Clone, Copy, Debug)]
pub struct End {
    pub fate: Fate,
    pub steps: Steps,
}

/// What the passes found and decided. What a packet did not come to is `None`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Steps {
    /// Of the snapshot that decided.
    pub generation: u32,
    /// Seconds of the flow table's clock.
    pub now: u32,
    /// Of a packet that the first pass let on: the tunnel that it came in,
    pub tunnel: Option<Interface>,
    /// its headers, and the key of these.
    pub headers: Option<Headers>,
    pub key: Option<AnyKey>,
    /// The key of the flow that it belongs to: another where it is an ICMP error.
    pub flow: Option<AnyKey>,
    /// The flow's entry before the packet, and after it.
    pub found: Option<Hit>,
    pub entry: Option<Hit>,
    /// What policy denied, where this packet was judged.
    pub denial: Option<Denial>,
    /// Where the verdict sends it, and the port there.
    pub next_hop: Option<NextHopId>,
    pub output: Option<PortId>,
}
