//! The running gateway: the control thread that keeps what workers read in step with the source and the kernel.
//!
//! The compiler follows the source at once; then ports are opened and closed and a snapshot is published, a few
//! milliseconds after the last one at the earliest, with all that came meanwhile. Nothing is published before the source
//! and the kernel have delivered a whole first state. No packet comes this way: those are the workers', on threads of
//! their own.

mod asked;
mod dataplane;
mod ending;
mod error;
mod flow_log;
mod flows;
mod host;
mod metrics;
mod neighbours;
mod notify;
mod policies;
mod ports;
mod problems;
mod reload;
mod report;
mod signals;
mod status;
mod steered;
mod step;
mod taps;
mod troubles;
mod wanted;
mod watchdog;
mod workers;

use std::ops::ControlFlow;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until, timeout};

use crate::admin;
use crate::metrics::{Request, Server};
use crate::privileges::Privileges;
use crate::source::{Source, SourceEvent};

pub(crate) use self::dataplane::Dataplane;
use self::signals::{Signals, Told};

pub use self::ending::Ending;
pub use self::error::Error;
pub use self::reload::Settings;
pub(crate) use self::taps::NoTap;
pub use self::wanted::device_name;

/// Snapshots follow each other no faster. A change that comes after a pause is published at once, the changes that come
/// right after it together.
pub const COALESCE: Duration = Duration::from_millis(5);
/// How often to look whether workers have caught up, while something waits for that.
const SETTLE: Duration = Duration::from_millis(5);
/// How often to see which neighbours packets have waited for.
const ASK: Duration = Duration::from_millis(100);
/// How often to look after the workers, and to try again what failed.
const CHECK: Duration = Duration::from_secs(1);
/// How long it may take to tell how a worker panicked.
const TELLING: Duration = Duration::from_secs(2);
/// How long what is known of flows may take to be written then: less than the watchdog waits.
const FLUSHING: Duration = Duration::from_millis(300);

/// Runs node `node` until SIGTERM or SIGINT. Takes ports down as they are configured to fail.
///
/// SIGHUP has the configuration read again.
pub async fn run(settings: Settings, node: String, source: Box<dyn Source>) -> Result<(), Error> {
    let signals = Signals::listen()?;
    let (_server, questions) = admin::Server::listen(&settings.loaded.config.admin)?;
    let (_metrics, scrapes) = Server::start(settings.loaded.config.metrics.listen);
    let mut plane = Dataplane::start(settings, node, source.name()).await?;
    let events = listen(source, plane.privileges.clone())?;
    if let Err(error) = turn(&mut plane, signals, events, questions, scrapes).await {
        if error.ending() == Ending::Panicked {
            // It tells how before it says that it is so.
            let _ = timeout(TELLING, plane.watchdog.verdict()).await;
        }
        // Nobody waits long for a gateway that cannot go on.
        let _ = timeout(FLUSHING, plane.close_logs()).await;
        return Err(error);
    }
    tracing::info!("stopping");
    Box::pin(plane.stop()).await;
    Ok(())
}

/// The control loop, until it is told to end.
async fn turn(
    plane: &mut Dataplane,
    mut signals: Signals,
    mut events: mpsc::Receiver<SourceEvent>,
    mut questions: mpsc::Receiver<admin::Question>,
    mut scrapes: mpsc::Receiver<Request>,
) -> Result<(), Error> {
    let mut due = None;
    let (mut settle, mut ask, mut check) = (every(SETTLE), every(ASK), every(CHECK));
    loop {
        let next = plane.published.map(|published| published + COALESCE);
        let soon = || next.unwrap_or_else(Instant::now).max(Instant::now());
        tokio::select! {
            told = signals.next() => match told {
                Told::End => return Ok(()),
                Told::Reload => {
                    // Whatever came of it, the log says it.
                    let _ = plane.reload();
                    due.get_or_insert_with(soon);
                }
            },
            event = events.recv() => {
                plane.take(event.ok_or(Error::SourceEnded)?);
                due.get_or_insert_with(soon);
            }
            changed = plane.kernel.changed() => {
                changed?;
                due.get_or_insert_with(soon);
            }
            Some(question) = questions.recv() => {
                question(plane);
                if plane.reloading.is_due {
                    due.get_or_insert_with(soon);
                }
            }
            Some(request) = scrapes.recv() => plane.measure(request),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                plane.step().await?;
                due = (plane.ports.are_waiting() || plane.host.is_waiting()).then(Instant::now);
            }
            _ = settle.tick(), if plane.is_settling() => {
                if plane.settle() {
                    due.get_or_insert_with(soon);
                }
            }
            _ = ask.tick() => {
                plane.ask_for_neighbours();
                plane.collect_drops();
                plane.tell_flows();
            }
            ending = plane.watchdog.verdict() => return Err(Error::Ended(ending)),
            _ = check.tick() => {
                plane.workers.check()?;
                plane.end_start()?;
                plane.report();
                plane.notify();
                if plane.ports.are_due() || plane.host.is_due() {
                    due.get_or_insert_with(soon);
                }
            }
        }
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Runs the source on a thread of its own, which ends with the process.
fn listen(source: Box<dyn Source>, privileges: Privileges) -> Result<mpsc::Receiver<SourceEvent>, Error> {
    let (sender, events) = mpsc::channel(1);
    let mut deliver = move |event| match sender.blocking_send(event) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    };
    let thread = std::thread::Builder::new().name("margay-source".to_owned());
    let run = move || {
        give_up_all(&privileges);
        source.run(&mut deliver);
    };
    thread.spawn(run).map_err(Error::SourceThread)?;
    Ok(events)
}

/// On a thread that needs no capability. Where it keeps some it still does its work.
fn give_up_all(privileges: &Privileges) {
    if let Err(error) = privileges.none() {
        tracing::warn!("{error}");
    }
}
