//! Ctrl-C and SIGTERM: the first one asks the run to end where it can, the second one ends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::Context;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

/// What a shell expects of a program that a signal has ended.
const ENDED: i32 = 130;

/// Whether the run is to end.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Listens to signals from here on.
    pub fn on_signals() -> anyhow::Result<Self> {
        let stop = Self::default();
        let asked = stop.clone();
        let runtime =
            Builder::new_current_thread().enable_io().build().context("cannot listen to signals")?;
        let (mut interrupt, mut terminate) = {
            let _inside = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    if asked.0.swap(true, Ordering::Relaxed) {
                        // Namespaces that are left are removed by the next lab.
                        std::process::exit(ENDED);
                    }
                    eprintln!("ending after this trial; once more to end at once");
                }
            });
        })?;
        Ok(stop)
    }

    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
