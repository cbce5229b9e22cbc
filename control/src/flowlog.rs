//! Flow logs: records of connections that begin, end and are denied, with the names of their ends and of the rules that
//! decided (docs/flow-logs.md).
//!
//! Workers and the flow table tell of connections by bounded queues. The control thread takes from these, gives names to
//! what it finds, and hands it on to a thread of its own kind, which adds it up and writes. Nobody waits for anybody: what
//! does not fit somewhere is counted there (`status.rs`).

mod aggregate;
pub mod flow;
mod ipfix;
pub mod names;
mod record;
mod rotate;
mod status;
mod writer;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use self::flow::Flow;
use self::status::{Counts, Sink};
pub use self::status::{Lost, Status};
use self::writer::Writer;
use crate::config;

/// What control has taken at once, of which so many may wait for the thread that writes.
const WAITING: usize = 16;
/// How long the last records may take when Margay ends.
const LAST: Duration = Duration::from_secs(2);
/// How often to look whether they are written.
const LOOK: Duration = Duration::from_millis(5);

/// The thread that writes, as the control thread has it.
#[derive(Debug)]
pub struct FlowLog {
    flows: SyncSender<Vec<Flow>>,
    counts: Arc<Counts>,
    sinks: Vec<Sink>,
    thread: JoinHandle<()>,
}

impl FlowLog {
    /// Starts the thread, where records are to go anywhere. `gateway`: the name of our node.
    pub fn start(config: &config::FlowLog, gateway: &str) -> io::Result<Option<Self>> {
        if !config.is_wanted() {
            return Ok(None);
        }
        let (flows, told) = sync_channel(WAITING);
        let counts = Arc::new(Counts::default());
        let writer = Writer::new(config, gateway.to_owned(), Arc::clone(&counts));
        let thread = std::thread::Builder::new().name("margay-flow-log".to_owned());
        let thread = thread.spawn(move || writer.run(&told))?;
        let is_given = |sink: &Sink| match sink {
            Sink::File => config.file.is_some(),
            Sink::Stdout => config.stdout,
            Sink::Ipfix => config.ipfix.is_some(),
        };
        let sinks = Sink::ALL.into_iter().filter(is_given).collect();
        Ok(Some(Self { flows, counts, sinks, thread }))
    }

    /// Has the thread write of these, or counts them where it has not come to those before.
    pub fn tell(&self, flows: Vec<Flow>) {
        let count: u64 = flows.iter().map(|flow| flow.sum.flows).sum();
        if !flows.is_empty() && self.flows.try_send(flows).is_err() {
            self.counts.queue.fetch_add(count, Relaxed);
        }
    }

    /// What has become of records. `workers` and `flow_table`: flows that these had no room to tell of.
    pub fn status(&self, workers: u64, flow_table: u64) -> Status {
        self.counts.status(&self.sinks, workers, flow_table)
    }

    /// Has the last records written, if that takes no longer than a moment.
    pub async fn close(self) {
        drop(self.flows);
        let ended = async {
            while !self.thread.is_finished() {
                sleep(LOOK).await;
            }
        };
        if timeout(LAST, ended).await.is_err() {
            tracing::warn!("the last flow records could not be written in time");
        }
    }
}

#[cfg(test)]
mod tests;
