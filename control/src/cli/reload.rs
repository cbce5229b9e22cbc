//! `margay reload`: has a running gateway read its configuration again.

use std::process::ExitCode;

use margay_control::admin::{self, ClientError};
use margay_control::reload::Reloaded;

use super::{Output, Socket};

/// Have a running gateway read its configuration again
///
/// What can change without a restart is in force then; what cannot is named. Exit code 0 if all of it is in force, 1 if some
/// needs a restart, 2 if the configuration is wrong, which changes nothing, or no gateway answers.
#[derive(Debug, clap::Args)]
pub(crate) struct Reload {
    #[command(flatten)]
    socket: Socket,
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl Reload {
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        let socket = self.socket.path()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let reloaded: Reloaded = match runtime.block_on(admin::post(&socket, "/v1/reload", &())) {
            Ok(reloaded) => reloaded,
            Err(ClientError::Refused(_, why)) => anyhow::bail!("nothing has changed: {why}"),
            Err(error) => return Err(error.into()),
        };
        self.output.print(&reloaded, text)?;
        Ok(if reloaded.needs_restart.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn text(reloaded: &Reloaded) -> String {
    let applied = reloaded.applied.iter().map(|change| format!("applied        {change}\n"));
    let rest = reloaded.needs_restart.iter().map(|change| format!("needs restart  {change}\n"));
    let lines: String = applied.chain(rest).collect();
    if lines.is_empty() { "the configuration is as it was\n".to_owned() } else { lines }
}
