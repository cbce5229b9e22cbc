//! A device to try methods on: a queue of packets that a source fills and a server empties, millisecond by millisecond.

use std::time::Duration;

use fastrand::Rng;
use hdrhistogram::Histogram;

use crate::lab::trial::{Measured, Offered, Rate};

/// One step of the simulation, in seconds.
const STEP: f64 = 0.001;

/// Nanoseconds that a packet takes where nothing waits.
const IDLE: f64 = 5_000.0;

pub(super) struct Device {
    /// Packets a second: what the source can send, and what the device can forward.
    pub(super) source: f64,
    pub(super) capacity: f64,
    /// Packets that can wait.
    pub(super) ring: f64,
    /// Each millisecond's capacity differs by up to such a share.
    pub(super) noise: f64,
    /// Standing still: how often a second, and for how many milliseconds.
    pub(super) pauses: (f64, u32),
    /// Share of the packets that is lost whatever the rate.
    pub(super) constant_loss: f64,
    /// The device works where the source does, as the kernel in the sender's softirq: while it forwards the source waits,
    /// so that it never falls behind.
    pub(super) slows_source: bool,
    pub(super) trials: u32,
    pub(super) random: Rng,
}

impl Default for Device {
    fn default() -> Self {
        Self {
            source: 1_500_000.0,
            capacity: 600_000.0,
            ring: 2_048.0,
            noise: 0.0,
            pauses: (0.0, 0),
            constant_loss: 0.0,
            slows_source: false,
            trials: 0,
            random: Rng::with_seed(7),
        }
    }
}

impl Device {
    pub(super) fn trial(&mut self, offered: &Offered) -> Measured {
        self.trials += 1;
        let fastest =
            if self.slows_source { 1.0 / (1.0 / self.source + 1.0 / self.capacity) } else { self.source };
        let rate = match offered.rate {
            Rate::Pps(pps) => pps.min(fastest),
            Rate::Full => fastest,
        };
        let packets = offered.packets.map_or(f64::INFINITY, |packets| packets as f64);
        let packets = packets.min(rate * offered.time.as_secs_f64());
        let time = Duration::from_secs_f64(packets / rate);
        let mut latency = Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds in order");
        let (mut received, mut waiting, mut sent, mut pause) = (0.0, 0.0, 0.0, 0);
        while sent < packets {
            let arriving = (rate * STEP).min(packets - sent);
            let span = arriving / rate;
            sent += arriving;
            if pause == 0 && self.random.f64() < self.pauses.0 * STEP {
                pause = self.pauses.1;
            }
            let served = if pause > 0 { 0.0 } else { self.served(span) };
            pause = pause.saturating_sub(1);
            let left = f64::max(waiting + arriving - served, 0.0);
            let kept = left.min(self.ring);
            let forwarded = waiting + arriving - left;
            received += forwarded;
            waiting = kept;
            let wait = if self.capacity > 0.0 { kept / self.capacity * 1e9 } else { 0.0 };
            latency.saturating_record_n(whole(IDLE + wait), whole(forwarded));
        }
        // What waits in the end is forwarded after the last packet has been sent.
        received += if self.capacity > 0.0 { waiting } else { 0.0 };
        Measured {
            time,
            sent: whole(packets),
            received: whole(received * (1.0 - self.constant_loss)),
            duplicates: 0,
            reordered: 0,
            latency,
            cpu: time,
        }
    }

    /// Packets that the device forwards in so many seconds, if there are so many.
    fn served(&mut self, span: f64) -> f64 {
        if self.slows_source {
            return f64::INFINITY;
        }
        self.capacity * span * (1.0 + self.noise * (self.random.f64() * 2.0 - 1.0))
    }
}

/// Packets come whole.
// No count here is below 0.
#[allow(clippy::cast_sign_loss)]
fn whole(count: f64) -> u64 {
    count.round() as u64
}
