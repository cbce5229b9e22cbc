//! The thread that reads taps: one for each capture or trace. Where nobody reads what it makes it stops reading in turn, so
//! that workers' rings fill and what they miss is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use margay_fastpath::tap::{Fate, TapReader};
use margay_flowtable::FlowTable;
use tokio::sync::mpsc::{Sender, error::TrySendError};

use super::packets::Packets;
use super::{Asked, CaptureRequest, Counted, Known, Names, Packet};

/// How long to wait where there is nothing to read, or nobody reads.
const PAUSE: Duration = Duration::from_millis(2);
/// Taps that workers have been given.
#[derive(Debug)]
pub(crate) struct Open {
    /// Set by whoever wants the end.
    pub(crate) is_stopped: Arc<AtomicBool>,
    pub(crate) table: Arc<FlowTable>,
}

/// What is made of packets.
pub(crate) trait Show: Send + 'static {
    /// Packets that are named and shown together at most.
    const BATCH: usize = 128;
    /// Whether policy is asked to explain itself about each packet.
    const IS_EXPLAINED: bool = false;

    /// What comes before all packets.
    fn begin(&mut self, wanted: &CaptureRequest) -> Vec<u8>;

    fn show(&mut self, packet: &Packet, names: &Names, to: &mut Vec<u8>);

    /// What comes behind all of them.
    fn end(&mut self, shown: u64, counted: &Counted) -> Vec<u8>;
}

/// Who reads taps until something ends that.
pub(crate) struct Session<S, A> {
    wanted: CaptureRequest,
    packets: Vec<Packets>,
    names: Names,
    show: S,
    ask: A,
    output: Sender<Bytes>,
    is_stopped: Arc<AtomicBool>,
    begun: Instant,
    shown: u64,
    bytes: u64,
}

/// Why a session ends.
struct Over;

impl<S: Show, A: FnMut(Asked) -> Option<Known> + Send + 'static> Session<S, A> {
    /// Of the workers in their order. `ask` asks the control loop, and says nothing where that has ended.
    pub(crate) fn new(
        wanted: CaptureRequest,
        readers: Vec<TapReader>,
        open: Open,
        show: S,
        ask: A,
        output: Sender<Bytes>,
    ) -> Self {
        let packets = readers.into_iter().enumerate();
        let packets = packets.map(|(worker, reader)| Packets::new(worker, reader)).collect();
        let names = Names::new(open.table);
        let (is_stopped, begun) = (open.is_stopped, Instant::now());
        Self { wanted, packets, names, show, ask, output, is_stopped, begun, shown: 0, bytes: 0 }
    }

    /// Reads on a thread of its own, which calls `done` at its end.
    pub(crate) fn start(mut self, done: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let run = move || {
            // However it ends.
            let _ = self.run();
            done();
        };
        thread::Builder::new().name("margay-tap".to_owned()).spawn(run).map(drop)
    }

    fn run(&mut self) -> Result<(), Over> {
        let head = self.show.begin(&self.wanted);
        self.put(head)?;
        while !self.is_over() {
            let batch: Vec<Packet> = self
                .packets
                .iter_mut()
                .flat_map(|packets| std::iter::from_fn(|| packets.next()).take(S::BATCH))
                .collect();
            if batch.is_empty() {
                if self.packets.iter().all(|packets| packets.reader().has_ended()) {
                    break;
                }
                thread::sleep(PAUSE);
            }
            self.show_all(batch)?;
        }
        let rest = self.packets.iter_mut().flat_map(Packets::rest).collect();
        self.show_all(rest)?;
        let tail = self.show.end(self.shown, &self.counted());
        self.put(tail)
    }

    fn show_all(&mut self, mut packets: Vec<Packet>) -> Result<(), Over> {
        if self.wanted.dropped {
            packets.retain(|packet| matches!(packet.end.map(|end| end.fate), Some(Fate::Dropped(_))));
        }
        if packets.is_empty() {
            return Ok(());
        }
        if let Some(asked) = self.names.lacking(&packets, S::IS_EXPLAINED) {
            let known = (self.ask)(asked).ok_or(Over)?;
            self.names.learn(known, &mut packets);
        }
        let mut shown = Vec::new();
        for packet in &packets {
            if self.has_enough() {
                break;
            }
            let before = shown.len();
            self.show.show(packet, &self.names, &mut shown);
            self.shown += 1;
            self.bytes += (shown.len() - before) as u64;
        }
        self.put(shown)
    }

    fn has_enough(&self) -> bool {
        let is_past = |limit, value| limit > 0 && value >= limit;
        is_past(self.wanted.count, self.shown) || is_past(self.wanted.bytes, self.bytes)
    }

    fn is_over(&self) -> bool {
        self.has_enough()
            || self.output.is_closed()
            || self.is_stopped.load(Relaxed)
            || self.wanted.lasts().is_some_and(|lasts| self.begun.elapsed() >= lasts)
    }

    /// Hands it on, as soon as it is read.
    fn put(&self, bytes: Vec<u8>) -> Result<(), Over> {
        let mut bytes = Bytes::from(bytes);
        while !bytes.is_empty() {
            match self.output.try_send(bytes) {
                Ok(()) => break,
                Err(TrySendError::Closed(_)) => return Err(Over),
                Err(TrySendError::Full(back)) => bytes = back,
            }
            if self.wanted.lasts().is_some_and(|lasts| self.begun.elapsed() >= lasts + GRACE) {
                return Err(Over);
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn counted(&self) -> Counted {
        self.packets.iter().fold(Counted::default(), |sum, packets| {
            let counts = packets.reader().counts();
            Counted {
                matched: sum.matched + counts.matched.get(),
                missed: sum.missed + counts.missed.get(),
                missed_leaving: sum.missed_leaving + counts.missed_leaving.get(),
            }
        })
    }
}

/// How long past its time a session tries to hand on what it has.
const GRACE: Duration = Duration::from_secs(2);
