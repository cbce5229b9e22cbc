//! What the API server is told of this gateway: Events on objects that are not in force as written, and annotations of
//! our Node.
//!
//! The control thread says how things are, and goes on. A thread of its own writes what of that is new, so many requests
//! a minute at most; what it has not come to when the state changes again is left out. A write that fails is a trouble
//! in our status, and is tried again.

mod calico;
mod events;
mod node;
mod pace;
mod write;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use crate::config;
use crate::manifest::Problem;
use crate::source::Trouble;
use crate::source::kubernetes::Access;

pub use self::calico::Annotations;
pub use self::pace::Pace;

/// How long the last annotation may take when Margay ends.
const LAST: Duration = Duration::from_secs(2);

/// How things are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Packets are forwarded as the source says.
    pub ready: bool,
    /// Of the snapshot in force, and when it was published.
    pub snapshot: Option<(u32, Timestamp)>,
    /// What is not in force as written.
    pub problems: Arc<Vec<Problem>>,
    /// What our Node is to tell Calico's nodes.
    pub calico: Annotations,
}

/// The thread that writes, as the control thread has it.
#[derive(Debug)]
pub struct Reporter {
    reports: watch::Sender<Option<Report>>,
    troubles: watch::Receiver<Vec<Trouble>>,
    ended: oneshot::Receiver<()>,
}

impl Reporter {
    /// Starts the thread, for the Node of this name.
    pub fn start(access: Access, node: &str, config: &config::Report, pace: Pace) -> io::Result<Self> {
        Self::start_after(access, node, config, pace, || ())
    }

    /// The same, with `begin` done first on the thread.
    pub fn start_after(
        access: Access,
        node: &str,
        config: &config::Report,
        pace: Pace,
        begin: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let (reports, to_write) = watch::channel(None);
        let (trouble_sender, troubles) = watch::channel(Vec::new());
        let (end, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let writer = write::Writer::new(access, node, config, pace, trouble_sender);
        std::thread::Builder::new().name("margay-report".to_owned()).spawn(move || {
            begin();
            runtime.block_on(writer.run(to_write));
            // Nobody may wait for it.
            let _ = end.send(());
        })?;
        Ok(Self { reports, troubles, ended })
    }

    /// Says how things are now.
    pub fn tell(&self, report: Report) {
        self.reports.send_if_modified(|told| {
            let is_new = told.as_ref() != Some(&report);
            *told = Some(report);
            is_new
        });
    }

    /// What cannot be written at present.
    pub fn troubles(&self) -> Vec<Trouble> {
        self.troubles.borrow().clone()
    }

    /// Says that we are not ready any more, if the API server takes it soon.
    pub async fn close(self) {
        self.reports.send_modify(|report| {
            if let Some(report) = report {
                report.ready = false;
            }
        });
        drop(self.reports);
        // Late or never: the annotation says when it was written.
        let _ = timeout(LAST, self.ended).await;
    }
}
