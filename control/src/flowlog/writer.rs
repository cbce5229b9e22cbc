//! The thread that writes: it adds up what it is told, and each interval writes what came of it to every sink.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::aggregate::Aggregator;
use super::flow::Flow;
use super::ipfix::Exporter;
use super::record::Record;
use super::rotate::RotatedFile;
use super::status::{Counts, Sink};
use crate::clock;
use crate::config::FlowLog;

/// Lines that are written at once: what a file that is full loses together.
const TOGETHER: usize = 256;

#[derive(Debug)]
pub(super) struct Writer {
    gateway: String,
    interval: Duration,
    aggregator: Aggregator,
    file: Option<RotatedFile>,
    stdout: bool,
    /// `Err`: why it cannot be used.
    ipfix: Option<io::Result<Exporter>>,
    counts: Arc<Counts>,
}

impl Writer {
    pub(super) fn new(config: &FlowLog, gateway: String, counts: Arc<Counts>) -> Self {
        let file = config.file.clone().map(|path| RotatedFile::new(path, config.file_bytes, config.files));
        Self {
            gateway,
            interval: config.interval,
            aggregator: Aggregator::new(config),
            file,
            stdout: config.stdout,
            ipfix: config.ipfix.map(|collector| Exporter::new(collector, config.ipfix_mtu)),
            counts,
        }
    }

    /// Until whoever tells has gone; what is left is written then.
    pub(super) fn run(mut self, told: &Receiver<Vec<Flow>>) {
        let mut due = Instant::now() + self.interval;
        loop {
            match told.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(flows) => self.add(flows),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.write(),
            }
            if Instant::now() >= due {
                self.write();
                due = Instant::now() + self.interval;
            }
        }
    }

    fn add(&mut self, flows: Vec<Flow>) {
        for flow in flows {
            let flows = flow.sum.flows;
            if !self.aggregator.add(flow) {
                self.counts.interval.fetch_add(flows, Relaxed);
            }
        }
    }

    fn write(&mut self) {
        let flows = self.aggregator.take();
        if flows.is_empty() {
            return;
        }
        let now = clock::wall();
        self.counts.records.fetch_add(flows.len() as u64, Relaxed);
        for flows in flows.chunks(TOGETHER) {
            let mut lines = Vec::new();
            for flow in flows {
                Record::new(flow, &self.gateway, now).write(&mut lines);
            }
            let records = flows.len() as u64;
            if let Some(file) = &mut self.file {
                let written = file.append(&lines);
                self.counts.note(Sink::File, records, &written.map_err(|error| (records, error)));
            }
            if self.stdout {
                let written = print(&lines);
                self.counts.note(Sink::Stdout, records, &written.map_err(|error| (records, error)));
            }
        }
        let records = flows.len() as u64;
        let sent = match &mut self.ipfix {
            None => return,
            Some(Ok(exporter)) => exporter.send(&flows, now),
            Some(Err(error)) => Err((records, io::Error::new(error.kind(), error.to_string()))),
        };
        self.counts.note(Sink::Ipfix, records, &sent);
    }
}

fn print(lines: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(lines)?;
    stdout.flush()
}
