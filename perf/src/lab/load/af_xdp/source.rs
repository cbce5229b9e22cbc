//! The source: writes packets into frames as they are due, and hands them to the kernel in bursts.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use core_affinity::CoreId;
use margay_fastpath::xdp::{RingSizes, Xdp};
use margay_fastpath::{Burst, Frame, Port};

use super::sink::Sink;
use super::{Device, LAYOUT};
use crate::lab::load::frames::{Stream, Template};
use crate::lab::load::stamp::{self, Stamp};
use crate::lab::load::{self, Sent};
use crate::lab::site::End;
use crate::lab::trial::{Offered, Rate};
use crate::lab::world::VXLAN_PORT;

/// Nothing is received.
const RINGS: RingSizes = RingSizes { fill: 1, rx: 1, tx: 2048, completion: 2048 };
/// What is later than this is not caught up with: a burst that nobody has asked for would be lost.
const PATIENCE: Duration = Duration::from_micros(100);
/// How long the device may take no packet.
const STANDSTILL: Duration = Duration::from_secs(2);

/// Sends a stream's packets from a device.
#[derive(Debug)]
pub struct Source {
    device: Device,
    templates: Vec<Template>,
    /// Which of the templates packets have, by turns.
    pattern: Vec<u8>,
    stream: Stream,
    core: usize,
    burst: Burst,
    /// What is looked after between bursts.
    beside: Option<Sink>,
}

impl Source {
    /// What sends the stream's packets from the device, on this core.
    pub fn open(end: &End, stream: &Stream, core: usize) -> Result<Self> {
        let (templates, pattern) = (stream.templates()?, stream.pattern()?);
        // A program that steers nothing to the socket: the kernel receives as ever.
        let device = Device::open(end, RINGS, || Ok(Xdp::load(LAYOUT, VXLAN_PORT)?))?;
        let (stream, burst) = (stream.clone(), Burst::default());
        Ok(Self { device, templates, pattern, stream, core, burst, beside: None })
    }

    /// The same beside a sink that has no thread of its own.
    #[must_use]
    pub fn beside(self, sink: &Sink) -> Self {
        Self { beside: Some(sink.clone()), ..self }
    }

    /// The packet of this number in a frame; `None` where all frames are on their way.
    fn packet(&mut self, number: u64, trial: u8, departure: u64) -> Option<Frame> {
        let turn = number as usize % self.pattern.len();
        let template = &self.templates[usize::from(self.pattern[turn])];
        let (Device { umem, pool, .. }, bytes) = (&mut self.device, template.bytes());
        let is_long = bytes.len() > LAYOUT.longest_frame() as usize;
        let mut frame = if is_long { pool.get_large() } else { pool.get() }?;
        let place = umem.lay_out(&mut frame, bytes.len()).expect("the longest packet fits a large buffer");
        place.copy_from_slice(bytes);
        let stamp = Stamp { trial, number: number as u32, departure };
        template.write(place, self.stream.flow(number), stamp);
        Some(frame)
    }

    /// Hands the burst to the kernel, and takes back what has left.
    fn push(&mut self) {
        let Device { umem, pool, port, .. } = &mut self.device;
        port.tx(umem, &mut self.burst);
        port.reclaim(umem, pool);
        if let Some(sink) = &self.beside {
            sink.receive();
        }
    }

    fn is_idle(&self) -> bool {
        self.burst.is_empty() && self.device.port.census().tx == 0
    }
}

impl load::Source for Source {
    fn send(&mut self, offered: &Offered, trial: u8) -> Result<Sent> {
        std::thread::scope(|scope| {
            // Pinned is a thread for good: not the caller's.
            let sending = scope.spawn(|| {
                core_affinity::set_for_current(CoreId { id: self.core });
                self.send_here(offered, trial)
            });
            sending.join().map_err(|_| anyhow::anyhow!("the AF_XDP source has panicked"))?
        })
    }
}

impl Source {
    fn send_here(&mut self, offered: &Offered, trial: u8) -> Result<Sent> {
        let start = Instant::now();
        let mut pace = Pace::new(offered);
        let (mut packets, mut time) = (0, Duration::ZERO);
        let mut moved = start;
        loop {
            let now = start.elapsed();
            let departure = load::now();
            pace.catch_up(now);
            while self.burst.room() > 0 && pace.is_due(now, packets) {
                let Some(frame) = self.packet(packets, trial, departure) else { break };
                self.burst.push(frame);
                (packets, time) = (packets + 1, now);
                pace.next();
            }
            let before = self.burst.len();
            self.push();
            if self.burst.len() < before || self.is_idle() {
                moved = Instant::now();
            }
            if pace.is_over(now, packets) && self.is_idle() {
                break;
            }
            ensure!(moved.elapsed() < STANDSTILL, "the source's device takes no more packets: is it down?");
        }
        // In a trial the sink is asked what has arrived, which has it look; here it has to answer first.
        if let Some(sink) = self.beside.as_ref().filter(|_| trial == stamp::PRIME) {
            sink.receive_until_silent();
        }
        Ok(Sent { packets, time })
    }
}

/// When packets are due, as time from the first.
#[derive(Debug)]
struct Pace {
    /// Nanoseconds between packets.
    interval: f64,
    /// When the next is due.
    due: f64,
    time: Duration,
    packets: u64,
}

impl Pace {
    fn new(offered: &Offered) -> Self {
        let interval = match offered.rate {
            Rate::Pps(rate) => 1e9 / rate,
            Rate::Full => 0.0,
        };
        let packets = offered.packets.unwrap_or(u64::MAX);
        Self { interval, due: 0.0, time: offered.time, packets }
    }

    fn catch_up(&mut self, now: Duration) {
        let earliest = now.saturating_sub(PATIENCE);
        self.due = self.due.max(earliest.as_nanos() as f64);
    }

    fn is_due(&self, now: Duration, sent: u64) -> bool {
        !self.is_over(now, sent) && self.due <= now.as_nanos() as f64
    }

    fn next(&mut self) {
        self.due += self.interval;
    }

    fn is_over(&self, now: Duration, sent: u64) -> bool {
        now >= self.time || sent >= self.packets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets that leave where one looks at these microseconds.
    fn sent(offered: &Offered, looks: impl IntoIterator<Item = u64>) -> u64 {
        let (mut pace, mut sent) = (Pace::new(offered), 0);
        for now in looks.into_iter().map(Duration::from_micros) {
            pace.catch_up(now);
            // As many as a burst holds.
            for _ in 0..64 {
                if pace.is_due(now, sent) {
                    sent += 1;
                    pace.next();
                }
            }
        }
        sent
    }

    #[test]
    fn packets_leave_evenly_and_what_is_late_is_not_made_up_for() {
        let (time, packets) = (Duration::from_millis(10), None);
        let offered = Offered { rate: Rate::Pps(100_000.0), time, packets };
        assert_eq!(sent(&offered, 0..20_000), 1000);
        assert_eq!(sent(&offered, (0..20_000).step_by(50)), 996, "those due since the last look");
        assert_eq!(sent(&offered, [0, 5000]), 12, "100 us of what was due in between");
        assert_eq!(sent(&Offered { packets: Some(7), ..offered }, 0..20_000), 7);
        assert_eq!(sent(&Offered { rate: Rate::Full, ..offered }, [0, 1, 2]), 192);
    }
}
