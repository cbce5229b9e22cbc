//! The source of BPF: the kernel runs a program over and over that writes the next packet when it is due and sends it. The
//! fastest source that a veth has without a kernel module.
//!
//! The kernel runs the program 64 times in a row and sends what comes of it then, or when that is 16 packets. Of a paced trial
//! packets are only made in the last 16 runs, so that they leave within 2 us of the time in their stamp. The device's other end receives nothing of it unless it has NAPI: an XDP program, or GRO.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::frames::{Stream, Template};
use super::object::{Aligned, Object};
use super::runner::{LONGEST_FRAME, Runner};
use super::{Sent, Source, stamp};
use crate::lab::case::Job;
use crate::lab::site::End;
use crate::lab::trial::{Offered, Rate};
use crate::lab::world;

static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/source.bpf.o")));
const PROGRAM: &str = "margay_source";

/// As in `bpf/source.bpf.c`.
const MOST_SIZES: usize = 16;
const LONGEST_PATTERN: usize = super::frames::LONGEST_PATTERN;
const HEADER_BYTES: usize = 96;
const FRACTION: u32 = 1024;

/// What is later than this is not caught up with: a burst that nobody has asked for would be lost. Between two system calls
/// the program does not run for some 300 us.
const PATIENCE: Duration = Duration::from_micros(500);

/// Sends by BPF.
#[derive(Debug)]
pub struct Live {
    runner: Runner,
}

impl Live {
    /// Whether the stream's packets are short enough: a live frame is a page, with room before and behind it.
    pub fn sends(stream: &Stream) -> Result<bool> {
        Ok(longest(&stream.templates()?) <= LONGEST_FRAME)
    }

    /// What sends the stream's packets from the device, on this core.
    pub fn open(end: &End, stream: &Stream, core: usize) -> Result<Self> {
        let templates = stream.templates()?;
        let longest = longest(&templates);
        ensure!(
            longest <= LONGEST_FRAME,
            "frames of {longest} bytes: the source of BPF sends up to {LONGEST_FRAME}, that of AF_XDP longer ones"
        );
        ensure!(templates.len() <= MOST_SIZES, "{} sizes: at most {MOST_SIZES}", templates.len());
        let object = Object::load(&OBJECT.0, Some(&constants(stream, &templates, longest)?))?;
        Ok(Self { runner: Runner::open(object, PROGRAM, end, longest, core)? })
    }
}

impl Source for Live {
    fn send(&mut self, offered: &Offered, trial: u8) -> Result<Sent> {
        let progress = self.runner.run(&order(offered, trial))?;
        let word = |index: usize| {
            let bytes = progress.get(index * 8..)?.first_chunk()?;
            Some(u64::from_ne_bytes(*bytes))
        };
        let [began, last, packets] = [1, 2, 4].map(word);
        let time = last.unwrap_or_default().saturating_sub(began.unwrap_or_default());
        Ok(Sent { packets: packets.context("no count of packets")?, time: Duration::from_nanos(time) })
    }
}

fn longest(templates: &[Template]) -> usize {
    templates.iter().map(|template| template.bytes().len()).max().unwrap_or_default()
}

/// `struct stream` of the program.
fn constants(stream: &Stream, templates: &[Template], longest: usize) -> Result<Vec<u8>> {
    let first = templates.first().context("no sizes")?;
    let mut pattern = stream.pattern()?;
    let turns = pattern.len() as u32;
    pattern.resize(LONGEST_PATTERN, 0);
    let flow = world::flow(stream.job, 0);
    let far_sends = stream.job.way() == Job::VxlanDecap;
    let far = if far_sends { flow.source } else { flow.destination };
    let words = [
        stream.flows,
        stream.life,
        world::MOST_FLOWS,
        u32::from(flow.source_port),
        far.to_bits() & 0xffff,
        world::REMOTE_BITS,
        first.inner_offset() as u32,
        u32::from(far_sends),
        templates.len() as u32,
        turns,
        longest as u32,
        stream.first,
    ];
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    bytes.append(&mut pattern);
    for template in templates {
        let mut header = template.bytes()[..template.stamp_offset()].to_vec();
        header.resize(HEADER_BYTES, 0);
        bytes.append(&mut header);
        bytes.extend((template.bytes().len() as u32).to_ne_bytes());
        bytes.extend(template.partial_sum().to_ne_bytes());
    }
    bytes.resize(bytes.len() + (MOST_SIZES - templates.len()) * (HEADER_BYTES + 8), 0);
    Ok(bytes)
}

/// What the program is told of a trial.
fn order(offered: &Offered, trial: u8) -> Vec<u8> {
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let interval = match offered.rate {
        Rate::Full => 0,
        // A rate too low for any packet but the first has an interval that never ends.
        Rate::Pps(rate) => {
            nanoseconds(Duration::try_from_secs_f64(f64::from(FRACTION) / rate).unwrap_or(Duration::MAX))
        }
    };
    let packets = offered.packets.unwrap_or(u64::MAX);
    let words = [interval, nanoseconds(PATIENCE * FRACTION), packets, nanoseconds(offered.time)];
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    bytes.extend(stamp::mark(trial).to_ne_bytes());
    bytes.extend([0; 4]);
    bytes
}
