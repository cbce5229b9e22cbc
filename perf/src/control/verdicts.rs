//! Verdicts that are to change, and when they have: from the server's acknowledgement to the snapshot that says so, and
//! what of that time went where.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use margay_control::state::{Change, Name};
use margay_flowtable::{Policies, Tuple, Verdict, classify};
use serde::Serialize;

use super::churn::Kind;

/// Who sends the packet that is asked about: nobody of the cluster, from no block and to no port that a policy names.
const STRANGER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const PORT: u16 = 9999;

/// What a change waits for in turn, from the server's acknowledgement on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The server tells it to the watch, and the source reads it and hands it to the control thread.
    Watch,
    /// The control thread is done with what came before, and with the pause between publications.
    Turn,
    /// The snapshot is made and published, and a reader has it.
    Snapshot,
}

impl Phase {
    pub(super) const ALL: [Self; 3] = [Self::Watch, Self::Turn, Self::Snapshot];

    pub fn name(self) -> &'static str {
        match self {
            Self::Watch => "watch",
            Self::Turn => "turn",
            Self::Snapshot => "snapshot",
        }
    }
}

/// What was measured of one change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    pub(super) kind: Kind,
    pub(super) acknowledged: Instant,
    /// Till the verdict was in force. Nothing where that was before the acknowledgement had come.
    pub(super) latency: Duration,
    /// The parts of that, which add up to it, in the order of [`Phase::ALL`].
    pub(super) phases: [Duration; Phase::ALL.len()],
}

/// What is waited for, and what has come.
#[derive(Debug, Default)]
pub(super) struct Verdicts(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    outstanding: Vec<Expected>,
    measured: Vec<Measured>,
    failures: Vec<String>,
}

#[derive(Debug)]
struct Expected {
    pod: u32,
    name: Name,
    kind: Kind,
    tuple: Tuple,
    verdict: Verdict,
    acknowledged: Option<Instant>,
    /// When the source handed on the last that was to be said of the pod.
    delivered: Option<Instant>,
    /// When the control thread began to make a snapshot of it.
    begun: Option<Instant>,
    seen: Option<Instant>,
}

impl Verdicts {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something of the pod is waited for.
    pub(super) fn is_waiting_for(&self, pod: u32) -> bool {
        self.inner().outstanding.iter().any(|expected| expected.pod == pod)
    }

    pub(super) fn outstanding(&self) -> usize {
        self.inner().outstanding.len()
    }

    /// From now on looks for this verdict of what a stranger sends to the pod's address.
    pub(super) fn expect(&self, (pod, name): (u32, Name), address: Ipv4Addr, kind: Kind, verdict: Verdict) {
        let [src, dst] = [STRANGER, address].map(IpAddr::V4);
        let tuple = Tuple { src, dst, protocol: 6, sport: 40_000, dport: PORT, icmp: None };
        let (acknowledged, delivered, begun, seen) = (None, None, None, None);
        self.inner().outstanding.push(Expected {
            pod,
            name,
            kind,
            tuple,
            verdict,
            acknowledged,
            delivered,
            begun,
            seen,
        });
    }

    /// The server has said yes to the change of this pod.
    pub(super) fn acknowledge(&self, pod: u32, now: Instant) {
        let mut inner = self.inner();
        if let Some(expected) = inner.outstanding.iter_mut().find(|expected| expected.pod == pod) {
            expected.acknowledged = Some(now);
        }
        inner.collect();
    }

    /// The server has said no.
    pub(super) fn give_up(&self, pod: u32, why: String) {
        let mut inner = self.inner();
        inner.outstanding.retain(|expected| expected.pod != pod);
        inner.failures.push(why);
    }

    /// The control thread has taken these in, which the source delivered then.
    pub(super) fn take(&self, changes: &[Change], delivered: Instant) {
        let mut inner = self.inner();
        for change in changes {
            let Change::Pod(edit) = change else { continue };
            let mut pending = inner.outstanding.iter_mut().filter(|expected| expected.seen.is_none());
            if let Some(expected) = pending.find(|expected| expected.name == edit.key) {
                // Of a new pod its address comes last, and the verdict with it.
                (expected.delivered, expected.begun) = (Some(delivered), None);
            }
        }
    }

