//! A new configuration for a gateway that runs: what can change is put into force, what cannot is named.

use std::mem;

use margay_fastpath::worker::Command;

use super::dataplane::Dataplane;
use super::error::Error;
use super::report;
use crate::config::{self, EndpointToHost, LogLevel};
use crate::identity::Identity;
use crate::log::Log;
use crate::reload::{self, Reloaded};

/// What a running gateway can be told anew, and how.
#[derive(Debug)]
pub struct Settings {
    pub file: config::File,
    pub loaded: config::Loaded,
    pub log: Log,
}

/// The settings, and which of them others have been told.
#[derive(Debug)]
pub(super) struct Reloading {
    settings: Settings,
    /// Whether the next step is to put a new configuration into force.
    pub(super) is_due: bool,
    log_level: LogLevel,
    reports: (config::Report, config::Calico),
}

impl Reloading {
    pub(super) fn new(settings: Settings) -> Self {
        let config = &settings.loaded.config;
        let reports = (config.report.clone(), config.calico.clone());
        Self { is_due: false, log_level: config.log.level, reports, settings }
    }

    fn set_log_level(&mut self, level: LogLevel) {
        if self.log_level != level && !self.settings.log.set(level) {
            tracing::warn!("the level of the log stays as RUST_LOG says, which goes before log.level");
        }
        self.log_level = level;
    }
}

impl Dataplane {
    /// Reads the configuration again, has what can change put into force by the next step, and logs what was done. One
    /// that is wrong changes nothing, and the answer says what is wrong with it.
    pub(crate) fn reload(&mut self) -> Result<Reloaded, String> {
        self.notified.reloading();
        let reloaded = self.reload_from_file();
        self.notified.reloaded();
        reloaded
    }

    fn reload_from_file(&mut self) -> Result<Reloaded, String> {
        let new = match self.reloading.settings.file.load() {
            Ok(new) => new,
            Err(error) => {
                tracing::error!("the configuration is not taken over, and stays as it was: {error}");
                return Err(error.to_string());
            }
        };
        let reloaded = reload::take(&mut self.reloading.settings.loaded, &new);
        self.config = self.reloading.settings.loaded.config.clone();
        self.reloading.is_due = true;
        say(&reloaded);
        Ok(reloaded)
    }

    /// Puts a new configuration into force where it is known beside itself.
    pub(super) async fn apply(&mut self) -> Result<(), Error> {
        if !mem::take(&mut self.reloading.is_due) {
            return Ok(());
        }
        let identity = Identity::configured(self.identity.node.clone(), &self.config);
        if identity != self.identity {
            self.identity = identity.clone();
            self.compiler.set_identity(identity);
        }
        self.wanted.look_again();
        self.host.set_closed(self.config.policy.endpoint_to_host == EndpointToHost::Drop);
        let (mid_flow, established) =
            (self.config.conntrack.mid_flow.into(), self.config.policy.established.into());
        self.workers.tell_all(|| Command::Configure { mid_flow, established }).await?;
        self.reloading.set_log_level(self.config.log.level);
        let reports = (self.config.report.clone(), self.config.calico.clone());
        if self.reloading.reports != reports {
            // The thread that was there writes what it is at, and ends.
            self.reporter = report::start(&self.config, &self.identity.node, &self.privileges)?;
            self.reloading.reports = reports;
        }
        self.is_stale = true;
        Ok(())
    }
}

fn say(reloaded: &Reloaded) {
    if *reloaded == Reloaded::default() {
        tracing::info!("the configuration is as it was");
    }
    for change in &reloaded.applied {
        tracing::info!("configuration: {change}");
    }
    for change in &reloaded.needs_restart {
        tracing::warn!("configuration: {change} needs a restart; until then what was stays in force");
    }
}
