//! What the control thread tells the thread that reports to the API server.

use std::time::Duration;

use jiff::{Timestamp, Unit};

use super::{Dataplane, Error, give_up_all, troubles};
use crate::admin;
use crate::clock;
use crate::config::Config;
use crate::privileges::Privileges;
use crate::report::{Annotations, Pace, Report, Reporter};

/// The thread that reports, where there is an API server and something for it.
pub(super) fn start(config: &Config, node: &str, privileges: &Privileges) -> Result<Option<Reporter>, Error> {
    let is_wanted = config.report.events || config.report.status || config.calico.is_wanted();
    let Some(access) = config.source.kubernetes.clone().filter(|_| is_wanted) else { return Ok(None) };
    let privileges = privileges.clone();
    let begin = move || give_up_all(&privileges);
    let reporter = Reporter::start_after(access, node, &config.report, Pace::default(), begin);
    reporter.map(Some).map_err(Error::ReportThread)
}

impl Dataplane {
    /// Says how things are, which takes no time.
    pub(super) fn report(&self) {
        let Some(reporter) = &self.reporter else { return };
        let node = self.compiler.cluster().nodes.get(&self.identity.node).map(|node| &**node);
        let kernel = self.kernel.kernel();
        reporter.tell(Report {
            ready: self.is_ready(),
            snapshot: self.published.map(|at| (self.publisher.current().generation, ago(at.elapsed()))),
            problems: self.problems.all(),
            calico: Annotations::of(&self.config.calico, &self.identity.node, node, &kernel),
        });
    }

    /// What cannot be written to the API server now.
    pub(super) fn reporting(&self) -> Vec<admin::Trouble> {
        self.reporter.as_ref().map_or_else(Vec::new, |reporter| troubles::statuses(&reporter.troubles()))
    }
}

/// When that was, by the clock.
pub(super) fn ago(time: Duration) -> Timestamp {
    let then = clock::wall() - time;
    then.round(Unit::Second).unwrap_or(then)
}
