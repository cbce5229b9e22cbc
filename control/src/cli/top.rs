//! `margay top`: a screen that shows what a running gateway is doing.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use margay_control::top;

use super::Socket;
use super::watch::interval;

/// Watch a running gateway: rates by port and worker, busy workers, drops, latencies, the busiest connections
///
/// Rates are those between two answers of the gateway. Needs a terminal; `margay status -o json`, the admin socket and
/// /metrics say the same to programs. Ends at q.
#[derive(Debug, clap::Args)]
pub(crate) struct Top {
    #[command(flatten)]
    socket: Socket,
    /// Seconds between two answers, 0.1 to 3600.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    every: Duration,
}

impl Top {
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            bail!(
                "margay top needs a terminal to draw on: use `margay status -o json`, or `margay ports --watch`"
            );
        }
        let socket = self.socket.path()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(top::run(&socket, self.every))?;
        Ok(ExitCode::SUCCESS)
    }
}
