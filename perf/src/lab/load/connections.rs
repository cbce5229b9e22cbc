//! TCP connections a second: opened, used for a request and an answer, and closed by programs of BPF at both ends, always so
//! many at a time. Connection tracking sees whole connections with right sequence numbers and checksums; the ends
//! cost little, so that the gateway is what limits.
//!
//! The sink's end answers as it is asked: in VXLAN, in IP-in-IP or plainly.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etherparse::{PacketBuilder, TcpOptionElement};

use super::have_napi;
use super::object::{Aligned, Hook, Object};
use super::runner::Runner;
use crate::lab::case::Job;
use crate::lab::cpu::Cpu;
use crate::lab::dataplane::Cores;
use crate::lab::site::Site;
use crate::lab::trial::Connected;
use crate::lab::world::{self, Side};

static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/connect.bpf.o")));
const OPEN: &str = "margay_open";
const AT_SOURCE: &str = "margay_initiate";
const AT_SINK: &str = "margay_respond";

/// Connections at a time: enough that no core waits for the other one, few enough that no queue of a gateway overflows.
const SLOTS: u32 = 512;
/// One that takes longer has failed.
const PATIENCE: Duration = Duration::from_millis(100);
/// Of each connection that is completed.
const PACKETS: u64 = 6;

/// Of every packet, without FCS.
const FRAME: usize = 60;
const TTL: u8 = 64;
const WINDOW: u16 = u16::MAX;
/// MTU of pods' devices, without headers.
const SEGMENT: u16 = 1410;
const IP_CHECKSUM: usize = 14 + 10;
const TCP_CHECKSUM: usize = 14 + 20 + 16;

/// Connections through a site's gateway.
#[derive(Debug)]
pub struct Connections {
    runner: Runner,
    cores: Cores,
    /// How many there have been.
    opened: u64,
    _hooks: [Hook; 2],
}

/// What the program has counted.
struct Counts {
    began: u64,
    opened: u64,
    failed: u64,
    completed: u64,
    last: u64,
}

impl Connections {
    /// From the site's pod to the far ends beyond the gateway: connection `n` is of flow `n % flows`.
    pub fn open(site: &Site, flows: u32, cores: Cores) -> Result<Self> {
        ensure!(
            (1..=world::MOST_FLOWS).contains(&flows),
            "{flows} flows: 1 to {} will do",
            world::MOST_FLOWS
        );
        have_napi(site)?;
        let object = Object::load(&OBJECT.0, Some(&plan(flows)?))?;
        let hook = |program, side| {
            let end = site.end(side);
            object.attach_tc(program, &end.netns, end.device)
        };
        let hooks = [hook(AT_SOURCE, Side::Source)?, hook(AT_SINK, Side::Sink)?];
        let runner = Runner::open(object, OPEN, site.end(Side::Source), FRAME, cores.generator)?;
        Ok(Self { runner, cores, opened: 0, _hooks: hooks })
    }

    /// Opens and closes connections for so long.
    pub fn run(&mut self, time: Duration) -> Result<Connected> {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let order = [nanoseconds.to_ne_bytes(), self.opened.to_ne_bytes()].concat();
        let before = Cpu::now(self.cores.dataplane)?;
        let progress = self.runner.run(&order)?;
        let cpu = Cpu::now(self.cores.dataplane)?.since(before);
        let counts = Counts::read(&progress).context("no counts of connections")?;
        self.opened += counts.opened;
        // The last ones are completed a moment after no more are opened.
        let lasted = Duration::from_nanos(counts.last.saturating_sub(counts.began)).max(time);
        let (completed, failed) = (counts.completed, counts.failed);
        Ok(Connected { time: lasted, completed, failed, packets: completed * PACKETS, cpu })
    }
}

impl Counts {
    /// From the beginning of the program's progress.
    fn read(progress: &[u8]) -> Option<Self> {
        let word = |index: usize| Some(u64::from_ne_bytes(*progress.get(index * 8..)?.first_chunk()?));
        let [began, opened, failed, completed, last] = [word(1)?, word(2)?, word(3)?, word(4)?, word(5)?];
        Some(Self { began, opened, failed, completed, last })
    }
}

/// The SYN of flow 0 with sequence number 0.
fn syn() -> Result<Vec<u8>> {
    let flow = world::flow(Job::Cps, 0);
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(world::MAC[0], world::GATEWAY_MAC[0])
        .ipv4(flow.source.octets(), flow.destination.octets(), TTL)
        .tcp(flow.source_port, world::PORT, 0, WINDOW)
        .syn()
        .options(&[TcpOptionElement::MaximumSegmentSize(SEGMENT)])
        .context("a TCP option")?
        .write(&mut bytes, &[])
        .context("a SYN")?;
    bytes.resize(FRAME, 0);
    Ok(bytes)
}

/// `plan` of the program.
fn plan(flows: u32) -> Result<Vec<u8>> {
    let mut frame = syn()?;
    let flow = world::flow(Job::Cps, 0);
    let far = flow.destination.to_bits() & 0xffff;
    // One's complement: what is added for flow 0 is taken away.
    let sum = |at: usize, words: &[u32]| {
        let checksum = u32::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
        words.iter().fold(0xffff - checksum, |sum, word| sum + (0xffff - word))
    };
    let words = [
        flows,
        SLOTS,
        u32::from(flow.source_port),
        far,
        world::REMOTE_BITS,
        sum(IP_CHECKSUM, &[far]),
        sum(TCP_CHECKSUM, &[far, u32::from(flow.source_port)]),
        0,
    ];
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    bytes.extend(u64::try_from(PATIENCE.as_nanos())?.to_ne_bytes());
    bytes.append(&mut frame);
    bytes.extend([0; 4]);
    Ok(bytes)
}