    /// What has been taken in is in the snapshot that the control thread begins to make now.
    pub(super) fn begin(&self, now: Instant) {
        let mut inner = self.inner();
        for expected in inner.outstanding.iter_mut().filter(|expected| expected.delivered.is_some()) {
            expected.begun.get_or_insert(now);
        }
    }

    /// Looks up what is waited for in the policies that are in force now.
    pub(super) fn look(&self, policies: &Policies, now: Instant) {
        let mut inner = self.inner();
        for expected in inner.outstanding.iter_mut().filter(|expected| expected.seen.is_none()) {
            if classify(policies, &expected.tuple, &mut |_, _| {}).verdict() == expected.verdict {
                expected.seen = Some(now);
            }
        }
        inner.collect();
    }

    /// All that was measured, and what failed.
    pub(super) fn finish(&self) -> (Vec<Measured>, Vec<String>) {
        let mut inner = self.inner();
        (std::mem::take(&mut inner.measured), std::mem::take(&mut inner.failures))
    }
}

impl Inner {
    fn collect(&mut self) {
        let measured = &mut self.measured;
        self.outstanding.retain(|expected| {
            let (Some(acknowledged), Some(seen)) = (expected.acknowledged, expected.seen) else {
                return true;
            };
            measured.push(Measured {
                kind: expected.kind,
                acknowledged,
                latency: seen.saturating_duration_since(acknowledged),
                phases: phases(acknowledged, [expected.delivered, expected.begun, Some(seen)]),
            });
            false
        });
    }
}

/// How long each took, given when each was over. What was over before the acknowledgement took nothing.
fn phases<const N: usize>(acknowledged: Instant, ends: [Option<Instant>; N]) -> [Duration; N] {
    let mut before = acknowledged;
    ends.map(|end| {
        let start = before;
        before = end.map_or(start, |end| end.max(start));
        before.duration_since(start)
    })
}

#[cfg(test)]
mod tests {
    use margay_control::state::{Edit, Pod};

    use super::*;

    const NAME: (&str, &str) = ("shop", "cart");

    /// When a change is acknowledged, delivered, begun and seen in milliseconds; and how long each phase then is.
    #[test]
    fn phases_add_up_to_the_latency() {
        let cases = [
            ([10, 12, 15, 16], [2, 3, 1]),
            // The watch is quicker than the answer.
            ([10, 8, 13, 20], [0, 3, 7]),
            ([10, 7, 8, 11], [0, 0, 1]),
            ([10, 7, 8, 9], [0, 0, 0]),
        ];
        for ([acknowledged, delivered, begun, seen], expected) in cases {
            let start = Instant::now();
            let at = |ms| start + Duration::from_millis(ms);
            let verdicts = Verdicts::default();
            let name = Name::new(NAME.0, NAME.1);
            verdicts.expect((3, name), Ipv4Addr::new(10, 0, 0, 1), Kind::Removed, Verdict::Allow);
            let put = |pod| [Change::Pod(Edit::put(Name::new(NAME.0, pod), Pod::default()))];
            // Without its address, and the snapshot does not change the verdict.
            verdicts.take(&put(NAME.1), at(1));
            verdicts.begin(at(2));
            verdicts.take(&put(NAME.1), at(delivered));
            verdicts.take(&put("another"), at(delivered + 1));
            verdicts.begin(at(begun));
            verdicts.look(&Policies::default(), at(seen));
            verdicts.take(&put(NAME.1), at(seen + 1));
            verdicts.acknowledge(3, at(acknowledged));
            let (measured, failures) = verdicts.finish();
            let [measured] = measured[..] else { panic!("{measured:?}") };
            assert_eq!(measured.phases, expected.map(Duration::from_millis));
            assert_eq!(measured.phases.iter().sum::<Duration>(), measured.latency);
            assert!(failures.is_empty() && verdicts.outstanding() == 0);
        }
    }
}
