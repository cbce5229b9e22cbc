//! One trial: what is offered to a gateway for some seconds, and what came of it.

use std::time::Duration;

use hdrhistogram::Histogram;

/// How fast packets are offered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// Packets a second, evenly.
    Pps(f64),
    /// As fast as the source can.
    Full,
}

/// What a trial sends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Offered {
    pub rate: Rate,
    pub time: Duration,
    /// Ends the trial sooner: after so many packets.
    pub packets: Option<u64>,
}

/// What became of it. Every packet carries its number and when it was sent.
#[derive(Clone, Debug)]
pub struct Measured {
    /// From the first packet's departure to the last one's.
    pub time: Duration,
    pub sent: u64,
    /// Different packets that arrived.
    pub received: u64,
    /// Arrivals of a packet that had arrived before.
    pub duplicates: u64,
    /// Packets that arrived after one that was sent later (RFC 4737).
    pub reordered: u64,
    /// Nanoseconds from source to sink.
    pub latency: Histogram<u64>,
    /// Processor time of the gateway and of all softirq.
    pub cpu: Duration,
}

impl Measured {
    /// Share of the packets that did not arrive, 0 to 1.
    #[must_use]
    pub fn loss(&self) -> f64 {
        if self.sent == 0 { 0.0 } else { self.sent.saturating_sub(self.received) as f64 / self.sent as f64 }
    }

    /// Packets a second that arrived.
    #[must_use]
    pub fn forwarded(&self) -> f64 {
        self.received as f64 / self.time.as_secs_f64()
    }

    /// Packets a second that were sent, which is what a rate is (RFC 2544): a source may fall short of what was asked.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.sent as f64 / self.time.as_secs_f64()
    }

    /// Seconds of processor time for a million packets that arrived.
    #[must_use]
    pub fn cpu_per_million(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.received as f64
    }
}

/// What became of TCP connections that were opened and closed for some time.
#[derive(Clone, Copy, Debug)]
pub struct Connected {
    pub time: Duration,
    pub completed: u64,
    /// Given up, for an answer did not come in time.
    pub failed: u64,
    /// Packets that arrived, at both ends.
    pub packets: u64,
    /// Processor time of the gateway and of all softirq.
    pub cpu: Duration,
}

impl Connected {
    /// Connections a second that were opened and closed.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.completed as f64 / self.time.as_secs_f64()
    }

    /// Share of the connections that failed, 0 to 1.
    #[must_use]
    pub fn loss(&self) -> f64 {
        let all = self.completed + self.failed;
        if all == 0 { 0.0 } else { self.failed as f64 / all as f64 }
    }

    /// Seconds of processor time for a million packets.
    #[must_use]
    pub fn cpu_per_million(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.packets as f64
    }
}
