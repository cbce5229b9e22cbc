//! `margay trace`: packets, each with the steps that it took through the gateway and what decided there.

mod steps;
mod text;
mod words;

use margay_fastpath::tap::Fate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::explain::Explained;
use crate::tap::{CaptureRequest, Counted, Names, Packet, Show, fate};

pub use self::text::text;

/// A packet and what became of it; its JSON form is an interface that scripts rely on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Traced {
    /// When it came in, as of the worker's turn (RFC 3339, UTC).
    pub at: String,
    pub worker: usize,
    /// `forwarded`, `split` (it left in pieces), `dropped`, or `waiting`: a fragment, for the first one of its datagram.
    pub fate: String,
    /// Why it was dropped: one of the reasons of `margay status`, and what that means.
    pub reason: Option<String>,
    pub meaning: Option<String>,
    /// In the order in which they were taken. A packet that is dropped takes no more.
    pub steps: Vec<TraceStep>,
    /// What policy says of a first packet like this at the moment, tier by tier, and where the route leads. None where the
    /// gateway did not come to ask.
    pub explanation: Option<Explained>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TraceStep {
    /// `in`, `parse`, `tunnel`, `source`, `flow`, `policy`, `route`, `rewrite`, `out`, `answer` or `end`.
    pub step: String,
    /// What was found or done.
    pub said: String,
}

/// What a trace of no more packets ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TraceEnd {
    /// Packets that matched and were not copied: too many in a second, or too many waiting to be read.
    pub missed: u64,
}

/// A line of the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum TraceLine {
    Packet(Box<Traced>),
    Ended(TraceEnd),
}

/// Packets as a line of JSON each.
#[derive(Debug)]
pub(crate) struct Lines;

impl Show for Lines {
    // An explanation takes the control loop as long as many names.
    const BATCH: usize = 4;
    const IS_EXPLAINED: bool = true;

    fn begin(&mut self, _: &CaptureRequest) -> Vec<u8> {
        Vec::new()
    }

    fn show(&mut self, packet: &Packet, names: &Names, to: &mut Vec<u8>) {
        write(&TraceLine::Packet(Box::new(traced(packet, names))), to);
    }

    fn end(&mut self, _: u64, counted: &Counted) -> Vec<u8> {
        let mut line = Vec::new();
        write(&TraceLine::Ended(TraceEnd { missed: counted.missed }), &mut line);
        line
    }
}

fn write(line: &TraceLine, to: &mut Vec<u8>) {
    // Strings and numbers, to memory.
    if serde_json::to_writer(&mut *to, line).is_ok() {
        to.push(b'\n');
    }
}

fn traced(packet: &Packet, names: &Names) -> Traced {
    let (word, reason) = fate(packet);
    let seen = packet.came.as_ref().or_else(|| packet.left.first().map(|(_, seen)| seen));
    let at = seen.map(|seen| seen.image.at).unwrap_or_default();
    let at = jiff::Timestamp::from_duration(jiff::SignedDuration::try_from(at).unwrap_or_default());
    Traced {
        at: at.unwrap_or_default().to_string(),
        worker: packet.worker,
        fate: word.to_owned(),
        reason: reason.map(|reason| reason.word().to_owned()),
        meaning: reason.map(|reason| reason.meaning().trim().to_owned()),
        steps: steps::steps(packet, names),
        explanation: packet.explained.as_deref().cloned(),
    }
}

/// Whether the packet left, whole or in pieces.
fn has_left(packet: &Packet) -> bool {
    matches!(packet.end.map(|end| end.fate), Some(Fate::Forwarded | Fate::Split))
}
