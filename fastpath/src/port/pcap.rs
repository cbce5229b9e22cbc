//! A port between captures: records of one capture are received, what is sent is written to another.
//!
//! Capture files are read and opened by the caller; the port sees records and a writer.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::Duration;

use margay_flowtable::PortId;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::{DataLink, Endianness};

use crate::frame::{Burst, Frame};
use crate::port::{Census, Port};
use crate::umem::{FramePool, Umem};

/// Bytes of a record at most: the longest IPv4 packet and its Ethernet header.
const SNAP_LEN: u32 = 65_549;

pub struct PcapPort<W: Write> {
    id: PortId,
    input: VecDeque<Frame>,
    sent: Vec<Frame>,
    output: PcapWriter<W>,
    now: Duration,
    failure: Option<io::Error>,
}

impl<W: Write> std::fmt::Debug for PcapPort<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PcapPort").field("id", &self.id).field("input", &self.input).finish_non_exhaustive()
    }
}

impl<W: Write> PcapPort<W> {
    /// A port that writes an Ethernet capture to `output`.
    pub fn new(id: PortId, output: W) -> io::Result<Self> {
        let header = PcapHeader {
            snaplen: SNAP_LEN,
            datalink: DataLink::ETHERNET,
            endianness: Endianness::native(),
            ..PcapHeader::default()
        };
        let output = PcapWriter::with_header(output, header).map_err(io::Error::other)?;
        Ok(Self { id, input: VecDeque::new(), sent: Vec::new(), output, now: Duration::ZERO, failure: None })
    }

    /// Queues a frame for `rx`. `now` stamps what is sent from here on.
    pub fn inject(&mut self, mut frame: Frame, now: Duration) {
        frame.port = self.id;
        self.now = now;
        self.input.push_back(frame);
    }

    /// Stamps what is sent from here on.
    pub fn set_time(&mut self, now: Duration) {
        self.now = now;
    }

    /// The first error of writing, if there was one, or the writer.
    pub fn finish(self) -> io::Result<W> {
        match self.failure {
            Some(error) => Err(error),
            None => Ok(self.output.into_writer()),
        }
    }
}

impl<W: Write + Send> Port for PcapPort<W> {
    fn id(&self) -> PortId {
        self.id
    }

    fn rx(&mut self, _umem: &Umem, burst: &mut Burst, _pool: &mut FramePool) {
        let count = burst.room().min(self.input.len());
        for frame in self.input.drain(..count) {
            burst.push(frame);
        }
    }

    fn tx(&mut self, umem: &Umem, burst: &mut Burst) {
        for frame in burst.drain_front(burst.len()) {
            let record = PcapPacket::new(self.now, frame.len() as u32, umem.bytes(&frame));
            if let Err(error) = self.output.write_packet(&record) {
                self.failure.get_or_insert(io::Error::other(error));
            }
            self.sent.push(frame);
        }
    }

    fn reclaim(&mut self, _umem: &Umem, pool: &mut FramePool) {
        pool.extend(self.sent.drain(..));
    }

    fn census(&self) -> Census {
        Census { rx: self.input.len(), completion: self.sent.len(), ..Census::default() }
    }

    fn drain(&mut self, umem: &Umem, pool: &mut FramePool) -> usize {
        pool.extend(self.input.drain(..));
        self.reclaim(umem, pool);
        0
    }
}
