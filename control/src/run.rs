//! The running gateway: the control thread that keeps what workers read in step with the source and the kernel.
//!
//! The compiler follows the source at once; then ports are opened and closed and a snapshot is published, a few
//! milliseconds after the last one at the earliest, with all that came meanwhile. Nothing is published before the source
//! and the kernel have delivered a whole first state. No packet comes this way: those are the workers', on threads of
//! their own.

mod asked;
mod dataplane;
mod error;
mod flow_log;
mod flows;
mod host;
mod metrics;
mod neighbours;
mod policies;
mod ports;
mod problems;
mod report;
mod status;
mod steered;
mod step;
mod taps;
mod troubles;
mod wanted;
mod workers;

use std::ops::ControlFlow;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::admin;
use crate::config::Config;
use crate::metrics::Server;
use crate::source::{Source, SourceEvent};

pub(crate) use self::dataplane::Dataplane;
pub use self::error::Error;
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

/// Runs node `node` until SIGTERM or SIGINT. Takes ports down as they are configured to fail.
pub async fn run(config: Config, node: String, source: Box<dyn Source>) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let (_server, mut questions) = admin::Server::listen(&config.admin.socket)?;
    let (_metrics, mut scrapes) = Server::start(config.metrics.listen);
    let mut plane = Dataplane::start(config, node, source.name()).await?;
    let mut events = listen(source)?;
    let mut due = None;
    let mut settle = interval(SETTLE);
    settle.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ask = interval(ASK);
    ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut check = interval(CHECK);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let next = plane.published.map(|published| published + COALESCE);
        let soon = || next.unwrap_or_else(Instant::now).max(Instant::now());
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            event = events.recv() => {
                plane.take(event.ok_or(Error::SourceEnded)?);
                due.get_or_insert_with(soon);
            }
            changed = plane.kernel.changed() => {
                changed?;
                due.get_or_insert_with(soon);
            }
            Some(question) = questions.recv() => question(&mut plane),
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
            _ = check.tick() => {
                plane.workers.check()?;
                plane.report();
                if plane.ports.are_due() || plane.host.is_due() {
                    due.get_or_insert_with(soon);
                }
            }
        }
    }
    tracing::info!("stopping");
    plane.stop().await;
    Ok(())
}

/// Runs the source on a thread of its own, which ends with the process.
fn listen(source: Box<dyn Source>) -> Result<mpsc::Receiver<SourceEvent>, Error> {
    let (sender, events) = mpsc::channel(1);
    let mut deliver = move |event| match sender.blocking_send(event) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    };
    let thread = std::thread::Builder::new().name("margay-source".to_owned());
    thread.spawn(move || source.run(&mut deliver)).map_err(Error::SourceThread)?;
    Ok(events)
}
