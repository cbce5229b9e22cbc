//! The log on standard error, whose level may change while it is written.

use std::io::{self, IsTerminal};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt};

use crate::config::LogLevel;

/// What is logged, and how to change that.
#[derive(Debug)]
pub struct Log {
    /// `None` where `RUST_LOG` says it, which goes before the configuration.
    filter: Option<Handle<EnvFilter, Registry>>,
}

impl Log {
    /// Logs from this level on from now on.
    pub fn start(level: LogLevel) -> Self {
        let by_environment = EnvFilter::try_from_default_env().ok();
        let is_free = by_environment.is_none();
        let (filter, handle) = reload::Layer::new(by_environment.unwrap_or_else(|| filter(level)));
        let lines =
            fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal()).with_target(false);
        tracing_subscriber::registry().with(filter).with(lines).init();
        Self { filter: is_free.then_some(handle) }
    }

    /// False where `RUST_LOG` has the say.
    pub fn set(&self, level: LogLevel) -> bool {
        // It fails only where there is no log any more.
        self.filter.as_ref().is_some_and(|handle| handle.reload(filter(level)).is_ok())
    }
}

/// What the netlink crate warns of is either an error that we name, or an answer that nobody waits for any more; what kube
/// says of each try we say once.
fn filter(level: LogLevel) -> EnvFilter {
    let level = match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    EnvFilter::new(format!("{level},netlink_proto=error,kube_client=off"))
}
