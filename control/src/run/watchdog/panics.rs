//! Panics, told in the log with their place and how they were come to. Of a worker the watchdog tells them: the worker itself
//! may neither read files, for the names of functions, nor write.

use std::backtrace::Backtrace;
use std::fmt;
use std::panic::{PanicHookInfo, set_hook};
use std::sync::mpsc::Sender;
use std::thread;

/// How the names of workers' threads begin.
const WORKER: &str = "margay-worker-";

#[derive(Debug)]
pub(super) struct Panic {
    thread: String,
    message: String,
    place: String,
    /// Names are looked up when this is written.
    backtrace: Backtrace,
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { thread, message, place, backtrace } = self;
        write!(f, "{thread} panicked at {place}: {message}\n{backtrace}")
    }
}

/// From now on a worker's panic goes to `workers`, that of another thread to the log at once.
pub(super) fn note_panics(workers: Sender<Panic>) {
    set_hook(Box::new(move |info| {
        let panic = seen(info);
        if !panic.thread.starts_with(WORKER) {
            tracing::error!("{panic}");
        } else if let Err(nobody) = workers.send(panic) {
            tracing::error!("{}", nobody.0);
        }
    }));
}

fn seen(info: &PanicHookInfo<'_>) -> Panic {
    let payload = info.payload();
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    Panic {
        thread: thread::current().name().unwrap_or("a thread without a name").to_owned(),
        message: message.unwrap_or("nothing that can be shown").to_owned(),
        place: info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string),
        backtrace: Backtrace::force_capture(),
    }
}
