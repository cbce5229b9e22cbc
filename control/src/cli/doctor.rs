//! `margay doctor`: whether this machine will do for a gateway, and how one that runs is.

use std::path::PathBuf;
use std::process::ExitCode;

use margay_control::config::Config;
use margay_control::doctor::{self, Severity};
use margay_control::{admin, doctor::Finding};

use super::Output;

/// Check kernel, devices and limits for a gateway of a configuration, and the gateway if it runs
///
/// Each finding says what, where, why it matters and how to mend it. Exit code 0 if there is no error, 1 if there is one, 2
/// if nothing could be checked.
#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    /// Configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/margay/margay.toml")]
    config: PathBuf,
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl Doctor {
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        let config = Config::load(&self.config)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let findings: Vec<Finding> = runtime.block_on(async {
            let status = admin::status(&config.admin.socket).await.ok();
            let facts = doctor::gather(config, status).await?;
            anyhow::Ok(doctor::examine(&facts))
        })?;
        self.output.print(&findings, |findings| doctor::text(findings))?;
        let is_ill = findings.iter().any(|finding| finding.severity == Severity::Error);
        Ok(if is_ill { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}
