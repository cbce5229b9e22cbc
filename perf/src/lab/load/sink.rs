//! The sink of BPF: counts a trial's packets where they arrive, at the device of the site's sink, and drops them there.

use anyhow::{Context, Result};
use clap::ValueEnum;
use libbpf_rs::{Link, MapCore, MapFlags};

use super::histogram::{self, BUCKETS};
use super::object::{Aligned, Hook, ONLY, Object};
use super::{Arrivals, Sink, stamp};
use crate::lab::site::{End, Site};
use crate::lab::world::Side;

static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/sink.bpf.o")));
const AT_SINK: &str = "margay_sink";
const AT_SINK_XDP: &str = "margay_sink_xdp";
const AT_SOURCE: &str = "margay_returned";
const ARRIVED: &str = "arrived";
const EXPECTED: &str = ".data.expected";
const SEEN: &str = ".bss";

/// As in `bpf/sink.bpf.c`.
const COUNTS: usize = 4;

/// Where the sink looks at packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Place {
    /// Where traffic control is asked: what a pod's end does with any packet comes before it.
    Tc,
    /// In the device's driver: a veth copies each packet for it.
    Xdp,
}

/// The programs that count, and what they have counted.
#[derive(Debug)]
struct Counting {
    object: Object,
    /// As long as the map of packets that were seen.
    none: Vec<u8>,
}

/// What one end has counted.
struct Counts {
    packets: u64,
    duplicates: u64,
    reordered: u64,
    latencies: Vec<u64>,
}

impl Counting {
    fn load() -> Result<Self> {
        let object = Object::load(&OBJECT.0, None)?;
        let none = vec![0; object.read(SEEN)?.len()];
        Ok(Self { object, none })
    }

    /// Forgets what it has counted, and counts packets of this trial.
    fn reset(&self, trial: u8) -> Result<()> {
        let none = vec![vec![0; (COUNTS + BUCKETS) * size_of::<u64>()]; libbpf_rs::num_possible_cpus()?];
        let map = self.object.map(ARRIVED)?;
        map.update_percpu(&ONLY, &none, MapFlags::ANY).context("cannot reset what has arrived")?;
        self.object.write(SEEN, &self.none)?;
        self.object.write(EXPECTED, &[stamp::mark(trial).to_ne_bytes(), [0; 4]].concat())
    }

    /// What all cores have counted.
    fn counts(&self) -> Result<Counts> {
        let cores = self.object.map(ARRIVED)?.lookup_percpu(&ONLY, MapFlags::ANY);
        let mut sum = vec![0; COUNTS + BUCKETS];
        for core in cores.context("cannot read what has arrived")?.context("there is one entry")? {
            for (sum, bytes) in sum.iter_mut().zip(core.as_chunks().0) {
                *sum += u64::from_ne_bytes(*bytes);
            }
        }
        let latencies = sum.split_off(COUNTS);
        Ok(Counts { packets: sum[0], duplicates: sum[1], reordered: sum[2], latencies })
    }
}

/// Counts at the sink what arrives.
#[derive(Debug)]
pub struct Counter {
    counting: Counting,
    _hook: Option<Hook>,
    _link: Option<Link>,
}

impl Counter {
    pub fn open(site: &Site, place: Place) -> Result<Self> {
        let counting = Counting::load()?;
        let End { netns, device, .. } = site.end(Side::Sink);
        let (hook, link) = match place {
            Place::Tc => (Some(counting.object.attach_tc(AT_SINK, netns, device)?), None),
            Place::Xdp => (None, Some(counting.object.attach_xdp(AT_SINK_XDP, netns, device)?)),
        };
        Ok(Self { counting, _hook: hook, _link: link })
    }
}

impl Sink for Counter {
    fn expect(&mut self, trial: u8) -> Result<()> {
        self.counting.reset(trial)
    }

    fn arrived(&self) -> Result<u64> {
        Ok(self.counting.counts()?.packets)
    }

    fn arrivals(&self) -> Result<Arrivals> {
        let Counts { packets, duplicates, reordered, latencies } = self.counting.counts()?;
        let mut latency = histogram::latencies();
        histogram::add(&mut latency, latencies.into_iter())?;
        Ok(Arrivals { received: packets.saturating_sub(duplicates), duplicates, reordered, latency })
    }
}

/// Counts at the source what the sink has sent back.
#[derive(Debug)]
pub(super) struct Returned {
    counting: Counting,
    _hook: Hook,
}

impl Returned {
    pub(super) fn open(site: &Site) -> Result<Self> {
        let counting = Counting::load()?;
        let End { netns, device, .. } = site.end(Side::Source);
        let hook = counting.object.attach_tc(AT_SOURCE, netns, device)?;
        Ok(Self { counting, _hook: hook })
    }

    pub(super) fn reset(&self) -> Result<()> {
        self.counting.reset(stamp::PRIME)
    }

    pub(super) fn packets(&self) -> Result<u64> {
        Ok(self.counting.counts()?.packets)
    }

    pub(super) fn different(&self) -> Result<u64> {
        let Counts { packets, duplicates, .. } = self.counting.counts()?;
        Ok(packets.saturating_sub(duplicates))
    }
}
