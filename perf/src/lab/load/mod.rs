//! Load: packets that say which they are and when they left, and what counts them where they arrive.

pub mod af_xdp;
mod connections;
mod histogram;
mod live;
mod object;
mod runner;
mod sink;
mod tools;

pub mod frames;
pub mod stamp;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use margay_testbed::ip;
use nix::time::{ClockId, clock_gettime};

pub use connections::Connections;
pub use frames::Stream;
pub use histogram::latencies;
pub use live::Live;
use sink::Returned;
pub use sink::{Counter, Place};
pub use tools::{Receiver, Sender, Tools};

use super::cpu::Cpu;
use super::dataplane::Cores;
use super::site::Site;
use super::trial::{Measured, Offered, Rate};
use super::world::Side;

/// A trial is over when nothing has arrived for so long, or after the longer time.
const SILENCE: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Packets a second that begin flows, first and where some were not answered.
const PRIMING: [f64; 3] = [200_000.0, 100_000.0, 50_000.0];

/// What sends a trial's packets.
pub trait Source: Send {
    /// Sends what is offered, stamped with this trial and numbers from 0, and returns when all has left.
    fn send(&mut self, offered: &Offered, trial: u8) -> Result<Sent>;
}

/// What a source has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    pub packets: u64,
    /// From the first packet's departure to the last one's.
    pub time: Duration,
}

/// What receives a trial's packets.
pub trait Sink: Send {
    /// Forgets what has arrived, and counts packets of this trial.
    fn expect(&mut self, trial: u8) -> Result<()>;

    /// How many have arrived, duplicates included.
    fn arrived(&self) -> Result<u64>;

    fn arrivals(&self) -> Result<Arrivals>;
}

/// What has arrived of a trial's packets.
#[derive(Clone, Debug)]
pub struct Arrivals {
    /// Different packets.
    pub received: u64,
    pub duplicates: u64,
    pub reordered: u64,
    pub latency: Histogram<u64>,
}

/// A stream through a site's gateway.
pub struct Load {
    source: Box<dyn Source>,
    sink: Box<dyn Sink>,
    returned: Returned,
    cores: Cores,
    trial: u8,
    flows: u32,
}

impl std::fmt::Debug for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Load").field("cores", &self.cores).field("trial", &self.trial).finish_non_exhaustive()
    }
}

impl Load {
    pub fn open(site: &Site, stream: &Stream, cores: Cores, tools: Tools) -> Result<Self> {
        let (source, sink) = tools.open(site, stream, cores)?;
        Self::new(site, stream, cores, source, sink)
    }

    /// Any source and sink. The sink sends packets of the trial `stamp::PRIME` back.
    pub fn new(
        site: &Site,
        stream: &Stream,
        cores: Cores,
        source: Box<dyn Source>,
        sink: Box<dyn Sink>,
    ) -> Result<Self> {
        have_napi(site)?;
        let returned = Returned::open(site)?;
        Ok(Self { source, sink, returned, cores, trial: stamp::PRIME, flows: stream.flows })
    }

    /// Has a packet of each flow go to the sink and back, so that connection trackers have seen both directions of all, and
    /// returns how many came back. Slowly, and again where some were lost.
    pub fn prime(&mut self) -> Result<u32> {
        let (mut answered, flows) = (0, u64::from(self.flows));
        for rate in PRIMING {
            self.sink.expect(stamp::PRIME)?;
            self.returned.reset()?;
            let (packets, time) = (Some(flows), Duration::MAX);
            self.source.send(&Offered { rate: Rate::Pps(rate), time, packets }, stamp::PRIME)?;
            until_silent(|| self.returned.packets())?;
            answered = self.returned.different()?;
            if answered * 1000 >= flows * 999 {
                break;
            }
        }
        ensure!(answered > 0, "of {flows} packets through the gateway, not one came back");
        Ok(answered as u32)
    }

    /// Offers packets to the gateway, and counts what comes out of it.
    pub fn trial(&mut self, offered: &Offered) -> Result<Measured> {
        self.trial = if self.trial == u8::MAX { stamp::PRIME + 1 } else { self.trial + 1 };
        self.sink.expect(self.trial)?;
        let before = Cpu::now(self.cores.dataplane)?;
        let Sent { packets: sent, time } = self.source.send(offered, self.trial)?;
        let cpu = Cpu::now(self.cores.dataplane)?.since(before);
        until_silent(|| self.sink.arrived())?;
        let Arrivals { received, duplicates, reordered, latency } = self.sink.arrivals()?;
        Ok(Measured { time, sent, received, duplicates, reordered, latency, cpu })
    }
}

/// The clock of stamps, in nanoseconds: `CLOCK_MONOTONIC`, which BPF reads too.
fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every kernel has this clock");
    Duration::from(time).as_nanos() as u64
}

/// Waits until what is counted stays as it is.
fn until_silent(count: impl Fn() -> Result<u64>) -> Result<()> {
    let end = Instant::now() + LONGEST_WAIT;
    let (mut last, mut since) = (count()?, Instant::now());
    while since.elapsed() < SILENCE && Instant::now() < end {
        thread::sleep(SILENCE / 10);
        let now = count()?;
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    Ok(())
}

/// Live frames reach a veth only where it has NAPI. What has no XDP program has it by GRO, which forwarded UDP goes past.
fn have_napi(site: &Site) -> Result<()> {
    let device = &site.end(Side::Source).gateway_device;
    let output = ip::in_netns(&site.gateway, "ethtool")
        .args(["-K", device, "gro", "on"])
        .output()
        .context("cannot run ethtool: install the package ethtool")?;
    ensure!(
        output.status.success(),
        "cannot turn GRO on at {device}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// The first of some trials of which everything arrives: a machine that is busy with others loses some now and then.
#[cfg(test)]
pub(super) fn complete_trial(load: &mut Load, offered: &Offered) -> Measured {
    let mut arrived = Vec::new();
    for _ in 0..10 {
        let measured = load.trial(offered).expect("a trial");
        if measured.received == measured.sent {
            return measured;
        }
        arrived.push((measured.received, measured.sent));
    }
    panic!("arrived, of so many that were sent, in each attempt: {arrived:?}");
}
