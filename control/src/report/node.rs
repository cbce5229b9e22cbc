//! The annotation of our Node that says how this gateway is, and when it is to be written.

use std::collections::BTreeMap;

use jiff::{Timestamp, Unit};
use serde::Serialize;
use tokio::time::Instant;

use super::Report;
use super::pace::{Pace, jittered};
use crate::clock;

/// The annotation's key. Its value is a [`Status`] in JSON.
pub(super) const STATUS: &str = "margay.dev/status";

/// What the annotation says. Fields come, and none changes its meaning.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    ready: bool,
    /// When `ready` became what it is, or Margay began.
    since: Timestamp,
    version: &'a str,
    snapshot: Option<Snapshot>,
    /// Objects, and parts of objects, that are not in force as written.
    problems: usize,
    /// When this was written. If that is long ago, nobody writes it any more.
    reported_at: Timestamp,
}

/// The snapshot in force.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Snapshot {
    generation: u32,
    published_at: Timestamp,
}

/// What the Node says of us by now.
#[derive(Debug)]
pub(super) struct NodeNotes {
    pace: Pace,
    says_status: bool,
    ready: (bool, Timestamp),
    written: Option<Written>,
}

/// What of the last report is worth another write when it is different.
#[derive(Debug)]
struct Written {
    at: Instant,
    ready: bool,
    has_snapshot: bool,
    calico: BTreeMap<&'static str, String>,
    /// Whether the source said that the Node lacked Calico's annotations.
    was_lacking: bool,
    refresh: Instant,
}

impl NodeNotes {
    pub(super) fn new(says_status: bool, pace: Pace) -> Self {
        Self { pace, says_status, ready: (false, clock::wall()), written: None }
    }

    /// Takes how things are, and says when that is to be written: what matters soon, all else with the next refresh.
    pub(super) fn due(&mut self, report: &Report, now: Instant) -> Option<Instant> {
        if self.ready.0 != report.ready {
            self.ready = (report.ready, clock::wall());
        }
        if !self.says_status && report.calico.values.is_empty() {
            return None;
        }
        let Some(written) = &mut self.written else { return Some(now) };
        let has_changed = self.says_status
            && (written.ready, written.has_snapshot) != (report.ready, report.snapshot.is_some());
        // The source lags behind what we have written: that they are lacking counts only when it is new.
        let is_lost = report.calico.is_lacking && !written.was_lacking;
        written.was_lacking &= report.calico.is_lacking;
        if has_changed || is_lost || written.calico != report.calico.values {
            Some(written.at + self.pace.gap)
        } else {
            Some(written.refresh)
        }
    }

    /// The status as JSON, where it is to be written.
    pub(super) fn status(&self, report: &Report) -> Option<String> {
        let snapshot =
            report.snapshot.map(|(generation, published_at)| Snapshot { generation, published_at });
        let status = Status {
            ready: report.ready,
            since: whole_second(self.ready.1),
            version: env!("CARGO_PKG_VERSION"),
            snapshot,
            problems: report.problems.len(),
            reported_at: whole_second(clock::wall()),
        };
        self.says_status.then(|| serde_json::to_string(&status).expect("a struct with string keys is JSON"))
    }

    pub(super) fn written(&mut self, report: &Report, now: Instant) {
        self.written = Some(Written {
            at: now,
            ready: report.ready,
            has_snapshot: report.snapshot.is_some(),
            calico: report.calico.values.clone(),
            was_lacking: report.calico.is_lacking,
            refresh: now + jittered(self.pace.refresh),
        });
    }
}

/// As Kubernetes writes times.
fn whole_second(time: Timestamp) -> Timestamp {
    time.round(Unit::Second).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Annotations;
    use super::*;

    fn report(ready: bool, generation: u32) -> Report {
        let snapshot = (generation > 0).then_some((generation, Timestamp::UNIX_EPOCH));
        Report { ready, snapshot, ..Report::default() }
    }

    #[test]
    fn what_matters_is_written_soon_and_all_else_seldom() {
        let (pace, now) = (Pace::default(), Instant::now());
        let mut notes = NodeNotes::new(true, pace);
        assert_eq!(notes.due(&report(false, 0), now), Some(now));
        notes.written(&report(false, 0), now);
        let refresh = notes.due(&report(false, 0), now).unwrap();
        assert!(refresh >= now + pace.refresh && refresh <= now + pace.refresh.mul_f64(1.1));
        for (ready, generation, soon) in
            [(false, 1, true), (true, 1, true), (true, 2, false), (true, 3, false)]
        {
            let due = notes.due(&report(ready, generation), now).unwrap();
            assert_eq!(due == now + pace.gap, soon, "{ready} {generation}");
            if soon {
                notes.written(&report(ready, generation), now);
            }
        }
    }

    #[test]
    fn annotations_for_calico_are_written_again_when_they_are_lost_and_not_while_the_source_lags() {
        let (pace, now) = (Pace::default(), Instant::now());
        let mut notes = NodeNotes::new(false, pace);
        let with = |is_lacking| Report {
            calico: Annotations { values: [("a", "b".to_owned())].into(), is_lacking },
            ..Report::default()
        };
        assert_eq!(notes.due(&Report::default(), now), None);
        assert_eq!(notes.due(&with(true), now), Some(now));
        notes.written(&with(true), now);
        let soon = Some(now + pace.gap);
        for (is_lacking, is_soon) in [(true, false), (false, false), (true, true)] {
            assert_eq!(notes.due(&with(is_lacking), now) == soon, is_soon);
        }
        assert_eq!(notes.status(&with(true)), None);
    }

    #[test]
    fn the_status_is_json_that_says_since_when() {
        let now = Instant::now();
        let mut notes = NodeNotes::new(true, Pace { gap: Duration::ZERO, ..Pace::default() });
        notes.due(&report(true, 7), now);
        let status: serde_json::Value =
            serde_json::from_str(&notes.status(&report(true, 7)).unwrap()).unwrap();
        assert_eq!(status["ready"], true);
        assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(status["snapshot"]["generation"], 7);
        assert_eq!(status["snapshot"]["publishedAt"], "1970-01-01T00:00:00Z");
        let time = |key: &str| status[key].as_str().unwrap().parse::<Timestamp>().unwrap();
        assert!(time("since") <= time("reportedAt"));
    }
}
